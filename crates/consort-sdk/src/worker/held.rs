//! The leases a worker holds, and what it owes the mesh for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use consort_proto::agent::{Asked, Assignment, Completed, Failed, LeaseRef, Question, Release};
use consort_proto::blob::Payload;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::task_error::TaskError;

/// Names a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseKey {
    pub(super) task: Arc<str>,
    pub(super) token: u64,
}

impl LeaseKey {
    pub(super) fn of(lease: &LeaseRef) -> LeaseKey {
        LeaseKey { task: Arc::from(lease.task.as_str()), token: lease.lease_token }
    }

    pub(super) fn to_ref(&self) -> LeaseRef {
        LeaseRef { task: self.task.as_ref().to_owned(), lease_token: self.token }
    }
}

/// How a task ended.
pub(super) enum Outcome {
    /// With a result.
    Output(Payload),
    /// With a plan.
    Plan(String),
    /// With a question, after whose answer it is handed out again.
    Asked(Question),
    /// With a failure.
    Failed(TaskError),
}

/// An answer on its way to the mesh.
pub(super) enum Owed {
    Completed(Completed),
    Failed(Failed),
    Asked(Asked),
    Released(Release),
}

struct Lease {
    cancel: CancellationToken,
    /// Kept until the mesh acknowledges it, so that it can be sent again after a broken connection.
    outcome: Option<Outcome>,
}

#[derive(Default)]
struct State {
    leases: HashMap<LeaseKey, Lease>,
    /// Leases whose outcome is to be sent on this connection.
    ready: Vec<LeaseKey>,
    /// Leases to give back.
    released: Vec<LeaseKey>,
}

/// What is in hand. A lease is here from its assignment until its answer is acknowledged, or until it is cancelled, lost or
/// given back; so nothing here outgrows the slots the worker offered.
pub(super) struct Held {
    state: Mutex<State>,
    /// Most leases at once; more are given back.
    limit: usize,
    /// Something is to be sent, or nothing is in hand any more.
    pub(super) changed: Notify,
}

impl Held {
    pub(super) fn new(limit: usize) -> Held {
        Held { state: Mutex::new(State::default()), limit, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a task in hand and returns what cancels it; nothing if it is in hand already or must be given back.
    pub(super) fn take(&self, assignment: &Assignment, draining: bool) -> Option<(LeaseKey, CancellationToken)> {
        let key = LeaseKey { task: Arc::from(assignment.task.as_str()), token: assignment.lease_token };
        let mut state = self.state();
        if state.leases.contains_key(&key) {
            return None;
        }
        if draining || state.leases.len() >= self.limit {
            state.released.push(key);
            drop(state);
            self.changed.notify_one();
            return None;
        }
        let cancel = CancellationToken::new();
        state.leases.insert(key.clone(), Lease { cancel: cancel.clone(), outcome: None });
        Some((key, cancel))
    }

    /// Records how a task ended; forgotten if its lease is gone.
    pub(super) fn finish(&self, key: LeaseKey, outcome: Outcome) {
        let mut state = self.state();
        let Some(lease) = state.leases.get_mut(&key) else { return };
        lease.outcome = Some(outcome);
        state.ready.push(key);
        drop(state);
        self.changed.notify_one();
    }

    /// The mesh has dealt with an answer.
    pub(super) fn acknowledge(&self, lease: &LeaseRef) {
        self.remove(&LeaseKey::of(lease));
    }

    /// The lease is gone: its handler is told, its answer no longer matters.
    pub(super) fn cancel(&self, lease: &LeaseRef) {
        if let Some(lease) = self.remove(&LeaseKey::of(lease)) {
            lease.cancel.cancel();
        }
    }

    fn remove(&self, key: &LeaseKey) -> Option<Lease> {
        let mut state = self.state();
        let lease = state.leases.remove(key);
        let empty = state.leases.is_empty();
        drop(state);
        if empty {
            self.changed.notify_one();
        }
        lease
    }

    /// After a reconnect: tasks that are not among the resumed leases are cancelled, every unacknowledged answer is sent
    /// again, and leases the worker knows nothing of (their assignment broke with the connection) are given back.
    pub(super) fn resume(&self, resumed: &[LeaseRef]) -> usize {
        let resumed: std::collections::HashSet<LeaseKey> = resumed.iter().map(LeaseKey::of).collect();
        let mut state = self.state();
        let mut lost = Vec::new();
        state.leases.retain(|key, lease| {
            let keep = lease.outcome.is_some() || resumed.contains(key);
            if !keep {
                lost.push(lease.cancel.clone());
            }
            keep
        });
        state.ready =
            state.leases.iter().filter(|(_, lease)| lease.outcome.is_some()).map(|(key, _)| key.clone()).collect();
        state.released = resumed.into_iter().filter(|key| !state.leases.contains_key(key)).collect();
        drop(state);
        for cancel in &lost {
            cancel.cancel();
        }
        self.changed.notify_one();
        lost.len()
    }

    /// Gives back everything that is not answered.
    pub(super) fn release_all(&self) {
        let mut state = self.state();
        let unfinished: Vec<LeaseKey> =
            state.leases.iter().filter(|(_, lease)| lease.outcome.is_none()).map(|(key, _)| key.clone()).collect();
        for key in unfinished {
            if let Some(lease) = state.leases.remove(&key) {
                lease.cancel.cancel();
            }
            state.released.push(key);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Tells every handler that its lease is gone.
    pub(super) fn cancel_all(&self) {
        for (_, lease) in self.state().leases.drain() {
            lease.cancel.cancel();
        }
    }

    /// Whether nothing is in hand and nothing is to be sent.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.leases.is_empty() && state.released.is_empty()
    }

    pub(super) fn contains(&self, lease: &LeaseRef) -> bool {
        self.state().leases.contains_key(&LeaseKey::of(lease))
    }

    /// What is to be sent now.
    pub(super) fn owed(&self) -> Vec<Owed> {
        let mut state = self.state();
        let ready = std::mem::take(&mut state.ready);
        let mut owed = Vec::with_capacity(ready.len() + state.released.len());
        // A lease that is gone meanwhile is owed nothing.
        owed.extend(ready.iter().filter_map(|key| {
            let outcome = state.leases.get(key)?.outcome.as_ref()?;
            Some(answer(key, outcome))
        }));
        owed.extend(state.released.drain(..).map(|key| Owed::Released(Release { lease: Some(key.to_ref()) })));
        owed
    }
}

fn answer(key: &LeaseKey, outcome: &Outcome) -> Owed {
    let lease = Some(key.to_ref());
    match outcome {
        Outcome::Output(output) => {
            Owed::Completed(Completed { lease, output: Some(output.clone()), plan: String::new() })
        }
        Outcome::Plan(plan) => Owed::Completed(Completed { lease, output: None, plan: plan.clone() }),
        Outcome::Asked(question) => Owed::Asked(Asked { lease, question: Some(question.clone()) }),
        Outcome::Failed(error) => Owed::Failed(Failed {
            lease,
            retryable: error.retryable,
            retry_after: error.retry_after.and_then(|wait| wait.try_into().ok()),
            error: Some(error.clone().into_status()),
        }),
    }
}
