//! How the engine is set.

use std::sync::Arc;
use std::time::Duration;

use crate::environment::{Environment, SystemEnvironment};

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this server in logs, envelopes and greetings.
    pub instance: String,
    /// How long a lease lasts without renewal.
    pub lease_ttl: Duration,
    /// Messages that may wait for the ledger; callers wait when it is full.
    pub queue: usize,
    /// Runs that may be live at once; more are refused with RESOURCE_EXHAUSTED.
    pub max_live_runs: usize,
    /// Waiting runs that are kept in memory; the oldest beyond that are read again when something happens to them.
    pub idle_runs: usize,
    /// Where time, chance and threads come from.
    pub environment: Arc<dyn Environment>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            instance: "consort".into(),
            lease_ttl: Duration::from_secs(10),
            queue: 8_192,
            max_live_runs: 1_000_000,
            idle_runs: 10_000,
            environment: Arc::new(SystemEnvironment),
        }
    }
}
