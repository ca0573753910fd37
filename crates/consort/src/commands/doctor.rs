//! `consort doctor`: what is installed, what is missing, what to do.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use consort_sandbox::{Mechanisms, Net, Sandbox};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tokio::process::Command;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::Global;
use crate::commands::check;
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::install::{self, AUDIT_PLUGINS, AUDIT_WORKERS, Program};
use crate::output::{self, Format, Table, text};
use crate::plugins::mechanisms;
use crate::tools::{LANGUAGES, Language, is_at_least, output_of};

/// Less free space than this stops a server soon.
const SPACE_NEEDED: u64 = 256 << 20;
/// A server holds a descriptor per connection, and its files.
const DESCRIPTORS_NEEDED: u64 = 1_024;
/// What to do where plugins cannot be held in full.
const SANDBOX_HINT: &str = "plugins you trust start with `sandbox: best_effort`, or `off`";
/// How long any one check may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Say what is installed, what is missing and what to do. With --data DIR: check the data in that folder instead.
///
/// Exits 1 if something is missing that the server or the demo needs, or if something is wrong with the data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort doctor                            what is installed and what is missing
  consort doctor --data ~/mesh              hold everything in the folder against its log; a server may be running there
  consort doctor --data ~/mesh --repair     write what is wrong again from the log; stop the server first")]
pub(crate) struct Doctor {
    /// Write rows that are not what their histories say again from the histories. Needs the folder for itself; the log is
    /// never changed.
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    todo: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// Worth knowing.
    Note,
    /// Something needed is not there.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "missing",
        }
    }
}

fn finding(what: &'static str, state: State, found: impl Into<String>, todo: impl Into<String>) -> Finding {
    Finding { what, state, found: found.into(), todo: todo.into() }
}

impl Doctor {
    /// Runs the command.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let data = global.data_folder();
        if global.data.is_some() || self.repair {
            return check::run(&data, self.repair, global.output).await;
        }
        let mut findings = vec![
            finding("consort", State::Ok, env!("CARGO_PKG_VERSION"), ""),
            data_folder(&data),
            free_space(&data),
            descriptors(),
            server(global).await,
        ];
        findings.extend(python().await);
        findings.push(workers());
        findings.push(plugins());
        findings.push(held(&mechanisms()));
        for language in &LANGUAGES {
            findings.push(language_found(language, language.find().await));
        }
        findings.push(git().await);
        show(global.output, &findings)?;
        let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
        match missing {
            0 => Ok(()),
            1 => Err(Failure::failed("one thing is missing; the table says what to do")),
            n => Err(Failure::failed(format!("{n} things are missing; the table says what to do"))),
        }
    }
}

fn show(format: Format, findings: &[Finding]) -> Result<()> {
    if format != Format::Table {
        let list: Vec<Value> = findings
            .iter()
            .map(|f| json!({"check": f.what, "state": f.state.name(), "found": f.found, "todo": f.todo}))
            .collect();
        return format.print_value(&json!({ "checks": list }));
    }
    let mut table = Table::new(&["CHECK", "STATE", "FOUND", "TO DO"]);
    for finding in findings {
        table.row([finding.what, finding.state.name(), &finding.found, &finding.todo]);
    }
    output::print(&table.render())
}

fn data_folder(data: &Path) -> Finding {
    let what = "data folder";
    // A folder that is not there yet is made by the server; what counts is whether it can be.
    let Some(nearest) = data.ancestors().find(|folder| folder.exists()) else {
        return finding(what, State::Missing, data.display().to_string(), "name another with --data DIR");
    };
    let writable = rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    match writable {
        Ok(()) if nearest == data => finding(what, State::Ok, data.display().to_string(), ""),
        Ok(()) => finding(what, State::Ok, format!("{} (will be made)", data.display()), ""),
        Err(error) => finding(
            what,
            State::Missing,
            format!("{} cannot be written: {error}", nearest.display()),
            "name another with --data DIR or CONSORT_DATA, or change its owner",
        ),
    }
}

fn free_space(data: &Path) -> Finding {
    let what = "free space";
    let nearest = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(nearest) {
        Ok(stats) => {
            let free = stats.f_bavail.saturating_mul(stats.f_frsize);
            let found = text::bytes(i64::try_from(free).unwrap_or(i64::MAX));
            if free >= SPACE_NEEDED {
                finding(what, State::Ok, found, "")
            } else {
                finding(what, State::Missing, found, "free some, or name a folder elsewhere with --data DIR")
            }
        }
        Err(error) => finding(what, State::Note, format!("unknown: {error}"), ""),
    }
}

fn descriptors() -> Finding {
    // No limit is reported as none.
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS_NEEDED => {
            let todo = format!("raise it before `consort serve`: ulimit -n {}", DESCRIPTORS_NEEDED * 4);
            finding("open files", State::Missing, format!("at most {limit}"), todo)
        }
        Some(limit) => finding("open files", State::Ok, format!("at most {limit}"), ""),
        None => finding("open files", State::Ok, "no limit", ""),
    }
}

async fn server(global: &Global) -> Finding {
    let what = "server";
    let address = global.address();
    let place = format!("{} (from {})", address.addr, address.source);
    let mesh = match Mesh::new(&address, &global.namespace) {
        Ok(mesh) => mesh,
        Err(failure) => return finding(what, State::Missing, failure.message, "write HOST:PORT"),
    };
    let mut health = HealthClient::new(mesh.client.channel());
    let asked = tokio::time::timeout(PATIENCE, health.check(HealthCheckRequest { service: String::new() })).await;
    match asked.map(|answer| answer.map(|answer| answer.into_inner().status())) {
        Ok(Ok(ServingStatus::Serving)) => finding(what, State::Ok, format!("serves at {place}"), ""),
        Ok(Ok(status)) => {
            let found = format!("at {place} says {}", status.as_str_name());
            finding(what, State::Note, found, "look at its log")
        }
        Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {
            let stale = if address.source.ends_with("endpoint") { "the last one did not end cleanly; " } else { "" };
            finding(what, State::Note, format!("none at {place}"), format!("{stale}start one with `consort serve`"))
        }
        Ok(Err(status)) => {
            let found = format!("something at {place} answers {}", crate::failure::code_name(status.code()));
            finding(what, State::Note, found, "is it Consort? name the right one with --addr HOST:PORT")
        }
        Err(_) => finding(what, State::Note, format!("{place} does not answer"), "look at its log"),
    }
}

async fn python() -> Vec<Finding> {
    const SCRIPT: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let python = install::python();
    let shown = python.display().to_string();
    let version = match output_of(Command::new(&python).args(["-c", SCRIPT])).await {
        Ok(version) => version,
        Err(why) => {
            let todo = "install Python 3.11 or later, or name it with CONSORT_PYTHON";
            return vec![finding("python", State::Missing, format!("{shown}: {why}"), todo)];
        }
    };
    if !is_at_least(&version, (3, 11)) {
        let todo = "Python workers need 3.11 or later; name it with CONSORT_PYTHON";
        return vec![finding("python", State::Missing, format!("{version} at {shown}"), todo)];
    }
    let import = "import consort, importlib.metadata as found; print(found.version('consort-sdk'))";
    let package = match output_of(Command::new(&python).args(["-c", import])).await {
        Ok(version) => finding("python package", State::Ok, format!("consort-sdk {version}"), ""),
        Err(why) => {
            let todo = format!("{shown} -m pip install ./python");
            finding("python package", State::Missing, format!("cannot import it: {why}"), todo)
        }
    };
    vec![finding("python", State::Ok, format!("{version} at {shown}"), ""), package]
}

fn workers() -> Finding {
    let missing: Vec<(&str, Program)> =
        AUDIT_WORKERS.into_iter().filter(|(_, program)| program.find().is_err()).collect();
    let found = format!("{} of {}", AUDIT_WORKERS.len() - missing.len(), AUDIT_WORKERS.len());
    if missing.is_empty() {
        return finding("demo workers", State::Ok, found, "");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let scripts = missing.iter().any(|(_, program)| matches!(program, Program::Python(_)));
    let todo =
        if scripts { "run from a checkout of Consort after `make demo` there" } else { "`make demo` builds them" };
    finding("demo workers", State::Missing, format!("{found}; not {}", names.join(", ")), todo)
}

fn plugins() -> Finding {
    let what = "demo plugins";
    let missing: Vec<String> =
        AUDIT_PLUGINS.iter().filter_map(|id| install::plugin(id).err().map(|todo| format!("{id}: {todo}"))).collect();
    let found = format!("{} of {}", AUDIT_PLUGINS.len() - missing.len(), AUDIT_PLUGINS.len());
    let state = if missing.is_empty() { State::Ok } else { State::Missing };
    finding(what, state, found, missing.join("; "))
}

/// What plugins are held by on this machine.
fn held(mechanisms: &Mechanisms) -> Finding {
    // A plugin with a network needs the most.
    let wants = Sandbox { net: Net::Ports { connect: vec![443], bind: Vec::new(), udp: false }, ..Sandbox::new("/") };
    let missing: Vec<String> =
        mechanisms.missing(&wants).into_iter().map(|each| format!("{} ({})", each.mechanism, each.why)).collect();
    if missing.is_empty() {
        let found = format!("landlock {}, seccomp, namespaces", mechanisms.landlock);
        return finding("sandbox", State::Ok, found, "");
    }
    finding("sandbox", State::Note, format!("lacks {}", missing.join("; ")), SANDBOX_HINT)
}

fn language_found(language: &Language, found: std::result::Result<String, String>) -> Finding {
    match found {
        Ok(version) => finding(language.program, State::Ok, version, ""),
        Err(why) => {
            let todo = format!("plugins and workers in {} need {} or newer", language.name, language.wanted);
            finding(language.program, State::Note, why, todo)
        }
    }
}

async fn git() -> Finding {
    match output_of(Command::new("git").arg("--version")).await {
        Ok(version) => finding("git", State::Ok, version, ""),
        Err(_) => finding("git", State::Note, "not installed", "only needed to work on Consort itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_some_need_is_a_note() {
        let [node, _] = &LANGUAGES;
        let missing = language_found(node, Err("not found".to_owned()));
        assert_eq!((missing.what, missing.state, missing.found.as_str()), ("node", State::Note, "not found"));
        assert_eq!(missing.todo, "plugins and workers in TypeScript need Node 20 or newer");
        assert_eq!(language_found(node, Ok("22.1.0".to_owned())).state, State::Ok);
        let none = held(&Mechanisms { reason: "this is not Linux".to_owned(), ..Mechanisms::default() });
        assert!(none.state == State::Note && none.found.contains("this is not Linux"), "{none:?}");
    }

    #[test]
    fn a_folder_that_can_be_made_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(folder.path()).state, State::Ok);
        let found = data_folder(&folder.path().join("a/b"));
        assert_eq!(found.state, State::Ok);
        assert!(found.found.contains("will be made"));
    }
}
