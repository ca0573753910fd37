//! A holder that stands still past its lease and goes on: its late answer is refused, and nothing is applied twice.
//!
//! `CONSORT_FAULT_ROUNDS=10` stops ten times as many workers; `CONSORT_FAULT_SEED` repeats the choices.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use consort_proto::agent::{ListWorkersRequest, Worker};
use consort_proto::orchestrator::RunState;
use consort_sdk::{Client, StartOptions};
use consort_testkit::{
    Asked, CHAIN, Journal, Mesh, Outcome, Process, REQUEST_LABEL, Stored, check, eventually, next, output_of, run_id,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::json;

/// Workers that are stopped in one round.
const STOPS: u64 = 10;
/// Runs that are under way at each stop.
const RUNS: u64 = 8;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}=`{text}` is not a number: {error}")))
}

async fn worker(client: &Client, id: &str) -> Option<Worker> {
    let workers = client.agents().list_workers(ListWorkersRequest::default()).await.ok()?.into_inner().workers;
    workers.into_iter().find(|worker| worker.name.ends_with(&format!("/{id}")))
}

/// How often a worker was told that an answer came too late.
fn refusals(mesh: &Mesh, id: &str) -> usize {
    let log = std::fs::read_to_string(mesh.folder().join(format!("{id}.log"))).unwrap_or_default();
    log.matches("answer refused").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_past_its_lease_is_refused_and_nothing_is_applied_twice() {
    let seed = setting("CONSORT_FAULT_SEED").unwrap_or_else(rand::random);
    let rounds = setting("CONSORT_FAULT_ROUNDS").unwrap_or(1);
    println!(
        "again: CONSORT_FAULT_SEED={seed} CONSORT_FAULT_ROUNDS={rounds} cargo test --workspace --test faults_stall"
    );
    let (begun, mut dice) = (Instant::now(), StdRng::seed_from_u64(seed));
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "500"]).await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let journal = Journal::default();
    let mut workers: Vec<Process> = ["w0", "w1"].map(|id| mesh.worker(id, dice.random(), 150)).into();
    for stop in 0..STOPS * rounds {
        let place = dice.random_range(0..workers.len());
        let id = format!("w{place}");
        let mut runs = Vec::new();
        for n in 0..RUNS {
            let request = format!("{stop}-{n}");
            let labels = HashMap::from([(REQUEST_LABEL.to_owned(), request.clone())]);
            let options = StartOptions { request_id: Some(request.clone()), labels, ..Default::default() };
            let run = client.start("chain", &json!({"n": n}), options).await.unwrap();
            journal.call(Asked::Start(request), Outcome::Ok(Some(run_id(&run.name))));
            runs.push((n, run.name));
        }
        eventually("the worker has tasks in hand", || async {
            worker(&client, &id).await.filter(|worker| worker.running > 0)
        })
        .await;
        workers[place].signal(Signal::STOP);
        // The other one does it all, once the leases are over.
        for (n, run) in runs {
            let run = client.wait(&run, Some(Duration::from_secs(30))).await.unwrap();
            assert_eq!(run.state(), RunState::Succeeded, "{:?}", run.error);
            assert_eq!(output_of(&run), json!(next(next(next(n)))));
            journal.ended(&run, output_of(&run));
        }
        workers[place].signal(Signal::CONT);
        eventually("the worker comes back", || async {
            let back = worker(&client, &id).await?;
            (back.state() == consort_proto::agent::WorkerState::Active).then_some(())
        })
        .await;
    }
    // What was left to say is said, and answered. Most workers learn first that their leases are gone and say nothing.
    let refused = || refusals(&mesh, "w0") + refusals(&mesh, "w1");
    let wanted = (STOPS * rounds / 10) as usize;
    eventually("late answers are refused", || async { (refused() >= wanted).then_some(()) }).await;
    let refused = refused();
    for worker in &mut workers {
        worker.terminate(Duration::from_secs(10)).await.unwrap();
    }
    let log: String =
        ["w0", "w1"].map(|id| std::fs::read_to_string(mesh.folder().join(format!("{id}.log"))).unwrap()).concat();
    let others: Vec<&str> =
        log.lines().filter(|line| line.contains("answer refused") && !line.contains("is not in force")).collect();
    assert!(others.is_empty(), "answers were refused for other reasons: {others:?}");
    mesh.stop().await;
    let report = check(&journal.seen(), &Stored::read(&mesh.data()).await);
    println!(
        "{} stops in {:?}: {} runs, {} leases lost, {refused} late answers refused",
        STOPS * rounds,
        begun.elapsed(),
        report.runs,
        report.leases_lost
    );
    assert!(report.problems.is_empty(), "seed {seed}:\n{}", report.problems.join("\n"));
    assert!(report.leases_lost as u64 >= STOPS * rounds, "{report:?}");
}
