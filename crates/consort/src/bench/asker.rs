//! The asking end of `consort bench ask`: a worker whose lanes ask an agent, each as soon as it has its answer.

use std::time::{Duration, Instant};

use clap::Args;
use consort_sdk::{Asker, Worker};
use futures::future::join_all;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::worker::ORACLE;
use crate::cli::Global;
use crate::failure::{Failure, Result};
use crate::output::print;

/// Ask an agent in a closed loop and print what was seen, for the bench.
#[derive(Debug, Args)]
pub(crate) struct BenchAsker {
    /// Requests at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lanes: u32,
    /// How long requests count.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// How long they go on before they count.
    #[arg(long, default_value_t = 2)]
    pub warmup: u32,
}

struct Seen {
    requests: u64,
    errors: u64,
    example: Option<String>,
    latency: Histogram<u64>,
}

impl BenchAsker {
    /// Asks until the time is over, and prints one line of JSON.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let worker = Worker::new("bench-asker").addr(global.address().addr).namespace(&global.namespace);
        // A worker must offer something.
        let worker = worker.answers("bench-asker", |_inquiry| async { Ok(()) });
        let asker = worker.asker();
        let stop = CancellationToken::new();
        let life = tokio::spawn(worker.run_until(stop.clone().cancelled_owned()));

        let from = Instant::now() + Duration::from_secs(self.warmup.into());
        let to = from + Duration::from_secs(self.seconds.into());
        let lanes = join_all((0..self.lanes).map(|_| tokio::spawn(lane(asker.clone(), from, to)))).await;
        let mut all = Seen::new();
        for lane in lanes {
            all.add(&lane.map_err(|error| Failure::failed(format!("a lane of the bench stopped: {error}")))?);
        }
        stop.cancel();
        let ended = life.await.map_err(|error| Failure::failed(error.to_string()))?;
        ended.map_err(|error| Failure::failed(error.to_string()))?;
        print(&format!("{}\n", all.figures()))
    }
}

impl Seen {
    fn new() -> Seen {
        let latency = Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are legal");
        Seen { requests: 0, errors: 0, example: None, latency }
    }

    fn add(&mut self, other: &Seen) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.example = self.example.take().or_else(|| other.example.clone());
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
    }

    fn figures(&self) -> Value {
        let ms = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "error_example": self.example,
            "p50_ms": ms(0.5),
            "p99_ms": ms(0.99),
        })
    }
}

async fn lane(asker: Asker, from: Instant, to: Instant) -> Seen {
    let mut seen = Seen::new();
    loop {
        let begun = Instant::now();
        if begun >= to {
            return seen;
        }
        let answer = asker.ask_agent::<Value>(ORACLE, &json!({"n": 1})).await;
        let ended = Instant::now();
        match answer {
            Ok(_) if ended >= from && ended <= to => {
                seen.requests += 1;
                seen.latency.saturating_record((ended - begun).as_micros() as u64);
            }
            Ok(_) => {}
            Err(error) => {
                seen.errors += 1;
                seen.example.get_or_insert_with(|| error.to_string());
                // A server that refuses must not be asked a million times a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
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
            seen.requests = 1;
            seen.latency.saturating_record(micros);
            all.add(&seen);
        }
        assert_eq!(all.figures()["requests"], 2);
        assert!((all.figures()["p99_ms"].as_f64().unwrap() - 3.0).abs() < 0.01);
    }
}
