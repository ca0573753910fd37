//! Events under fire: the server is killed again and again while events are published, trigger runs, and are shared by a group. What
//! was acknowledged starts exactly one run and reaches the group.
//!
//! `KILLS=100 SEED=7 cargo test -p consort-tests --test faults_events` repeats or extends it; a failure prints its seed.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind as Json;
use consort_proto::event::subscribe_request::Kind;
use consort_proto::event::subscribe_start::From;
use consort_proto::event::{Event, EventFilter, PublishRequest, Settle, SubscribeRequest, SubscribeStart};
use consort_proto::orchestrator::{ListRunsRequest, RunState, trigger};
use consort_sdk::Client;
use consort_testkit::{Mesh, eventually};
use futures::channel::mpsc;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

const TRIGGERED: &str = "
name: triggered
on: {event: {type: LOAD.EVENT, inputs: {n: '${{ event.payload.n }}'}}}
inputs: {n: {type: integer}}
steps: [{id: a, set: '${{ inputs.n }}'}]
";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Publishes events with ids of their own until it is told to stop; what is not acknowledged is published again.
async fn publisher(client: Client, first: u64, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut n = first;
    while !stop.load(Ordering::Relaxed) {
        let event = Event {
            event_id: uuid::Uuid::new_v4().to_string(),
            event_type: "LOAD.EVENT".into(),
            payload: Some(Payload { kind: Some(Json::Json(format!("{{\"n\": {n}}}"))) }),
            ..Default::default()
        };
        n += 1;
        let request = PublishRequest { events: vec![event.clone()], ..Default::default() };
        while client.events().publish(request.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acknowledged.insert(event.event_id);
    }
    acknowledged
}

/// A member of a group that notes what it is given, and joins again when the server is gone.
async fn member(client: Client, seen: Arc<Mutex<BTreeMap<String, u32>>>) {
    loop {
        let start = SubscribeStart {
            group: "load".into(),
            filter: Some(EventFilter { event_types: vec!["LOAD.*".into()], ..Default::default() }),
            from: Some(From::Cursor(0)),
            ..Default::default()
        };
        let (say, said) = mpsc::unbounded();
        say.unbounded_send(SubscribeRequest { kind: Some(Kind::Start(start)) }).unwrap();
        if let Ok(answer) = client.events().subscribe(said).await {
            let mut deliveries = answer.into_inner();
            while let Ok(Some(delivery)) = deliveries.message().await {
                *seen.lock().unwrap().entry(delivery.event.unwrap().event_id).or_default() += 1;
                let settle = Settle { done: vec![delivery.delivery_id], ..Default::default() };
                if say.unbounded_send(SubscribeRequest { kind: Some(Kind::Settle(settle)) }).is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ids of the events that started runs, with the number of runs, and whether all are over.
async fn triggered(client: &Client) -> Option<(BTreeMap<String, u32>, bool)> {
    let (mut runs, mut over, mut token) = (BTreeMap::new(), true, String::new());
    loop {
        let request = ListRunsRequest { page_size: 1_000, page_token: token, ..Default::default() };
        let page = client.orchestrator().list_runs(request).await.ok()?.into_inner();
        for run in page.runs {
            over &= run.state() == RunState::Succeeded;
            let run = client.get(&run.name).await.ok()?;
            let Some(trigger::Kind::Event(event)) = run.trigger.and_then(|trigger| trigger.kind) else {
                panic!("a run that no event started")
            };
            *runs.entry(event.event_id).or_default() += 1;
        }
        token = page.next_page_token;
        if token.is_empty() {
            return Some((runs, over));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_starts_one_run_and_reaches_the_group() {
    let (kills, seed) = (number("KILLS", 10), number("SEED", rand::random()));
    eprintln!("SEED={seed} KILLS={kills}");
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(TRIGGERED).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let members: Vec<_> = (0..2).map(|_| tokio::spawn(member(mesh.client(), Arc::clone(&seen)))).collect();
    let publishers: Vec<_> =
        (0..3).map(|n| tokio::spawn(publisher(mesh.client(), n * 1_000_000, Arc::clone(&stop)))).collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..150))).await;
        mesh.kill();
        mesh.restart().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for publisher in publishers {
        acknowledged.extend(publisher.await.unwrap());
    }
    assert!(acknowledged.len() as u64 >= kills * 2, "only {} events were acknowledged", acknowledged.len());
    let client = mesh.client();
    let runs = eventually("every event has its run", || async {
        let (runs, over) = triggered(&client).await?;
        (over && acknowledged.iter().all(|id| runs.contains_key(id))).then_some(runs)
    })
    .await;
    let twice: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "SEED={seed}: events that started more than one run: {twice:?}");
    eventually("the group has seen every event", || async {
        let seen = seen.lock().unwrap();
        acknowledged.iter().all(|id| seen.contains_key(id)).then_some(())
    })
    .await;
    members.iter().for_each(tokio::task::JoinHandle::abort);
    let seen = seen.lock().unwrap();
    let repeats = seen.values().filter(|count| **count > 1).count();
    eprintln!(
        "{} events acknowledged, each started one run; the group saw {repeats} of them again",
        acknowledged.len()
    );
    // Nothing that is settled comes again, but for what was in hand or not yet saved at a kill: at most a window a member.
    assert!(repeats as u64 <= kills * 2_000);
}
