//! Looking at groups, and forgetting them.

use std::sync::Arc;

use consort_core::ports::{Batch, Conflict, Mark, StoreError, StoredRequest};
use consort_core::{Error, Kind};
use tokio::time::Instant;
use uuid::Uuid;

use super::mark::{Name, Standing};
use super::state::State;
use super::{GROUPS, Groups, burial, closing, ended, store_error};
use crate::Filter;

/// A group and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its id in its namespace.
    pub id: Arc<str>,
    /// Which events it takes.
    pub filter: Filter,
    /// Everything up to here is settled.
    pub cursor: u64,
    /// Events beyond the cursor that are settled already.
    pub settled_beyond: usize,
    /// Deliveries that members hold now.
    pub in_flight: usize,
    /// Attached members.
    pub members: usize,
    /// How many rows of the log come after the cursor, whether or not they match.
    pub lag: u64,
}

impl GroupView {
    fn of(id: Arc<str>, state: &State) -> GroupView {
        GroupView {
            id,
            filter: state.settings.filter.clone(),
            cursor: state.cursor(),
            settled_beyond: state.settled_beyond(),
            in_flight: state.in_flight(),
            members: state.members(),
            lag: 0,
        }
    }
}

/// What makes a deletion idempotent: its `request_id`.
#[derive(Clone, Debug)]
pub struct RequestKey(pub String);

impl Groups {
    /// The groups of a namespace by id, at most 1,000: live ones as they are now, the others as they were saved.
    pub async fn list(&self, namespace: &Arc<str>) -> Result<Vec<GroupView>, Error> {
        let live = self.live().await?;
        let prefix = Name::prefix(namespace);
        let marks = self.inner.store.marks(&prefix, "", GROUPS as u32).await.map_err(|error| store_error(&error))?;
        let end = self.inner.bus.end();
        let mut views = Vec::with_capacity(marks.len());
        for mark in marks {
            let Some(id) = mark.name.strip_prefix(&prefix) else { continue };
            let name = Name { namespace: namespace.clone(), id: id.into() };
            let mut view = if let Some(group) = live.get(&name) {
                GroupView::of(name.id, &group.shared.state())
            } else {
                let standing = Standing::read(&mark).map_err(|error| store_error(&error))?;
                // As it would be after a restart, without members.
                GroupView::of(name.id, &State::new(standing, Instant::now()))
            };
            view.lag = end.saturating_sub(view.cursor);
            views.push(view);
        }
        Ok(views)
    }

    /// Forgets a group and its place. FAILED_PRECONDITION (reason GROUP_IN_USE) while it has members. With a request id that was used
    /// for this group within 24 hours nothing happens; one that was used for another is refused.
    pub async fn delete(&self, namespace: &Arc<str>, id: &Arc<str>, request: Option<RequestKey>) -> Result<(), Error> {
        let name = Name { namespace: namespace.clone(), id: id.clone() };
        // Held to the end, so that nobody begins the group meanwhile.
        let mut live = self.live().await?;
        let request = request.map(|request| stored(&name, &request));
        if let Some(mine) = &request {
            let theirs = self.inner.store.request(&mine.key).await.map_err(|error| store_error(&error))?;
            if let Some(theirs) = theirs {
                return repeated(mine, &theirs);
            }
        }
        if self.stored(&name).await?.is_none() {
            return Err(Error::not_found("group", format_args!("namespaces/{namespace}/groups/{id}")));
        }
        if let Some(group) = live.get(&name) {
            let mut state = group.shared.state();
            if state.members() > 0 {
                let said = format!(
                    "the group `{id}` has {} members; delete it when they have ended their subscriptions",
                    state.members()
                );
                return Err(Error::precondition("GROUP_IN_USE", said));
            }
            state.end(closing());
        }
        if let Some(group) = live.remove(&name) {
            group.stop.cancel();
            // It may save its place once more; the mark is removed after that.
            ended(&name, group).await;
        }
        let marks = vec![Mark { name: name.mark(), value: None }];
        let requests: Vec<StoredRequest> = request.iter().cloned().collect();
        match self.inner.store.commit(Batch { requests, marks, ..Batch::default() }.into()).await {
            Err(StoreError::Conflict(Conflict { requests, .. })) if !requests.is_empty() => {
                let mine = request.expect("only a request can collide");
                requests.iter().try_for_each(|theirs| repeated(&mine, theirs))
            }
            result => result.map_err(|error| store_error(&error)),
        }
    }
}

fn stored(name: &Name, RequestKey(request): &RequestKey) -> StoredRequest {
    let hash = |text: String| *Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_bytes();
    StoredRequest {
        key: hash(format!("{}\0DeleteGroup\0{request}", name.namespace)),
        fingerprint: hash(name.mark()),
        answer: Vec::new(),
        at: burial::now(),
    }
}

fn repeated(mine: &StoredRequest, theirs: &StoredRequest) -> Result<(), Error> {
    if mine.fingerprint == theirs.fingerprint {
        return Ok(());
    }
    let text = "request_id: it was used within 24 hours for a request with other content; choose a new one";
    Err(Error::new(Kind::AlreadyExists, "REQUEST_ID_REUSED", text))
}
