//! A closed loop: each lane starts a run, waits for its end and starts the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_proto::orchestrator::{RunState, StartRunRequest};
use consort_sdk::Client;
use futures::future::join_all;
use hdrhistogram::Histogram;

use crate::failure::{Failure, Result, code_name};

/// How long a run may take; also what the server is asked to wait.
const RUN_WITHIN: Duration = Duration::from_secs(30);
/// How many different errors are kept as examples.
const EXAMPLES: usize = 3;

/// What is asked of the loop.
#[derive(Debug)]
pub(super) struct Load {
    /// Full name of the workflow.
    pub(super) workflow: String,
    /// One per connection; lanes take them in turn.
    pub(super) clients: Vec<Client>,
    /// Runs at once.
    pub(super) lanes: usize,
    /// When runs begin to count.
    pub(super) from: Instant,
    /// When they count no more, and no new one begins.
    pub(super) to: Instant,
}

/// What the loop saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// Runs that ended well within the window.
    pub(super) runs: u64,
    /// Runs that did not, and calls that failed, at any time.
    pub(super) errors: u64,
    /// From the call to its answer, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Some of the errors.
    pub(super) examples: Vec<String>,
}

impl Seen {
    fn new() -> Seen {
        let latency = Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are legal");
        Seen { runs: 0, errors: 0, latency, examples: Vec::new() }
    }

    fn error(&mut self, example: String) {
        self.errors += 1;
        if self.examples.len() < EXAMPLES && !self.examples.contains(&example) {
            self.examples.push(example);
        }
    }

    fn add(&mut self, other: &Seen) {
        self.runs += other.runs;
        self.errors += other.errors;
        for example in &other.examples {
            if self.examples.len() < EXAMPLES && !self.examples.contains(example) {
                self.examples.push(example.clone());
            }
        }
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
    }

    /// A quantile of the latency in milliseconds.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Load {
    /// Runs until the window closes and every lane has its last answer.
    pub(super) async fn run(self) -> Result<Seen> {
        let load = Arc::new(self);
        let lanes = (0..load.lanes).map(|lane| tokio::spawn(lane_of(load.clone(), lane)));
        let mut all = Seen::new();
        for lane in join_all(lanes).await {
            all.add(&lane.map_err(|error| Failure::failed(format!("a lane of the bench stopped: {error}")))?);
        }
        Ok(all)
    }
}

async fn lane_of(load: Arc<Load>, lane: usize) -> Seen {
    let mut orchestrator = load.clients[lane % load.clients.len()].orchestrator();
    let request = StartRunRequest {
        workflow: load.workflow.clone(),
        wait: RUN_WITHIN.try_into().ok(),
        ..StartRunRequest::default()
    };
    let mut seen = Seen::new();
    loop {
        let begun = Instant::now();
        if begun >= load.to {
            return seen;
        }
        let call =
            orchestrator.start_run(StartRunRequest { request_id: uuid::Uuid::new_v4().to_string(), ..request.clone() });
        let answer = tokio::time::timeout(RUN_WITHIN * 2, call).await;
        let ended = Instant::now();
        match answer {
            Ok(Ok(run)) if run.get_ref().state() == RunState::Succeeded => {
                if ended >= load.from && ended <= load.to {
                    seen.runs += 1;
                    seen.latency.saturating_record((ended - begun).as_micros() as u64);
                }
            }
            Ok(Ok(run)) => {
                let run = run.into_inner();
                let why = run.error.as_ref().map_or("", |error| error.message.as_str());
                seen.error(format!("a run ended as {}: {why}", run.state().as_str_name()));
            }
            Ok(Err(status)) => {
                seen.error(format!("{}: {}", code_name(status.code()), status.message()));
                // A server that refuses must not be asked a million times a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => seen.error(format!("no answer within {} s", (RUN_WITHIN * 2).as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lanes_saw_adds_up() {
        let mut all = Seen::new();
        for micros in [1_000, 3_000] {
            let mut seen = Seen::new();
            seen.runs = 1;
            seen.latency.saturating_record(micros);
            seen.error("same".to_owned());
            all.add(&seen);
        }
        assert_eq!((all.runs, all.errors, all.examples.len()), (2, 2, 1));
        assert!((all.quantile_ms(0.99) - 3.0).abs() < 0.01);
    }
}
