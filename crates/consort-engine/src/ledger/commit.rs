//! One batch: what was decided becomes rows, the rows become durable, and only then the world is told.

use std::collections::HashSet;
use std::sync::Arc;

use consort_core::Error;
use consort_core::event::{Published, Record, chain};
use consort_core::ids::RunId;
use consort_core::ports::{Batch, Conflict, LogRow, ProjectState, RunUpdate, Snapshot, StoreError, StoredRequest};
use tokio::sync::oneshot;

use super::messages::{AckDue, Outcome, Reply, ReplyTo, To};
use super::runs::unavailable;
use super::view::view;
use super::{COMMIT_RETRY, Hot, Ledger};
use crate::environment::{FailPoint, pass};
use crate::types::{Ack, LeaseRef};

/// Events after which a snapshot is worth its bytes. Beyond that the distance grows with the history, so that the snapshots
/// of a long run cost no more than its events.
const SNAPSHOT_EVENTS: u64 = 256;

/// Closed projects that are remembered: longer than any start can be under way.
const MAX_CLOSED: usize = 100_000;

/// Rows that are read at once after a commit that failed.
const PAGE: u32 = 1_024;

/// Events that wait to be published.
pub(super) struct Publishing {
    events: Vec<Published>,
    /// Position of the last of them, once it is known.
    last: u64,
    reply: oneshot::Sender<Result<Option<u64>, Error>>,
}

impl Ledger {
    pub(super) fn publish(
        &mut self,
        events: Vec<Published>,
        requests: Vec<StoredRequest>,
        reply: oneshot::Sender<Result<Option<u64>, Error>>,
    ) {
        if requests.iter().any(|request| self.keys.contains(&request.key)) {
            let _ = reply.send(Ok(None));
            return;
        }
        self.keys.extend(requests.iter().map(|request| request.key));
        self.batch.requests.extend(requests);
        self.publishing.push(Publishing { events, last: 0, reply });
    }

    pub(super) fn claim_alone(&mut self, request: StoredRequest, to: ReplyTo) {
        if !self.keys.insert(request.key) {
            let _ = to.send(Ok(Outcome::AskAgain));
            return;
        }
        self.replies.push(Reply { run: None, key: Some(request.key), project: None, to });
        self.batch.requests.push(request);
    }

    pub(super) async fn commit(&mut self) {
        let sealed = self.seal();
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            self.act(batch, sealed);
            return;
        }
        // Letters first: their ids follow from their events, so that burying them again changes nothing.
        if !self.refused.is_empty()
            && let Err(error) = self.store.bury(&std::mem::take(&mut self.refused)).await
        {
            return self.undo(error, sealed, &batch).await;
        }
        pass(&self.options.environment, FailPoint::BeforeCommit);
        let batch = Arc::new(batch);
        match self.store.commit(Arc::clone(&batch)).await {
            Ok(()) => {
                pass(&self.options.environment, FailPoint::AfterCommit);
                self.position += batch.log.len() as u64;
                self.act(Arc::unwrap_or_clone(batch), sealed);
            }
            Err(error) => self.undo(error, sealed, &batch).await,
        }
    }

    /// Turns what was decided into rows. Answers with the runs of the batch.
    fn seal(&mut self) -> Vec<RunId> {
        self.batch.first_position = self.position + 1;
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            let Some(hot) = self.hot.get_mut(id) else { continue };
            hot.touched = false;
            seal_run(hot, &mut self.batch);
        }
        self.batch.log.extend(std::mem::take(&mut self.extra).into_iter().map(LogRow::Published));
        for publishing in &mut self.publishing {
            self.batch.log.extend(std::mem::take(&mut publishing.events).into_iter().map(LogRow::Published));
            publishing.last = self.position + self.batch.log.len() as u64;
        }
        touched
    }

    /// The batch is on disk: answer, send, tell.
    fn act(&mut self, batch: Batch, sealed: Vec<RunId>) {
        self.tokens = 0;
        self.keys.clear();
        self.redo.clear();
        for message in std::mem::take(&mut self.later) {
            let _ = self.own.send(message);
        }
        self.names.clear();
        self.remember_closed(&batch);
        for Reply { run, to, .. } in std::mem::take(&mut self.replies) {
            let view = run.and_then(|run| self.hot.get(&run)).map(|hot| Box::new(view(hot)));
            let _ = to.send(Ok(Outcome::Done(view)));
        }
        for (run, reply) in std::mem::take(&mut self.looks) {
            let _ = reply.send(self.hot.get(&run).map(view));
        }
        for publishing in std::mem::take(&mut self.publishing) {
            let _ = publishing.reply.send(Ok(Some(publishing.last)));
        }
        self.send_to_workers();
        if !batch.log.is_empty() {
            self.triggers.committed(batch.first_position, &batch.log);
            self.news.committed(batch.first_position, Arc::from(batch.log));
        }
        batch.decisions.iter().for_each(|row| self.news.decision(row));
        for news in std::mem::take(&mut self.told) {
            self.news.agent(news);
        }
        for id in sealed {
            self.settle_down(id);
        }
        for (id, needs) in std::mem::take(&mut self.fetches) {
            if self.hot.get(&id).is_some_and(|hot| !hot.run.state().is_over()) {
                self.send_away(id, needs);
            }
        }
    }

    fn send_to_workers(&mut self) {
        pass(&self.options.environment, FailPoint::BeforeDispatch);
        // One lock and one wake-up per worker and kind, however many messages there are.
        let mut assignments = std::mem::take(&mut self.assignments).into_iter().peekable();
        while let Some((worker, first)) = assignments.next() {
            let outbox = self.dispatcher.worker(worker).and_then(|w| w.outbox.clone());
            let mut more = vec![first];
            while let Some((_, next)) = assignments.next_if(|(other, _)| *other == worker) {
                more.push(next);
            }
            if let Some(outbox) = outbox {
                outbox.put(|out| out.assignments.append(&mut more));
            }
        }
        pass(&self.options.environment, FailPoint::AfterDispatch);
        for (worker, cancel) in std::mem::take(&mut self.cancels) {
            if let Some(outbox) = self.dispatcher.worker(worker).and_then(|w| w.outbox.clone()) {
                outbox.put(|out| out.cancels.push(cancel));
            }
        }
        pass(&self.options.environment, FailPoint::BeforeAck);
        let mut acks = std::mem::take(&mut self.acks).into_iter().peekable();
        while let Some(AckDue { to, lease, outcome }) = acks.next() {
            let worker = match to {
                To::Caller(reply) => {
                    let _ = reply.send(outcome);
                    continue;
                }
                To::Worker(worker) => worker,
            };
            let Some(w) = self.dispatcher.worker(worker) else { continue };
            let namespace = w.name.0.clone();
            let mut batch = vec![Ack { namespace: namespace.clone(), lease, outcome }];
            let mine = |due: &AckDue| matches!(due.to, To::Worker(other) if other == worker);
            while let Some(AckDue { lease, outcome, .. }) = acks.next_if(mine) {
                batch.push(Ack { namespace: namespace.clone(), lease, outcome });
            }
            if let Some(outbox) = &w.outbox {
                outbox.put(|out| out.acks.append(&mut batch));
            }
        }
        pass(&self.options.environment, FailPoint::AfterAck);
    }

    /// A start that has seen a project open may still come.
    fn remember_closed(&mut self, batch: &Batch) {
        let closed = batch.projects.iter().filter(|row| row.state != ProjectState::Active);
        self.closed.extend(closed.map(|row| (row.namespace.clone(), row.id.clone())));
        if self.closed.len() > MAX_CLOSED {
            self.closed.clear();
        }
    }

    /// Tells who waits for a run that is over, and lets go of runs that need no memory.
    fn settle_down(&mut self, id: RunId) {
        let Some(hot) = self.hot.get_mut(&id) else { return };
        if hot.run.state().is_over() {
            if let Some(waiting) = self.waiters.remove(&id) {
                for waiter in waiting {
                    let _ = waiter.send(view(hot));
                }
            }
            self.hot.remove(&id);
            return;
        }
        let sleeps = matches!(hot.run.state(), consort_core::run::RunState::Waiting) || hot.run.is_paused();
        if sleeps && !hot.idle {
            hot.idle = true;
            self.idle.push_back(id);
        }
        while self.idle.len() > self.options.idle_runs {
            let Some(oldest) = self.idle.pop_front() else { break };
            let Some(hot) = self.hot.get_mut(&oldest) else { continue };
            hot.idle = false;
            let soon = self.now + 2 * super::HORIZON.as_millis() as i64;
            let asleep = matches!(hot.run.state(), consort_core::run::RunState::Waiting)
                && hot.run.next_wake().is_none_or(|wake| wake > soon);
            if asleep && !hot.touched {
                self.hot.remove(&oldest);
            }
        }
    }

    /// The commit failed: memory goes back to what the disk has.
    async fn undo(&mut self, error: StoreError, sealed: Vec<RunId>, batch: &Batch) {
        let conflict = match &error {
            StoreError::Conflict(conflict) => {
                tracing::debug!(?conflict, "somebody else wrote first");
                Some(conflict)
            }
            other => {
                let advice = "nothing is acknowledged until it can be: free some space or mend the disk; trying again";
                tracing::error!(error = %other, "nothing could be written, so {advice}");
                None
            }
        };
        for (_, assignment) in std::mem::take(&mut self.assignments) {
            let LeaseRef { run, token, .. } = assignment.lease;
            self.dispatcher.let_go(token, self.now, None);
            // The commit may be on disk although it failed; its workers never heard of these leases.
            self.unsent.entry(run).or_default().push(token);
        }
        // After a conflict nothing of it is on disk, and whoever wanted these runs may ask again for the same ones.
        let never: HashSet<RunId> =
            if conflict.is_some() { batch.created.iter().map(|run| run.id).collect() } else { HashSet::new() };
        for id in sealed {
            // Runs that were to begin are looked for too, for the same reason.
            if self.hot.remove(&id).is_some() && !never.contains(&id) {
                self.away.entry(id).or_default();
                self.departed.entry(id).or_insert(self.turn);
                self.send_for(id);
            }
        }
        for (_, reply) in std::mem::take(&mut self.looks) {
            // What is on disk is shown instead.
            let _ = reply.send(None);
        }
        for reply in std::mem::take(&mut self.replies) {
            let _ = reply.to.send(verdict(&error, conflict, reply.key, reply.project.as_ref()));
        }
        for publishing in std::mem::take(&mut self.publishing) {
            let answer = if conflict.is_some() { Ok(None) } else { Err(unavailable(&error)) };
            let _ = publishing.reply.send(answer);
        }
        for AckDue { to, .. } in std::mem::take(&mut self.acks) {
            if let To::Caller(reply) = to {
                let _ = reply.send(Err(Error::unavailable("the answer could not be recorded yet", COMMIT_RETRY)));
            }
        }
        let retry_later = conflict.is_none();
        if conflict.is_some() {
            self.later.clear();
        }
        self.cancels.clear();
        self.told.clear();
        self.fetches.clear();
        self.extra.clear();
        self.refused.clear();
        self.names.clear();
        self.keys.clear();
        self.tokens = 0;
        if retry_later {
            // A commit whose answer was lost may be there after all.
            self.unsure = true;
            tokio::time::sleep(COMMIT_RETRY).await;
        }
        for message in std::mem::take(&mut self.redo) {
            let _ = self.own.send(message);
        }
    }
}

impl Ledger {
    /// Finds the end of the log after a commit that failed, and tells of what is on disk although it did: followers and triggers
    /// would pass over it. Nothing is decided before, for positions and tokens follow from the end. False if it cannot be read.
    pub(super) async fn find_end(&mut self) -> bool {
        let found = async {
            let end = self.store.last_position().await?;
            let mut written = Vec::new();
            while self.position + (written.len() as u64) < end {
                let page = self.store.log_after(self.position + written.len() as u64, "", PAGE).await?;
                if page.is_empty() {
                    break;
                }
                written.extend(page.into_iter().map(|(_, row)| row));
            }
            Ok::<_, StoreError>(written)
        };
        match found.await {
            Ok(written) => {
                let first_position = self.position + 1;
                self.position += written.len() as u64;
                self.unsure = false;
                let later = std::mem::take(&mut self.later);
                if !written.is_empty() {
                    for message in later {
                        let _ = self.own.send(message);
                    }
                    self.triggers.committed(first_position, &written);
                    self.news.committed(first_position, Arc::from(written));
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "the end of the log cannot be read; trying again");
                false
            }
        }
    }
}

fn verdict(
    error: &StoreError,
    conflict: Option<&Conflict>,
    key: Option<[u8; 16]>,
    project: Option<&(Arc<str>, Arc<str>)>,
) -> Result<Outcome, Error> {
    let Some(conflict) = conflict else { return Err(unavailable(error)) };
    let taken = conflict.requests.iter().find(|stored| Some(stored.key) == key);
    if let Some(name) = project.filter(|name| taken.is_none() && conflict.projects.contains(name)) {
        let text = format!("project_id: there is a project `{}` already; choose another id", name.1);
        return Err(Error::new(consort_core::Kind::AlreadyExists, "PROJECT_EXISTS", text));
    }
    Ok(taken.map_or(Outcome::AskAgain, |stored| Outcome::Repeated(stored.clone())))
}

fn seal_run(hot: &mut Hot, batch: &mut Batch) {
    let run = &hot.run;
    let (_, updated_at, ended_at) = run.times();
    let pending = std::mem::take(&mut hot.pending);
    let mut sequence = run.sequence() + 1 - pending.iter().map(|(_, entries)| entries.len() as u64).sum::<u64>();
    for (at, entries) in pending {
        let body = serde_json::to_vec(&entries).expect("facts have string keys only");
        let count = entries.len() as u32;
        hot.hash = chain(&hot.hash, &body);
        let (namespace, root, hash) = (run.namespace().clone(), run.root(), hot.hash);
        batch.log.push(LogRow::Run(Record { run: run.id, namespace, root, sequence, count, at, body, hash }));
        sequence += u64::from(count);
    }
    batch.log.extend(std::mem::take(&mut hot.published).into_iter().map(LogRow::Published));
    let (state, wake_at) = (run.state(), run.wake_at());
    match hot.stored {
        None => batch.created.push(run.row()),
        // A run that failed, was retried and failed again within one batch is where it was, with another end and error.
        Some(stored) if stored != (state, wake_at) || state.is_over() => batch.updated.push(RunUpdate {
            id: run.id,
            state,
            updated_at,
            ended_at,
            wake_at,
            error: run.error().cloned(),
        }),
        Some(_) => {}
    }
    hot.stored = Some((state, wake_at));
    let distance = run.sequence() - hot.snapshot;
    if distance >= SNAPSHOT_EVENTS.max(hot.snapshot / 2) && !state.is_over() {
        hot.snapshot = run.sequence();
        let (sequence, hash) = (run.sequence(), hot.hash);
        batch.snapshots.push(Snapshot { run: run.id, sequence, hash, body: run.snapshot() });
    }
}
