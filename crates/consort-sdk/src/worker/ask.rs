//! Asking an agent from a worker.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_proto::blob::Payload;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::Code;

use super::asks::{Asks, Origin};
use super::perform::fetch;
use super::task::Task;
use crate::payload;
use crate::task_error::TaskError;

/// Asks agents over a worker's connection, from outside its handlers. Clones share the worker. Within a handler, ask with
/// [`Task::ask_agent`] or [`Inquiry::ask_agent`](crate::Inquiry::ask_agent), so that the other side knows why it is asked.
///
/// Requests wait until the worker is connected, at most for their timeout.
#[derive(Clone)]
pub struct Asker(pub(super) Arc<Asks>);

impl Asker {
    /// Asks an agent of the worker's namespace; see [`Ask`].
    pub fn ask_agent<T: DeserializeOwned>(&self, agent: impl Into<String>, payload: &impl Serialize) -> Ask<'_, T> {
        Ask::new(&self.0, agent.into(), payload, Origin::default())
    }
}

/// A request to an agent; `await` sends it and yields the answer as a `T`.
///
/// It is an exchange between live processes: on no record unless [`Ask::record`] says so, delivered at most once, never repeated. The
/// error has the code and message of the handler that answered; when there was none, its
/// [`reason`](TaskError::reason) says why: AGENT_OFFLINE, BUSY, ANSWERER_LOST, DEADLINE_EXCEEDED, ASK_DEPTH, INQUIRY_OVER, CONNECTION_LOST.
/// Dropping the future withdraws the request, and its handler is told.
#[must_use = "nothing is asked before it is awaited"]
pub struct Ask<'a, T> {
    asks: &'a Asks,
    agent: String,
    payload: Result<String, TaskError>,
    timeout: Option<Duration>,
    origin: Origin,
    record: Option<&'a Task>,
    /// The task in which it is asked.
    task: Option<&'a Task>,
    answer: PhantomData<fn() -> T>,
}

impl<'a, T: DeserializeOwned> Ask<'a, T> {
    pub(super) fn new(asks: &'a Asks, agent: String, payload: &impl Serialize, origin: Origin) -> Ask<'a, T> {
        let payload = serde_json::to_string(payload)
            .map_err(|error| TaskError::new(Code::Internal, format!("what is asked is not JSON: {error}")));
        Ask { asks, agent, payload, timeout: None, origin, record: None, task: None, answer: PhantomData }
    }

    pub(super) fn in_task(mut self, task: &'a Task) -> Ask<'a, T> {
        self.task = Some(task);
        self
    }

    /// How long to wait, more than 0 and at most 10 minutes; 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Ask<'a, T> {
        self.timeout = Some(timeout);
        self
    }

    /// Puts request and answer, or error, into the history of the run in whose task it is asked, as a note named `agent.ask`. Does
    /// nothing outside a task.
    pub fn record(mut self) -> Ask<'a, T> {
        self.record = self.task;
        self
    }

    async fn send(self) -> Result<T, TaskError> {
        let Ask { asks, agent, payload, timeout, origin, record, .. } = self;
        let text = payload?;
        let asked = record.map(|task| (task, agent.clone(), text.clone(), Instant::now()));
        let answer = send(asks, agent, text, timeout, origin).await;
        if let Some((task, agent, text, begun)) = asked {
            let note = note(&agent, &text, answer.as_deref(), begun.elapsed());
            task.note("agent.ask", &note).await?;
        }
        payload::read(&answer?).map_err(|misfit| {
            let said = format!("the answer does not fit: {}: {}", misfit.field, misfit.why);
            TaskError::new(Code::Internal, said).retryable(false)
        })
    }
}

async fn send(
    asks: &Asks,
    agent: String,
    text: String,
    timeout: Option<Duration>,
    origin: Origin,
) -> Result<Vec<u8>, TaskError> {
    let payload = if text.len() <= payload::INLINE_LIMIT {
        payload::text(text)
    } else {
        let ended =
            || TaskError::new(Code::Unavailable, "the worker does not run, and a large payload needs its connection");
        asks.client.get().ok_or_else(ended)?.pack(text).await?
    };
    let answer = asks.ask(agent, payload, timeout, origin).await?;
    json_of(asks, answer).await
}

async fn json_of(asks: &Asks, answer: Option<Payload>) -> Result<Vec<u8>, TaskError> {
    let client = asks.client.get().ok_or("an answer came to a worker that does not run")?;
    fetch(client, answer).await?.into_json()
}

/// What goes on record.
fn note(agent: &str, request: &str, answer: Result<&[u8], &TaskError>, took: Duration) -> Value {
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let ms = took.as_secs_f64() * 1e3;
    let mut note = json!({"agent": agent, "request": read(request.as_bytes()), "ms": (ms * 1e3).round() / 1e3});
    match answer {
        Ok(answer) => note["answer"] = read(answer),
        Err(error) => note["error"] = json!(error.to_string()),
    }
    note
}

impl<'a, T: DeserializeOwned + 'a> IntoFuture for Ask<'a, T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = BoxFuture<'a, Result<T, TaskError>>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}
