//! The official SDKs against the server. Left out, with a word, where their packages cannot be had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::{example, npm, skipped};
use serde_json::{Value, json};

/// The example server with everything exposed.
struct Server {
    child: Child,
    url: String,
}

fn serve() -> Server {
    let mut command = Command::new(example("serve"));
    let mut child = command.arg("*").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    Server { child, url: url.trim().to_owned() }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn seen(mut command: Command) -> Value {
    let done = command.output().unwrap();
    let (out, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{out}\n{told}"))
}

/// A Python that has the SDK, or why there is none.
fn python() -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join("consort-mcp-python-sdk");
    let python = folder.join("bin/python");
    let has = || {
        Command::new(&python).args(["-c", "from mcp import Client"]).output().is_ok_and(|done| done.status.success())
    };
    if has() {
        return Ok(python);
    }
    let run = |command: &mut Command| -> Result<(), String> {
        let done = command.output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_owned();
        if done.status.success() { Ok(()) } else { Err(told) }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .map_err(|why| format!("no Python environment: {why}"))?;
    run(Command::new(&python).args(["-m", "pip", "install", "-q", "mcp>=2.3"])).map_err(|why| format!("pip: {why}"))?;
    if has() { Ok(python) } else { Err("the package `mcp` cannot be imported".to_owned()) }
}

#[test]
fn the_python_sdk_finds_its_way() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped("the_python_sdk_finds_its_way", &why),
    };
    let server = serve();
    // The current version without a session, where a question is a round trip; and an older one with a session, where it is a request.
    for (mode, version) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let mut command = Command::new(&python);
        command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk_python.py"), &server.url, mode]);
        let seen = seen(command);
        assert_eq!(seen["version"], version, "{seen}");
        check(&seen, "from python");
        assert_eq!(seen["failed"]["isError"], true, "{seen}");
        assert_eq!(seen["run"]["output"]["option"], "yes", "{seen}");
    }
}

#[test]
fn the_typescript_sdk_finds_its_way() {
    let folder = match npm(&["@modelcontextprotocol/sdk"], "consort-mcp-npm-sdk") {
        Ok(folder) => folder,
        Err(why) => return skipped("the_typescript_sdk_finds_its_way", &why),
    };
    let server = serve();
    let mut command = Command::new("node");
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk_typescript.mjs"), &server.url]).arg(folder);
    let seen = seen(command);
    check(&seen, "from node");
    assert_eq!(seen["run"]["output"]["option"], "no", "{seen}");
}

fn check(seen: &Value, text: &str) {
    let tools = seen["tools"].as_array().unwrap();
    for name in ["git_echo", "git_push", "workflow_start", "decision_answer"] {
        assert!(tools.iter().any(|tool| tool == name), "{name}: {seen}");
    }
    assert_eq!(seen["echo"], json!({"echo": text}), "{seen}");
    assert!(!seen["progress"].as_array().unwrap().is_empty(), "{seen}");
    assert!(seen["bad"].as_str().unwrap().contains("arguments.text"), "{seen}");
    assert_eq!(seen["asked"], "Deploy to production?", "{seen}");
    assert_eq!(seen["run"]["state"], "SUCCEEDED", "{seen}");
}
