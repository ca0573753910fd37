//! Resource names, both ways. A bad name becomes a violation that shows the value and the form that is expected.

use std::fmt::Write as _;
use std::sync::Arc;

use consort_core::ids::is_id;
use consort_core::{Error, RunId, StepKey};
use consort_engine::LeaseRef;
use uuid::Uuid;

/// The tenant of callers that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

const WORKFLOW: &str = "namespaces/{namespace}/workflows/{id}";
const RUN: &str = "namespaces/{namespace}/runs/{uuid}";
const DECISION: &str = "namespaces/{namespace}/decisions/{uuid}";
const PROJECT: &str = "namespaces/{namespace}/projects/{id}";
const SIGNAL: &str = "namespaces/{namespace}/signals/{uuid}";
const AGENT: &str = "namespaces/{namespace}/agents/{id}";
const WORKER: &str = "namespaces/{namespace}/workers/{id}";
const TASK: &str = "namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}";
const GROUP: &str = "namespaces/{namespace}/groups/{id}";
const BLOB: &str = "blobs/{sha256}";

/// Reads a `parent`: `namespaces/{namespace}`, or nothing for the default one.
pub(crate) fn parent(field: &str, text: &str) -> Result<Arc<str>, Error> {
    if text.is_empty() {
        return Ok(DEFAULT_NAMESPACE.into());
    }
    match text.strip_prefix("namespaces/") {
        Some(id) if is_id(id) => Ok(id.into()),
        _ => Err(bad(field, text, "namespace", "namespaces/{namespace}")),
    }
}

/// Reads a workflow's name: its namespace and id.
pub(crate) fn workflow(field: &str, text: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    with_id(text, "workflows").ok_or_else(|| bad(field, text, "workflow", WORKFLOW))
}

/// Reads a project's name: its namespace and id.
pub(crate) fn project(field: &str, text: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    with_id(text, "projects").ok_or_else(|| bad(field, text, "project", PROJECT))
}

/// Reads a signal's name: its namespace and id.
pub(crate) fn signal(field: &str, text: &str) -> Result<(Arc<str>, Uuid), Error> {
    with_uuid(text, "signals").ok_or_else(|| bad(field, text, "signal", SIGNAL))
}

/// Reads an agent's name: its namespace and id.
pub(crate) fn agent(field: &str, text: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    with_id(text, "agents").ok_or_else(|| bad(field, text, "agent", AGENT))
}

/// Reads a worker's name: its namespace and id.
pub(crate) fn worker(field: &str, text: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    with_id(text, "workers").ok_or_else(|| bad(field, text, "worker", WORKER))
}

/// Reads a group's name: its namespace and id.
pub(crate) fn group(field: &str, text: &str) -> Result<(Arc<str>, Arc<str>), Error> {
    with_id(text, "groups").filter(|(_, id)| is_group(id)).ok_or_else(|| bad(field, text, "group", GROUP))
}

/// Reads a group's id.
pub(crate) fn group_id(field: &str, text: &str) -> Result<Arc<str>, Error> {
    if is_group(text) {
        return Ok(text.into());
    }
    let form = "give 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit";
    Err(Error::bad_field(field, format!("`{}` is not the id of a group; {form}", shown(text))))
}

fn is_group(text: &str) -> bool {
    is_id(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Reads a run's name: its namespace and id.
pub(crate) fn run(field: &str, text: &str) -> Result<(Arc<str>, RunId), Error> {
    with_uuid(text, "runs").map(|(ns, id)| (ns, RunId(id))).ok_or_else(|| bad(field, text, "run", RUN))
}

/// Reads a decision's name: its namespace and id.
pub(crate) fn decision(field: &str, text: &str) -> Result<(Arc<str>, Uuid), Error> {
    with_uuid(text, "decisions").ok_or_else(|| bad(field, text, "decision", DECISION))
}

/// Reads a blob's name: its SHA-256.
pub(crate) fn blob<'a>(field: &str, text: &'a str) -> Result<&'a str, Error> {
    text.strip_prefix("blobs/").filter(|sha256| is_sha256(sha256)).ok_or_else(|| bad(field, text, "blob", BLOB))
}

/// Reads a task's name and joins it with its token: the namespace and the lease. Called for every answer of a worker, so it
/// walks the text once and allocates the step's id only; the field is written down only for an error.
pub(crate) fn task(field: impl std::fmt::Display, text: &str, token: u64) -> Result<(&str, LeaseRef), Error> {
    read_task(text, token).ok_or_else(|| bad(&field.to_string(), text, "task", TASK))
}

fn read_task(text: &str, token: u64) -> Option<(&str, LeaseRef)> {
    let (namespace, rest) = text.strip_prefix("namespaces/")?.split_once('/')?;
    let (run, rest) = rest.strip_prefix("runs/")?.split_once('/')?;
    let (step, attempt) = rest.strip_prefix("steps/")?.split_once("/attempts/")?;
    let lease = LeaseRef {
        run: RunId(uuid(run)?),
        step: step.parse().ok()?,
        attempt: attempt.parse().ok().filter(|&n| n > 0 && !attempt.starts_with(['+', '0']))?,
        token,
    };
    is_id(namespace).then_some((namespace, lease))
}

/// Checks that a filter names something of the namespace that is asked for.
pub(crate) fn same_namespace(field: &str, found: &str, wanted: &str) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::bad_field(
        field,
        format!("is in the namespace `{found}`, not in `{wanted}` of `parent`; give both the same"),
    ))
}

fn with_id(text: &str, collection: &str) -> Option<(Arc<str>, Arc<str>)> {
    let (namespace, id) = split(text, collection)?;
    is_id(id).then(|| (namespace.into(), id.into()))
}

fn with_uuid(text: &str, collection: &str) -> Option<(Arc<str>, Uuid)> {
    let (namespace, id) = split(text, collection)?;
    Some((namespace.into(), uuid(id)?))
}

fn split<'a>(text: &'a str, collection: &str) -> Option<(&'a str, &'a str)> {
    let (namespace, rest) = text.strip_prefix("namespaces/")?.split_once('/')?;
    let id = rest.strip_prefix(collection)?.strip_prefix('/')?;
    is_id(namespace).then_some((namespace, id))
}

/// Reads a UUID in its hyphenated form; the others would give one thing several names.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// Whether the text is a SHA-256 in 64 lower-case hexadecimal digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn bad(field: &str, text: &str, what: &str, form: &str) -> Error {
    Error::bad_field(field, format!("`{}` does not name a {what}; write `{form}`", shown(text)))
}

/// A value as an error shows it: the first 100 characters.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(100) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// `namespaces/{namespace}`.
pub(crate) fn of_namespace(namespace: &str) -> String {
    format!("namespaces/{namespace}")
}

/// `namespaces/{namespace}/{collection}/{id}`.
pub(crate) fn of(namespace: &str, collection: &str, id: impl std::fmt::Display) -> String {
    format!("namespaces/{namespace}/{collection}/{id}")
}

/// `namespaces/{namespace}/runs/{uuid}`.
pub(crate) fn of_run(namespace: &str, run: RunId) -> String {
    of(namespace, "runs", run)
}

/// `namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}`.
pub(crate) fn of_task(namespace: &str, run: RunId, step: &StepKey, attempt: u32) -> String {
    let mut name = String::with_capacity(80 + namespace.len() + step.id.len());
    write!(name, "namespaces/{namespace}/runs/{run}/steps/{step}/attempts/{attempt}")
        .expect("a String takes everything");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01939d0e-6f6b-7c3a-8a52-0123456789ab";

    fn description(error: Error) -> String {
        error.violations.into_iter().next().expect("a bad name is a violation").description
    }

    #[test]
    fn names_survive_both_ways() {
        let (namespace, id) = run("name", &format!("namespaces/acme/runs/{UUID}")).unwrap();
        assert_eq!(of_run(&namespace, id), format!("namespaces/acme/runs/{UUID}"));

        let text = format!("namespaces/acme/runs/{UUID}/steps/cost[3]/attempts/2");
        let (namespace, lease) = task("task", &text, 7).unwrap();
        assert_eq!((lease.attempt, lease.token, lease.step.item), (2, 7, Some(3)));
        assert_eq!(of_task(namespace, lease.run, &lease.step, lease.attempt), text);

        assert_eq!(workflow("workflow", "namespaces/acme/workflows/audit").unwrap(), ("acme".into(), "audit".into()));
        assert_eq!(group("name", "namespaces/acme/groups/billing").unwrap(), ("acme".into(), "billing".into()));
        assert_eq!(&*parent("parent", "").unwrap(), "default");
        assert_eq!(&*parent("parent", "namespaces/acme").unwrap(), "acme");
        assert_eq!(blob("name", &format!("blobs/{}", "0a".repeat(32))).unwrap(), "0a".repeat(32));
    }

    #[test]
    fn a_bad_name_shows_the_value_and_the_form() {
        for text in ["", "runs/x", "namespaces/acme/runs/12", "namespaces//runs/01939d0e-6f6b-7c3a-8a52-0123456789ab"] {
            let error = run("name", text).unwrap_err();
            assert_eq!(error.violations[0].field, "name");
            let said = description(error);
            assert!(said.contains(&format!("`{text}`")) && said.contains(RUN), "{said}");
        }
        for text in [
            format!("namespaces/acme/runs/{UUID}/steps/cost/attempts/0"),
            format!("namespaces/acme/runs/{UUID}/steps/cost/attempts/+1"),
            format!("namespaces/acme/runs/{UUID}/steps/cost[/attempts/1"),
            format!("namespaces/acme/runs/{}/steps/cost/attempts/1", UUID.replace('-', "")),
            format!("namespaces/a b/runs/{UUID}/steps/cost/attempts/1"),
        ] {
            assert!(description(task("task", &text, 1).unwrap_err()).contains(TASK), "{text}");
        }
        assert!(blob("name", &format!("blobs/{}", "0A".repeat(32))).is_err());
        assert!(parent("parent", "acme").is_err());
        assert!(worker("name", "namespaces/acme/agents/w1").is_err());
        assert!(group("name", "namespaces/acme/groups/Billing").is_err() && group_id("group", "a b").is_err());
    }

    #[test]
    fn a_long_value_is_cut() {
        let said = description(agent("name", &"é".repeat(5_000)).unwrap_err());
        assert!(said.chars().count() < 250, "{said}");
    }
}
