//! The other end of the bench: workers that answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use consort_sdk::{Agent, Task, TaskError, Worker};
use futures::future::try_join_all;
use serde_json::Value;

use crate::cli::Global;
use crate::failure::{Failure, Result};

/// The agent that does nothing.
pub(crate) const AGENT: &str = "noop";
/// The agent that answers with a payload.
pub(crate) const MAKER: &str = "make";
/// The agent that takes one, and answers with its length.
pub(crate) const TAKER: &str = "take";
/// Largest payload: what a server accepts as one blob is more.
pub(crate) const MAX_PAYLOAD: u64 = 64 << 20;
/// The agent that the bench asks.
pub(crate) const ORACLE: &str = "noop-oracle";

/// Serve an agent that answers at once, for the bench.
#[derive(Debug, Args)]
pub(crate) struct BenchWorker {
    /// Tasks at once, of each worker.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
    /// Workers, each with a connection of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// Bytes of the payloads that `make` answers with.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MAX_PAYLOAD))]
    pub payload: u64,
    /// What payloads are drawn from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl BenchWorker {
    /// Performs tasks until it gets SIGTERM.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let addr = global.address().addr;
        let made = Arc::new(AtomicU64::new(0));
        let worker = |number: u32| {
            let id = if number == 0 { "bench".to_owned() } else { format!("bench-{number}") };
            let (bytes, seed, made) = (self.payload as usize, self.seed, made.clone());
            Worker::new(id)
                .addr(addr.clone())
                .namespace(&global.namespace)
                .slots(self.slots)
                .agent(AGENT, |_task| async { Ok(()) })
                .agent(MAKER, move |_task| {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    async move { Ok(payload(seed, number, bytes)) }
                })
                .agent(TAKER, take)
                .answers(Agent::new(ORACLE).at_once(self.slots), |_inquiry| async { Ok(()) })
                .run()
        };
        let all = try_join_all((0..self.workers).map(worker)).await;
        all.map(drop).map_err(|error| Failure::failed(error.to_string()))
    }
}

async fn take(task: Task) -> std::result::Result<usize, TaskError> {
    let input: Value = task.input()?;
    input["data"].as_str().map(str::len).ok_or_else(|| TaskError::bad_input("data", "is no text"))
}

/// Hexadecimal text that differs from seed to seed and from number to number: an equal one would be stored only once.
fn payload(seed: u64, number: u64, bytes: usize) -> String {
    // xorshift64*: chance enough for a store that keeps equal bytes once, and next to no time.
    let mut state = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        text.extend(word.to_be_bytes().iter().flat_map(|byte| {
            [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).expect("four bits are a digit"))
        }));
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_long_as_asked_and_never_the_same() {
        assert_eq!(payload(1, 2, 1_000).len(), 1_000);
        assert_eq!(payload(1, 2, 1_000), payload(1, 2, 1_000));
        assert_ne!(payload(1, 2, 1_000), payload(1, 3, 1_000));
        assert_ne!(payload(1, 2, 1_000), payload(2, 2, 1_000));
        assert_eq!(payload(1, 2, 0), "");
    }
}
