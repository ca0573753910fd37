//! Requests between live processes.

use consort_core::data::INLINE_LIMIT;
use consort_core::{Data, Error, Kind};
use consort_engine::{Ask, AskError, Inquiry, Reply, TaskFailure};
use consort_proto::agent as wire;
use consort_proto::blob::Payload;
use consort_proto::google::rpc;
use tonic::{Code, Status};

use super::worker::{error_info, mesh_error};
use super::{At, Values, answer_failure, duration, lease, payload, rpc_status};
use crate::status::cut;
use crate::{names, request, status};

/// Statuses travel in trailers, which common clients refuse beyond 8 KiB: the most bytes of an agent's own details there.
const TRAILER_DETAILS: usize = 4_000;
/// Longest message of an agent there.
const TRAILER_MESSAGE: usize = 1_000;

/// Reads a worker's request. The error says what is wrong with this one; the others of its frame are not concerned.
pub(crate) async fn ask(values: &Values, at: At, namespace: &str, given: wire::Ask) -> Result<Ask, Error> {
    if !consort_core::ids::is_id(&given.agent) {
        request::check_name(&format!("{at}.agent"), &given.agent)?;
    }
    let task = given.lease.as_ref().map(|_| lease(at, namespace, given.lease.as_ref())).transpose()?;
    let timeout = match &given.timeout {
        None => None,
        given => request::duration(&format!("{at}.timeout"), given.as_ref())?,
    };
    let within = (given.within > 0).then_some(given.within);
    let payload = value(values, "payload", given.payload).await?;
    Ok(Ask { number: given.number, agent: given.agent, payload, timeout, task, within })
}

/// Reads a value that stays in memory: small, or the name of a blob.
pub(crate) async fn value(values: &Values, field: &str, given: Option<Payload>) -> Result<Data, Error> {
    let data = values.take_inline(field, given).await?;
    match &data {
        Data::Inline(json) if json.as_str().len() > INLINE_LIMIT => {
            let found = json.as_str().len();
            let fix = "upload it with BlobService.Upload and send its reference";
            Err(Error::bad_field(field, format!("has {found} bytes, more than {INLINE_LIMIT}; {fix}")))
        }
        _ => Ok(data),
    }
}

/// Reads a worker's reply. One that cannot be read is an error for who asked, and not for the worker's stream.
pub(crate) async fn reply(values: &Values, at: At, given: wire::Reply) -> Result<Reply, Error> {
    let number = given.number;
    if let Some(error) = given.error {
        let failure = answer_failure(format_args!("{at}."), Some(error), given.retryable, None)?;
        return Ok(Reply { number, result: Err(AskError::Agent(failure)) });
    }
    let result = match value(values, "answer", given.answer).await {
        Ok(answer) => Ok(answer),
        Err(error) if error.kind == Kind::InvalidArgument => {
            let said = format!("the agent's answer was refused: {error}");
            Err(AskError::Mesh(Error::new(Kind::Internal, "BAD_ANSWER", said)))
        }
        Err(error) => return Err(error),
    };
    Ok(Reply { number, result })
}

/// A request for the worker that answers it.
pub(crate) fn inquiry(namespace: &str, inquiry: Inquiry) -> wire::Inquiry {
    let task = inquiry.task.map(|task| names::of_task(namespace, task.run, &task.step, task.attempt));
    wire::Inquiry {
        number: inquiry.number,
        agent: inquiry.agent.to_string(),
        payload: Some(payload(&inquiry.payload)),
        timeout: Some(duration(inquiry.timeout)),
        asker: inquiry.asker.to_string(),
        task: task.unwrap_or_default(),
        depth: inquiry.depth as i32,
    }
}

/// What became of a worker's request.
pub(crate) fn outcome(reply: Reply) -> wire::Reply {
    let number = reply.number;
    match reply.result {
        Ok(answer) => wire::Reply { number, answer: Some(payload(&answer)), ..Default::default() },
        Err(AskError::Mesh(error)) => {
            let retryable = error.retryable();
            wire::Reply { number, answer: None, error: Some(mesh_error(&error)), retryable }
        }
        Err(AskError::Agent(failed)) => {
            let error = Some(rpc_status(&failed.failure));
            wire::Reply { number, answer: None, error, retryable: failed.retryable }
        }
    }
}

/// Why a client has no answer.
pub(crate) fn ask_status(error: AskError) -> Status {
    match error {
        AskError::Mesh(error) => status::of(error),
        AskError::Agent(failed) => agent_status(failed),
    }
}

/// An agent's own error as the status of a call.
fn agent_status(failed: TaskFailure) -> Status {
    let rpc::Status { code, message, mut details } = rpc_status(&failed.failure);
    let mut room = TRAILER_DETAILS;
    details.retain(|any| {
        let size = any.type_url.len() + any.value.len();
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    if !details.iter().any(|any| any.type_url.ends_with("google.rpc.ErrorInfo")) {
        details.push(error_info("AGENT_FAILED", &[("retryable", if failed.retryable { "true" } else { "false" })]));
    }
    let message = cut(message, TRAILER_MESSAGE);
    let whole = rpc::Status { code, message: message.clone(), details };
    Status::with_details(Code::from_i32(code), message, prost::Message::encode_to_vec(&whole).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::event::{Code as Word, Failure};
    use tonic_types::StatusExt as _;

    fn failed(details: Vec<(String, String)>) -> TaskFailure {
        let failure = Failure { details, ..Failure::new(Word::NotFound, "no such invoice") };
        TaskFailure { failure, retryable: false, retry_after: None }
    }

    #[test]
    fn an_agents_error_is_the_calls_own() {
        let status = ask_status(AskError::Agent(failed(Vec::new())));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no such invoice"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["retryable"].as_str()), ("AGENT_FAILED", "false"));

        let large = ask_status(AskError::Agent(failed(vec![("t".into(), "00".repeat(9_000))])));
        assert!(large.details().len() < 300, "{}", large.details().len());
    }

    #[test]
    fn errors_of_the_mesh_say_whether_to_try_again() {
        let error = Error::new(Kind::Unavailable, "AGENT_OFFLINE", "nobody");
        let reply = outcome(Reply { number: 7, result: Err(error.into()) });
        assert_eq!((reply.number, reply.retryable, reply.error.unwrap().code), (7, true, 14));
    }
}
