//! Calls: by clients, by steps, and what becomes of them when somebody dies.

use std::time::Duration;

use consort_proto::decision::{AnswerDecisionRequest, ListDecisionsRequest};
use consort_proto::orchestrator::RunState;
use consort_proto::plugin::{ListPluginActionsRequest, PluginState};
use consort_sdk::StartOptions;
use consort_testkit::{eventually, json_of, refusal};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::kit::Bench;

#[tokio::test]
async fn a_client_calls_an_operation_and_its_mistakes_are_named() {
    let mut bench = Bench::python().await;
    assert_eq!(bench.yields("conformance.echo", json!({"text": "hi é"})).await, json!({"text": "hi é"}));
    assert_eq!(bench.yields("plugins/conformance/operations/echo", json!({"text": ""})).await, json!({"text": ""}));

    let bad = bench.call("conformance.echo", json!({"text": 1, "more": 2})).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let details = bad.get_error_details();
    let fields: Vec<String> =
        details.bad_request().unwrap().field_violations.iter().map(|wrong| wrong.field.clone()).collect();
    assert!(fields.contains(&"input.text".to_owned()), "{fields:?}");
    for (operation, part) in [
        ("conformance.ecko", "did you mean `echo`?"),
        ("conformanse.echo", "did you mean `conformance`?"),
        ("conformance", "PLUGIN.OPERATION"),
    ] {
        let said = bench.call(operation, json!({"text": ""})).await.unwrap_err();
        assert!(said.message().contains(part), "{operation}: {}", said.message());
    }
    // The plugin's own word, code and all.
    let failed =
        bench.call("conformance.fail", json!({"code": "ALREADY_EXISTS", "message": "twice"})).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::AlreadyExists, "twice"));

    let plugin = bench.plugin("conformance").await;
    assert!(plugin.state() == PluginState::Running && plugin.calls >= 3 && plugin.memory_bytes > 0, "{plugin:?}");
    assert!(plugin.sandbox.iter().any(|mechanism| mechanism == "seccomp"), "{:?}", plugin.sandbox);
    let actions = bench.mesh.client().plugins().list_plugin_actions(ListPluginActionsRequest::default()).await;
    let actions = actions.unwrap().into_inner().actions;
    assert_eq!((actions[0].operation.as_str(), actions[0].code.as_str()), ("conformance.fail", "ALREADY_EXISTS"));
    bench.mesh.stop().await;
}

#[tokio::test]
async fn a_large_result_becomes_a_blob_in_bounded_memory() {
    let mut bench = Bench::python().await;
    bench.until("conformance", PluginState::Running).await;
    let memory = |bench: &mut Bench| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", bench.mesh.process().pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    };
    let before = memory(&mut bench);
    let named = bench.yields("conformance.large", json!({"mib": 256})).await;
    assert_eq!((&named["size_bytes"], &named["media_type"]), (&json!(256 << 20), &json!("application/octet-stream")));
    let after = memory(&mut bench);
    assert!(after < before + 100, "the server's peak went from {before} to {after} MiB");
    bench.mesh.kill();
}

const NOTES: &str = "
name: notes
inputs: {text: {type: string}}
steps:
  - {id: say, call: conformance.echo, with: {text: '${{ inputs.text }}'}, output: {type: object, required: [text]}}
  - {id: keep, needs: say, call: conformance.write, with: {path: note.txt, text: '${{ steps.say.output.text }}!'}}
  - {id: nap, needs: keep, call: conformance.sleep, with: {ms: 1500}}
output: '${{ steps.say.output.text }}'
";

#[tokio::test]
async fn a_run_of_calls_survives_the_servers_death() {
    let mut bench = Bench::python().await;
    let client = bench.mesh.client();
    client.apply(NOTES).await.unwrap();
    let run = client.start("notes", &json!({"text": "kept"}), StartOptions::default()).await.unwrap().name;
    let note = bench.mesh.data().join("plugins/data/conformance/note.txt");
    eventually("the note is written", || async { note.exists().then_some(()) }).await;
    // In the middle of the nap: a read, so it is simply called again.
    bench.mesh.kill();
    bench.mesh.restart().await;
    let ended = client.wait(&run, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!((ended.state(), json_of(ended.output.as_ref())), (RunState::Succeeded, json!("kept")));
    assert_eq!(std::fs::read_to_string(note).unwrap(), "kept!");
    bench.mesh.kill();
}

#[tokio::test]
async fn a_write_whose_plugin_died_is_a_question_to_a_person() {
    let mut bench = Bench::python().await;
    let client = bench.mesh.client();
    client.apply("name: w\nsteps: [{id: a, call: conformance.crash}]\noutput: '${{ steps.a.output }}'").await.unwrap();
    let run = client.start("w", &json!({}), StartOptions::default()).await.unwrap().name;
    let open = || async {
        let listed = client.decisions().list_decisions(ListDecisionsRequest::default()).await.unwrap();
        listed.into_inner().decisions.into_iter().next()
    };
    let asked = eventually("somebody is asked", open).await;
    assert_eq!(asked.title, "Was `conformance.crash` done?");
    assert_eq!(asked.options, ["do it again", "it was done", "fail the step"]);
    // The question survives a crash of the server, too.
    bench.mesh.kill();
    bench.mesh.restart().await;
    let answer = AnswerDecisionRequest {
        name: asked.name,
        option: "it was done".to_owned(),
        answered_by: "ada".to_owned(),
        ..AnswerDecisionRequest::default()
    };
    client.decisions().answer_decision(answer).await.unwrap();
    let ended = client.wait(&run, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!((ended.state(), json_of(ended.output.as_ref())), (RunState::Succeeded, Value::Null));

    // Called directly, the caller is told.
    let lost = bench.call("conformance.crash", json!({})).await.unwrap_err();
    assert_eq!((lost.code(), refusal(&lost)), (Code::Aborted, "OUTCOME_UNKNOWN".to_owned()), "{}", lost.message());
    // And the plugin is back.
    assert_eq!(bench.yields("conformance.echo", json!({"text": "again"})).await, json!({"text": "again"}));
    assert!(bench.plugin("conformance").await.restarts >= 1);
    bench.mesh.kill();
}

#[tokio::test]
async fn a_step_fails_as_its_plugin_does() {
    let mut bench = Bench::python().await;
    let client = bench.mesh.client();
    let fails = "name: f\nsteps: [{id: a, call: conformance.fail, with: {code: NOT_FOUND, message: nothing here}}]";
    client.apply(fails).await.unwrap();
    let options = StartOptions { wait: Some(Duration::from_secs(30)), ..StartOptions::default() };
    let ended = client.start("f", &json!({}), options).await.unwrap();
    let error = ended.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::NotFound as i32, "step `a`: nothing here"));
    bench.mesh.kill();
}
