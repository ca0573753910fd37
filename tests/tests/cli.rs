//! The command as scripts use it: exit codes, JSON on standard output, and a server found by its file.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use consort_testkit::{ASK, CHAIN, Mesh, binary, eventually, next};
use serde_json::{Value, json};

/// Runs `consort` against the server of a data folder, which it finds by the file `endpoint`.
fn consort(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("consort"));
    command.args(arguments).arg("--data").arg(data).env_remove("CONSORT_ADDR").env_remove("CONSORT_NAMESPACE");
    command.output().unwrap()
}

fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let output = consort(data, &[arguments, &["-o", "json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}"))
}

/// Asserts the exit code, and that a failure is explained on standard error and leaves standard output alone.
fn assert_exit(data: &Path, arguments: &[&str], code: i32, says: &str) {
    let output = consort(data, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(says), "{arguments:?} does not say `{says}`: {said}");
    assert!(code == 0 || output.stdout.is_empty(), "{arguments:?} failed and printed {:?}", output.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_a_day() {
    let mut mesh = Mesh::start().await;
    let data = mesh.data();
    let _worker = mesh.worker("w", 1, 1);
    let write = |name: &str, text: &str| {
        let path = mesh.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (chain, ask) = (write("chain.yaml", CHAIN), write("ask.yaml", ASK));
    assert_eq!(json_of(&data, &["apply", &chain])["revision"].to_string().trim_matches('"'), "1");
    assert_exit(&data, &["apply", &ask], 0, "");

    let run = json_of(&data, &["run", "chain", "-i", "n:=1", "--wait"]);
    assert_eq!(run["output"]["json"], json!(next(next(next(1)))));
    let name = run["name"].as_str().unwrap();
    let id = name.rsplit('/').next().unwrap();
    assert_eq!(json_of(&data, &["get", id])["name"], run["name"]);
    assert_eq!(json_of(&data, &["runs", "--state", "succeeded"])["runs"][0]["name"], run["name"]);
    for listing in [["agents"], ["workers"], ["workflows"], ["dead-letters"], ["decisions"]] {
        assert!(json_of(&data, &listing).is_object(), "{listing:?}");
    }
    let workers = json_of(&data, &["workers"]);
    assert!(workers.to_string().contains("namespaces/default/workers/w"), "{workers}");
    let events = consort(&data, &["events", id]);
    let shown = String::from_utf8(events.stdout).unwrap();
    assert!(events.status.success() && shown.lines().count() >= 11, "{shown}");

    let asked = json_of(&data, &["run", "ask", "-i", "n:=5"]);
    let asked = asked["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let decision = eventually("the question is listed", || async {
        let decisions = json_of(&data, &["decisions", "--run", &asked]);
        Some(decisions["decisions"][0]["name"].as_str()?.rsplit('/').next()?.to_owned())
    })
    .await;
    assert_exit(&data, &["signal", &asked, "hello", "-d", "{}"], 0, "");
    assert_exit(&data, &["decide", &decision, "maybe"], 2, "maybe");
    assert_exit(&data, &["decide", &decision, "yes", "--by", "me"], 0, "");
    let output = eventually("the run ends", || async {
        let run = json_of(&data, &["get", &asked]);
        (run["state"] == "RUN_STATE_SUCCEEDED").then(|| run["output"]["json"].clone())
    })
    .await;
    assert_eq!(output, json!({"option": "yes", "n": next(next(5))}));
    let (_, status) = mesh.stop().await;
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_scripts_what_happened() {
    let mut mesh = Mesh::start().await;
    let data = mesh.data();
    let file = mesh.folder().join("w.yaml");
    std::fs::write(&file, "name: bad\nsteps:\n  - {id: a, set: \"${{ 1 / 0 }}\"}\n").unwrap();
    let file = file.display().to_string();
    assert_exit(&data, &["apply", &file], 0, "");
    let failed = consort(&data, &["run", "bad", "--wait"]);
    assert_eq!(failed.status.code(), Some(1), "a run that fails is 1: {}", String::from_utf8_lossy(&failed.stderr));
    std::fs::write(&file, "name: bad\nsteps:\n  - {id: a, agnet: x}\n").unwrap();
    assert_exit(&data, &["apply", &file], 2, "agnet");
    assert_exit(&data, &["apply", "no-such-file.yaml"], 2, "no-such-file.yaml");
    assert_exit(&data, &["fly"], 2, "fly");
    assert_exit(&data, &["run", "nothing"], 4, "nothing");
    assert_exit(&data, &["get", "01939d0e-6f6b-7c3a-8a52-0123456789ab"], 4, "01939d0e");
    let ended = json_of(&data, &["runs"])["runs"][0]["name"].as_str().unwrap().to_owned();
    assert_exit(&data, &["pause", &ended], 4, "FAILED");
    mesh.kill();
    assert_exit(&data, &["runs"], 3, mesh.addr());
}
