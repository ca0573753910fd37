//! The world around the engine: its time, its chance, its crashes, and what everybody saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consort_core::Error;
use consort_core::ids::{Millis, RunId};
use consort_engine::{Engine, Environment, FailPoint};
use consort_store::MemoryStore;
use consort_testkit::Journal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// When every simulation begins: 2027-01-15T08:00:00Z.
const BEGIN: Millis = 1_800_000_000_000;
/// How long a call may take before its caller gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mistake that is made on purpose, to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The store says that it wrote, does not, and the server crashes.
    AcknowledgedBeforeCommit,
    /// The store forgets which requests were made.
    NoDedupe,
    /// Positions, and with them tokens, begin anew after a crash.
    TokensBeginAnew,
    /// The store leaves out a number of a history.
    SequenceSkipped,
    /// A late answer is taken for one of the lease in force.
    NoFence,
    /// The same assignment goes to two workers.
    HandedOutTwice,
}

/// How rough the weather is: each seed has its own, so that every kind of trouble also comes alone.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub fail_before: f64,
    pub fail_after: f64,
    pub fail_read: f64,
    pub crash_at_commit: f64,
    pub crash_at_point: f64,
    pub slow_store: u64,
    pub slow_network: u64,
    pub drop: f64,
    pub twice: f64,
    pub strikes: f64,
    pub clock_jumps: bool,
}

impl Weather {
    fn of(dice: &mut StdRng) -> Weather {
        let pick = |dice: &mut StdRng, choices: &[f64]| choices[dice.random_range(0..choices.len())];
        Weather {
            fail_before: pick(dice, &[0.0, 0.0, 0.02, 0.1]),
            fail_after: pick(dice, &[0.0, 0.0, 0.02, 0.1]),
            fail_read: pick(dice, &[0.0, 0.0, 0.01, 0.05]),
            crash_at_commit: pick(dice, &[0.0, 0.005, 0.03]),
            crash_at_point: pick(dice, &[0.0, 0.002, 0.01]),
            slow_store: pick(dice, &[0.0, 2.0, 20.0, 300.0]) as u64,
            slow_network: pick(dice, &[1.0, 5.0, 50.0, 500.0]) as u64,
            drop: pick(dice, &[0.0, 0.02, 0.1]),
            twice: pick(dice, &[0.0, 0.05, 0.3]),
            strikes: pick(dice, &[0.3, 1.0, 2.0]),
            clock_jumps: dice.random_bool(0.3),
        }
    }
}

/// One life of the server.
pub(crate) struct Life {
    pub engine: Engine,
    pub dead: CancellationToken,
}

/// Something that went out to a worker or came back acknowledged.
#[derive(Default)]
pub(crate) struct Seen {
    /// Leases that were handed out: token, run, step, worker.
    pub handed: Vec<(u64, String, String)>,
    /// Tokens whose answers were acknowledged as recorded.
    pub acked: BTreeSet<u64>,
    /// Reasons of refused answers, counted.
    pub refused: BTreeMap<&'static str, u64>,
    /// Events whose publication was acknowledged, with all that were tried.
    pub published: BTreeSet<Uuid>,
    /// Signals that were acknowledged, by request.
    pub raised: BTreeMap<String, BTreeSet<Uuid>>,
    /// Runs whose broken step works now.
    pub mended: BTreeSet<RunId>,
    /// Positions that followers were told of, with a digest of the row.
    pub told: Vec<(u64, [u8; 32])>,
    /// The newest lease of every task, for a server without a fence.
    pub newest: BTreeMap<String, u64>,
    /// What each client does.
    pub doing: BTreeMap<u64, String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Everything that all share.
pub(crate) struct World {
    pub seed: u64,
    pub plant: Option<Plant>,
    pub weather: Weather,
    pub store: Arc<MemoryStore>,
    pub journal: Journal,
    pub seen: Mutex<Seen>,
    /// Whether nothing happens that should not.
    fair: AtomicBool,
    /// Nothing more is to be done.
    pub over: CancellationToken,
    begin: Instant,
    skew: AtomicI64,
    dice: Mutex<StdRng>,
    life: Mutex<Option<Arc<Life>>>,
    risen: Notify,
    /// Asks the server to stop in good order and to come back.
    pub restart: Notify,
    /// Cancelled when the server that runs now must die.
    dead: Mutex<CancellationToken>,
    pub crashes: AtomicU64,
    pub faults: AtomicU64,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Arc<World> {
        let mut dice = StdRng::seed_from_u64(seed);
        let weather = Weather::of(&mut dice);
        Arc::new(World {
            seed,
            plant,
            weather,
            store: Arc::new(MemoryStore::new()),
            journal: Journal::default(),
            seen: Mutex::default(),
            fair: AtomicBool::new(true),
            over: CancellationToken::new(),
            begin: Instant::now(),
            skew: AtomicI64::new(0),
            dice: Mutex::new(dice),
            life: Mutex::default(),
            risen: Notify::new(),
            restart: Notify::new(),
            dead: Mutex::default(),
            crashes: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn problem(&self, text: String) {
        self.seen().problems.push(text);
    }

    pub(crate) fn now(&self) -> Millis {
        let since = self.begin.elapsed().as_millis() as Millis;
        BEGIN + since + self.skew.load(Ordering::SeqCst)
    }

    pub(crate) fn jump(&self, by: Millis) {
        self.skew.fetch_add(by, Ordering::SeqCst);
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..end.max(1))
    }

    /// Whether something happens that has this probability; never in fair weather.
    pub(crate) fn strikes(&self, probability: f64) -> bool {
        let rolled: f64 = self.dice.lock().unwrap_or_else(PoisonError::into_inner).random();
        let strikes = !self.is_fair() && rolled < probability;
        if strikes {
            self.faults.fetch_add(1, Ordering::SeqCst);
        }
        strikes
    }

    pub(crate) fn is_fair(&self) -> bool {
        self.fair.load(Ordering::SeqCst)
    }

    pub(crate) fn set_fair(&self, fair: bool) {
        self.fair.store(fair, Ordering::SeqCst);
    }

    pub(crate) async fn store_delay(&self) {
        let most = if self.is_fair() { 1 } else { self.weather.slow_store };
        let delay = self.below(most + 1);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    pub(crate) fn network_delay(&self) -> Duration {
        let most = if self.is_fair() { 2 } else { self.weather.slow_network };
        Duration::from_millis(self.below(most + 1))
    }

    /// A new life begins; the token ends it.
    pub(crate) fn conceive(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }

    pub(crate) fn rise(&self, life: Life) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(life));
        self.risen.notify_waiters();
    }

    /// The server dies here and now.
    pub(crate) fn crash(&self) {
        let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !dead.is_cancelled() {
            self.crashes.fetch_add(1, Ordering::SeqCst);
            *self.life.lock().unwrap_or_else(PoisonError::into_inner) = None;
            dead.cancel();
        }
    }

    /// The server stops in good order.
    pub(crate) fn set(&self) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The server that runs, once one does.
    pub(crate) async fn life(&self) -> Arc<Life> {
        loop {
            let risen = self.risen.notified();
            if let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return life;
            }
            risen.await;
        }
    }

    /// A call over the network. `None`: nobody knows what became of it.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        make: impl FnOnce(Engine) -> F,
    ) -> Option<Result<T, Error>> {
        let life = self.life().await;
        tokio::time::sleep(self.network_delay()).await;
        if self.strikes(self.weather.drop) {
            return None;
        }
        let engine = life.engine.clone();
        let answered = tokio::select! {
            biased;
            () = life.dead.cancelled() => None,
            answered = tokio::time::timeout(PATIENCE, make(engine)) => answered.ok(),
        };
        if self.strikes(self.weather.drop) {
            return None;
        }
        tokio::time::sleep(self.network_delay()).await;
        answered
    }
}

/// The engine's surroundings in one of its lives.
pub(crate) struct Surroundings {
    pub world: Arc<World>,
    pub dead: CancellationToken,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the world of seed {}", self.world.seed)
    }
}

/// What the ledger's task ends with when it dies at a fail point.
struct Crashed;

impl Environment for Surroundings {
    fn now(&self) -> Millis {
        self.world.now()
    }

    fn seed(&self) -> u64 {
        self.world.below(u64::MAX)
    }

    fn new_id(&self) -> Uuid {
        let mut chance = [0; 10];
        for byte in &mut chance {
            *byte = self.world.below(256) as u8;
        }
        uuid::Builder::from_unix_timestamp_millis(self.now() as u64, &chance).into_uuid()
    }

    /// At once: in which order threads come back is not for a seed to say.
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn passes(&self, _: FailPoint) {
        if !self.dead.is_cancelled() && self.world.strikes(self.world.weather.crash_at_point) {
            self.world.crash();
            std::panic::resume_unwind(Box::new(Crashed));
        }
    }
}
