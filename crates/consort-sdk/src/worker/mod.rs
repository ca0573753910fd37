//! The worker: dials the mesh, takes tasks, answers them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use consort_proto::agent::{AgentOffer, AnswerOffer, Hello, SlotOffer};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use self::answer::AnswerText;
use self::asks::Asks;
use self::inquiry::Answerer;
use crate::client::{Client, addr_from_env};
use crate::error::Error;
use crate::task_error::TaskError;

mod answer;
mod ask;
mod asks;
mod held;
mod inquiry;
mod outbox;
mod perform;
mod question;
mod session;
mod task;
mod vitals;

pub use answer::{Answer, IntoAnswer, Plan};
pub use ask::{Ask, Asker};
pub use inquiry::Inquiry;
pub(crate) use perform::panicked;
pub use question::{Clarification, Question};
pub use task::Task;

/// Tasks a worker takes at once when nothing else is said.
const SLOTS: u32 = 256;
/// How long a worker that was asked to stop goes on with what it holds.
const GRACE: Duration = Duration::from_secs(30);
const DEFAULT_SLOT: &str = "default";

/// What a handler returns, as text.
type Text = Result<AnswerText, TaskError>;
type Handler = Arc<dyn Fn(Task) -> BoxFuture<'static, Text> + Send + Sync>;

/// A process that performs tasks for one or more agents.
///
/// Its address, id and namespace are taken from `CONSORT_ADDR`, `CONSORT_WORKER_ID` and `CONSORT_NAMESPACE` unless they are set here. The
/// id must be unique in the namespace: a second process with the same id takes the first one's place.
///
/// Handlers run as tokio tasks, as many at once as there are slots. One that computes for long without awaiting belongs in
/// [`Task::blocking`]. A handler that panics fails its attempt with INTERNAL; the worker lives on.
pub struct Worker {
    id: String,
    addr: String,
    namespace: String,
    session_id: String,
    slots: BTreeMap<String, u32>,
    grace: Duration,
    agents: Vec<(Agent, Handler)>,
    answers: Vec<(Agent, Answerer)>,
    asks: Arc<Asks>,
}

/// An agent a worker serves.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    id: String,
    kind: String,
    description: String,
    capabilities: Vec<String>,
    slot: String,
    at_once: Option<u32>,
}

impl Agent {
    /// An agent by its id: 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`.
    pub fn new(id: impl Into<String>) -> Agent {
        Agent { id: id.into(), ..Agent::default() }
    }

    /// What kind of agent it is, for example `analysis`.
    pub fn kind(mut self, kind: impl Into<String>) -> Agent {
        self.kind = kind.into();
        self
    }

    /// What it is for, in a sentence.
    pub fn description(mut self, description: impl Into<String>) -> Agent {
        self.description = description.into();
        self
    }

    /// One more thing it can do.
    pub fn capability(mut self, capability: impl Into<String>) -> Agent {
        self.capabilities.push(capability.into());
        self
    }

    /// Requests it answers at once, 1 to 10,000; 256 by default. See [`Worker::answers`].
    pub fn at_once(mut self, requests: u32) -> Agent {
        self.at_once = Some(requests);
        self
    }

    /// The slot type its tasks take; see [`Worker::slot`].
    pub fn slot(mut self, slot: impl Into<String>) -> Agent {
        self.slot = slot.into();
        self
    }
}

impl From<&str> for Agent {
    fn from(id: &str) -> Agent {
        Agent::new(id)
    }
}

impl Worker {
    /// A worker with this id: 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`.
    pub fn new(id: impl Into<String>) -> Worker {
        Worker {
            id: env_or("CONSORT_WORKER_ID", id),
            addr: addr_from_env(),
            namespace: env_or("CONSORT_NAMESPACE", "default"),
            session_id: uuid::Uuid::new_v4().to_string(),
            slots: BTreeMap::new(),
            grace: GRACE,
            agents: Vec::new(),
            answers: Vec::new(),
            asks: Arc::default(),
        }
    }

    /// Serves an agent: its id, or an [`Agent`] with more to say, and what it does. The output is anything that serialises to JSON;
    /// one of more than 64 KiB is sent as a blob. A handler can also answer with a [`Plan`], and ask a person with [`Task::ask`].
    pub fn agent<A, H, F, T>(mut self, agent: A, handler: H) -> Worker
    where
        A: Into<Agent>,
        H: Fn(Task) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, TaskError>> + Send + 'static,
        T: IntoAnswer,
    {
        let handler = move |task| {
            let work = handler(task);
            async move { work.await?.into_answer() }.boxed()
        };
        self.agents.push((agent.into(), Arc::new(handler)));
        self
    }

    /// Answers requests to an agent: its id, or an [`Agent`] with more to say, and what it answers, which is anything that
    /// serialises to JSON. The same agent may have tasks too, with [`Worker::agent`].
    ///
    /// A request is an exchange between live processes, bounded in time, for look-ups and consultations; it is on no record and
    /// delivered at most once. It is asked with [`Task::ask_agent`], [`Inquiry::ask_agent`], [`Asker::ask_agent`] or
    /// [`Client::ask_agent`]. A handler that panics answers with INTERNAL; the worker lives on.
    ///
    /// ```no_run
    /// # use consort_sdk::{Inquiry, Worker};
    /// Worker::new("rates").answers("rates", |inquiry: Inquiry| async move {
    ///     let pair: (String, String) = inquiry.input()?;
    ///     Ok(if pair.0 == pair.1 { 1.0 } else { 0.5 })
    /// });
    /// ```
    pub fn answers<A, H, F, T>(mut self, agent: A, handler: H) -> Worker
    where
        A: Into<Agent>,
        H: Fn(Inquiry) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, TaskError>> + Send + 'static,
        T: Serialize,
    {
        let handler = move |inquiry| {
            let work = handler(inquiry);
            async move {
                let answer = work.await?;
                serde_json::to_string(&answer)
                    .map_err(|error| TaskError::new(tonic::Code::Internal, format!("the answer is not JSON: {error}")))
            }
            .boxed()
        };
        self.answers.push((agent.into(), Arc::new(handler)));
        self
    }

    /// Asks agents over this worker's connection, from outside its handlers.
    pub fn asker(&self) -> Asker {
        Asker(self.asks.clone())
    }

    /// Another worker id.
    pub fn id(mut self, id: impl Into<String>) -> Worker {
        self.id = id.into();
        self
    }

    /// Where the mesh is: `host:port` or `http://host:port`.
    pub fn addr(mut self, addr: impl Into<String>) -> Worker {
        self.addr = addr.into();
        self
    }

    /// The namespace it serves.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Worker {
        self.namespace = namespace.into();
        self
    }

    /// The UUID of this life of the process. A worker that comes back with the same one within the lease time keeps its leases,
    /// so only a process that still has its tasks may use it again.
    pub fn session_id(mut self, session_id: impl Into<String>) -> Worker {
        self.session_id = session_id.into();
        self
    }

    /// How many tasks it takes at once, 1 to 10,000; 256 by default.
    pub fn slots(self, slots: u32) -> Worker {
        self.slot(DEFAULT_SLOT, slots)
    }

    /// How many tasks of the agents of a slot type it takes at once, 1 to 10,000; 256 by default.
    pub fn slot(mut self, slot: impl Into<String>, tasks: u32) -> Worker {
        self.slots.insert(slot.into(), tasks);
        self
    }

    /// How long it goes on with what it holds when it is asked to stop; then it gives the rest back. 30 s by default.
    pub fn grace(mut self, grace: Duration) -> Worker {
        self.grace = grace;
        self
    }

    /// Performs tasks until the process gets SIGTERM or SIGINT; then finishes what it holds. See [`Worker::run_until`].
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(stop_signal()).await
    }

    /// Performs tasks until `shutdown` is ready; then takes nothing new, finishes what it holds and returns. It returns too when
    /// someone drains the worker. While the mesh cannot be reached it tries again, after 0.1 to 5 s, for ever: only a setting
    /// that the mesh refuses, or another process with the same worker id, is an error.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let client = Client::connect(&self.addr)?.with_namespace(self.namespace.clone());
        let hello = self.hello(&client)?;
        let handlers: HashMap<String, Handler> =
            self.agents.into_iter().map(|(agent, handler)| (agent.id, handler)).collect();
        let answerers = self.answers.into_iter().map(|(agent, answerer)| (agent.id, answerer)).collect();
        let handlers = Handlers { tasks: handlers, inquiries: answerers };
        session::run(client, hello, handlers, self.asks, self.grace, shutdown).await
    }

    fn hello(&self, client: &Client) -> Result<Hello, Error> {
        check_id("worker id", &self.id)?;
        check_id("namespace", &self.namespace)?;
        if uuid::Uuid::parse_str(&self.session_id).is_err() {
            return Err(setting("session id", &self.session_id, "must be a UUID"));
        }
        if (self.agents.is_empty() && self.answers.is_empty()) || self.agents.len() > 100 {
            return Err(setting("number of agents", &self.agents.len(), "must be from 1 to 100"));
        }
        let answers = self.answer_offers()?;
        let mut slots = BTreeMap::new();
        for (number, (agent, _)) in self.agents.iter().enumerate() {
            check_id("agent", &agent.id)?;
            if self.agents[..number].iter().any(|(other, _)| other.id == agent.id) {
                return Err(setting("agent", &agent.id, "is served twice; give each agent one handler"));
            }
            let slot = if agent.slot.is_empty() { DEFAULT_SLOT } else { &agent.slot };
            slots.insert(slot.to_owned(), self.slots.get(slot).copied().unwrap_or(SLOTS));
        }
        for (slot, tasks) in &self.slots {
            if !(1..=10_000).contains(tasks) {
                return Err(setting("slots", &format!("{slot}={tasks}"), "must be from 1 to 10,000"));
            }
            if !slots.contains_key(slot) && (slot != DEFAULT_SLOT || self.agents.is_empty()) {
                return Err(setting("slot", slot, "is not the slot of any agent of this worker"));
            }
        }
        let offer = |agent: &Agent| AgentOffer {
            agent: agent.id.clone(),
            r#type: agent.kind.clone(),
            description: agent.description.clone(),
            capabilities: agent.capabilities.clone(),
            slot: agent.slot.clone(),
        };
        Ok(Hello {
            worker_id: self.id.clone(),
            session_id: self.session_id.clone(),
            parent: client.parent(),
            min_protocol: session::PROTOCOL,
            max_protocol: session::PROTOCOL,
            agents: self.agents.iter().map(|(agent, _)| offer(agent)).collect(),
            slots: slots.into_iter().map(|(slot, tasks)| SlotOffer { slot, credits: tasks as i32 }).collect(),
            sdk: concat!("rust ", env!("CARGO_PKG_VERSION")).to_owned(),
            answers,
        })
    }

    fn answer_offers(&self) -> Result<Vec<AnswerOffer>, Error> {
        if self.answers.len() > 100 {
            return Err(setting("number of answers", &self.answers.len(), "must be at most 100"));
        }
        let mut offers: Vec<AnswerOffer> = Vec::with_capacity(self.answers.len());
        for (agent, _) in &self.answers {
            check_id("agent", &agent.id)?;
            if offers.iter().any(|other| other.agent == agent.id) {
                return Err(setting("agent", &agent.id, "is answered for twice; give each agent one handler"));
            }
            let at_once = agent.at_once.unwrap_or(SLOTS);
            if !(1..=10_000).contains(&at_once) {
                return Err(setting("at_once", &at_once, "must be from 1 to 10,000"));
            }
            let (agent, description) = (agent.id.clone(), agent.description.clone());
            offers.push(AnswerOffer { agent, at_once: at_once as i32, description });
        }
        Ok(offers)
    }
}

/// What a worker does.
struct Handlers {
    tasks: HashMap<String, Handler>,
    inquiries: HashMap<String, Answerer>,
}

fn env_or(variable: &str, default: impl Into<String>) -> String {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
}

fn setting(field: &'static str, value: &(impl ToString + ?Sized), rule: &'static str) -> Error {
    Error::Setting { field, value: value.to_string(), rule }
}

fn check_id(field: &'static str, id: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=63).contains(&id.len()) && id.chars().all(legal);
    if fits && id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(setting(
        field,
        id,
        "must be 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit",
    ))
}

/// Ready when the process is asked to stop.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                Ok(()) = tokio::signal::ctrl_c() => return,
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without signals the worker runs until its process is ended.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str) -> Worker {
        Worker::new("w").id(id).agent("a", |_| async { Ok(()) })
    }

    async fn refusal(worker: Worker) -> String {
        worker.run_until(std::future::ready(())).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn bad_settings_are_refused_before_anything_is_dialled() {
        assert!(refusal(worker("no spaces")).await.starts_with("worker id `no spaces`: must be"));
        assert!(refusal(worker("w").slots(0)).await.contains("default=0"));
        assert!(refusal(worker("w").slot("gpu", 2)).await.contains("slot `gpu`: is not the slot of any agent"));
        assert!(refusal(worker("w").agent("a", |_| async { Ok(()) })).await.contains("served twice"));
        assert!(refusal(Worker::new("w").addr("x:1")).await.contains("number of agents `0`"));
        assert!(refusal(worker("w").session_id("7")).await.contains("must be a UUID"));
    }

    #[tokio::test]
    async fn hello_offers_each_slot_type_once() {
        let client = Client::connect("127.0.0.1:1").unwrap();
        let hello = worker("w").agent(Agent::new("b").slot("gpu"), |_| async { Ok(()) }).slot("gpu", 2);
        let slots = hello.hello(&client).unwrap().slots;
        let slots: Vec<_> = slots.iter().map(|offer| (offer.slot.as_str(), offer.credits)).collect();
        assert_eq!(slots, [("default", 256), ("gpu", 2)]);
    }
}
