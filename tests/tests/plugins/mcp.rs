//! The mesh as an MCP server, before the official Python SDK.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use consort_proto::decision::{DecisionState, ListDecisionsRequest};
use consort_testkit::{Mesh, binary, root};
use serde_json::{Value, json};

use super::kit::{Bench, copy_python};

const SHIP: &str = "
name: ship-it
inputs: {what: {type: string}}
steps:
  - id: ask
    decide:
      title: 'Ship the ${{ inputs.what }}?'
      options: [ship, keep]
      form: {type: object, properties: {why: {type: string}}}
output: '${{ steps.ask.output }}'
";

/// A Python that has the SDK, or why there is none.
fn python() -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join("consort-mcp-python-sdk");
    let python = folder.join("bin/python");
    let run = |command: &mut Command| -> Result<(), String> {
        let done = command.output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_owned();
        if done.status.success() { Ok(()) } else { Err(told) }
    };
    let has = || run(Command::new(&python).args(["-c", "from mcp import Client"]));
    if has().is_err() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .map_err(|why| format!("no Python environment: {why}"))?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "mcp>=2.3"]))
            .map_err(|why| format!("pip: {why}"))?;
        has().map_err(|why| format!("the package `mcp` cannot be imported: {why}"))?;
    }
    Ok(python)
}

#[tokio::test]
async fn a_client_starts_workflows_and_answers_what_they_ask() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return eprintln!("SKIPPED a_client_starts_workflows_and_answers_what_they_ask: {why}"),
    };
    let allow = "['conformance.echo', 'workflow_*', 'decision*']";
    let plugins = format!(
        "  conformance: {{path: HERE/conformance, grant: all}}\nmcp: {{allow: {allow}, workflows: ['ship-*']}}"
    );
    let mut bench = Bench::start(&plugins, |folder| copy_python(&folder.join("conformance"))).await;
    let client = bench.mesh.client();
    client.apply(SHIP).await.unwrap();
    client.apply(&SHIP.replace("ship-it", "secret")).await.unwrap();
    client.apply("name: ship-slowly\nsteps: [{id: nap, wait: 1h}]").await.unwrap();

    // The current version without a session, where a question is a round trip; and an older one with a session, where it is a request.
    for (mode, version) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let mut command = tokio::process::Command::new(&python);
        command.arg(root().join("tests/tests/plugins/mcp_client.py"));
        command.args([&format!("http://{}/mcp", bench.mesh.addr()), mode]);
        let done = command.output().await.unwrap();
        let (out, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let seen: Value =
            serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{out}\n{told}"));
        assert_eq!(seen["version"], version, "{seen}");
        check(&seen);
    }
    // Who decided is on record, and through which client.
    let closed = ListDecisionsRequest { state: DecisionState::Answered as i32, ..ListDecisionsRequest::default() };
    let closed = client.decisions().list_decisions(closed).await.unwrap().into_inner().decisions;
    let mut by: Vec<&str> = closed.iter().map(|decision| decision.answered_by.as_str()).collect();
    by.sort_unstable();
    assert_eq!(by.len(), 4, "{by:?}");
    assert!(by[..2].iter().all(|by| by.starts_with("ada via mcp:")), "{by:?}");
    assert!(by[2..].iter().all(|by| by.starts_with("mcp:")), "{by:?}");
    bench.mesh.stop().await;
}

fn check(seen: &Value) {
    let tools = ["conformance_echo", "decision_answer", "decisions_list", "workflow_start", "workflow_status"];
    assert_eq!(seen["tools"], json!(tools), "{seen}");
    assert_eq!(seen["echo"], json!({"text": "hi"}), "{seen}");
    assert_eq!(seen["asked"], json!([["Ship the tea?", ["ship", "keep"]]]), "{seen}");
    let waited = &seen["waited"];
    assert_eq!((&waited["state"], &waited["output"]["option"]), (&json!("SUCCEEDED"), &json!("ship")), "{seen}");
    assert_eq!(waited["output"]["form"], json!({"why": "tested"}), "{seen}");

    let (open, status) = (&seen["open"][0], &seen["status"]);
    assert_eq!((&open["question"], &open["step"]), (&json!("Ship the milk?"), &json!("ask")), "{seen}");
    assert_eq!((&status["state"], &status["workflow"]), (&json!("WAITING"), &json!("ship-it")), "{seen}");
    assert_eq!(status["decisions"][0]["decision"], open["decision"], "{seen}");
    assert_eq!(seen["answered"]["answered"], open["decision"], "{seen}");
    let ended = &seen["ended"];
    assert_eq!((&ended["state"], &ended["output"]["option"]), (&json!("SUCCEEDED"), &json!("keep")), "{seen}");
    assert_eq!((&seen["bounded"]["is_over"], &seen["bounded"]["state"]), (&json!(false), &json!("WAITING")), "{seen}");

    for (field, part) in [
        ("bad_option", "`eat` is not an option; choose one of: ship, keep"),
        ("bad_form", "form"),
        ("missing_input", "what"),
        ("no_id", "`the last one` is no id"),
        ("other_workflow", "`secret` is not among the workflows"),
        ("other_operation", "there is no tool `conformance_write`, or it is not exposed"),
    ] {
        let said = seen[field].as_str().unwrap_or_default();
        assert!(said.contains(part) && !said.contains("NOT REFUSED"), "{field}: {said}");
    }
    for field in ["unknown", "unknown_run"] {
        assert!(seen[field]["failed"].as_str().is_some_and(|said| said.starts_with("NOT_FOUND: ")), "{field}: {seen}");
    }
}

/// The status of a request to `/mcp`, with a name of the server.
async fn status(mesh: &Mesh, host: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let body = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
    let mut socket = tokio::net::TcpStream::connect(mesh.addr()).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).await.unwrap();
    said.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[tokio::test]
async fn the_section_says_who_may_call_and_whether_anybody() {
    let bench = Bench::start("  {}\nmcp: {hosts: [mesh.example.com]}", |_| {}).await;
    assert_eq!(status(&bench.mesh, "localhost").await, 403);
    assert_ne!(status(&bench.mesh, "mesh.example.com").await, 403);
    let off = Bench::start("  {}\nmcp: {enabled: false}", |_| {}).await;
    assert_eq!(status(&off.mesh, "localhost").await, 404);
}

#[test]
fn a_bad_section_is_refused_at_the_start_with_all_its_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugins.yaml");
    let said = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut server = Command::new(binary("consort"));
        server.args(["serve", "--listen", "127.0.0.1:0", "--memory", "--plugins"]).arg(&file);
        let done = server.arg("--data").arg(folder.path().join("data")).output().unwrap();
        assert!(!done.status.success(), "{text}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let whole = said(
        "plugins:\n  x: {}\nmcp:\n  allow: ['git log', workflow_statu]\n  workflows: ['a b']\n  hosts: ['http://here']\n",
    );
    for part in [
        "plugins.x: needs either `path` or `mcp`",
        "mcp.allow[0]: `git log` names nothing",
        "mcp.allow[1]: `workflow_statu` is no operation and no tool; did you mean `workflow_status`?",
        "mcp.workflows[0]: `a b` is the name of no workflow",
        "mcp.hosts[0]: `http://here` is no host",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert!(said("mcp: {hosts: []}").contains("mcp.hosts: is empty"));
    assert!(said("mcp: {alow: ['*']}").contains("alow"));
}
