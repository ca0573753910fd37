//! A request of another agent, in the hands of its handler.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_proto::agent as wire;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::ask::Ask;
use super::asks::{Held, Origin};
use super::perform::{Desk, TIDY_UP, fetch, panicked};
use super::task::Input;
use crate::client::Client;
use crate::task_error::TaskError;

/// Answers inquiries, as text.
pub(super) type Answerer = Arc<dyn Fn(Inquiry) -> BoxFuture<'static, Result<String, TaskError>> + Send + Sync>;

/// A request of another agent, or of a client. Clones are the same inquiry.
#[derive(Clone)]
pub struct Inquiry {
    inner: Arc<Inner>,
}

struct Inner {
    wire: wire::Inquiry,
    held: Held,
    input: Input,
    end: Instant,
    stop: CancellationToken,
    desk: Arc<Desk>,
}

impl Inquiry {
    /// What is asked, as a `T`. A misfit is INVALID_ARGUMENT, names the field, and is not retryable.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        self.inner.input.read()
    }

    /// The agent that is asked.
    pub fn agent(&self) -> &str {
        &self.inner.wire.agent
    }

    /// Id of the worker that asks; empty if a client does.
    pub fn asker(&self) -> &str {
        &self.inner.wire.asker
    }

    /// The task in which it is asked, as the asker says: `namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}`.
    pub fn task(&self) -> Option<&str> {
        Some(self.inner.wire.task.as_str()).filter(|task| !task.is_empty())
    }

    /// 1 if it is asked by a task or from outside, 2 if within an inquiry of depth 1, and so on to 16.
    pub fn depth(&self) -> i32 {
        self.inner.wire.depth
    }

    /// How long the asker still waits.
    pub fn time_left(&self) -> Duration {
        self.inner.end.saturating_duration_since(Instant::now())
    }

    /// Asks another agent. It ends with this inquiry at the latest, and its handler sees the same task; see [`Ask`].
    pub fn ask_agent<T: DeserializeOwned>(&self, agent: impl Into<String>, payload: &impl Serialize) -> Ask<'_, T> {
        let origin = Origin { lease: None, within: Some(self.inner.held) };
        Ask::new(&self.inner.desk.asks, agent.into(), payload, origin)
    }

    /// A client of the same mesh.
    pub fn client(&self) -> &Client {
        &self.inner.desk.client
    }

    /// Ready when nobody waits for the answer any more. A handler that has not returned 5 s later is dropped.
    pub async fn cancelled(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Whether nobody waits any more; for loops that cannot await.
    pub fn is_cancelled(&self) -> bool {
        self.inner.stop.is_cancelled()
    }
}

/// Answers one inquiry.
pub(super) async fn answer(
    desk: Arc<Desk>,
    answerer: Option<Answerer>,
    inquiry: wire::Inquiry,
    (held, stop): (Held, CancellationToken),
) {
    let number = held.number;
    let result = tokio::select! {
        biased;
        result = attempt(&desk, answerer, inquiry, held, stop.clone()) => result,
        () = async { stop.cancelled().await; tokio::time::sleep(TIDY_UP).await } => {
            Err(TaskError::new(Code::Cancelled, "nobody waited any more, and the handler was dropped"))
        }
    };
    let reply = match result {
        Ok(answer) => wire::Reply { number, answer: Some(answer), error: None, retryable: false },
        Err(error) => {
            let retryable = error.retryable;
            wire::Reply { number, answer: None, error: Some(error.into_status()), retryable }
        }
    };
    desk.asks.answer(held, reply);
}

async fn attempt(
    desk: &Arc<Desk>,
    answerer: Option<Answerer>,
    mut wire: wire::Inquiry,
    held: Held,
    stop: CancellationToken,
) -> Result<consort_proto::blob::Payload, TaskError> {
    let Some(answerer) = answerer else {
        let said = format!("this worker does not answer for agent `{}`", wire.agent);
        return Err(TaskError::new(Code::Unimplemented, said));
    };
    let left = wire.timeout.and_then(|timeout| Duration::try_from(timeout).ok()).unwrap_or_default();
    let end = Instant::now() + left;
    let input = fetch(&desk.client, wire.payload.take()).await?;
    let inquiry = Inquiry { inner: Arc::new(Inner { wire, held, input, end, stop, desk: desk.clone() }) };
    // The handler's state is not looked at after a panic, so it cannot be seen broken.
    let result = AssertUnwindSafe(async move { answerer(inquiry).await }).catch_unwind().await;
    let json = result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
    Ok(desk.client.pack(json).await?)
}
