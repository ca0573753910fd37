//! The event bus in process: whoever follows the log, a run, the agents or the decisions is told here, alone or in a group.
//!
//! The log is the outbox. A follower reads what is stored after its cursor, then takes what comes live, and goes back to the
//! store when it was too slow: it may be late, it never misses anything. Nothing here can slow the ledger down.

pub use consort_core::{envelope, letter};

mod feed;
mod filter;
pub mod groups;
mod run_feed;
mod wanted;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use consort_core::ids::RunId;
use consort_core::ports::{AgentNews, DecisionRow, LogRow, News, RunStore, Said, StoreError};
use tokio::sync::broadcast;

pub use feed::Feed;
pub use filter::Filter;
pub use groups::Groups;
pub use run_feed::{RunFeed, RunNews};
pub use wanted::{Place, Wanted, wanted};

/// Commits a slow follower may lag behind before it must read the store.
const LIVE_COMMITS: usize = 256;
/// Items of news about agents and decisions that are kept for slow followers.
const LIVE_NEWS: usize = 1_024;
/// News of one run that is kept for a slow follower.
const RUN_NEWS: usize = 64;

/// What a commit added to the log.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub first_position: u64,
    pub rows: Arc<[LogRow]>,
}

/// What followers of one run are told.
#[derive(Clone, Debug)]
pub(crate) enum RunWake {
    /// Its history grew.
    Grew,
    Progress(AgentNews),
}

/// The in-process bus. Clones share one.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub store: Arc<dyn RunStore>,
    pub live: broadcast::Sender<Commit>,
    pub end: AtomicU64,
    agents: broadcast::Sender<AgentNews>,
    decisions: broadcast::Sender<DecisionRow>,
    runs: Mutex<HashMap<RunId, broadcast::Sender<RunWake>>>,
}

impl Bus {
    /// A bus over a store.
    pub async fn new(store: Arc<dyn RunStore>) -> Result<Bus, StoreError> {
        let end = AtomicU64::new(store.last_position().await?);
        let (live, _) = broadcast::channel(LIVE_COMMITS);
        let (agents, _) = broadcast::channel(LIVE_NEWS);
        let (decisions, _) = broadcast::channel(LIVE_NEWS);
        let inner = Inner { store, live, end, agents, decisions, runs: Mutex::default() };
        Ok(Bus { inner: Arc::new(inner) })
    }

    /// Position of the last row of the log that is committed.
    pub fn end(&self) -> u64 {
        self.inner.end.load(Ordering::Acquire)
    }

    /// Follows the log of a namespace (empty for all) after a position.
    pub fn feed(&self, after: u64, namespace: Arc<str>) -> Feed {
        Feed::new(Arc::clone(&self.inner), after, namespace)
    }

    /// Follows a run after an event.
    pub fn follow_run(&self, run: RunId, after_sequence: u64) -> RunFeed {
        let mut runs = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, sender| sender.receiver_count() > 0);
        let sender = runs.entry(run).or_insert_with(|| broadcast::channel(RUN_NEWS).0);
        RunFeed::new(Arc::clone(&self.inner), run, after_sequence, sender.subscribe())
    }

    /// Follows what agents say, from now on. A receiver that lags loses the oldest.
    pub fn follow_agents(&self) -> broadcast::Receiver<AgentNews> {
        self.inner.agents.subscribe()
    }

    /// Follows decisions that open or close, from now on. A receiver that lags loses the oldest.
    pub fn follow_decisions(&self) -> broadcast::Receiver<DecisionRow> {
        self.inner.decisions.subscribe()
    }

    fn wake_run(&self, run: RunId, news: impl FnOnce() -> RunWake) {
        let runs = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = runs.get(&run) {
            // Nobody listens any more: the entry goes with the next follower.
            let _ = sender.send(news());
        }
    }
}

impl News for Bus {
    fn committed(&self, first_position: u64, rows: Arc<[LogRow]>) {
        self.inner.end.store(first_position + rows.len() as u64 - 1, Ordering::Release);
        let watched = !self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if watched {
            for row in rows.iter() {
                if let LogRow::Run(record) = row {
                    self.wake_run(record.run, || RunWake::Grew);
                }
            }
        }
        if self.inner.live.receiver_count() > 0 {
            let _ = self.inner.live.send(Commit { first_position, rows });
        }
    }

    fn decision(&self, row: &DecisionRow) {
        if self.inner.decisions.receiver_count() > 0 {
            let _ = self.inner.decisions.send(row.clone());
        }
    }

    fn agent(&self, news: AgentNews) {
        if matches!(news.said, Said::Progress(..)) {
            self.wake_run(news.run, || RunWake::Progress(news.clone()));
        }
        if self.inner.agents.receiver_count() > 0 {
            let _ = self.inner.agents.send(news);
        }
    }
}
