//! The other end of the bench: a worker that answers at once.

use clap::Args;
use consort_sdk::{Agent, Worker};

use crate::cli::Global;
use crate::failure::{Failure, Result};

/// The agent of the bench.
pub(crate) const AGENT: &str = "noop";
/// The agent that the bench asks.
pub(crate) const ORACLE: &str = "noop-oracle";

/// Serve an agent that answers at once, for the bench.
#[derive(Debug, Args)]
pub(crate) struct BenchWorker {
    /// Tasks at once.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
}

impl BenchWorker {
    /// Performs tasks until it gets SIGTERM.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let worker = Worker::new("bench")
            .addr(global.address().addr)
            .namespace(&global.namespace)
            .slots(self.slots)
            .agent(AGENT, |_task| async { Ok(()) })
            .answers(Agent::new(ORACLE).at_once(self.slots), |_inquiry| async { Ok(()) });
        worker.run().await.map_err(|error| Failure::failed(error.to_string()))
    }
}
