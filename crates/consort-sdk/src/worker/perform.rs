//! Performing one task: its input is fetched, its handler called, its output packed.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::agent::{Assignment, TaskReport};
use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::Handler;
use super::answer::AnswerText;
use super::asks::Asks;
use super::held::{Held, LeaseKey, Outcome};
use super::question::Clarification;
use super::task::{Input, Task};
use crate::client::Client;
use crate::error::Error;
use crate::payload;
use crate::task_error::TaskError;

/// How long a cancelled handler may tidy up before it is dropped.
pub(super) const TIDY_UP: Duration = Duration::from_secs(5);

/// What all tasks of a worker share.
pub(super) struct Desk {
    pub(super) client: Client,
    pub(super) held: Arc<Held>,
    pub(super) reports: mpsc::Sender<TaskReport>,
    pub(super) asks: Arc<Asks>,
}

/// Performs a task and records how it ended.
pub(super) async fn perform(
    desk: Arc<Desk>,
    handler: Option<Handler>,
    key: LeaseKey,
    assignment: Assignment,
    cancel: CancellationToken,
) {
    let name = key.task.clone();
    let doomed = cancel.clone();
    tokio::select! {
        biased;
        outcome = outcome(&desk, handler, key.clone(), assignment, cancel) => desk.held.finish(key, outcome),
        () = async { doomed.cancelled().await; tokio::time::sleep(TIDY_UP).await } => {
            tracing::warn!(task = %name, "the handler went on for 5 s after it was cancelled and was dropped");
        }
    }
}

async fn outcome(
    desk: &Desk,
    handler: Option<Handler>,
    key: LeaseKey,
    assignment: Assignment,
    cancel: CancellationToken,
) -> Outcome {
    let mut error = match attempt(desk, handler, key, assignment, cancel).await {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    let Some(question) = error.question.take() else { return Outcome::Failed(error) };
    match question.pack(&desk.client).await {
        Ok(question) => Outcome::Asked(question),
        Err(error) => Outcome::Failed(error.into()),
    }
}

async fn attempt(
    desk: &Desk,
    handler: Option<Handler>,
    key: LeaseKey,
    mut assignment: Assignment,
    cancel: CancellationToken,
) -> Result<Outcome, TaskError> {
    let Some(handler) = handler else {
        let message = format!("this worker does not serve agent `{}`", assignment.agent);
        return Err(TaskError::new(Code::Unimplemented, message));
    };
    let input = fetch(&desk.client, assignment.input.take()).await?;
    let mut clarifications = Vec::new();
    for given in std::mem::take(&mut assignment.clarifications) {
        clarifications.push(Clarification::fetch(given, &desk.client).await?);
    }
    let task = Task::new(key, assignment, input, clarifications, cancel, desk);
    // The handler's state is not looked at after a panic, so it cannot be seen broken.
    let result = AssertUnwindSafe(async move { handler(task).await }).catch_unwind().await;
    match result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))? {
        AnswerText::Output(json) => Ok(Outcome::Output(desk.client.pack(json).await?)),
        AnswerText::Plan(text) => Ok(Outcome::Plan(text)),
    }
}

/// Brings the input here: a blob is downloaded.
pub(super) async fn fetch(client: &Client, input: Option<Payload>) -> Result<Input, TaskError> {
    match input.and_then(|payload| payload.kind) {
        None => Ok(Input::Text("null".to_owned())),
        Some(Kind::Json(json)) => Ok(Input::Text(json)),
        Some(Kind::Value(value)) => Ok(Input::Value(payload::from_protobuf(value))),
        Some(Kind::Blob(blob)) => match client.download(&blob).await {
            Ok(bytes) => Ok(Input::Bytes(bytes)),
            Err(error @ Error::TooLarge { .. }) => Err(TaskError::bad_input("", error.to_string())),
            Err(error) => Err(error.into()),
        },
    }
}

/// The failure of a handler that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> TaskError {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    TaskError::new(Code::Internal, format!("the handler panicked: {}", message.unwrap_or("without a message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_ignores_its_cancellation_is_dropped_after_five_seconds() {
        let (reports, _rest) = mpsc::channel(1);
        let client = Client::connect("127.0.0.1:1").unwrap();
        let desk = Arc::new(Desk { client, held: Arc::new(Held::new(1)), reports, asks: Arc::default() });
        let assignment = Assignment { task: "t".into(), lease_token: 1, agent: "deaf".into(), ..Default::default() };
        let (key, cancel) = desk.held.take(&assignment, false).unwrap();
        let deaf: Handler = Arc::new(|_| std::future::pending().boxed());
        let began = tokio::time::Instant::now();
        desk.held.cancel(&key.to_ref());
        perform(desk.clone(), Some(deaf), key, assignment, cancel).await;
        assert_eq!(began.elapsed().as_secs(), TIDY_UP.as_secs());
        assert!(desk.held.owed().is_empty(), "its answer no longer matters");
    }
}
