//! Fail points of debug builds: the server kills itself just where a crash is most telling.
//!
//! `CONSORT_FAIL_POINT=after-commit:17` ends it, as SIGKILL does, when the ledger passes that point for the 17th time. A release has
//! none of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use consort_engine::{Environment, FailPoint, SystemEnvironment};
use rustix::process::{Signal, getpid, kill_process};
use uuid::Uuid;

/// Names the point and the count.
const VARIABLE: &str = "CONSORT_FAIL_POINT";

/// The system's surroundings, with a fail point if the variable names one.
pub(crate) fn environment() -> anyhow::Result<Arc<dyn Environment>> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(Arc::new(SystemEnvironment)) };
    let text = text.to_string_lossy().into_owned();
    let parsed = text.split_once(':').and_then(|(name, count)| {
        let point = FailPoint::ALL.into_iter().find(|point| point.name() == name)?;
        Some((point, count.parse::<u64>().ok().filter(|count| *count > 0)?))
    });
    let names = FailPoint::ALL.map(FailPoint::name).join(", ");
    let (point, count) = parsed
        .with_context(|| format!("{VARIABLE}=`{text}` is no fail point: write POINT:COUNT; points are {names}"))?;
    Ok(Arc::new(Mortal { point, left: AtomicU64::new(count) }))
}

/// Ends the process at a fail point.
#[derive(Debug)]
struct Mortal {
    point: FailPoint,
    left: AtomicU64,
}

impl Environment for Mortal {
    fn now(&self) -> consort_core::Millis {
        SystemEnvironment.now()
    }

    fn seed(&self) -> u64 {
        SystemEnvironment.seed()
    }

    fn new_id(&self) -> Uuid {
        SystemEnvironment.new_id()
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        SystemEnvironment.run(work);
    }

    fn passes(&self, point: FailPoint) {
        if point == self.point && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // No goodbye, nothing flushed. It cannot fail, and if it did the test would say that nobody died.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
