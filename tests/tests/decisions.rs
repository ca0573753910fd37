//! A question waits for a person at no cost, across restarts, and its deadline answers when nobody does.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind;
use consort_proto::decision::{
    AnswerDecisionRequest, Decision, DecisionState, GetDecisionRequest, ListDecisionsRequest, WatchDecisionsRequest,
};
use consort_proto::orchestrator::RunState;
use consort_sdk::{Client, Code, StartOptions};
use consort_testkit::{Mesh, eventually, output_of, refusal, soon};
use serde_json::json;
use tonic_types::StatusExt as _;

const QUESTION: &str = r#"
name: question
steps:
  - id: approve
    decide:
      title: "Publish?"
      options: [publish, discard]
      form: {type: object, required: [reason], properties: {reason: {type: string}}}
output: "${{ steps.approve.output }}"
"#;

const DEADLINE: &str = r#"
name: deadline
steps:
  - {id: approve, decide: {title: "Publish?", options: [publish, discard], deadline: 1s, default: discard}}
output: "${{ steps.approve.output.option }}"
"#;

const PLAIN: &str = r#"
name: plain
steps:
  - {id: approve, decide: {title: "Publish?", options: [publish, discard]}}
"#;

const NO_DEFAULT: &str = r#"
name: no-default
steps:
  - {id: approve, decide: {title: "Publish?", options: [publish, discard], deadline: 300ms}}
"#;

async fn asked(client: &Client, run: &str) -> Decision {
    eventually("the run asks", || async {
        let request = ListDecisionsRequest { run: run.to_owned(), ..Default::default() };
        client.decisions().list_decisions(request).await.ok()?.into_inner().decisions.pop()
    })
    .await
}

fn answer(decision: &Decision, option: &str, form: Option<&str>) -> AnswerDecisionRequest {
    AnswerDecisionRequest {
        name: decision.name.clone(),
        option: option.into(),
        form: form.map(|json| Payload { kind: Some(Kind::Json(json.into())) }),
        answered_by: "Ada".into(),
        request_id: String::new(),
    }
}

#[tokio::test]
async fn a_question_survives_kills_and_takes_one_answer() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(QUESTION).await.unwrap();
    let run = client.start("question", &json!({}), StartOptions::default()).await.unwrap().name;
    let before = asked(&client, &run).await;
    assert_eq!((before.state(), before.options.len()), (DecisionState::Open, 2));
    mesh.kill();
    mesh.restart().await;
    let after = asked(&client, &run).await;
    assert_eq!(before, after, "the question is the same");
    assert_eq!(client.get(&run).await.unwrap().state(), RunState::Waiting);

    let mut decisions = client.decisions();
    let wrong = decisions.answer_decision(answer(&after, "maybe", Some(r#"{"reason": "x"}"#))).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert_eq!(wrong.get_details_bad_request().unwrap().field_violations[0].field, "option");
    let unfit = decisions.answer_decision(answer(&after, "publish", Some(r#"{"reason": 7}"#))).await.unwrap_err();
    assert_eq!(unfit.code(), Code::InvalidArgument);
    assert!(unfit.get_details_bad_request().unwrap().field_violations[0].field.starts_with("form"), "{unfit:?}");
    let bare = decisions.answer_decision(answer(&after, "publish", None)).await.unwrap_err();
    assert_eq!(bare.code(), Code::InvalidArgument);

    let good = answer(&after, "publish", Some(r#"{"reason": "it is time"}"#));
    let answered = decisions.answer_decision(good.clone()).await.unwrap().into_inner();
    assert_eq!((answered.state(), answered.answered_by.as_str()), (DecisionState::Answered, "Ada"));
    mesh.kill();
    mesh.restart().await;
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended)["option"], json!("publish"));
    assert_eq!(output_of(&ended)["form"], json!({"reason": "it is time"}));
    // The same answer again is the recorded one; another one is too late.
    let again = decisions.answer_decision(good).await.unwrap().into_inner();
    assert_eq!(again.option, "publish");
    let other = answer(&after, "discard", Some(r#"{"reason": "no"}"#));
    let late = decisions.answer_decision(other).await.unwrap_err();
    assert_eq!((late.code(), refusal(&late).as_str()), (Code::FailedPrecondition, "DECISION_CLOSED"));
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_server_is_away_still_answers() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(DEADLINE).await.unwrap();
    client.apply(NO_DEFAULT).await.unwrap();
    let run = client.start("deadline", &json!({}), StartOptions::default()).await.unwrap().name;
    let decision = asked(&client, &run).await;
    mesh.kill();
    let deadline = std::time::SystemTime::try_from(decision.deadline.unwrap()).unwrap();
    eventually("the deadline passes", || async { (std::time::SystemTime::now() > deadline).then_some(()) }).await;
    mesh.restart().await;
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!("discard"));
    let name = GetDecisionRequest { name: decision.name };
    let closed = client.decisions().get_decision(name).await.unwrap().into_inner();
    assert_eq!((closed.state(), closed.answered_by.as_str()), (DecisionState::Expired, "deadline"));

    let options = StartOptions { wait: Some(Duration::from_secs(20)), ..Default::default() };
    let failed = client.start("no-default", &json!({}), options).await.unwrap();
    assert_eq!(failed.state(), RunState::Failed);
    assert_eq!(failed.error.unwrap().code, Code::DeadlineExceeded as i32);
}

#[tokio::test]
async fn a_watcher_sees_questions_open_and_close() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(PLAIN).await.unwrap();
    let first = client.start("plain", &json!({}), StartOptions::default()).await.unwrap().name;
    asked(&client, &first).await;
    let mut news = client.decisions().watch_decisions(WatchDecisionsRequest::default()).await.unwrap().into_inner();
    let open = soon(news.message()).await.unwrap().unwrap().decision.unwrap();
    assert_eq!((open.run.as_str(), open.state()), (first.as_str(), DecisionState::Open));
    let second = client.start("plain", &json!({}), StartOptions::default()).await.unwrap().name;
    let opened = soon(news.message()).await.unwrap().unwrap().decision.unwrap();
    assert_eq!((opened.run.as_str(), opened.state()), (second.as_str(), DecisionState::Open));
    client.decide(&opened.name, "publish", "Ada").await.unwrap();
    loop {
        let decision = soon(news.message()).await.unwrap().unwrap().decision.unwrap();
        if decision.run == second {
            assert_eq!((decision.state(), decision.option.as_str()), (DecisionState::Answered, "publish"));
            break;
        }
    }
    client.cancel(&first, "enough").await.unwrap();
    let closed = asked(&client, &first).await;
    assert_eq!(closed.state(), DecisionState::Cancelled);
}
