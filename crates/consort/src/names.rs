//! How people name things: a full resource name, a uuid, or the beginning of one.

use consort_proto::decision::ListDecisionsRequest;
use consort_proto::orchestrator::ListRunsRequest;

use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::output::text;

/// Shorter beginnings of a uuid match too much.
const SHORTEST: usize = 4;
/// How many pages of 1,000 a beginning is looked up in, newest first.
const PAGES: usize = 20;

#[derive(Debug, PartialEq, Eq)]
enum Reference {
    Full(String),
    Beginning(String),
}

/// The full name of a run.
pub(crate) async fn run(context: &Context, given: &str) -> Result<String> {
    let beginning = match parse(&context.parent, "runs", given)? {
        Reference::Full(name) => return Ok(name),
        Reference::Beginning(beginning) => beginning,
    };
    let mut found = Vec::new();
    let mut request = ListRunsRequest { parent: context.parent.clone(), page_size: 1_000, ..Default::default() };
    for _ in 0..PAGES {
        let page = context.mesh.answer(context.mesh.client.orchestrator().list_runs(request.clone()).await)?;
        found.extend(page.runs.into_iter().map(|run| run.name).filter(|name| text::id(name).starts_with(&beginning)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found.len() > 1 {
            break;
        }
    }
    only("run", "consort runs", given, found)
}

/// The full name of a decision.
pub(crate) async fn decision(context: &Context, given: &str) -> Result<String> {
    let beginning = match parse(&context.parent, "decisions", given)? {
        Reference::Full(name) => return Ok(name),
        Reference::Beginning(beginning) => beginning,
    };
    let mut found = Vec::new();
    let mut request = ListDecisionsRequest { parent: context.parent.clone(), page_size: 1_000, ..Default::default() };
    for _ in 0..PAGES {
        let page = context.mesh.answer(context.mesh.client.decisions().list_decisions(request.clone()).await)?;
        let names = page.decisions.into_iter().map(|decision| decision.name);
        found.extend(names.filter(|name| text::id(name).starts_with(&beginning)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found.len() > 1 {
            break;
        }
    }
    only("decision", "consort decisions", given, found)
}

/// The full name of something that people name themselves: `workflows`, `workers`.
pub(crate) fn named(context: &Context, collection: &str, given: &str) -> Result<String> {
    if given.starts_with("namespaces/") {
        return Ok(given.to_owned());
    }
    if consort_core::ids::is_id(given) {
        return Ok(format!("{}/{collection}/{given}", context.parent));
    }
    Err(Failure::usage(format!("`{given}` is not a name"))
        .hint("use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"))
}

fn parse(parent: &str, collection: &str, given: &str) -> Result<Reference> {
    if given.starts_with("namespaces/") {
        return match given.split('/').collect::<Vec<_>>().as_slice() {
            ["namespaces", _, kind, _] if *kind == collection => Ok(Reference::Full(given.to_owned())),
            _ => Err(Failure::usage(format!("`{given}` is not of the form namespaces/NAME/{collection}/UUID"))),
        };
    }
    let given_lower = given.to_ascii_lowercase();
    if let Ok(uuid) = uuid::Uuid::parse_str(&given_lower) {
        return Ok(Reference::Full(format!("{parent}/{collection}/{}", uuid.hyphenated())));
    }
    let digits = given_lower.chars().filter(char::is_ascii_hexdigit).count();
    let legal = given_lower.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if legal && digits >= SHORTEST && given_lower.len() < 36 {
        return Ok(Reference::Beginning(given_lower));
    }
    Err(Failure::usage(format!("`{given}` names nothing"))
        .hint(format!("give a full name, a uuid, or at least the first {SHORTEST} hexadecimal digits of one")))
}

fn only(what: &str, list: &str, given: &str, mut found: Vec<String>) -> Result<String> {
    match found.len() {
        0 => Err(Failure::new(Exit::Refused, format!("there is no {what} that begins with `{given}`"))
            .hint(format!("`{list}` lists them"))),
        1 => Ok(found.remove(0)),
        _ => Err(Failure::usage(format!("several {what}s begin with `{given}`"))
            .details(found.iter().take(5).map(|name| text::id(name).to_owned()))
            .hint("give more of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0192abcd-0000-7000-8000-000000000001";

    fn check(given: &str) -> Option<Reference> {
        parse("namespaces/default", "runs", given).ok()
    }

    #[test]
    fn names_uuids_and_beginnings() {
        let full = format!("namespaces/default/runs/{UUID}");
        assert_eq!(check(UUID), Some(Reference::Full(full.clone())));
        assert_eq!(check(&UUID.to_uppercase()), Some(Reference::Full(full.clone())));
        assert_eq!(check(&full), Some(Reference::Full(full)));
        assert_eq!(check("0192"), Some(Reference::Beginning("0192".into())));
        assert_eq!(check("0192abcd-00"), Some(Reference::Beginning("0192abcd-00".into())));
        for bad in ["", "019", "tail", "namespaces/default/decisions/x", "namespaces/default/runs", "----"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_beginning_must_be_unique() {
        assert_eq!(only("run", "consort runs", "01", vec!["a".into()]).unwrap(), "a");
        assert_eq!(only("run", "consort runs", "01", vec![]).unwrap_err().exit, Exit::Refused);
        assert_eq!(only("run", "consort runs", "01", vec!["a".into(), "b".into()]).unwrap_err().exit, Exit::Usage);
    }
}
