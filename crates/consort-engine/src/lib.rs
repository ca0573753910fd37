//! The engine: use cases over the core's pure transitions, and the loops that keep runs moving.
//!
//! One task, the ledger, owns the state of every live run and is the only writer. It takes what has queued up, decides it in
//! memory, commits all of it in one transaction, and only then answers and hands out tasks: log, then act. While a
//! commit is under way the next batch gathers, so the group grows with the load and an idle system commits at once.

mod asks;
mod calls;
mod definitions;
mod dispatcher;
mod environment;
mod keeping;
mod ledger;
mod letters;
mod loader;
mod options;
mod outbox;
mod replay;
mod session;
mod triggers;
mod types;
mod use_cases;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use consort_core::keep::KeepStore;
use consort_core::ports::{News, Store, StoreError};
use consort_core::{Data, Error};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use asks::Asks;
use definitions::Definitions;
use ledger::{Ledger, Message};
use outbox::Outbox;
use triggers::{Registry, Triggers, Waiting};

pub use asks::{AnswerOffer, Ask, AskError, AskMetrics, AskNews, Inquiry, LONGEST_TIMEOUT, Reply, USUAL_TIMEOUT};
pub use calls::{Follow, LiveCall, OperationAsked};
pub use environment::{Environment, FailPoint, SystemEnvironment};
pub use keeping::{Policy, Pruned, keep_error};
pub use options::Options;
pub use replay::{Compared, Replayed};
pub use session::Session;
pub use types::*;

/// The engine, for those who use it. Clones share one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    definitions: Arc<Definitions>,
    options: Options,
    inbox: mpsc::Sender<Message>,
    /// Sessions of workers without a stream: namespace, worker, session.
    pollers: Mutex<Pollers>,
    /// Workflows that start by themselves.
    registry: Arc<Registry>,
    /// Callers whose signals are being routed.
    waiting: Waiting,
    /// Schedules as they were when one last changed.
    schedules: Mutex<Vec<ScheduleView>>,
    /// Requests between live processes.
    asks: Arc<Asks>,
    /// Model calls on behalf of tasks.
    calls: calls::Calls,
    /// Where archives and backups are made, if the server was given such a place.
    keep: OnceLock<Arc<dyn KeepStore>>,
    /// Held by whoever prunes: one at a time.
    pruning: tokio::sync::Mutex<()>,
}

/// By namespace, worker and session: the number of the session and what waits for it.
type Pollers = HashMap<(Arc<str>, Arc<str>, Arc<str>), (u64, Arc<Outbox>)>;

/// Sessions of workers without a stream that are remembered.
const MAX_POLLERS: usize = 10_000;

/// The engine's loop. It must be run for anything to happen.
pub struct Service {
    ledger: Ledger,
    triggers: Triggers,
    asks: Arc<Asks>,
}

impl Service {
    /// Works until it is cancelled, then finishes what has queued up.
    pub async fn run(self, stop: CancellationToken) {
        // What a trigger has begun still needs the ledger.
        let last = CancellationToken::new();
        let triggers = async {
            self.triggers.run(stop).await;
            last.cancel();
        };
        tokio::join!(triggers, self.ledger.run(last.clone()), self.asks.run(last.clone()));
    }
}

impl Engine {
    /// Opens an engine over a store and brings back the runs that have work in hand.
    pub async fn open(
        store: Arc<dyn Store>,
        news: Arc<dyn News>,
        options: Options,
    ) -> Result<(Engine, Service), StoreError> {
        let definitions = Arc::new(Definitions::new(Arc::clone(&store) as Arc<_>));
        let (inbox, messages) = mpsc::channel(options.queue);
        let position = store.last_position().await?;
        let registry = Arc::new(Registry::default());
        let (tap, feed) = triggers::tap(Arc::clone(&registry), position);
        let mut ledger =
            Ledger::new(Arc::clone(&store), news, Arc::clone(&definitions), options.clone(), messages, position, tap);
        let runs = ledger.recover().await?;
        if runs > 0 {
            tracing::info!(runs, position, "runs go on where they stood");
        }
        let inner = Inner {
            store,
            definitions,
            options,
            inbox,
            pollers: Mutex::default(),
            registry,
            waiting: Waiting::default(),
            schedules: Mutex::default(),
            asks: Arc::default(),
            calls: calls::Calls::default(),
            keep: OnceLock::new(),
            pruning: tokio::sync::Mutex::default(),
        };
        let asks = Arc::clone(&inner.asks);
        let engine = Engine { inner: Arc::new(inner) };
        let triggers = Triggers::open(engine.clone(), feed, position).await?;
        Ok((engine, Service { ledger, triggers, asks }))
    }

    /// The store, for reading.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// How the engine is set.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Moves a value that is too large to stay inline to the blob store, durably.
    pub async fn spill(&self, data: &mut Data) -> Result<(), Error> {
        if let Some((reference, blob, text)) = data.spill() {
            self.inner.store.put(&blob, text.as_str().as_bytes()).await.map_err(|e| store_error(&e))?;
            *data = reference;
        }
        Ok(())
    }

    pub(crate) fn environment(&self) -> &Arc<dyn Environment> {
        &self.inner.options.environment
    }

    pub(crate) fn now(&self) -> consort_core::Millis {
        self.environment().now()
    }

    pub(crate) async fn tell(&self, message: Message) -> Result<(), Error> {
        self.inner.inbox.send(message).await.map_err(|_| closing())
    }

    /// Sends without waiting, from where nobody can wait.
    pub(crate) fn tell_later(&self, message: Message) {
        match self.inner.inbox.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(message)) => {
                let inbox = self.inner.inbox.clone();
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move { inbox.send(message).await });
                }
            }
        }
    }

    pub(crate) async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await?;
        answer.await.map_err(|_| closing())
    }
}

fn closing() -> Error {
    Error::unavailable("the server is stopping; try again", std::time::Duration::from_secs(1))
}

/// A store's error for callers.
pub(crate) fn store_error(error: &StoreError) -> Error {
    match error {
        StoreError::Corrupt(text) => Error::internal(text.clone()),
        other => Error {
            retry_after: Some(std::time::Duration::from_millis(500)),
            ..Error::new(consort_core::Kind::Unavailable, "STORE_UNAVAILABLE", other.to_string())
        },
    }
}
