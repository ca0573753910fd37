//! One call, from its message to the end of its stream.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use consort_proto::plugin::invoke_response::Kind;
use futures::{FutureExt as _, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::call::Call;
use super::fault::Fault;
use super::handler::Handler;
use super::writer::Stage;
use super::{CHUNK, JSON_RESULT};
use crate::payload::{from_protobuf, text};

/// How long a cancelled operation may tidy up before it is dropped.
const TIDY_UP: Duration = Duration::from_secs(1);

/// Does a call and sends how it ended.
pub(super) async fn perform(call: Call, handler: Handler, input: String) {
    let asked = call.clone();
    // The handler itself may panic before it gives a future.
    let work = AssertUnwindSafe(async move { handler(asked, input).await }).catch_unwind();
    tokio::pin!(work);
    let time = call.inner.deadline;
    let time_is_up = async {
        match time {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        biased;
        done = &mut work => Some(done.unwrap_or_else(|panic| Err(panicked(&call, &*panic)))),
        () = call.cancelled() => None,
        () = time_is_up => {
            call.inner.cancel.cancel();
            let said = format!("`{}` was not done in time", call.operation());
            send(&call, Err(Fault::new(Code::DeadlineExceeded, said))).await;
            let _ = tokio::time::timeout(TIDY_UP, work).await;
            return;
        }
    };
    match ended {
        Some(Ok(json)) => match result(&call, json).await {
            Ok(result) => send(&call, Ok(result)).await,
            Err(fault) => send(&call, Err(fault)).await,
        },
        Some(Err(fault)) => send(&call, Err(fault)).await,
        None => {
            send(&call, Err(Fault::cancelled())).await;
            let _ = tokio::time::timeout(TIDY_UP, work).await;
        }
    }
}

/// Sends the last message. Nobody may be there to hear it.
async fn send(call: &Call, last: Result<wire::Result, Fault>) {
    let message = match last {
        Ok(result) => Ok(wire::InvokeResponse { kind: Some(Kind::Result(result)) }),
        Err(fault) => Err(fault.into_status()),
    };
    let _ = call.inner.news.send(message).await;
}

fn panicked(call: &Call, panic: &(dyn Any + Send)) -> Fault {
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Fault::new(Code::Internal, format!("`{}` panicked: {said}", call.operation())).reason("PANIC")
}

/// The result that goes with an output.
async fn result(call: &Call, json: String) -> Result<wire::Result, Fault> {
    let stage = std::mem::take(&mut *call.inner.stage.lock().unwrap_or_else(PoisonError::into_inner));
    let (output, media_type) = match stage {
        Stage::Finished(media_type) => (None, media_type),
        Stage::Open => {
            let said = format!("`{}` began to write its result and did not call `Writer::finish`", call.operation());
            return Err(Fault::new(Code::Internal, said));
        }
        Stage::None if json.len() <= CHUNK => (Some(text(json)), String::new()),
        Stage::None if json.len() <= JSON_RESULT => {
            let mut rest = Bytes::from(json);
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(CHUNK));
                call.send(Kind::Chunk(chunk)).await;
            }
            (None, "application/json".to_owned())
        }
        Stage::None => {
            let said = format!(
                "the output of `{}` has {} bytes; the most is {JSON_RESULT}. Return less, or write it with `Call::writer`",
                call.operation(),
                json.len()
            );
            return Err(Fault::new(Code::ResourceExhausted, said));
        }
    };
    Ok(wire::Result { output, media_type, would: call.inner.would.take(), actions: call.inner.did.take() })
}

/// The input as JSON text.
pub(super) fn input(payload: Option<Payload>) -> Result<String, Fault> {
    match payload.and_then(|payload| payload.kind) {
        // Every input is an object.
        None => Ok("{}".to_owned()),
        Some(payload::Kind::Json(text)) => Ok(text),
        Some(payload::Kind::Value(value)) => Ok(from_protobuf(value).to_string()),
        Some(payload::Kind::Blob(_)) => Err(Fault::bad_input("input", "is a reference to a blob; send it inline")),
    }
}

/// The time that the caller gives, from `grpc-timeout`.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = if digits.len() <= 8 { digits.parse().ok()? } else { return None };
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The messages of a call. Ends after the last one, whoever still holds the call; dropped early, it cancels the call.
pub(super) struct Answers {
    messages: mpsc::Receiver<Result<wire::InvokeResponse, Status>>,
    over: bool,
    _cancel: DropGuard,
}

impl Answers {
    pub(super) fn new(messages: mpsc::Receiver<Result<wire::InvokeResponse, Status>>, cancel: DropGuard) -> Answers {
        Answers { messages, over: false, _cancel: cancel }
    }
}

impl Stream for Answers {
    type Item = Result<wire::InvokeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let message = ready!(self.messages.poll_recv(cx));
        self.over = match &message {
            None | Some(Err(_)) => true,
            Some(Ok(message)) => matches!(message.kind, Some(Kind::Result(_))),
        };
        Poll::Ready(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        let read = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("300m"), Some(Duration::from_millis(300)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        for wrong in ["", "m", "5x", "-1S", "123456789S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
