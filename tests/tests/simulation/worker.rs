//! Workers and the network between them and the engine: what is said is delayed, lost, doubled and overtaken; workers stall past
//! their leases and go on with the tokens they had; their links break, and they come back as they were or as new processes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consort_core::Data;
use consort_core::event::{Code, Failure};
use consort_core::run::Question;
use consort_engine::{
    AgentOffer, Answer, Assignment, Done, FromWorker, Hello, LeaseRef, Session, TaskFailure, ToWorker,
};
use consort_testkit::next;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::workflows::plan;
use crate::world::{Plant, World};

/// What workers serve.
const AGENTS: [&str; 7] = ["next", "flaky", "bulk", "hang", "broken", "curious", "planner"];

/// What befalls a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    /// Its link breaks.
    Break,
    /// Its process dies, and another comes.
    Kill,
    /// It stands still, and goes on as if nothing had happened.
    Stall(Duration),
}

/// Where blows are left for a worker.
#[derive(Default)]
pub(crate) struct Fate {
    blows: Mutex<VecDeque<Blow>>,
    struck: Notify,
}

impl Fate {
    pub(crate) fn strike(&self, blow: Blow) {
        self.blows.lock().unwrap_or_else(PoisonError::into_inner).push_back(blow);
        self.struck.notify_one();
    }

    async fn next(&self) -> Blow {
        loop {
            if let Some(blow) = self.blows.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return blow;
            }
            self.struck.notified().await;
        }
    }
}

/// What will happen at a worker.
enum Event {
    Arrives(Box<Assignment>),
    Finishes(u64),
    Speaks(u64),
    Settled(u64),
    Renews,
    Breaks,
}

/// A task in a worker's process.
struct Task {
    assignment: Assignment,
    result: Option<Result<Done, TaskFailure>>,
}

/// A worker with a stream.
pub(crate) struct Worker {
    pub world: Arc<World>,
    pub name: String,
    pub fate: Arc<Fate>,
    /// What it serves.
    agents: Vec<&'static str>,
    process: u32,
    held: BTreeMap<u64, Task>,
    agenda: BTreeMap<(Instant, u64), Event>,
    number: u64,
}

impl Worker {
    pub(crate) fn new(world: &Arc<World>, number: usize, fate: &Arc<Fate>) -> Worker {
        Worker {
            world: Arc::clone(world),
            name: format!("w{number}"),
            fate: Arc::clone(fate),
            agents: AGENTS.to_vec(),
            process: 0,
            held: BTreeMap::new(),
            agenda: BTreeMap::new(),
            number: 0,
        }
    }

    pub(crate) async fn live(mut self) {
        let over = self.world.over.clone();
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = self.connect() => {}
        }
    }

    fn soon(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.agenda.insert((Instant::now() + after, self.number), event);
    }

    async fn connect(&mut self) {
        loop {
            let hello = hello(&self.name, self.process, &self.agents, 4);
            let life = self.world.life().await;
            let attached = tokio::select! {
                biased;
                () = life.dead.cancelled() => continue,
                attached = life.engine.attach(hello) => attached,
            };
            match attached {
                Ok(session) => {
                    tokio::select! {
                        biased;
                        () = life.dead.cancelled() => {}
                        () = self.serve(session) => {}
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            let pause = self.world.network_delay();
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection. What the worker has done and nobody acknowledged is said again; what it was given and never heard of goes
    /// back.
    async fn serve(&mut self, session: Session) {
        let resumed: BTreeSet<u64> = session.resumed.iter().map(|lease| lease.token).collect();
        self.held.retain(|token, task| task.result.is_some() || resumed.contains(token));
        self.agenda.retain(|_, event| matches!(event, Event::Finishes(_)));
        let unknown: Vec<LeaseRef> =
            session.resumed.iter().filter(|lease| !self.held.contains_key(&lease.token)).cloned().collect();
        if !unknown.is_empty() && session.send(FromWorker::Released(unknown)).await.is_err() {
            return;
        }
        let done: Vec<u64> =
            self.held.iter().filter(|(_, task)| task.result.is_some()).map(|(token, _)| *token).collect();
        for token in done {
            self.soon(Duration::ZERO, Event::Speaks(token));
        }
        self.soon(session.lease_ttl / 3, Event::Renews);
        loop {
            let at = self.agenda.keys().next().map_or_else(Instant::now, |(at, _)| *at);
            let fate = Arc::clone(&self.fate);
            tokio::select! {
                biased;
                blow = fate.next() => match blow {
                    Blow::Break => return,
                    Blow::Kill => {
                        self.process += 1;
                        self.held.clear();
                        self.agenda.clear();
                        return;
                    }
                    Blow::Stall(time) => tokio::time::sleep(time).await,
                },
                news = session.next() => {
                    if self.hear(news) {
                        return;
                    }
                }
                () = tokio::time::sleep_until(at), if !self.agenda.is_empty() => {
                    let Some((_, event)) = self.agenda.pop_first() else { continue };
                    if self.happen(&session, event).await {
                        return;
                    }
                }
            }
        }
    }

    /// Takes what the engine sends. True if the connection is over.
    fn hear(&mut self, news: ToWorker) -> bool {
        for assignment in news.assignments {
            hand_out(&self.world, &assignment);
            let delay = self.world.network_delay();
            if self.world.strikes(self.world.weather.drop) {
                // A stream that loses something breaks.
                self.soon(delay, Event::Breaks);
                continue;
            }
            if self.world.strikes(self.world.weather.twice) {
                let again = delay + self.world.network_delay();
                self.soon(again, Event::Arrives(Box::new(assignment.clone())));
            }
            self.soon(delay, Event::Arrives(Box::new(assignment)));
        }
        for cancel in news.cancels {
            self.held.remove(&cancel.lease.token);
        }
        for ack in news.acks {
            acknowledge(&self.world, ack.lease.token, ack.outcome);
            if self.world.strikes(self.world.weather.drop) {
                continue;
            }
            let delay = self.world.network_delay();
            self.soon(delay, Event::Settled(ack.lease.token));
        }
        news.close.is_some()
    }

    /// True if the connection is over.
    async fn happen(&mut self, session: &Session, event: Event) -> bool {
        match event {
            Event::Breaks => return true,
            Event::Renews => {
                if !self.world.strikes(self.world.weather.drop) {
                    let renewal = FromWorker::Renew { cpu: 0.1, memory_bytes: 1 };
                    if session.send(renewal).await.is_err() {
                        return true;
                    }
                }
                self.soon(session.lease_ttl / 3, Event::Renews);
            }
            Event::Arrives(assignment) => {
                let token = assignment.lease.token;
                let time = duration(&self.world, &assignment);
                self.held.entry(token).or_insert(Task { assignment: *assignment, result: None });
                self.soon(time, Event::Finishes(token));
            }
            Event::Finishes(token) => {
                let world = Arc::clone(&self.world);
                if let Some(task) = self.held.get_mut(&token) {
                    task.result.get_or_insert_with(|| work(&world, &task.assignment));
                    let delay = world.network_delay();
                    self.soon(delay, Event::Speaks(token));
                }
            }
            Event::Speaks(token) => {
                let Some(task) = self.held.get(&token) else { return false };
                let Some(result) = task.result.clone() else { return false };
                // Until it is acknowledged.
                let lease = answered(&self.world, &task.assignment.lease);
                self.soon(Duration::from_secs(1), Event::Speaks(token));
                if self.world.strikes(self.world.weather.drop) {
                    return false;
                }
                let mut answers = vec![Answer { lease, result }];
                if self.world.strikes(self.world.weather.twice) {
                    answers.push(answers[0].clone());
                }
                if session.send(FromWorker::Answers(answers)).await.is_err() {
                    return true;
                }
            }
            Event::Settled(token) => drop(self.held.remove(&token)),
        }
        false
    }
}

/// The lease that an answer names; a server without a fence takes every answer for one of the lease in force.
fn answered(world: &World, lease: &LeaseRef) -> LeaseRef {
    let mut lease = lease.clone();
    if world.plant == Some(Plant::NoFence) {
        lease.token = world.seen().newest.get(&format!("{}/{}", lease.run, lease.step)).copied().unwrap_or(lease.token);
    }
    lease
}

fn hand_out(world: &World, assignment: &Assignment) {
    let LeaseRef { run, step, token, .. } = &assignment.lease;
    let times = 1 + usize::from(world.plant == Some(Plant::HandedOutTwice) && world.strikes(0.05));
    let mut seen = world.seen();
    for _ in 0..times {
        seen.handed.push((*token, run.to_string(), step.to_string()));
    }
    let newest = seen.newest.entry(format!("{run}/{step}")).or_default();
    *newest = (*newest).max(*token);
}

fn acknowledge(world: &World, token: u64, outcome: Result<bool, consort_core::Error>) {
    let mut seen = world.seen();
    match outcome {
        Ok(_) => drop(seen.acked.insert(token)),
        Err(error) => *seen.refused.entry(error.reason).or_default() += 1,
    }
}

pub(crate) fn hello(name: &str, process: u32, agents: &[&str], slots: u32) -> Hello {
    let offer = |agent: &&str| AgentOffer {
        agent: (*agent).into(),
        kind: "simulated".into(),
        description: String::new(),
        capabilities: Vec::new(),
        slot: "default".into(),
    };
    Hello {
        answers: Vec::new(),
        namespace: "default".into(),
        worker: name.into(),
        session: format!("{name}-{process}").into(),
        agents: agents.iter().map(offer).collect(),
        slots: if slots == 0 { BTreeMap::new() } else { BTreeMap::from([("default".into(), slots)]) },
        sdk: "simulated".into(),
    }
}

fn input(assignment: &Assignment) -> Value {
    match &assignment.input {
        Data::Inline(json) => json.value(),
        Data::Blob(_) => Value::Null,
    }
}

/// How long a task takes.
fn duration(world: &World, assignment: &Assignment) -> Duration {
    if &*assignment.agent == "hang" && assignment.lease.attempt == 1 {
        return Duration::from_secs(8);
    }
    // Now and then one takes longer than a lease.
    Duration::from_millis(if world.below(5) == 0 { world.below(4_000) } else { world.below(200) })
}

/// What a task yields. Results say under which lease they were made.
fn work(world: &World, assignment: &Assignment) -> Result<Done, TaskFailure> {
    let (input, token) = (input(assignment), assignment.lease.token);
    let n = input["n"].as_u64().unwrap_or(0);
    let number = || Ok(Done::Output(Data::of(&json!({"n": next(n), "by": token}))));
    let fails = |retryable| {
        let failure = Failure::new(Code::Unavailable, "it fails at first");
        Err(TaskFailure { failure, retryable, retry_after: None })
    };
    match &*assignment.agent {
        "flaky" if assignment.lease.attempt == 1 => fails(true),
        "broken" if !world.seen().mended.contains(&assignment.lease.run) => fails(false),
        "bulk" => Ok(Done::Output(Data::of(&"x".repeat(input["length"].as_u64().unwrap_or(0) as usize).into()))),
        "planner" => Ok(Done::PlanText(plan(n))),
        "curious" if assignment.clarified.is_empty() => Ok(Done::Asked(Question {
            title: "Go on?".into(),
            description: String::new(),
            options: vec!["yes".into(), "no".into()],
            form: None,
            deadline: None,
            default: None,
        })),
        _ => number(),
    }
}

/// A worker without a stream, which asks for tasks, renews and answers by single calls.
pub(crate) struct Poller {
    pub world: Arc<World>,
    pub name: String,
}

impl Poller {
    pub(crate) async fn live(self) {
        let over = self.world.over.clone();
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = self.poll() => {}
        }
    }

    async fn poll(&self) {
        for process in 0.. {
            self.process(process).await;
        }
    }

    /// One life of the process: it ends when it finds leases that it never heard of.
    async fn process(&self, process: u32) {
        let world = &self.world;
        let me = || hello(&self.name, process, &["next", "flaky"], 0);
        let session = format!("{}-{process}", self.name);
        loop {
            let leased =
                world.call(|engine| async move { engine.lease_tasks(me(), 2, Duration::from_secs(1)).await }).await;
            let Some(Ok((assignments, _))) = leased else {
                // What was handed out and got lost is noticed by nobody but the lease.
                return tokio::time::sleep(Duration::from_secs(3)).await;
            };
            for assignment in &assignments {
                hand_out(world, assignment);
            }
            for assignment in assignments {
                tokio::time::sleep(duration(world, &assignment)).await;
                let answer = Answer { lease: answered(world, &assignment.lease), result: work(world, &assignment) };
                for _ in 0..20 {
                    let answer = answer.clone();
                    let said = world.call(|engine| async move { engine.answer_task("default", answer).await }).await;
                    match said {
                        Some(Err(error)) if error.retryable() => {}
                        Some(outcome) => {
                            acknowledge(world, assignment.lease.token, outcome);
                            break;
                        }
                        None => {}
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            let (name, session) = (self.name.clone(), session.clone());
            let renewed = world
                .call(|engine| async move { engine.renew_leases("default", &name, &session, Vec::new()).await })
                .await;
            if matches!(renewed, Some(Ok((held, _))) if !held.is_empty()) {
                return;
            }
        }
    }
}
