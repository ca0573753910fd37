//! The adapter before a fake server that breaks in every way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{Adapter, start};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

/// How the fake server is started.
fn fake(mode: &str) -> Value {
    json!({"id": "fake", "command": ["python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_server.py"), mode], "env": {"GIVEN": "x"}})
}

async fn good() -> Adapter {
    let mut config = fake("good");
    config["tools"] = json!(["e*", "w*", "s*", "huge", "garbage", "nonsense", "die", "fail", "bad*", "old"]);
    config["effects"] = json!({"write": "idempotent_write"});
    start(&config).await.unwrap()
}

#[tokio::test]
async fn tools_are_operations() {
    let adapter = good().await;
    let hello = &adapter.hello;
    assert_eq!((hello.name.as_str(), hello.version.as_str(), hello.sdk.as_str()), ("fake", "1.5.0", "mcp 2025-11-25"));
    assert_eq!(hello.operations.len(), 11);
    assert_eq!(adapter.operation("echo_back").effect(), consort_proto::plugin::Effect::Read);
    assert_eq!(adapter.operation("write").effect(), consort_proto::plugin::Effect::IdempotentWrite);
    assert_eq!(adapter.operation("fail").effect(), consort_proto::plugin::Effect::Write);
    assert!(adapter.operation("old").input_schema.as_ref().unwrap().fields.contains_key("type"));

    let answer = adapter.call("echo_back", json!({"a": [1, "ä"]})).await.unwrap();
    assert_eq!(answer.output, json!({"a": [1, "ä"]}));
    assert_eq!(answer.progress.last().unwrap(), &(1.0, "part 2".to_owned()));
    assert_eq!(answer.logs, [("warn".to_owned(), "a log".to_owned())]);
    adapter.running.stop().await;
}

#[tokio::test]
async fn the_server_does_not_see_the_meshs_secrets() {
    let adapter = good().await;
    assert_eq!(adapter.call("environment", json!({})).await.unwrap().output, json!({"names": ["GIVEN"]}));
}

#[tokio::test]
async fn failures_are_statuses() {
    let adapter = good().await;
    let status = adapter.call("fail", json!({})).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "the disk is full"));
    assert_eq!(status.get_details_error_info().unwrap().reason, "TOOL_ERROR");
    let status = adapter.call("bad_params", json!({})).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "there is no tool bad_params"));
    let status = adapter.call("wrte", json!({})).await.unwrap_err();
    assert!(status.code() == Code::NotFound && status.message().contains("did you mean `write`?"), "{status}");
    let status = adapter.call("write", json!([1])).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().starts_with("input:"), "{status}");
    let status = adapter.call("nonsense", json!({})).await.unwrap_err();
    assert!(status.code() == Code::Internal && status.message().contains("an answer that is none"), "{status}");
}

#[tokio::test]
async fn garbage_and_floods_cost_one_call() {
    let adapter = good().await;
    let status = adapter.call("huge", json!({})).await.unwrap_err();
    assert!(status.code() == Code::Internal && status.message().contains("more than 16777216 bytes"), "{status}");
    let answer = adapter.call("garbage", json!({})).await.unwrap();
    assert_eq!(answer.output["content"][0]["text"].as_str().unwrap().len(), 3 * 1024 * 1024);
    assert!(answer.chunks >= 3);
    let words = adapter.running.last_words();
    assert!(words.contains("`this is no JSON`, which is no JSON-RPC"), "{words}");
}

#[tokio::test]
async fn a_call_that_nobody_wants_is_cancelled_at_the_server() {
    let adapter = good().await;
    let stream = adapter.begin("slow", &json!({})).await.unwrap();
    drop(stream);
    // The server tells which calls were cancelled; the cancellation and this question travel in order, but may start in any.
    let told = async {
        loop {
            let answer = adapter.call("write", json!({})).await.unwrap();
            if answer.output["content"][0]["text"] != "[]" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("the server hears of it");
}

#[tokio::test]
async fn a_drain_cancels_what_takes_too_long() {
    let adapter = good().await;
    let mut stream = adapter.begin("slow", &json!({})).await.unwrap();
    let grace = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let drained =
        adapter.client.clone().drain(consort_proto::plugin::DrainRequest { grace }).await.unwrap().into_inner();
    assert_eq!(drained.cancelled, 1);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(adapter.call("write", json!({})).await.unwrap_err().code(), Code::Unavailable);
    adapter.running.stop().await;
    assert_eq!(adapter.running.ended().await, "exit status: 0");
}

#[tokio::test]
async fn when_the_server_dies_the_adapter_dies_and_leaves_its_calls_unanswered() {
    let adapter = good().await;
    let status = adapter.call("die", json!({})).await.unwrap_err();
    // A broken connection has a source: this is how the plugin host knows that a call was lost, and not refused.
    assert!(std::error::Error::source(&status).is_some(), "{status:?}");
    assert_eq!(adapter.running.ended().await, "exit status: 1");
    let words = adapter.running.last_words();
    assert!(words.ends_with("the MCP server died: exit status: 3; it said: a last word"), "{words}");
}

#[tokio::test]
async fn the_adapter_ends_with_the_mesh() {
    let adapter = good().await;
    adapter.running.abandon();
    let how = tokio::time::timeout(Duration::from_secs(10), adapter.running.ended()).await.unwrap();
    assert_eq!(how, "exit status: 0");
}

#[tokio::test]
async fn older_servers_are_spoken_to() {
    let adapter = start(&fake("old")).await.unwrap();
    assert_eq!(adapter.hello.sdk, "mcp 2024-11-05");
    // It does not even answer what it does not know.
    let adapter = start(&fake("silent")).await.unwrap();
    assert_eq!(adapter.call("echo_back", json!({"a": 1})).await.unwrap().output, json!({"a": 1}));
    let adapter = start(&fake("circle")).await.unwrap();
    assert_eq!(adapter.hello.operations.len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_come_up_says_why() {
    let short = |mode: &str| {
        let mut config = fake(mode);
        config["start_s"] = 3.into();
        config
    };
    for (config, part) in [
        (fake("dead"), "it said: no licence was found"),
        (fake("empty"), "has no tools"),
        (short("deaf"), "did not come up within 3 s"),
        (short("babble"), "did not come up within 3 s"),
        (json!({"id": "x", "command": ["no-such-program-1"]}), "is it installed, on PATH"),
        (json!({"id": "x", "url": "http://127.0.0.1:1/mcp"}), "Connection refused"),
        (json!({"id": "x"}), "CONSORT_MCP.command: is missing"),
    ] {
        let said = start(&config).await.map(|_| ()).unwrap_err();
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let done = std::process::Command::new(common::example("adapter")).env_clear().output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("this is a plugin"));
}
