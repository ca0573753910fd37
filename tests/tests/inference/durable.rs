//! Model calls of runs: on record, paid for once, watched, replayed.

use std::time::Duration;

use consort_proto::orchestrator::run_event::Fact;
use consort_proto::orchestrator::watch_run_response::Kind;
use consort_proto::orchestrator::{DiffRunsRequest, ReplayMode, ReplayRunRequest, RunState, WatchRunRequest};
use consort_sdk::{Prompt, StartOptions, Task, TaskError, Worker};
use consort_testkit::{Mesh, eventually, serve};
use serde_json::{Value, json};

use super::provider::Provider;

const ASK: &str = "
name: ask
inputs: {list: {type: string}}
steps:
  - id: say
    infer: {model: tiny, prompt: 'Repeat: ${{ inputs.list }}', temperature: 0, max_tokens: 40}
  - id: fill
    needs: say
    infer:
      model: tiny
      prompt: \"Give the facts as JSON.\\nname: Ada\"
      schema: {type: object, properties: {name: {type: string, maxLength: 20}}, required: [name], additionalProperties: false}
      temperature: 0
output: {said: '${{ steps.say.output.text }}', name: '${{ steps.fill.output.json.name }}', usage: '${{ steps.say.output.usage }}'}
";

async fn run(mesh: &Mesh, workflow: &str, inputs: Value) -> consort_proto::orchestrator::Run {
    let options = StartOptions { wait: Some(Duration::from_secs(30)), ..StartOptions::default() };
    mesh.client().start(workflow, &inputs, options).await.unwrap()
}

#[tokio::test]
async fn an_infer_step_is_on_record_and_replays_without_a_model() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(ASK).await.unwrap();
    let one = run(&mesh, "ask", json!({"list": "cat, 17"})).await;
    assert_eq!(one.state(), RunState::Succeeded, "{:?}", one.error);
    let output = client.payload_value(one.output.as_ref()).await.unwrap();
    assert_eq!((&output["said"], &output["name"]), (&json!("cat, 17"), &json!("Ada")));
    let other = run(&mesh, "ask", json!({"list": "dog, 18"})).await;

    // No model is there to be asked.
    mesh.stop().await;
    let mut mesh = mesh.again_with(&["--no-models"]).await;
    let client = mesh.client();
    let replay = ReplayRunRequest { name: one.name.clone(), mode: ReplayMode::Strict.into(), ..Default::default() };
    let replayed = client.orchestrator().replay_run(replay).await.unwrap().into_inner();
    assert!(replayed.same && replayed.model_calls == 2 && replayed.steps == 2, "{replayed:?}");
    client.apply(&ASK.replace("Repeat: ", "Repeat this: ")).await.unwrap();
    let replay = ReplayRunRequest { name: one.name.clone(), revision: 2, ..Default::default() };
    let found = client.orchestrator().replay_run(replay).await.unwrap().into_inner().difference.unwrap();
    assert_eq!((found.step.as_str(), found.before.as_str()), ("say", "Repeat: cat, 17"));
    let diff = DiffRunsRequest { name: one.name, other: other.name };
    let diff = client.orchestrator().diff_runs(diff).await.unwrap().into_inner();
    assert!(diff.differences.iter().any(|d| d.step == "say" && d.after.contains("dog, 18")), "{diff:?}");
    mesh.kill();
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_providers_stream_pays_for_what_was_finished_once() {
    let provider = Provider::start().await;
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    mesh.stop().await;
    let mut mesh = provider.configure(mesh).await;
    let client = mesh.client();
    let worker = Worker::new("writer").agent("writer", |task: Task| async move {
        let first = task.generate(Prompt::new("quick").model("fake/model")).await?;
        let second = task.generate(Prompt::new("slow").model("fake/model")).await?;
        Ok::<_, TaskError>(json!([first.text(), second.text()]))
    });
    let _worker = serve(&mesh, worker);
    client.apply("name: write\nsteps: [{id: a, agent: writer, retry: {max: 9, backoff: 10ms}}]").await.unwrap();
    let started = client.start("write", &json!({}), StartOptions::default()).await.unwrap().name;
    eventually("the second call has begun", || async { (provider.asked("slow") == 1).then_some(()) }).await;
    mesh.kill();
    provider.release();
    mesh.restart().await;
    let ended = client.wait(&started, Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(ended.state(), RunState::Succeeded, "{:?}", ended.error);
    let output = client.payload_value(ended.output.as_ref()).await.unwrap();
    assert_eq!(output, json!(["said quick", "said slow"]));
    assert_eq!(provider.asked("quick"), 1, "what was finished was not asked again");
    assert_eq!(provider.asked("slow"), 2, "what was not was");
    let usage = ended.model_usage.unwrap();
    assert_eq!((usage.calls, usage.tokens), (2, 2 * 12));
}

#[tokio::test]
async fn tokens_of_a_run_are_watched_and_resumed() {
    let provider = Provider::start().await;
    let mut mesh = Mesh::start().await;
    mesh.stop().await;
    let mesh = provider.configure(mesh).await;
    let client = mesh.client();
    client.apply("name: slow\nsteps: [{id: a, infer: {model: fake/model, prompt: slow}}]").await.unwrap();
    let run = client.start("slow", &json!({}), StartOptions::default()).await.unwrap().name;
    let watch = WatchRunRequest { name: run.clone(), tokens: true, ..Default::default() };
    let mut stream = client.orchestrator().watch_run(watch.clone()).await.unwrap().into_inner();
    let (mut text, mut response, mut seen) = (String::new(), String::new(), 0);
    while text.is_empty() {
        match stream.message().await.unwrap().unwrap().kind.unwrap() {
            Kind::Tokens(more) => {
                assert_eq!(more.offset, text.len() as i64);
                text.push_str(&more.text);
                response = more.response_id;
            }
            Kind::Event(event) => seen = event.sequence,
            Kind::Progress(_) => {}
        }
    }
    assert!("said slow".starts_with(&text));
    // The reader is cut off, and comes back where it was.
    drop(stream);
    provider.release();
    let token_offsets = [(response.clone(), text.len() as i64)].into();
    let watch = WatchRunRequest { after_sequence: seen, token_offsets, ..watch };
    let mut stream = client.orchestrator().watch_run(watch).await.unwrap().into_inner();
    let mut whole = None;
    while let Some(news) = stream.message().await.unwrap() {
        match news.kind.unwrap() {
            Kind::Tokens(more) if more.response_id == response => {
                assert_eq!(more.offset, text.len() as i64, "nothing is doubled or lost");
                text.push_str(&more.text);
            }
            Kind::Event(event) => {
                if let Some(Fact::ModelCalled(call)) = event.fact {
                    assert_eq!(call.response_id, response);
                    whole = Some(client.payload_value(call.reply.as_ref()).await.unwrap());
                }
            }
            _ => {}
        }
    }
    assert_eq!(whole.unwrap()["parts"][0]["text"], json!("said slow"));
    assert!("said slow".starts_with(&text));
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_local_answer_costs_nothing_but_the_answer() {
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    let client = mesh.client();
    let facts = (0..12).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
    let long = format!(
        "name: long\nsteps:\n  - {{id: first, infer: {{model: tiny, prompt: 'Repeat: cat, 17', temperature: 0}}}}\n  - {{id: all, needs: first, for_each: '${{{{ [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] }}}}', infer: {{model: tiny, prompt: 'Repeat: {facts} ${{{{ index }}}}', temperature: 1, seed: 3, max_tokens: 400, cache: off}}}}\n"
    );
    client.apply(&long).await.unwrap();
    let run = client.start("long", &json!({}), StartOptions::default()).await.unwrap().name;
    eventually("some answers are there and some are not", || async {
        let now = client.wait(&run, Some(Duration::from_millis(1))).await.unwrap();
        let calls = now.model_usage.map_or(0, |usage| usage.calls);
        (calls >= 2).then_some(())
    })
    .await;
    mesh.kill();
    mesh.restart().await;
    let ended = client.wait(&run, Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(ended.state(), RunState::Succeeded, "{:?}", ended.error);
    // Each answer that was on record is there once, and so is each that was asked for again.
    assert_eq!(ended.model_usage.unwrap().calls, 17);
    mesh.kill();
}
