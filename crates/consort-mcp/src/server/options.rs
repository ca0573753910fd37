//! How the server is set, and whether that can be meant.

use std::sync::Arc;
use std::time::Duration;

use consort_core::Violation;
use consort_core::workflow::nearest;
use tokio_util::sync::CancellationToken;

use crate::server::tools::Own;

/// Entries of a list.
const ENTRIES: usize = 1_000;
/// Bytes of an entry.
const ENTRY: usize = 255;

/// How the server is set.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is exposed, `*` is anything: `git.log` or `git.*` for operations, `read:*` for those of them that only read, and the names of
    /// the mesh's own tools, `workflow_start`, `workflow_status`, `decisions_list` and `decision_answer`. By default `read:*` and
    /// `workflow_status`; an empty list exposes nothing.
    pub allow: Vec<String>,
    /// Which workflows may be started once `workflow_start` is allowed, `*` is anything.
    pub workflows: Vec<String>,
    /// Bytes of one request's body.
    pub body: usize,
    /// How long a body may take.
    pub body_time: Duration,
    /// Sessions of older clients at once; a further one is refused.
    pub sessions: usize,
    /// How long a session may be silent.
    pub session_idle: Duration,
    /// The longest that a client may wait for a run.
    pub wait: Duration,
    /// Names under which this machine may be called: a page that has its own name lead here is refused. Loopback's names by default; empty
    /// takes any.
    pub hosts: Vec<String>,
    /// The tenant on whose behalf calls are made.
    pub namespace: Arc<str>,
    /// Ends all sessions and streams when it is cancelled.
    pub end: CancellationToken,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            allow: vec!["read:*".to_owned(), "workflow_status".to_owned()],
            workflows: vec!["*".to_owned()],
            body: 4 * 1024 * 1024,
            body_time: Duration::from_secs(30),
            sessions: 1_000,
            session_idle: Duration::from_secs(30 * 60),
            wait: Duration::from_secs(3_600),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
            namespace: "default".into(),
            end: CancellationToken::new(),
        }
    }
}

impl Options {
    /// What of `allow`, `workflows` and `hosts` cannot be meant. Fields are named `mcp.allow[0]`.
    pub fn mistakes(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let lists = [
            ("allow", &self.allow, allowed as fn(&str) -> Result<(), String>),
            ("workflows", &self.workflows, workflow),
            ("hosts", &self.hosts, host),
        ];
        for (field, entries, check) in lists {
            if entries.len() > ENTRIES {
                let description = format!("has {} entries; the most is {ENTRIES}", entries.len());
                wrong.push(Violation { field: format!("mcp.{field}"), description });
            }
            for (index, entry) in entries.iter().enumerate().take(ENTRIES) {
                let checked = match entry.len() {
                    1..=ENTRY => check(entry),
                    found => Err(format!("has {found} bytes; write 1 to {ENTRY}")),
                };
                if let Err(description) = checked {
                    wrong.push(Violation { field: format!("mcp.{field}[{index}]"), description });
                }
            }
        }
        wrong
    }
}

/// An operation, one that only reads, or a tool of the mesh itself; with stars.
fn allowed(entry: &str) -> Result<(), String> {
    let (pattern, reads) = entry.strip_prefix("read:").map_or((entry, false), |rest| (rest, true));
    let known = pattern.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*".contains(c));
    if pattern.is_empty() || !known || pattern.matches('.').count() > 1 {
        return Err(format!(
            "`{entry}` names nothing; write `PLUGIN.OPERATION`, `read:PLUGIN.*` or the name of a tool"
        ));
    }
    if pattern.contains(['.', '*']) || (!reads && Own::ALL.iter().any(|own| own.name() == pattern)) {
        return Ok(());
    }
    let near = nearest(pattern, Own::ALL.iter().map(|own| own.name()));
    let hint = match near {
        Some(near) if !reads => format!("did you mean `{near}`?"),
        _ => format!("write `{pattern}.*` for all operations of a plugin"),
    };
    Err(format!("`{entry}` is no operation and no tool; {hint}"))
}

fn workflow(entry: &str) -> Result<(), String> {
    if entry.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*".contains(c)) {
        return Ok(());
    }
    Err(format!("`{entry}` is the name of no workflow; write for example `audit` or `nightly-*`"))
}

fn host(entry: &str) -> Result<(), String> {
    let named = entry.parse::<std::net::IpAddr>().is_ok()
        || (!entry.contains(['*', '@'])
            && entry.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.host().is_empty()));
    if named {
        return Ok(());
    }
    Err(format!(
        "`{entry}` is no host; write a name or an address, with or without a port, for example `mesh.example.com`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told_with_its_field() {
        assert!(Options::default().mistakes().is_empty());
        let all = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        let options = Options {
            allow: all(&["*", "read:*", "git.log", "git.*", "read:git.l*", "workflow_*", "decision_answer"]),
            workflows: all(&["*", "audit", "night.ly-*"]),
            hosts: all(&["mesh.example.com", "mesh:7420", "10.0.0.1", "::1", "[::1]:80"]),
            ..Options::default()
        };
        assert_eq!(options.mistakes(), []);
        let options = Options {
            allow: all(&[
                "",
                "git log",
                "workflow_statu",
                "read:git",
                "read:workflow_status",
                "write:*",
                "a.b.c",
                "git",
            ]),
            workflows: all(&["au dit", "namespaces/default"]),
            hosts: all(&["http://x", "a/b", "*"]),
            ..Options::default()
        };
        let wrong: Vec<String> =
            options.mistakes().into_iter().map(|one| format!("{}: {}", one.field, one.description)).collect();
        assert_eq!(wrong.len(), 13, "{wrong:#?}");
        for part in [
            "mcp.allow[0]: has 0 bytes",
            "mcp.allow[2]: `workflow_statu` is no operation and no tool; did you mean `workflow_status`?",
            "mcp.allow[3]: `read:git` is no operation and no tool; write `git.*`",
            "mcp.workflows[1]: `namespaces/default` is the name of no workflow",
            "mcp.hosts[0]: `http://x` is no host",
        ] {
            assert!(wrong.iter().any(|one| one.starts_with(part)), "{part}: {wrong:#?}");
        }
    }
}
