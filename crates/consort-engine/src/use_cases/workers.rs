//! Workers and agents: attach, lease without a stream, look up, drain.

use std::sync::Arc;
use std::time::Duration;

use consort_core::Error;
use tokio::time::Instant;

use crate::Engine;
use crate::ledger::{Message, To};
use crate::outbox::Outbox;
use crate::session::Session;
use crate::types::{
    AgentOffer, AgentView, Answer, Assignment, Cancel, Hello, LeaseRef, TaskReport, TaskView, ToWorker, WorkerView,
};

impl Engine {
    /// Attaches a worker's stream.
    pub async fn attach(&self, mut hello: Hello) -> Result<Session, Error> {
        let outbox = Arc::new(Outbox::default());
        let (namespace, name, answers) = (hello.namespace.clone(), hello.worker.clone(), hello.answers.clone());
        // The registry knows agents that only answer too. No slot has this name, so they get no tasks.
        for answer in &answers {
            if hello.agents.iter().all(|offer| offer.agent != answer.agent) {
                hello.agents.push(AgentOffer {
                    agent: answer.agent.clone(),
                    kind: String::new(),
                    description: answer.description.clone(),
                    capabilities: Vec::new(),
                    slot: "".into(),
                });
            }
        }
        let (hello, mine) = (Box::new(hello), Arc::clone(&outbox));
        let attached = self.ask(|reply| Message::Attach { hello, outbox: mine, reply }).await?;
        let party = self.inner.asks.join(namespace, name, &answers, Arc::clone(&outbox));
        Ok(Session {
            engine: self.clone(),
            party,
            worker: attached.id,
            outbox,
            lease_ttl: self.inner.options.lease_ttl,
            resumed: attached.resumed,
        })
    }

    /// Leases up to `max` tasks for a worker without a stream; waits up to `wait` for the first.
    pub async fn lease_tasks(
        &self,
        hello: Hello,
        max: u32,
        wait: Duration,
    ) -> Result<(Vec<Assignment>, Duration), Error> {
        let outbox = self.poller(hello).await?;
        let worker = outbox.0;
        self.ask(|reply| Message::Grant { worker, more: max, reply }).await?;
        let first = self.first_for(worker, &outbox.1, wait).await?;
        // From here on nothing more is handed out; what was is in the outbox.
        self.ask(|reply| Message::Grant { worker, more: 0, reply }).await?;
        let mut assignments = Vec::new();
        let mut cancels = Vec::new();
        for ToWorker { assignments: a, cancels: c, .. } in first.into_iter().chain(outbox.1.try_take()) {
            assignments.extend(a);
            cancels.extend(c);
        }
        if !cancels.is_empty() {
            outbox.1.put(|out| out.cancels.extend(cancels));
        }
        Ok((assignments, self.inner.options.lease_ttl))
    }

    /// What comes first for a worker that waits in a call. The open call says that it lives, as renewals would: a wait may
    /// be longer than a lease.
    async fn first_for(&self, worker: u64, outbox: &Outbox, wait: Duration) -> Result<Option<ToWorker>, Error> {
        let end = Instant::now() + wait;
        let pulse = self.inner.options.lease_ttl / 3;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left.min(pulse), outbox.take()).await {
                Ok(came) => return Ok(Some(came)),
                Err(_) if left <= pulse => return Ok(None),
                Err(_) => drop(self.ask(|reply| Message::Leases { worker, reply }).await?),
            }
        }
    }

    /// The session of a worker without a stream: the one it has, or a new one.
    async fn poller(&self, hello: Hello) -> Result<(u64, Arc<Outbox>), Error> {
        let name = (hello.namespace.clone(), hello.worker.clone(), hello.session.clone());
        let known = self.inner.pollers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&name).cloned();
        if let Some((worker, outbox)) = known {
            let still = self.workers(&name.0).await?.iter().any(|w| w.worker == name.1 && w.session == name.2);
            if still {
                return Ok((worker, outbox));
            }
        }
        let outbox = Arc::new(Outbox::default());
        let (hello, mine) = (Box::new(hello), Arc::clone(&outbox));
        let attached = self.ask(|reply| Message::Attach { hello, outbox: mine, reply }).await?;
        let mut pollers = self.inner.pollers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pollers.len() >= crate::MAX_POLLERS {
            pollers.clear();
        }
        pollers.insert(name, (attached.id, Arc::clone(&outbox)));
        Ok((attached.id, outbox))
    }

    /// Renews the leases of a worker without a stream. Answers with the leases it holds and the tasks it must stop.
    pub async fn renew_leases(
        &self,
        namespace: &str,
        worker: &str,
        session: &str,
        reports: Vec<TaskReport>,
    ) -> Result<(Vec<LeaseRef>, Vec<Cancel>), Error> {
        let name = (namespace.into(), worker.into(), session.into());
        let known = self.inner.pollers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&name).cloned();
        let Some((worker, outbox)) = known else {
            return Err(Error::not_found("session", format!("{worker}, {session}")));
        };
        if !reports.is_empty() {
            let from = crate::types::FromWorker::Reports(reports);
            self.tell(Message::From { worker, from }).await?;
        }
        let held = self.ask(|reply| Message::Leases { worker, reply }).await?;
        let cancels = outbox.try_take().map(|out| out.cancels).unwrap_or_default();
        Ok((held, cancels))
    }

    /// Records one answer. True if the step will be tried again.
    pub async fn answer_task(&self, namespace: &str, mut answer: Answer) -> Result<bool, Error> {
        self.prepare(&mut answer).await?;
        let namespace = Some(namespace.into());
        self.ask(|reply| Message::Answer { answer, namespace, to: To::Caller(reply) }).await?
    }

    /// Agents that have been offered, by id.
    pub async fn agents(&self, namespace: &str) -> Result<Vec<AgentView>, Error> {
        let mut agents = self.ask(|reply| Message::Agents { namespace: namespace.into(), reply }).await?;
        for agent in &mut agents {
            agent.asks = self.inner.asks.metrics(namespace, &agent.agent);
        }
        Ok(agents)
    }

    /// An agent's latest tasks, newest first.
    pub async fn agent_tasks(&self, namespace: &str, agent: &str) -> Result<Vec<TaskView>, Error> {
        let (ns, id) = (namespace.into(), agent.into());
        let tasks = self.ask(|reply| Message::AgentTasks { namespace: ns, agent: id, reply }).await?;
        tasks.ok_or_else(|| Error::not_found("agent", agent))
    }

    /// Attached workers, and those whose leases run on.
    pub async fn workers(&self, namespace: &str) -> Result<Vec<WorkerView>, Error> {
        self.ask(|reply| Message::Workers { namespace: namespace.into(), reply }).await
    }

    /// Asks a worker to take nothing new, finish and leave.
    pub async fn drain_worker(&self, namespace: &str, worker: &str) -> Result<WorkerView, Error> {
        let (ns, id) = (namespace.into(), worker.into());
        let view = self.ask(|reply| Message::Drain { namespace: ns, worker: id, reply }).await?;
        view.ok_or_else(|| Error::not_found("worker", worker))
    }
}
