//! What travels between the mesh and a worker.

use consort_core::event::Report;
use consort_core::run::{Clarified, Question};
use consort_core::{Data, Error, Json};
use consort_engine::{Ack, Assignment, Cancel, LeaseRef, LiveReport, Progress, TaskFailure, TaskReport};
use consort_proto::agent as wire;
use consort_proto::google::rpc;
use wire::step_report::Kind;

use super::{Values, failure, payload, timestamp};
use crate::status::{code_number, cut};
use crate::{names, request};

/// Longest log line.
const LOG_LINE: usize = 8 * 1024;

/// A task for a worker.
pub(crate) fn assignment(task: &Assignment) -> wire::Assignment {
    let lease = &task.lease;
    wire::Assignment {
        task: names::of_task(&task.namespace, lease.run, &lease.step, lease.attempt),
        lease_token: lease.token,
        agent: task.agent.to_string(),
        input: Some(payload(&task.input)),
        // The same for every attempt: it names the step, not the attempt.
        idempotency_key: format!("{}/{}", lease.run, lease.step),
        attempt: lease.attempt as i32,
        deadline: task.deadline.map(timestamp),
        workflow: task.workflow.to_string(),
        clarifications: task.clarified.iter().map(clarification).collect(),
    }
}

fn clarification(answered: &Clarified) -> wire::Clarification {
    wire::Clarification {
        title: answered.title.clone(),
        option: answered.option.clone(),
        form: answered.form.as_ref().map(payload),
        answered_by: answered.by.clone(),
    }
}

/// Longest description, options, and longest option of a question.
const DESCRIPTION: usize = 64 * 1024;
const OPTIONS: usize = 100;
const OPTION: usize = 1_000;

/// Reads a worker's question.
pub(crate) async fn question(values: &Values, field: &str, given: Option<wire::Question>) -> Result<Question, Error> {
    let Some(given) = given else {
        return Err(Error::bad_field(field, "is absent; give at least its title"));
    };
    let at = |name: &str| format!("{field}.{name}");
    if given.title.trim().is_empty() {
        return Err(Error::bad_field(at("title"), "is empty; give the question that a person reads"));
    }
    request::text(&at("title"), &given.title, 1_000)?;
    if given.description.len() > DESCRIPTION {
        let found = given.description.len();
        return Err(Error::bad_field(at("description"), format!("has {found} bytes; give at most {DESCRIPTION}")));
    }
    let options = if given.options.is_empty() { vec!["answer".to_owned()] } else { given.options };
    if options.len() > OPTIONS {
        let found = options.len();
        return Err(Error::bad_field(at("options"), format!("there are {found}; give at most {OPTIONS}")));
    }
    for (index, option) in options.iter().enumerate() {
        let here = format!("{field}.options[{index}]");
        request::text(&here, option, OPTION)?;
        if option.trim().is_empty() || options[..index].contains(option) {
            return Err(Error::bad_field(here, "is empty or there twice; give each option a text of its own"));
        }
    }
    let default = (!given.default_option.is_empty()).then_some(given.default_option);
    if let Some(default) = default.as_ref().filter(|default| !options.contains(default)) {
        let shown = names::shown(default);
        return Err(Error::bad_field(
            at("default_option"),
            format!("`{shown}` is not one of the options; give one of them"),
        ));
    }
    let deadline = request::duration(&at("deadline"), given.deadline.as_ref())?;
    if default.is_some() && deadline.is_none() {
        let said = "is what the deadline chooses, but there is no deadline; give one, or no default";
        return Err(Error::bad_field(at("default_option"), said));
    }
    let form = match given.form {
        None => None,
        given => Some(schema(&at("form"), values.take_inline(&at("form"), given).await?)?),
    };
    Ok(Question { title: given.title, description: given.description, options, form, deadline, default })
}

/// A form's schema, which must be one.
fn schema(field: &str, given: Data) -> Result<Json, Error> {
    let Data::Inline(json) = given else {
        return Err(Error::bad_field(field, "is a blob; give the JSON Schema itself"));
    };
    match consort_core::workflow::check_schema(&json.value()) {
        Ok(()) => Ok(json),
        Err(why) => Err(Error::bad_field(field, format!("is not a JSON Schema: {why}; see json-schema.org"))),
    }
}

/// A lease of a namespace.
pub(crate) fn lease_ref(namespace: &str, lease: &LeaseRef) -> wire::LeaseRef {
    wire::LeaseRef { task: names::of_task(namespace, lease.run, &lease.step, lease.attempt), lease_token: lease.token }
}

/// A task to stop.
pub(crate) fn cancel(cancel: &Cancel) -> wire::Cancel {
    wire::Cancel { lease: Some(lease_ref(&cancel.namespace, &cancel.lease)), reason: cancel.reason.to_owned() }
}

/// What became of an answer.
pub(crate) fn ack(ack: &Ack) -> wire::Ack {
    let error = ack.outcome.as_ref().err().map(mesh_error);
    wire::Ack { lease: Some(lease_ref(&ack.namespace, &ack.lease)), error }
}

/// An error of the mesh within a message.
pub(super) fn mesh_error(error: &Error) -> rpc::Status {
    let details = vec![error_info(error.reason, &[])];
    rpc::Status { code: code_number(error.kind), message: error.message.clone(), details }
}

/// The reason of an error, with what else programs may want to know.
pub(super) fn error_info(reason: &str, more: &[(&str, &str)]) -> prost_types::Any {
    let info = tonic_types::pb::ErrorInfo {
        reason: reason.to_owned(),
        domain: crate::status::DOMAIN.to_owned(),
        metadata: more.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: prost::Message::encode_to_vec(&info),
    }
}

/// What is kept of a worker's report.
pub(crate) fn kept_report(report: &Report) -> wire::StepReport {
    let kind = match report {
        Report::Log { level, text } => Kind::Log(wire::LogLine { level: log_level(level) as i32, text: text.clone() }),
        Report::Note { name, value } => Kind::Note(wire::Note { name: name.clone(), value: Some(payload(value)) }),
    };
    wire::StepReport { kind: Some(kind) }
}

/// How far a task is, as a report.
pub(crate) fn progress_report(fraction: f64, text: String) -> wire::StepReport {
    wire::StepReport { kind: Some(Kind::Progress(progress(fraction, text))) }
}

/// How far a task is.
pub(crate) fn progress(fraction: f64, text: String) -> wire::Progress {
    wire::Progress { fraction, text }
}

/// A message of a frame, for errors: `completed[3]`.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) &'static str, pub(crate) usize);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.0, self.1)
    }
}

/// Reads a report about a task of this namespace. A large note stays inline.
pub(crate) async fn live_report(
    values: &Values,
    at: At,
    namespace: &str,
    report: wire::TaskReport,
) -> Result<TaskReport, Error> {
    let lease = lease(at, namespace, report.lease.as_ref())?;
    let kind = report.report.and_then(|report| report.kind);
    let kind = kind.ok_or_else(|| Error::bad_field(format!("{at}.report"), "is absent; give log, progress or note"))?;
    let report = match kind {
        Kind::Progress(progress) => {
            if !(0.0..=1.0).contains(&progress.fraction) {
                let description = format!("`{}` is not a share; give 0 to 1", progress.fraction);
                return Err(Error::bad_field(format!("{at}.report.progress.fraction"), description));
            }
            LiveReport::Progress(Progress { fraction: progress.fraction, text: cut(progress.text, 1_000) })
        }
        Kind::Log(line) => LiveReport::Kept(Report::Log {
            level: log_level_name(line.level()).to_owned(),
            text: cut(line.text, LOG_LINE),
        }),
        Kind::Note(note) => {
            let field = format!("{at}.report.note.name");
            if note.name.is_empty() {
                return Err(Error::bad_field(field, "is empty; give a name such as `model.call`"));
            }
            request::text(&field, &note.name, 200)?;
            let value = values.take_inline(&format!("{at}.report.note.value"), note.value).await?;
            LiveReport::Kept(Report::Note { name: note.name, value })
        }
    };
    Ok(TaskReport { lease, report })
}

/// Reads a lease of this namespace.
pub(crate) fn lease(at: At, namespace: &str, given: Option<&wire::LeaseRef>) -> Result<LeaseRef, Error> {
    let Some(given) = given else {
        return Err(Error::bad_field(format!("{at}.lease"), "is absent; give the assignment's task and lease_token"));
    };
    let (found, lease) = names::task(format_args!("{at}.lease.task"), &given.task, given.lease_token)?;
    if found == namespace {
        return Ok(lease);
    }
    let task = names::shown(&given.task);
    Err(Error::bad_field(
        format!("{at}.lease.task"),
        format!("`{task}` is not in the worker's namespace `{namespace}`; answer the tasks you were given"),
    ))
}

/// Reads a task's failure.
pub(crate) fn answer_failure(
    field: impl std::fmt::Display,
    error: Option<rpc::Status>,
    retryable: bool,
    retry_after: Option<&prost_types::Duration>,
) -> Result<TaskFailure, Error> {
    let retry_after = match retry_after {
        None => None,
        given => request::duration(&format!("{field}retry_after"), given)?,
    };
    Ok(TaskFailure { failure: failure(error), retryable, retry_after })
}

fn log_level(name: &str) -> wire::LogLevel {
    match name {
        "debug" => wire::LogLevel::Debug,
        "warn" => wire::LogLevel::Warn,
        "error" => wire::LogLevel::Error,
        _ => wire::LogLevel::Info,
    }
}

fn log_level_name(level: wire::LogLevel) -> &'static str {
    match level {
        wire::LogLevel::Debug => "debug",
        wire::LogLevel::Unspecified | wire::LogLevel::Info => "info",
        wire::LogLevel::Warn => "warn",
        wire::LogLevel::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::{RunId, StepKey};
    use uuid::Uuid;

    fn a_lease() -> LeaseRef {
        LeaseRef { run: RunId(Uuid::from_u128(7)), step: StepKey::step("cost"), attempt: 2, token: 41 }
    }

    #[test]
    fn leases_survive_both_ways() {
        let wire = lease_ref("acme", &a_lease());
        let at = At("completed", 3);
        assert_eq!(lease(at, "acme", Some(&wire)).unwrap(), a_lease());
        let field = |error: Error| error.violations[0].field.clone();
        assert_eq!(field(lease(at, "other", Some(&wire)).unwrap_err()), "completed[3].lease.task");
        assert_eq!(field(lease(at, "acme", None).unwrap_err()), "completed[3].lease");
    }

    #[test]
    fn levels_survive_both_ways() {
        for name in ["debug", "info", "warn", "error"] {
            assert_eq!(log_level_name(log_level(name)), name);
        }
    }

    #[test]
    fn a_refused_answer_says_why() {
        let refused = Ack {
            namespace: "acme".into(),
            lease: a_lease(),
            outcome: Err(Error::precondition("LEASE_LOST", "the lease has token 42 now")),
        };
        let error = ack(&refused).error.unwrap();
        assert_eq!(error.code, 9);
        let info: tonic_types::pb::ErrorInfo = prost::Message::decode(&*error.details[0].value).unwrap();
        assert_eq!(info.reason, "LEASE_LOST");
        assert!(ack(&Ack { outcome: Ok(true), ..refused }).error.is_none());
    }
}
