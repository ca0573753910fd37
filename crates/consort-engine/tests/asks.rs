//! Requests between live workers, in the engine's own words.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Mesh, WAIT, failure, hello};
use consort_core::event::Code;
use consort_core::{Data, Error};
use consort_engine::{AnswerOffer, Ask, AskError, AskMetrics, AskNews, Inquiry, Reply, Session};
use serde_json::json;
use tokio::time::timeout;

fn ask(number: u64, agent: &str) -> Ask {
    Ask { number, agent: agent.into(), payload: Data::of(&json!(number)), timeout: None, task: None, within: None }
}

fn offer(agent: &str, at_once: u32) -> AnswerOffer {
    AnswerOffer { agent: agent.into(), at_once, description: String::new() }
}

async fn party(mesh: &Mesh, name: &str, answers: &[AnswerOffer]) -> Session {
    let mut hello = hello(name, &format!("{name}-1"), &["tasks"], 1);
    hello.answers = answers.to_vec();
    mesh.engine.attach(hello).await.unwrap()
}

async fn news(session: &Session) -> AskNews {
    timeout(WAIT, session.next()).await.expect("something comes soon").asks
}

async fn inquiry(session: &Session) -> Inquiry {
    let mut news = news(session).await;
    assert_eq!(news.inquiries.len(), 1, "{news:?}");
    news.inquiries.remove(0)
}

async fn reply(session: &Session) -> Reply {
    let mut news = news(session).await;
    assert_eq!(news.replies.len(), 1, "{news:?}");
    news.replies.remove(0)
}

fn answered(number: u64, value: &str) -> Reply {
    Reply { number, result: Ok(Data::of(&value.into())) }
}

fn reason(reply: Reply) -> &'static str {
    match reply.result {
        Err(AskError::Mesh(Error { reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

fn text(reply: Reply) -> String {
    common::value(&reply.result.unwrap()).as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_comes_back_under_the_askers_number() {
    let mesh = Mesh::in_memory().await;
    let (asker, oracle) = (party(&mesh, "a", &[]).await, party(&mesh, "o", &[offer("oracle", 4)]).await);
    asker.ask(vec![ask(7, "oracle")]).unwrap();
    let got = inquiry(&oracle).await;
    assert_eq!((&*got.agent, &*got.asker, got.depth), ("oracle", "a", 1));
    assert!(got.timeout > Duration::from_secs(25) && got.timeout <= Duration::from_secs(30));
    oracle.reply(vec![answered(got.number, "yes"), answered(got.number, "twice"), answered(999, "unknown")]);
    let back = reply(&asker).await;
    assert_eq!(back.number, 7);
    assert_eq!(text(back), "yes");
    assert_eq!(mesh.engine.ask_metrics("default", "oracle"), AskMetrics { answered: 1, failed: 0, open: 0 });

    // The handler's own error comes as it is, and the registry knows an agent that only answers.
    asker.ask(vec![ask(8, "oracle")]).unwrap();
    let number = inquiry(&oracle).await.number;
    oracle.reply(vec![Reply { number, result: Err(AskError::Agent(failure(Code::NotFound, "no such thing"))) }]);
    assert!(matches!(reply(&asker).await.result, Err(AskError::Agent(f)) if f.failure.message == "no such thing"));
    let agents = mesh.engine.agents("default").await.unwrap();
    let oracle = agents.iter().find(|agent| &*agent.agent == "oracle").unwrap();
    assert_eq!((oracle.workers.len(), oracle.asks.answered, oracle.asks.failed), (1, 1, 1));
    mesh.stop().await;
}

#[tokio::test]
async fn workers_take_turns_and_those_without_room_are_passed_over() {
    let mesh = Mesh::in_memory().await;
    let asker = party(&mesh, "a", &[]).await;
    let small = party(&mesh, "small", &[offer("oracle", 1)]).await;
    let large = party(&mesh, "large", &[offer("oracle", 3)]).await;
    asker.ask((1..=5).map(|n| ask(n, "oracle")).collect()).unwrap();
    let (at_small, at_large) = (news(&small).await.inquiries, news(&large).await.inquiries);
    assert_eq!((at_small.len(), at_large.len()), (1, 3), "the fifth waits");

    large.reply(vec![answered(at_large[0].number, "done")]);
    let fifth = inquiry(&large).await;
    assert_eq!(common::value(&fifth.payload), json!(5), "who has room again gets what waits");
    mesh.stop().await;
}

#[tokio::test]
async fn what_waits_has_a_limit() {
    let mesh = Mesh::in_memory().await;
    let asker = party(&mesh, "a", &[]).await;
    let oracle = party(&mesh, "o", &[offer("oracle", 1)]).await;
    asker.ask((1..=1_026).map(|n| ask(n, "oracle")).collect()).unwrap();
    let refused = reply(&asker).await;
    assert_eq!(refused.number, 1_026, "one is in hand and 1,024 wait");
    assert_eq!(reason(refused), "BUSY");
    // Giving one up makes room for another.
    asker.withdraw(&[500]);
    asker.ask(vec![ask(2_000, "oracle"), ask(2_001, "oracle")]).unwrap();
    assert_eq!(reply(&asker).await.number, 2_001);
    assert_eq!(mesh.engine.ask_metrics("default", "oracle").open, 1_025);
    drop(oracle);
    let news = news(&asker).await;
    assert_eq!(news.replies.len(), 1_025, "all end at once when the last answerer is gone");
    let reasons: std::collections::BTreeSet<_> = news.replies.into_iter().map(reason).collect();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["AGENT_OFFLINE", "ANSWERER_LOST"]);
    mesh.stop().await;
}

#[tokio::test]
async fn nobody_is_offline_and_namespaces_are_isolated() {
    let mesh = Mesh::in_memory().await;
    let asker = party(&mesh, "a", &[]).await;
    asker.ask(vec![ask(1, "oracle")]).unwrap();
    assert_eq!(reason(reply(&asker).await), "AGENT_OFFLINE");
    let mut elsewhere = hello("o", "o-1", &["tasks"], 1);
    (elsewhere.namespace, elsewhere.answers) = ("other".into(), vec![offer("oracle", 4)]);
    let elsewhere = mesh.engine.attach(elsewhere).await.unwrap();
    asker.ask(vec![ask(2, "oracle")]).unwrap();
    assert_eq!(reason(reply(&asker).await), "AGENT_OFFLINE");

    // A worker that drains keeps what it has and gets nothing new.
    let oracle = party(&mesh, "o", &[offer("oracle", 4)]).await;
    asker.ask(vec![ask(3, "oracle")]).unwrap();
    let held = inquiry(&oracle).await;
    oracle.send(consort_engine::FromWorker::Draining).await.unwrap();
    asker.ask(vec![ask(4, "oracle")]).unwrap();
    assert_eq!(reason(reply(&asker).await), "AGENT_OFFLINE");
    oracle.reply(vec![answered(held.number, "still")]);
    assert_eq!(text(reply(&asker).await), "still");
    drop(elsewhere);
    mesh.stop().await;
}

#[tokio::test]
async fn a_lost_answerer_is_told_at_once_and_a_lost_asker_too() {
    let mesh = Mesh::in_memory().await;
    let (asker, oracle) = (party(&mesh, "a", &[]).await, party(&mesh, "o", &[offer("oracle", 4)]).await);
    asker.ask(vec![ask(1, "oracle")]).unwrap();
    inquiry(&oracle).await;
    drop(oracle);
    assert_eq!(reason(reply(&asker).await), "ANSWERER_LOST");

    let oracle = party(&mesh, "o", &[offer("oracle", 1)]).await;
    asker.ask(vec![ask(2, "oracle"), ask(3, "oracle")]).unwrap();
    let first = inquiry(&oracle).await;
    asker.withdraw(&[2]);
    assert_eq!(news(&oracle).await.withdrawn, [first.number]);
    // Its room is free when it has replied, and not before.
    let late = timeout(Duration::from_millis(20), oracle.next()).await;
    assert!(late.is_err(), "{late:?}");
    oracle.reply(vec![answered(first.number, "too late")]);
    let second = inquiry(&oracle).await;
    drop(asker);
    assert_eq!(news(&oracle).await.withdrawn, [second.number]);
    mesh.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_request_wherever_it_is() {
    let mesh = Mesh::in_memory().await;
    let (asker, oracle) = (party(&mesh, "a", &[]).await, party(&mesh, "o", &[offer("oracle", 1)]).await);
    let begun = tokio::time::Instant::now();
    let hurried = |number, ms| Ask { timeout: Some(Duration::from_millis(ms)), ..ask(number, "oracle") };
    asker.ask(vec![hurried(1, 300), hurried(2, 100)]).unwrap();
    let held = inquiry(&oracle).await;
    let late = reply(&asker).await;
    assert_eq!((late.number, begun.elapsed().as_millis() / 10), (2, 10), "the one that waits for room ends first");
    assert_eq!(reason(late), "DEADLINE_EXCEEDED");
    let late = reply(&asker).await;
    assert_eq!((late.number, begun.elapsed().as_millis() / 10), (1, 30));
    assert_eq!(reason(late), "DEADLINE_EXCEEDED");
    assert_eq!(news(&oracle).await.withdrawn, [held.number]);

    for (number, ms) in [(3, 0), (4, 600_001)] {
        asker.ask(vec![hurried(number, ms)]).unwrap();
        assert_eq!(reason(reply(&asker).await), "BAD_REQUEST");
    }
    let twice = asker.ask(vec![hurried(5, 1_000), hurried(5, 1_000)]).unwrap_err();
    assert!(twice.message.contains("`5` is the number of an open request"), "{}", twice.message);
    mesh.stop().await;
}

#[tokio::test]
async fn asking_in_circles_ends_at_depth_sixteen() {
    let mesh = Mesh::in_memory().await;
    let ring = party(&mesh, "ring", &[offer("ring", 100)]).await;
    let first = Ask { timeout: Some(Duration::from_secs(5)), ..ask(1, "ring") };
    ring.ask(vec![first]).unwrap();
    let mut last = inquiry(&ring).await;
    for depth in 2..=16 {
        ring.ask(vec![Ask { within: Some(last.number), ..ask(depth, "ring") }]).unwrap();
        let next = inquiry(&ring).await;
        assert_eq!(u64::from(next.depth), depth);
        assert!(next.timeout <= last.timeout, "it ends with what it is asked within");
        last = next;
    }
    ring.ask(vec![Ask { within: Some(last.number), ..ask(17, "ring") }]).unwrap();
    assert_eq!(reason(reply(&ring).await), "ASK_DEPTH");
    ring.reply(vec![answered(last.number, "enough")]);
    assert_eq!(reply(&ring).await.number, 16);
    ring.ask(vec![Ask { within: Some(last.number), ..ask(18, "ring") }]).unwrap();
    assert_eq!(reason(reply(&ring).await), "INQUIRY_OVER");
    mesh.stop().await;
}

#[tokio::test]
async fn a_client_asks_and_its_going_away_is_heard() {
    let mesh = Mesh::in_memory().await;
    let oracle = party(&mesh, "o", &[offer("oracle", 4)]).await;
    let engine = mesh.engine.clone();
    let asked =
        tokio::spawn(async move { engine.ask_agent("default", "oracle", Data::null(), Duration::from_secs(10)).await });
    let got = inquiry(&oracle).await;
    assert_eq!(&*got.asker, "");
    oracle.reply(vec![answered(got.number, "yes")]);
    assert!(asked.await.unwrap().is_ok());

    let engine = mesh.engine.clone();
    let asked =
        tokio::spawn(async move { engine.ask_agent("default", "oracle", Data::null(), Duration::from_secs(10)).await });
    let got = inquiry(&oracle).await;
    asked.abort();
    assert_eq!(news(&oracle).await.withdrawn, [got.number]);
    mesh.stop().await;
}
