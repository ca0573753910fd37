//! What the engine takes from its surroundings: time, chance, and threads for work that would keep others waiting.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use consort_core::ids::Millis;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The port to the surroundings. A simulation brings its own, so that one seed always gives the same history.
pub trait Environment: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970. It may jump, as clocks do.
    fn now(&self) -> Millis;
    /// The seed of the ledger's dice.
    fn seed(&self) -> u64;
    /// An id that nothing else has (UUIDv7).
    fn new_id(&self) -> Uuid;
    /// Does work that takes long, where nobody else has to wait for it.
    fn run(&self, work: Box<dyn FnOnce() + Send>);
    /// Hears where the ledger is, so that a test can end the engine just there. A release never calls it.
    fn passes(&self, point: FailPoint) {
        let _ = point;
    }
}

/// Places in the ledger where a crash is most telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPoint {
    /// Decided, and nothing is written.
    BeforeCommit,
    /// Written, and nobody knows.
    AfterCommit,
    /// Callers are answered, and no task is handed out.
    BeforeDispatch,
    /// Tasks are with the streams of their workers.
    AfterDispatch,
    /// Workers' answers are on record, and no worker knows.
    BeforeAck,
    /// Acknowledgements are with the streams of their workers.
    AfterAck,
}

impl FailPoint {
    /// All, in the order in which a batch passes them.
    pub const ALL: [FailPoint; 6] = [
        FailPoint::BeforeCommit,
        FailPoint::AfterCommit,
        FailPoint::BeforeDispatch,
        FailPoint::AfterDispatch,
        FailPoint::BeforeAck,
        FailPoint::AfterAck,
    ];

    /// Its name on a command line: `before-commit`.
    pub fn name(self) -> &'static str {
        match self {
            FailPoint::BeforeCommit => "before-commit",
            FailPoint::AfterCommit => "after-commit",
            FailPoint::BeforeDispatch => "before-dispatch",
            FailPoint::AfterDispatch => "after-dispatch",
            FailPoint::BeforeAck => "before-ack",
            FailPoint::AfterAck => "after-ack",
        }
    }
}

/// The system's clock, dice and threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Millis {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
    }

    fn seed(&self) -> u64 {
        rand::random()
    }

    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(work));
    }
}

/// The work did not come to its end: it panicked, or the process ends.
#[derive(Debug)]
pub(crate) struct Unfinished;

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the work did not finish")
    }
}

/// What long work yields, done where nobody else has to wait for it.
pub(crate) async fn beside<T: Send + 'static>(
    environment: &Arc<dyn Environment>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let (yields, result) = oneshot::channel();
    environment.run(Box::new(move || drop(yields.send(work()))));
    result.await.map_err(|_| Unfinished)
}

/// Tells where the ledger is. A release has none of this.
pub(crate) fn pass(environment: &Arc<dyn Environment>, point: FailPoint) {
    if cfg!(debug_assertions) {
        environment.passes(point);
    }
}
