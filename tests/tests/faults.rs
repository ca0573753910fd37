//! The fault programme: server and workers are killed with SIGKILL at random moments under load, and the history checker finds
//! nothing lost and nothing applied twice.
//!
//! `CONSORT_FAULT_SEED` repeats the choices of a run; `CONSORT_FAULT_ROUNDS` asks for more than one round of 25 kills.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_proto::decision::{Decision, DecisionState, ListDecisionsRequest};
use consort_proto::orchestrator::watch_run_response::Kind;
use consort_proto::orchestrator::{ListRunsRequest, Run, RunState};
use consort_sdk::{Client, Error, StartOptions};
use consort_testkit::{
    ASK, Asked, CHAIN, CHILD, FAN, FLAKY, Journal, Mesh, Outcome, PARENT, Process, REQUEST_LABEL, Stored, check,
    eventually, next, outcome_of, output_of, root, run_id,
};
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Its output is larger than what travels inline, so it becomes a blob.
const BULK: &str = r#"
name: bulk
inputs: {length: {type: integer}}
steps:
  - {id: only, agent: bulk, with: {length: "${{ inputs.length }}"}}
output: "${{ steps.only.output }}"
"#;

/// A step in Python and one in Rust.
const PYTHON: &str = r#"
name: python
inputs: {n: {type: integer}}
steps:
  - {id: first, agent: noop}
  - {id: second, needs: [first], agent: next, with: {n: "${{ inputs.n }}"}}
output: "${{ steps.second.output.n }}"
"#;

/// Clients that work at once.
const LANES: u64 = 6;
/// Runs that the client in a hurry starts before it asks what became of them.
const BURST: u64 = 20;
/// Workers that work at once: the last one is written in Python.
const WORKERS: u64 = 3;
/// Runs that must end well for each kill, so that the test cannot pass by failing every call.
const RUNS_A_KILL: usize = 4;
/// How long a run may take with faults all around it.
const RUN_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Server,
    Worker,
    Both,
    /// The server kills itself where the ledger is, having been killed and restarted to do so.
    Point(&'static str),
}

/// 25 kills: 17 of the server, 6 of them at named points; 8 of workers; twice both at once.
const ROUND: [(Fault, usize); 9] = [
    (Fault::Server, 3),
    (Fault::Worker, 6),
    (Fault::Both, 2),
    (Fault::Point("before-commit"), 1),
    (Fault::Point("after-commit"), 1),
    (Fault::Point("before-dispatch"), 1),
    (Fault::Point("after-dispatch"), 1),
    (Fault::Point("before-ack"), 1),
    (Fault::Point("after-ack"), 1),
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}=`{text}` is not a number: {error}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_loses_nothing_and_applies_nothing_twice() {
    let seed = setting("CONSORT_FAULT_SEED").unwrap_or_else(rand::random);
    let rounds = setting("CONSORT_FAULT_ROUNDS").unwrap_or(1);
    println!(
        "CONSORT_FAULT_SEED={seed} CONSORT_FAULT_ROUNDS={rounds} cargo test --workspace --test faults -- --nocapture"
    );
    let begun = Instant::now();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    for definition in [ASK, BULK, CHAIN, CHILD, FAN, FLAKY, PARENT, PYTHON] {
        mesh.client().apply(definition).await.unwrap();
    }
    let journal = Arc::new(Journal::default());
    let stop = CancellationToken::new();
    let lanes: Vec<_> = (0..LANES)
        .map(|number| Lane::new(&mesh, number, seed, &journal))
        .map(|lane| tokio::spawn(lane.work(stop.clone())))
        .chain([tokio::spawn(Lane::new(&mesh, LANES, seed, &journal).hurry(stop.clone()))])
        .collect();
    let mut workers = Workers { begun: 0, running: Vec::new() };
    for place in 0..WORKERS as usize {
        workers.start(&mesh, place, &mut dice);
    }

    let mut kills = 0;
    for _ in 0..rounds {
        let mut plan: Vec<Fault> = ROUND.iter().flat_map(|(fault, times)| vec![*fault; *times]).collect();
        plan.shuffle(&mut dice);
        for fault in plan {
            pause(&mut dice, 600).await;
            kills += strike(fault, &mut mesh, &mut workers, &mut dice).await;
            let before = ended(&journal);
            eventually("a run ends after the fault is healed", || async { (ended(&journal) > before).then_some(()) })
                .await;
            assert!(lanes.iter().all(|lane| !lane.is_finished()), "a client gave up");
        }
    }
    assert_eq!(kills, 25 * rounds as usize);

    stop.cancel();
    for lane in lanes {
        tokio::time::timeout(RUN_LIMIT, lane).await.expect("every run reaches its end").expect("no client is let down");
    }
    let active = [RunState::Pending, RunState::Running, RunState::Waiting, RunState::Paused].map(i32::from).to_vec();
    let open = ListRunsRequest { states: active, ..Default::default() };
    let left = mesh.client().orchestrator().list_runs(open).await.unwrap().into_inner().runs;
    assert!(left.is_empty(), "these runs never ended: {left:#?}");

    mesh.stop().await;
    let (seen, report) = (journal.seen(), check(&journal.seen(), &Stored::read(&mesh.data()).await));
    let unknown = seen.calls.iter().filter(|call| call.outcome == Outcome::Unknown).count();
    println!(
        "{kills} kills in {:?}: {} runs, {} events, {} results, {} leases lost, {} retries; clients made {} calls ({unknown} with \
         unknown outcome) and were shown {} events",
        begun.elapsed(),
        report.runs,
        report.events,
        report.results,
        report.leases_lost,
        report.retries,
        seen.calls.len(),
        seen.watched.len()
    );
    assert!(report.problems.is_empty(), "seed {seed}:\n{}", report.problems.join("\n"));
    let count = |wanted: fn(&Asked) -> bool| seen.calls.iter().filter(|call| wanted(&call.asked)).count();
    let (answers, signals) = (count(|a| matches!(a, Asked::Answer(..))), count(|a| matches!(a, Asked::Signal(..))));
    assert!(seen.ended.len() >= RUNS_A_KILL * kills, "only {} runs ended: the load was too small", seen.ended.len());
    assert!(answers >= kills / 4 && signals >= kills / 4, "{answers} answers and {signals} signals are too few");
    assert!(
        report.leases_lost > 0 && report.retries > 0 && !seen.watched.is_empty(),
        "the faults met no work: {report:?}"
    );
}

fn ended(journal: &Journal) -> usize {
    journal.with(|seen| seen.ended.len())
}

/// The random moment. Nothing is waited for: the length of the pause is the fault's own.
async fn pause(dice: &mut StdRng, most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..=most_ms))).await;
}

struct Workers {
    begun: u64,
    running: Vec<Process>,
}

impl Workers {
    /// Starts the worker of a place: half of the time as the one that was killed, half of the time as a new one.
    fn start(&mut self, mesh: &Mesh, place: usize, dice: &mut StdRng) {
        self.begun += 1;
        let id = if dice.random_bool(0.5) { format!("w{place}") } else { format!("w{place}-{}", self.begun) };
        let process =
            if place as u64 == WORKERS - 1 { python_worker(mesh, &id) } else { mesh.worker(&id, dice.random(), 40) };
        if place < self.running.len() { self.running[place] = process } else { self.running.push(process) }
    }
}

/// `python -m consort.noop`, as a user starts it.
fn python_worker(mesh: &Mesh, id: &str) -> Process {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup`", python.display());
    let mut command = Command::new(python);
    command.args(["-m", "consort.noop", "--slots", "16", "--id", id, "--address", mesh.addr()]);
    Process::start(&format!("worker {id}"), &mut command, &mesh.folder().join(format!("{id}.log")))
}

/// Kills, leaves it so for a moment, and brings back what was killed. How many were killed.
async fn strike(fault: Fault, mesh: &mut Mesh, workers: &mut Workers, dice: &mut StdRng) -> usize {
    let place = dice.random_range(0..workers.running.len());
    let server = !matches!(fault, Fault::Worker);
    let worker = matches!(fault, Fault::Worker | Fault::Both);
    if server {
        mesh.kill();
    }
    if let Fault::Point(point) = fault {
        // Enough for the server to be ready, little enough to come soon under this load.
        let count = dice.random_range(20..80);
        mesh.set_variable("CONSORT_FAIL_POINT", Some(&format!("{point}:{count}")));
        mesh.restart().await;
        mesh.set_variable("CONSORT_FAIL_POINT", None);
        let process = std::cell::RefCell::new(mesh.process());
        eventually("the server kills itself", || async { process.borrow_mut().ended() }).await;
    }
    if worker {
        workers.running[place].kill();
    }
    pause(dice, 200).await;
    // Whoever comes back first must get along without the other.
    let worker_first = dice.random();
    if worker && worker_first {
        workers.start(mesh, place, dice);
    }
    if server {
        mesh.restart().await;
    }
    if worker && !worker_first {
        workers.start(mesh, place, dice);
    }
    let itself = matches!(fault, Fault::Point(_));
    usize::from(server) + usize::from(worker) + usize::from(itself)
}

fn options(request: &str) -> StartOptions {
    let labels = HashMap::from([(REQUEST_LABEL.to_owned(), request.to_owned())]);
    StartOptions { request_id: Some(request.to_owned()), labels, ..Default::default() }
}

/// A client that starts runs and sees each through to its end.
struct Lane {
    number: u64,
    dice: StdRng,
    client: Client,
    /// The same, but it gives up at the first broken connection and so learns nothing of its call.
    impatient: Client,
    journal: Arc<Journal>,
}

impl Lane {
    fn new(mesh: &Mesh, number: u64, seed: u64, journal: &Arc<Journal>) -> Lane {
        let client = mesh.client();
        let impatient = client.again().with_patience(Duration::ZERO);
        let dice = StdRng::seed_from_u64(seed.wrapping_add(number + 1));
        Lane { number, dice, client, impatient, journal: Arc::clone(journal) }
    }

    async fn work(mut self, stop: CancellationToken) {
        for round in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let n: u64 = self.dice.random_range(0..1_000_000);
            let after = next(n);
            let (workflow, inputs, expected) = match self.dice.random_range(0..7) {
                0 => ("chain", json!({"n": n}), json!(next(next(after)))),
                1 => {
                    let list: Vec<u64> = (n..n + 6).collect();
                    let each: Vec<Value> = list.iter().map(|n| json!({"n": next(*n)})).collect();
                    ("fan", json!({"list": list}), json!(each))
                }
                2 => ("ask", json!({"n": n}), json!({"option": "yes", "n": next(after)})),
                3 => ("flaky", json!({"n": n}), json!(after)),
                5 => ("python", json!({"n": n}), json!(after)),
                4 => ("parent", json!({"n": n}), json!(next(after))),
                _ => ("bulk", json!({"length": 70_000 + n % 1_000}), json!("x".repeat(70_000 + n as usize % 1_000))),
            };
            let request = format!("{}-{round}", self.number);
            let run = self.start(workflow, &inputs, &request).await;
            if workflow == "ask" {
                self.answer(&run, &request).await;
            }
            if self.dice.random_bool(0.25) {
                self.watch(&run).await;
            }
            let run = self.client.wait(&run.name, Some(RUN_LIMIT)).await.unwrap();
            assert_eq!(run.state(), RunState::Succeeded, "{workflow} {request}: {:?}", run.error);
            let output = self.client.payload_value(run.output.as_ref()).await.unwrap();
            assert_eq!(output, expected, "{workflow} {request} {inputs}");
            self.journal.ended(&run, output);
        }
    }

    /// Starts many runs without patience, so that some starts meet a dying server and their outcome stays unknown; then asks for
    /// each again with the same `request_id`, which must lead to the one run.
    async fn hurry(mut self, stop: CancellationToken) {
        for round in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let requests: Vec<String> = (0..BURST).map(|number| format!("{}-{round}-{number}", self.number)).collect();
            for request in &requests {
                let started = self.impatient.start("child", &json!({"n": round}), options(request)).await;
                // What it answers is written down; what it did is asked below.
                let _ = self.record(request, started);
                pause(&mut self.dice, 5).await;
            }
            for request in &requests {
                let run = self.client.start("child", &json!({"n": round}), options(request)).await;
                let run = self.record(request, run).unwrap();
                let run = self.client.wait(&run.name, Some(RUN_LIMIT)).await.unwrap();
                assert_eq!(output_of(&run), json!(next(round)));
                self.journal.ended(&run, output_of(&run));
            }
        }
    }

    async fn start(&mut self, workflow: &str, inputs: &Value, request: &str) -> Run {
        let options = options(request);
        let mut runs = Vec::new();
        if self.dice.random_bool(0.3) {
            runs.extend(self.record(request, self.impatient.start(workflow, inputs, options.clone()).await).ok());
        }
        runs.push(self.record(request, self.client.start(workflow, inputs, options).await).unwrap());
        assert!(runs.iter().all(|run| run.name == runs[0].name), "one request_id started two runs: {runs:#?}");
        runs.swap_remove(0)
    }

    fn record(&self, request: &str, result: Result<Run, Error>) -> Result<Run, Error> {
        let outcome = result.as_ref().map_or_else(outcome_of, |run| Outcome::Ok(Some(run_id(&run.name))));
        self.journal.call(Asked::Start(request.to_owned()), outcome);
        result
    }

    /// Waits for the run's question, sends a signal, and answers.
    async fn answer(&self, run: &Run, request: &str) {
        let decision = eventually("the run asks", || self.question(&run.name)).await;
        let signal = format!("ping-{request}");
        let signalled = self.client.signal(&run.name, &signal, &json!({"from": self.number})).await;
        let outcome = signalled.as_ref().map_or_else(outcome_of, |_| Outcome::Ok(None));
        self.journal.call(Asked::Signal(run_id(&run.name), signal), outcome);
        signalled.unwrap();

        let answered = self.client.decide(&decision.name, "yes", "a lane").await;
        let outcome = answered.as_ref().map_or_else(outcome_of, |_| Outcome::Ok(None));
        let id = decision.name.rsplit('/').next().unwrap().parse().unwrap();
        self.journal.call(Asked::Answer(id, "yes".into()), outcome);
        answered.unwrap();
    }

    async fn question(&self, run: &str) -> Option<Decision> {
        let open =
            ListDecisionsRequest { run: run.to_owned(), state: DecisionState::Open.into(), ..Default::default() };
        self.client.decisions().list_decisions(open).await.ok()?.into_inner().decisions.pop()
    }

    /// Follows the run to its end: no gap and no repeat, whatever is killed meanwhile.
    async fn watch(&self, run: &Run) {
        let mut news = std::pin::pin!(self.client.watch(&run.name, 0));
        let mut expected = 1;
        while let Some(news) = news.next().await {
            if let Some(Kind::Event(event)) = news.unwrap().kind {
                assert_eq!(event.sequence, expected, "{}", run.name);
                expected += 1;
                self.journal.watched(&event);
            }
        }
    }
}
