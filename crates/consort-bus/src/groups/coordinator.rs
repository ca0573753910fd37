//! The loop of one live group: reads the log as far as the window allows, takes back what is held too long, buries what cannot be
//! handled, and saves the group's place. One thing is asked of the store at a time, and what happens meanwhile goes with the next.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use consort_core::ports::{DeadLetter, LogRow, Mark, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::mark::Name;
use super::member::Shared;
use super::state::{Requeue, State};
use super::{burial, closing, store_error};
use crate::filter::Filter;
use crate::{Feed, Place, Wanted, wanted};

/// How long a group lives on without members, so that one that comes back finds it as it was.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// How long the store is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Requeued events that are read at once.
const RELOAD: usize = 64;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;
type Loaded = Vec<(Place, Option<Wanted>)>;

/// What the store has done.
enum Done {
    Buried(Vec<Place>, Result<(), StoreError>),
    Saved((u64, u64), Option<Requeue>, Result<(), StoreError>),
    Loaded(Result<Loaded, StoreError>),
}

pub(super) struct Coordinator {
    pub(super) name: Name,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<dyn Store>,
    pub(super) instance: Arc<str>,
    pub(super) filter: Filter,
    pub(super) feed: Feed,
    pub(super) stop: CancellationToken,
    /// Rows that were read and not looked at.
    pub(super) rows: VecDeque<(u64, LogRow)>,
    /// Events of the row before them that were not admitted.
    pub(super) events: VecDeque<Wanted>,
}

impl Coordinator {
    /// Works until nobody has been here for [`LINGER`], or it is stopped.
    pub(super) async fn run(mut self) {
        let mut work: Option<Work> = None;
        let mut paused: Option<Instant> = None;
        loop {
            let now = Instant::now();
            paused = paused.filter(|until| *until > now);
            if let Err(error) = self.fill() {
                return self.fail(error, work).await;
            }
            if work.is_none() && paused.is_none() {
                work = self.next_work(false);
            }
            let Some((reads, alarm)) = self.plan(work.is_some(), paused) else { return };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.finish(work).await,
                done = async { work.as_mut().expect("there is work").await }, if work.is_some() => {
                    work = None;
                    match self.done(done) {
                        Err(error @ StoreError::Corrupt(_)) => return self.fail(error, None).await,
                        Err(error) => {
                            tracing::warn!(group = self.name.mark(), "the store is unavailable: {error}");
                            paused = Some(Instant::now() + PAUSE);
                        }
                        Ok(()) => {}
                    }
                }
                rows = self.feed.next(), if reads && paused.is_none() => match rows {
                    Ok(rows) => self.rows.extend(rows),
                    Err(error @ StoreError::Corrupt(_)) => return self.fail(error, work).await,
                    Err(error) => {
                        tracing::warn!(group = self.name.mark(), "the log cannot be read: {error}");
                        paused = Some(Instant::now() + PAUSE);
                    }
                },
                () = self.shared.wake.notified() => {}
                () = sleep_until(alarm) => {}
            }
        }
    }

    /// Takes back what is held too long, and admits what was read as far as there is room.
    fn fill(&mut self) -> Result<(), StoreError> {
        self.shared.state().expire(Instant::now());
        loop {
            {
                let mut state = self.shared.state();
                while state.room() > 0 {
                    let Some(event) = self.events.pop_front() else { break };
                    state.admit(event);
                }
                let next = self.events.front().map(|event| event.place).or(self.rows.front().map(|row| (row.0, 0)));
                state.reach(next.unwrap_or((self.feed.position() + 1, 0)));
                state.assign(Instant::now());
                if !self.events.is_empty() || state.room() == 0 {
                    return Ok(());
                }
            }
            let Some((position, row)) = self.rows.pop_front() else { return Ok(()) };
            self.events = wanted(position, row, &self.filter, &self.instance)?.into();
        }
    }

    /// Whether to read on, and when to wake at the latest; `None` once the group is over.
    fn plan(&self, working: bool, paused: Option<Instant>) -> Option<(bool, Option<Instant>)> {
        let mut state = self.shared.state();
        let gone = state.idle_since.map(|since| since + LINGER);
        if gone.is_some_and(|at| at <= Instant::now()) && !working && paused.is_none() {
            let busy = state.has_condemned() || state.unsaved(true) || !state.requests.is_empty();
            if !busy {
                state.end(closing());
                return None;
            }
        }
        let reads = state.members() > 0 && state.room() > 0 && self.rows.is_empty() && self.events.is_empty();
        // While something is under way its end wakes us, and the time to go may have passed.
        let gone = gone.filter(|_| !working && paused.is_none());
        let alarm = [state.first_due(), paused, gone].into_iter().flatten().min();
        // While the store is left alone nothing else can be done with it either.
        state.attention.working = working || paused.is_some();
        state.attention.reading = reads;
        state.attention.alarm = alarm;
        Some((reads, alarm))
    }

    /// What the store must do next. `last` leaves out what serves members.
    fn next_work(&self, last: bool) -> Option<Work> {
        let mut state = self.shared.state();
        let store = Arc::clone(&self.store);
        if state.has_condemned() {
            let (places, letters): (Vec<Place>, Vec<DeadLetter>) = state
                .condemned()
                .iter()
                .map(|(place, condemned)| (*place, burial::letter(&self.name, *place, condemned)))
                .unzip();
            return Some(Box::pin(async move {
                let result = store.bury(&letters).await;
                Done::Buried(places, result)
            }));
        }
        let requeue = if last { None } else { state.requests.pop_front() };
        if let Some(requeue) = requeue {
            let (mark, version) = self.mark(&state, &requeue.letters);
            let ids: Vec<Uuid> = requeue.letters.iter().map(|(id, _)| *id).collect();
            let namespace = self.name.namespace.clone();
            return Some(Box::pin(async move {
                let result = store.exhume(&namespace, &ids, &[mark]).await;
                Done::Saved(version, Some(requeue), result)
            }));
        }
        let idle_for_good = state.idle_since.is_some_and(|since| since + LINGER <= Instant::now());
        if state.unsaved(last || idle_for_good) {
            let (mark, version) = self.mark(&state, &[]);
            return Some(Box::pin(async move {
                let result = store.set_marks(&[mark]).await;
                Done::Saved(version, None, result)
            }));
        }
        let room = state.room().min(RELOAD);
        if last || room == 0 || state.members() == 0 || state.requeued.is_empty() {
            return None;
        }
        let places: Vec<Place> = state.requeued.iter().copied().take(room).collect();
        let (instance, namespace) = (self.instance.clone(), self.name.namespace.clone());
        Some(Box::pin(async move { Done::Loaded(load(&*store, &namespace, &instance, places).await) }))
    }

    fn mark(&self, state: &State, requeued: &[(Uuid, Place)]) -> (Mark, (u64, u64)) {
        let (standing, version) = state.standing(requeued);
        (standing.mark(&self.name), version)
    }

    fn done(&self, done: Done) -> Result<(), StoreError> {
        let mut state = self.shared.state();
        match done {
            Done::Buried(places, result) => {
                result?;
                state.buried(&places);
            }
            Done::Saved(version, requeue, result) => {
                if result.is_ok() {
                    state.saved(version);
                }
                if let Some(Requeue { letters, reply }) = requeue {
                    if result.is_ok() {
                        state.requeue(&letters);
                    }
                    // Whoever asked may have gone.
                    let _ = reply.send(result.as_ref().copied().map_err(store_error));
                }
                result?;
            }
            Done::Loaded(loaded) => {
                for (place, wanted) in loaded? {
                    if state.room() == 0 {
                        break;
                    }
                    state.admit_again(place, wanted);
                }
                state.assign(Instant::now());
            }
        }
        Ok(())
    }

    /// Ends the group because its log or its place cannot be read or kept; whoever joins next begins where it was saved last.
    async fn fail(self, error: StoreError, work: Option<Work>) {
        tracing::error!(group = self.name.mark(), "the group ends: {error}");
        let why = Error::internal(format!("the group `{}` cannot go on: {error}", self.name.id));
        self.over(why, work).await;
    }

    async fn finish(self, work: Option<Work>) {
        self.over(closing(), work).await;
    }

    /// Tells everybody, and saves what is known. Once: what cannot be saved now is delivered again.
    async fn over(self, why: Error, work: Option<Work>) {
        self.shared.state().end(why);
        let told = |error| tracing::warn!(group = self.name.mark(), "its place is not saved: {error}");
        if let Some(work) = work {
            self.done(work.await).unwrap_or_else(told);
        }
        // Letters, and then the place.
        for _ in 0..2 {
            let Some(work) = self.next_work(true) else { break };
            self.done(work.await).unwrap_or_else(told);
        }
        // What was asked for and not begun: dropping it tells whoever asked.
        self.shared.state().requests.clear();
    }
}

async fn load(store: &dyn Store, namespace: &str, instance: &str, places: Vec<Place>) -> Result<Loaded, StoreError> {
    let mut loaded = Vec::with_capacity(places.len());
    for place in places {
        loaded.push((place, super::requeue::find(store, namespace, instance, place).await?));
    }
    Ok(loaded)
}

async fn sleep_until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}
