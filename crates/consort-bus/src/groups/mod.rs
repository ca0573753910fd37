//! Consumer groups: subscribers that share events, so that each event is handled by one of them.
//!
//! A group is live while it has members and a few seconds longer; one task, its coordinator, then reads the log for it. Deliveries are
//! handed out under one lock (see `state`), so a member waits for nothing but its turn. What a group must not forget is its mark
//! (see `mark`): everything before its cursor is settled, and so are the events that are listed beyond it. A crash loses the last few
//! settlements at most, and those events are delivered again.

mod burial;
mod coordinator;
mod manage;
mod mark;
mod member;
mod requeue;
mod settings;
mod state;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use consort_core::ports::{Store, StoreError};
use consort_core::{Error, Kind};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use manage::{GroupView, RequestKey};
pub use member::{Delivery, Member, Refused, Settlement};
pub use settings::{ACK_TIMEOUT, Joining, MAX_ATTEMPTS, Origin};

use crate::Bus;
use coordinator::Coordinator;
use mark::{Name, Standing};
use member::Shared;
use settings::Settings;
use state::State;

/// Groups of a namespace: a list of them fits into one message.
const GROUPS: usize = 1_000;
/// Members of a group.
const MEMBERS: usize = 1_000;

/// All consumer groups. Clones share them.
#[derive(Clone)]
pub struct Groups {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Bus,
    store: Arc<dyn Store>,
    /// Name of this server in the envelopes of run events.
    instance: Arc<str>,
    /// Groups that have a coordinator. Some may have ended since: whoever comes next sweeps them out.
    live: Mutex<HashMap<Name, Live>>,
    /// Cancelled when the server begins to stop.
    stop: CancellationToken,
}

/// A live group and its coordinator.
struct Live {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Groups {
    /// Groups over a bus and the store that it reads. `instance` is the name of this server in the envelopes of run events. When `stop`
    /// is cancelled every group ends: what members hold then does not count as tried. Call [`Groups::stop`] after that and before the
    /// store is closed.
    pub fn new(bus: Bus, store: Arc<dyn Store>, instance: &str, stop: CancellationToken) -> Groups {
        let inner = Inner { bus, store, instance: instance.into(), live: Mutex::default(), stop };
        Groups { inner: Arc::new(inner) }
    }

    /// Joins a group, and begins it if there is none of this name. FAILED_PRECONDITION (reason GROUP_DIFFERS) if the group works
    /// otherwise than is asked.
    pub async fn join(&self, namespace: &Arc<str>, id: &Arc<str>, joining: &Joining) -> Result<Member, Error> {
        let name = Name { namespace: namespace.clone(), id: id.clone() };
        let mut live = self.live().await?;
        let shared = match self.find(&mut live, &name).await? {
            Some(shared) => shared,
            None => self.begin(&mut live, &name, joining).await?,
        };
        {
            let state = shared.state();
            state.settings.check(&name.id, joining)?;
            if state.members() >= MEMBERS {
                let said = format!("the group `{}` has {MEMBERS} members, which is the most", name.id);
                return Err(Error::new(Kind::ResourceExhausted, "GROUP_FULL", said));
            }
        }
        Member::join(&shared, joining.credit).ok_or_else(closing)
    }

    /// Ends every group, saves their places and waits until that is done. Whoever joins after that is refused.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        let mut live = self.inner.live.lock().await;
        for (name, group) in live.drain() {
            ended(&name, group).await;
        }
    }

    /// The live group of this name, brought back from its mark if need be; `None` if there is no such group.
    async fn wake(&self, name: &Name) -> Result<Option<Arc<Shared>>, Error> {
        let mut live = self.live().await?;
        self.find(&mut live, name).await
    }

    /// The live groups, as long as there may be any.
    async fn live(&self) -> Result<tokio::sync::MutexGuard<'_, HashMap<Name, Live>>, Error> {
        let mut live = self.inner.live.lock().await;
        if self.inner.stop.is_cancelled() {
            return Err(closing());
        }
        let over: Vec<Name> = live
            .iter()
            .filter(|(_, group)| group.shared.state().ended.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            if let Some(group) = live.remove(&name) {
                ended(&name, group).await;
            }
        }
        Ok(live)
    }

    async fn find(&self, live: &mut HashMap<Name, Live>, name: &Name) -> Result<Option<Arc<Shared>>, Error> {
        if let Some(group) = live.get(name) {
            // Somebody wants it: it does not end before they are here.
            let mut state = group.shared.state();
            if state.ended.is_none() {
                state.idle_since = state.idle_since.map(|_| Instant::now());
                return Ok(Some(Arc::clone(&group.shared)));
            }
        }
        let Some(standing) = self.stored(name).await? else { return Ok(None) };
        if let Some(group) = live.remove(name) {
            ended(name, group).await;
        }
        Ok(Some(self.spawn(live, name, standing)))
    }

    /// What is kept of a group.
    async fn stored(&self, name: &Name) -> Result<Option<Standing>, Error> {
        let mark = name.mark();
        let marks = self.inner.store.marks(&mark, "", 1).await.map_err(|error| store_error(&error))?;
        let found = marks.into_iter().find(|found| found.name == mark);
        found.map(|found| Standing::read(&found)).transpose().map_err(|error| store_error(&error))
    }

    /// Begins a new group: its place is on disk before its first event is delivered.
    async fn begin(
        &self,
        live: &mut HashMap<Name, Live>,
        name: &Name,
        joining: &Joining,
    ) -> Result<Arc<Shared>, Error> {
        let store = &self.inner.store;
        let prefix = Name::prefix(&name.namespace);
        let others = store.marks(&prefix, "", GROUPS as u32).await.map_err(|error| store_error(&error))?;
        if others.len() >= GROUPS {
            let said = format!("the namespace has {GROUPS} groups, which is the most; delete one that nobody uses");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_GROUPS", said));
        }
        let settings = Settings::of(joining);
        let cursor = match settings.from {
            Origin::Latest => self.inner.bus.end(),
            Origin::After(position) => position,
        };
        let standing = Standing::new(settings, cursor);
        store.set_marks(&[standing.mark(name)]).await.map_err(|error| store_error(&error))?;
        Ok(self.spawn(live, name, standing))
    }

    fn spawn(&self, live: &mut HashMap<Name, Live>, name: &Name, standing: Standing) -> Arc<Shared> {
        let Inner { bus, store, instance, stop, .. } = &*self.inner;
        let filter = standing.settings.filter.clone();
        let feed = bus.feed(standing.cursor, name.namespace.clone());
        let shared = Arc::new(Shared::new(State::new(standing, Instant::now())));
        let stop = stop.child_token();
        let coordinator = Coordinator {
            name: name.clone(),
            shared: Arc::clone(&shared),
            store: Arc::clone(store),
            instance: instance.clone(),
            filter,
            feed,
            stop: stop.clone(),
            rows: VecDeque::new(),
            events: VecDeque::new(),
        };
        let task = tokio::spawn(coordinator.run());
        live.insert(name.clone(), Live { shared: Arc::clone(&shared), stop, task });
        shared
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody can join any more; the coordinators save and end by themselves.
        self.stop.cancel();
    }
}

/// Waits for a coordinator that was told to end, or has.
async fn ended(name: &Name, group: Live) {
    if let Err(error) = group.task.await {
        tracing::error!(group = name.mark(), "its coordinator did not end well: {error}");
    }
}

fn closing() -> Error {
    Error::unavailable("the group is closing; subscribe again", Duration::from_secs(1))
}

/// A store's error for callers.
fn store_error(error: &StoreError) -> Error {
    match error {
        StoreError::Corrupt(text) => Error::internal(text.clone()),
        other => Error::unavailable(other.to_string(), Duration::from_millis(500)),
    }
}
