//! Where calls are begun, kept and stopped.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::pool::Pool;
use crate::status::refusal;
use crate::work::{Ask, Work};

/// How long calls that were cancelled may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);

/// An operation, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// Whether a thread does it; else the event loop.
    pub plain: bool,
    pub dry_run: bool,
}

/// What the event loop is told.
pub(crate) enum Event {
    /// Do it.
    Call(Arc<Work>),
    /// Nobody waits for it any more.
    Cancel(Arc<Work>),
    /// Its generator may go on.
    Room(Arc<Work>),
    /// Take the configuration.
    Configure(Arc<Work>),
    /// Get its input, which is a blob.
    Fetch(Arc<Work>),
    /// End.
    End,
}

#[derive(Default)]
struct Books {
    next: u64,
    draining: bool,
    configured: bool,
    /// In work.
    running: HashMap<u64, Arc<Work>>,
    /// Cancelled, and a thread may still be in their functions.
    lost: HashMap<u64, Arc<Work>>,
}

/// The calls in work of this process, at most `calls`, plain functions in at most `threads` threads.
pub(crate) struct Desk {
    pub name: String,
    pub pool: Pool,
    threads: usize,
    calls: usize,
    operations: HashMap<String, Operation>,
    /// All names, for whoever asks for another.
    known: String,
    books: Mutex<Books>,
    changed: Notify,
    configuring: tokio::sync::Mutex<()>,
    /// As long as three events for each call in work.
    events: Mutex<VecDeque<Event>>,
    /// Readable when there are events.
    wake: OwnedFd,
    run: Py<PyAny>,
    began: Instant,
    /// When the event loop turned last, in ms since the beginning.
    turned: AtomicU64,
    pub left: AtomicBool,
}

impl Desk {
    pub(crate) fn new(
        name: String,
        operations: Vec<(String, Operation)>,
        (threads, calls): (usize, usize),
        run: Py<PyAny>,
    ) -> std::io::Result<Desk> {
        let known = operations.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        Ok(Desk {
            name,
            pool: Pool::new(threads),
            threads,
            calls,
            operations: operations.into_iter().collect(),
            known,
            books: Mutex::default(),
            changed: Notify::new(),
            configuring: tokio::sync::Mutex::default(),
            events: Mutex::default(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            run,
            began: Instant::now(),
            turned: AtomicU64::new(0),
            left: AtomicBool::new(false),
        })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What does plain functions.
    pub(crate) fn run<'py>(&'py self, _py: Python<'py>) -> &'py Py<PyAny> {
        &self.run
    }

    /// Number of the file that is readable when there are events.
    pub(crate) fn wake(&self) -> i32 {
        self.wake.as_raw_fd()
    }

    /// The event loop turned.
    pub(crate) fn turned(&self) {
        self.turned.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago the event loop turned.
    pub(crate) fn still(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.turned.load(Ordering::Relaxed)))
    }

    /// All events that wait.
    pub(crate) fn take(&self) -> VecDeque<Event> {
        self.turned();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *events)
    }

    pub(crate) fn say(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push_back(event);
        if events.len() == 1 {
            // Full only after 2^64 events that nobody took.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Begins a call. The status says why it is not done.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        ask: Ask,
        until: Option<tokio::time::Instant>,
    ) -> Result<Arc<Work>, Status> {
        let Some(operation) = self.operations.get(&ask.operation).copied() else {
            let said = format!("'{}' has no operation '{}'; it has {}", self.name, ask.operation, self.known);
            return Err(refusal(Code::NotFound, "NO_OPERATION", said));
        };
        if ask.dry_run && !operation.dry_run && !self.books().draining {
            let said = format!("'{}' cannot say what it would do", ask.operation);
            return Err(refusal(Code::FailedPrecondition, "NO_DRY_RUN", said));
        }
        if !self.books().configured {
            // Whoever starts a plugin may leave out Configure where nothing must be said.
            let _one = self.configuring.lock().await;
            if !self.books().configured {
                self.take_configuration(String::from("{}"), bytes::Bytes::new(), until)
                    .await
                    .map_err(|status| Status::failed_precondition(format!("not configured: {}", status.message())))?;
            }
        }
        let blob = ask.raw.is_some();
        let work = {
            let mut books = self.books();
            if books.draining {
                let said = format!("'{}' is about to end", self.name);
                return Err(refusal(Code::Unavailable, "PLUGIN_DRAINING", said));
            }
            if books.running.len() >= self.calls {
                let said = format!("'{}' does {} calls already; try again", self.name, self.calls);
                return Err(refusal(Code::ResourceExhausted, "PLUGIN_BUSY", said));
            }
            if operation.plain && Desk::threads_in(&books) >= self.threads {
                let said = format!(
                    "'{}' has no thread left: each is in a function that did not stop when it was cancelled",
                    self.name
                );
                return Err(refusal(Code::ResourceExhausted, "PLUGIN_STUCK", said));
            }
            books.next += 1;
            let work = Arc::new(Work::new(books.next, ask, operation.plain, until));
            books.running.insert(work.id, work.clone());
            work
        };
        match (blob, operation.plain) {
            (true, _) => self.say(Event::Fetch(work.clone())),
            (false, true) => self.pool.push(self, work.clone()),
            (false, false) => self.say(Event::Call(work.clone())),
        }
        Ok(work)
    }

    /// Hands the configuration to Python.
    pub(crate) async fn configure(
        self: &Arc<Self>,
        config: String,
        permissions: bytes::Bytes,
        until: Option<tokio::time::Instant>,
    ) -> Result<(), Status> {
        let _one = self.configuring.lock().await;
        self.take_configuration(config, permissions, until).await
    }

    async fn take_configuration(
        self: &Arc<Self>,
        config: String,
        permissions: bytes::Bytes,
        until: Option<tokio::time::Instant>,
    ) -> Result<(), Status> {
        let ask = Ask { text: Some(config), raw: Some(permissions), ..Ask::default() };
        let work = Arc::new(Work::new(0, ask, false, until));
        self.say(Event::Configure(work.clone()));
        work.outcome(self).await?;
        self.books().configured = true;
        Ok(())
    }

    /// Whoever read its messages is gone: it is stopped, unless it has ended.
    pub(crate) fn leave(self: &Arc<Self>, work: &Arc<Work>) {
        let runs = work.id == 0 || self.books().running.contains_key(&work.id);
        if runs {
            self.stop(work);
        }
    }

    /// Cancels a call: an async function by its task, a plain one by its flag.
    pub(crate) fn stop(self: &Arc<Self>, work: &Arc<Work>) {
        if !work.stop() {
            return;
        }
        if !work.plain {
            self.say(Event::Cancel(work.clone()));
            return;
        }
        let parked = work.is_parked();
        {
            let mut books = self.books();
            if books.running.remove(&work.id).is_none() {
                return;
            }
            books.lost.insert(work.id, work.clone());
        }
        self.changed.notify_waiters();
        work.cancelled();
        if parked {
            // Its generator is to be closed, in a thread as all it does.
            self.pool.push(self, work.clone());
        }
    }

    /// Its function has ended.
    pub(crate) fn ended(&self, work: &Work) {
        {
            let mut books = self.books();
            books.running.remove(&work.id);
            books.lost.remove(&work.id);
        }
        self.changed.notify_waiters();
    }

    /// There is room that its generator waits for.
    pub(crate) fn room(self: &Arc<Self>, work: &Arc<Work>) {
        if work.plain {
            self.pool.push(self, work.clone());
        } else {
            self.say(Event::Room(work.clone()));
        }
    }

    /// Takes nothing new, and returns when nothing is in work: how many calls had to be cancelled for it.
    pub(crate) async fn drain(self: &Arc<Self>, grace: Duration) -> i32 {
        self.books().draining = true;
        self.left.store(true, Ordering::Release);
        self.until_idle(grace).await;
        let rest: Vec<_> = self.books().running.values().cloned().collect();
        for work in &rest {
            self.stop(work);
        }
        self.until_idle(FAREWELL).await;
        i32::try_from(rest.len()).unwrap_or(i32::MAX)
    }

    async fn until_idle(&self, patience: Duration) {
        let idle = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.books().running.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(patience, idle).await;
    }

    /// Threads in functions that did not stop.
    fn threads_in(books: &Books) -> usize {
        books.lost.values().filter(|work| work.thread.load(Ordering::Acquire) != 0).count()
    }

    /// Whether every thread is in a function that did not stop when it was cancelled.
    pub(crate) fn is_stuck(&self) -> bool {
        Desk::threads_in(&self.books()) >= self.threads
    }

    /// Calls whose functions went on for so long after they were cancelled; each is told of once.
    pub(crate) fn hung(&self, patience: Duration) -> Vec<Arc<Work>> {
        let books = self.books();
        let hangs = |work: &&Arc<Work>| {
            let since = work.stopped_at.get().is_some_and(|at| at.elapsed() >= patience);
            since && work.thread.load(Ordering::Acquire) != 0 && !work.told.swap(true, Ordering::AcqRel)
        };
        books.lost.values().filter(hangs).cloned().collect()
    }

    /// Names and ids of what is in work on the event loop, at most 20.
    pub(crate) fn on_loop(&self) -> String {
        let books = self.books();
        let shown = |work: &Arc<Work>| format!("{} ({})", work.ask.operation, work.ask.call_id);
        let names: Vec<_> = books.running.values().filter(|work| !work.plain).map(shown).take(20).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }
}
