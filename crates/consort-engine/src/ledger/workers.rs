//! Workers: coming, speaking, falling silent and leaving.

use std::sync::Arc;

use consort_core::Error;
use consort_core::event::LeaseLoss;
use consort_core::ids::Millis;
use consort_core::ports::Said;
use consort_core::run::Command;
use tokio::sync::oneshot;

use super::messages::{Attached, Message, TaskFacts, To};
use super::{HORIZON, Ledger};
use crate::dispatcher::WorkerId;
use crate::outbox::Outbox;
use crate::types::{FromWorker, Hello, LeaseRef, LiveReport, TaskReport};

impl Ledger {
    pub(super) fn take_from_worker(&mut self, message: Message) {
        match message {
            Message::Attach { hello, outbox, reply } => self.attach(*hello, outbox, reply),
            Message::Detach { worker, outbox } => self.dispatcher.detach(worker, &outbox),
            Message::From { worker, from } => self.hear(worker, from),
            Message::Grant { worker, more, reply } => {
                self.dispatcher.heard(worker, self.now, None);
                self.dispatcher.grant(worker, more);
                let _ = reply.send(());
            }
            Message::Agents { namespace, reply } => drop(reply.send(self.dispatcher.agent_views(&namespace))),
            Message::AgentTasks { namespace, agent, reply } => {
                let _ = reply.send(self.dispatcher.task_views(&(namespace, agent)));
            }
            Message::Workers { namespace, reply } => drop(reply.send(self.dispatcher.worker_views(&namespace))),
            Message::Leases { worker, reply } => {
                self.dispatcher.heard(worker, self.now, None);
                let leases = self.dispatcher.worker(worker).map(super::super::dispatcher::Worker::lease_refs);
                let _ = reply.send(leases.unwrap_or_default());
            }
            Message::Drain { namespace, worker, reply } => {
                let id = self.dispatcher.named(&(namespace, worker));
                let view = id.and_then(|id| self.dispatcher.worker_mut(id)).map(|w| {
                    w.draining = true;
                    if let Some(outbox) = &w.outbox {
                        outbox.put(|out| out.drain = true);
                    }
                    w.view()
                });
                let _ = reply.send(view);
            }
            _ => {}
        }
    }

    /// What a model call must know of its task; LEASE_LOST if the lease is not in force.
    pub(super) fn task_facts(&mut self, message: Message) {
        let Message::Task { lease, .. } = &message else { return };
        self.on_run(lease.run, message, |ledger, message| {
            let Message::Task { lease, reply } = message else { return };
            let facts = ledger.hot.get(&lease.run).and_then(|hot| {
                let unit = hot.run.unit(&lease.step)?;
                let in_force = unit.lease.as_ref().is_some_and(|held| held.token == lease.token);
                let task = hot.run.task(&lease.step).filter(|_| in_force && unit.attempt == lease.attempt)?;
                Some(TaskFacts {
                    namespace: hot.run.namespace().clone(),
                    agent: task.agent,
                    parent: hot.run.parent().map(|parent| parent.run),
                    planned_by: hot
                        .run
                        .parent()
                        .filter(|_| hot.run.plan().is_some())
                        .map(|of| (of.run, of.step.clone())),
                    budget: hot.run.definition().budget,
                    spent: hot.run.calls().map(|calls| calls.spent).unwrap_or_default(),
                    replay_of: hot.run.replay_of(),
                    calls: unit.calls,
                })
            });
            let lost = || {
                let text = format!("the lease of step `{}` is not in force; stop working on it", lease.step);
                Error::precondition("LEASE_LOST", text)
            };
            let _ = reply.send(facts.ok_or_else(lost));
        });
    }

    fn attach(&mut self, hello: Hello, outbox: Arc<Outbox>, reply: oneshot::Sender<Attached>) {
        let (id, replaced) = self.dispatcher.attach(hello, Arc::clone(&outbox), self.now, self.turn);
        if let Some(old) = replaced {
            self.lose_all(old, LeaseLoss::Replaced, "another session of this worker took its place");
        }
        let resumed = self.dispatcher.worker(id).map(super::super::dispatcher::Worker::lease_refs).unwrap_or_default();
        if reply.send(Attached { id, resumed }).is_err() {
            self.dispatcher.detach(id, &outbox);
        }
    }

    fn hear(&mut self, worker: WorkerId, from: FromWorker) {
        let vitals = match &from {
            FromWorker::Renew { cpu, memory_bytes } => Some((*cpu, *memory_bytes)),
            _ => None,
        };
        self.dispatcher.heard(worker, self.now, vitals);
        match from {
            FromWorker::Renew { .. } => {}
            FromWorker::Reports(reports) => reports.into_iter().for_each(|report| self.report(report)),
            FromWorker::Answers(answers) => {
                for answer in answers {
                    self.answer(answer, None, To::Worker(worker));
                }
            }
            FromWorker::Released(leases) => {
                for lease in leases {
                    if self.dispatcher.holder(lease.token) == Some(worker) {
                        self.lose(&lease, LeaseLoss::Released);
                    }
                }
            }
            FromWorker::Draining => {
                if let Some(w) = self.dispatcher.worker_mut(worker) {
                    w.draining = true;
                }
            }
        }
    }

    /// A report about a task in hand; reports of lost leases are dropped.
    pub(super) fn report(&mut self, report: TaskReport) {
        let TaskReport { lease, report } = report;
        let Some(held) = self.dispatcher.held(lease.token) else { return };
        if held.run != lease.run || held.step != lease.step {
            return;
        }
        match report {
            LiveReport::Kept(report) => {
                let command = Command::Report { step: lease.step, token: lease.token, report };
                self.take(Message::Do(lease.run, command));
            }
            LiveReport::Progress(progress) => {
                let namespace = held.agent.0.clone();
                let said = Said::Progress(progress.fraction, progress.text.clone());
                self.tell(lease.run, &namespace, &lease.step, said);
                if let Some(hot) = self.hot.get_mut(&lease.run) {
                    hot.progress.insert(lease.step, progress);
                }
            }
        }
    }

    fn lose(&mut self, lease: &LeaseRef, reason: LeaseLoss) {
        let command = Command::LoseLease { step: lease.step.clone(), token: lease.token, reason };
        self.take(Message::Do(lease.run, command));
    }

    /// Ends every lease of a session, and the session.
    fn lose_all(&mut self, worker: WorkerId, reason: LeaseLoss, close: &'static str) {
        let Some(w) = self.dispatcher.worker_mut(worker) else { return };
        if let Some(outbox) = w.outbox.take() {
            outbox.put(|out| out.close = Some(close));
        }
        let leases = w.lease_refs();
        if leases.is_empty() {
            self.dispatcher.forget(worker);
        }
        for lease in leases {
            self.lose(&lease, reason);
        }
    }

    /// Looks for silent workers, and for runs whose sleep is nearly over.
    pub(super) fn look_around(&mut self) {
        let ttl = self.options.lease_ttl.as_millis() as Millis;
        for worker in self.dispatcher.silent_since(self.now - ttl) {
            if let Some(w) = self.dispatcher.worker(worker) {
                let (name, leases) = (w.name.1.clone(), w.leases.len());
                tracing::warn!(worker = %name, leases, "a worker fell silent; its tasks are handed out again");
            }
            self.lose_all(worker, LeaseLoss::Expired, "nothing was heard for the time of a lease");
        }
        if self.now >= self.next_look {
            self.next_look = self.now + HORIZON.as_millis() as Millis / 2;
            self.wake_sleepers();
            // Callers that gave up waiting.
            self.waiters.retain(|_, waiting| {
                waiting.retain(|waiter| !waiter.is_closed());
                !waiting.is_empty()
            });
        }
    }

    /// Has runs read whose sleep ends soon. What is in memory wakes by itself.
    fn wake_sleepers(&mut self) {
        let (store, own) = (Arc::clone(&self.store), self.own.clone());
        let old = self.now - 24 * 60 * 60 * 1_000;
        let until = self.now + HORIZON.as_millis() as Millis;
        tokio::spawn(async move {
            match store.due(until, 10_000).await {
                Ok(due) => due.into_iter().for_each(|run| drop(own.send(Message::Do(run, Command::Tick)))),
                Err(error) => tracing::warn!(%error, "sleeping runs could not be looked for"),
            }
            if let Err(error) = store.forget_requests(old, 10_000).await {
                tracing::warn!(%error, "old request ids could not be forgotten");
            }
        });
    }
}
