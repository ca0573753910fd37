//! Clients: they start runs, ask again when they learned nothing, answer questions, send signals, pause, cancel and retry, and see
//! every run to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consort_core::event::Published;
use consort_core::ids::RunId;
use consort_core::ports::{DecisionQuery, DecisionRow, DecisionState};
use consort_core::run::RunState;
use consort_core::signal::{Impact, Signal, Urgency};
use consort_core::{Data, Error, Kind};
use consort_engine::{AnswerDecision, Engine, RaiseSignal, RequestId, RunCommand, RunView, StartRun};
use consort_sdk::Code;
use consort_testkit::{Asked, Call, Ended, Outcome, REQUEST_LABEL};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::workflows::Job;
use crate::world::World;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// A client that does one thing after another.
pub(crate) struct Client {
    world: Arc<World>,
    number: u64,
    dice: StdRng,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Client {
        let dice = StdRng::seed_from_u64(world.seed.wrapping_mul(31).wrapping_add(number));
        Client { world: Arc::clone(world), number, dice }
    }

    /// Starts runs and sees them through.
    pub(crate) async fn work(mut self, jobs: u32) {
        for round in 0..jobs {
            let job = Job::roll(&mut self.dice);
            let request = format!("{}-{round}", self.number);
            self.world.seen().doing.insert(self.number, format!("starts {} {request}", job.workflow));
            let run = self.start(&job, &request).await;
            self.world.seen().doing.insert(self.number, format!("works on run {run} of {} {request}", job.workflow));
            if self.dice.random_bool(0.15) {
                self.hold_up(run, &request).await;
            }
            match job.workflow {
                "ask" | "curious" => self.answer(run, &request).await,
                "slow" => self.signal(run, "go", &request).await,
                "endless" => {
                    tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..4_000))).await;
                    let reason = "enough".to_owned();
                    self.command(run, "cancel", RunCommand::Cancel { reason }, &request).await;
                }
                "break" => {
                    self.end_of(run).await;
                    self.world.seen().mended.insert(run);
                    self.command(run, "retry", RunCommand::Retry, &request).await;
                }
                _ => {}
            }
            self.world.seen().doing.insert(self.number, format!("waits for run {run} of {} {request}", job.workflow));
            self.see_through(run, &job).await;
            self.world.seen().doing.remove(&self.number);
        }
    }

    /// Starts a run; asks again, and sometimes twice at once, until it knows which run it is.
    async fn start(&mut self, job: &Job, request: &str) -> RunId {
        let mut known: Option<RunId> = None;
        loop {
            let (once, again) = if self.world.strikes(self.world.weather.twice) {
                tokio::join!(biased; self.ask_to_start(job, request), self.ask_to_start(job, request))
            } else {
                (self.ask_to_start(job, request).await, None)
            };
            for answer in [once, again].into_iter().flatten() {
                if *known.get_or_insert(answer) != answer {
                    self.world.problem(format!("request {request} started {known:?} and {answer}"));
                }
            }
            match known {
                Some(run) if self.dice.random_bool(0.8) => return run,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask_to_start(&self, job: &Job, request: &str) -> Option<RunId> {
        let start = StartRun {
            namespace: "default".into(),
            workflow: job.workflow.into(),
            revision: None,
            inputs: Data::of(&job.inputs),
            labels: BTreeMap::from([(REQUEST_LABEL.to_owned(), request.to_owned())]),
            project: None,
            request: Some(request_id(request)),
            replay_of: None,
        };
        let started = self.world.call(|engine| async move { engine.start_run(start, None).await }).await;
        let outcome = outcome_of(started.as_ref(), |view| Some(view.id));
        self.record(Asked::Start(request.to_owned()), outcome);
        self.look_at(started.as_ref(), "a start");
        started.and_then(Result::ok).map(|view| view.id)
    }

    fn record(&self, asked: Asked, outcome: Outcome) {
        self.world.journal.call(asked, outcome);
    }

    /// No call ends with an internal error, whatever the weather.
    fn look_at<T>(&self, answer: Option<&Result<T, Error>>, what: &str) {
        if let Some(Err(error)) = answer
            && error.kind == Kind::Internal
        {
            self.world.problem(format!("{what} was answered with an internal error: {error}"));
        }
    }

    /// Does something to a run until it is known to be done. `false`: it was refused.
    async fn insist<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &str,
        asked: Option<Asked>,
        mut make: impl FnMut(Engine) -> F,
    ) -> Option<T> {
        loop {
            let answer = self.world.call(&mut make).await;
            self.look_at(answer.as_ref(), what);
            if let Some(asked) = &asked {
                self.record(asked.clone(), outcome_of(answer.as_ref(), |_| None));
            }
            match answer {
                Some(Ok(done)) => return Some(done),
                Some(Err(error)) if !error.retryable() && error.kind != Kind::Internal => return None,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn command(&self, run: RunId, what: &str, command: RunCommand, request: &str) -> bool {
        let request = Some(request_id(&format!("{what}-{request}")));
        let done = self
            .insist(what, None, |engine| {
                let (command, request) = (command.clone(), request.clone());
                async move { engine.command("default", run, command, request).await }
            })
            .await;
        done.is_some()
    }

    async fn signal(&self, run: RunId, signal: &str, request: &str) {
        let request = Some(request_id(&format!("signal-{request}")));
        let asked = Some(Asked::Signal(run, signal.to_owned()));
        self.insist("a signal", asked, |engine| {
            let command = RunCommand::Signal { signal: signal.to_owned(), payload: Data::null() };
            let request = request.clone();
            async move { engine.command("default", run, command, request).await }
        })
        .await;
    }

    /// Pauses a run for a while. It may be over before.
    async fn hold_up(&mut self, run: RunId, request: &str) {
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..500))).await;
        let pause = RunCommand::Pause { reason: "wait".to_owned() };
        if self.command(run, "pause", pause, request).await {
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..3_000))).await;
            self.command(run, "resume", RunCommand::Resume, request).await;
        }
    }

    /// Waits until the run asks, and answers.
    async fn answer(&self, run: RunId, request: &str) {
        let decision = loop {
            if let Some(decision) = self.question(run).await {
                break decision;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let request = Some(request_id(&format!("answer-{request}")));
        let clarification = decision.kind == consort_core::ports::DecisionKind::Clarification;
        let asked = (!clarification).then(|| Asked::Answer(decision.id, "yes".to_owned()));
        self.insist("an answer", asked, |engine| {
            let answer = AnswerDecision {
                namespace: "default".into(),
                id: decision.id,
                option: "yes".into(),
                form: None,
                by: "a client".into(),
                request: request.clone(),
            };
            async move { engine.answer(answer).await }
        })
        .await;
    }

    async fn question(&self, run: RunId) -> Option<DecisionRow> {
        let query = DecisionQuery {
            namespace: "default".into(),
            run: Some(run),
            state: Some(DecisionState::Open),
            kind: None,
            project: None,
            before: None,
            limit: 1,
        };
        let read = |engine: Engine| async move {
            let open = engine.store().decisions(&query).await;
            open.map_err(|error| Error::unavailable(error.to_string(), PAUSE))
        };
        self.world.call(read).await?.ok()?.pop()
    }

    /// Waits until a run is over.
    async fn end_of(&self, run: RunId) -> RunView {
        loop {
            let wait = Some(Duration::from_secs(10));
            let view = self.world.call(|engine| async move { engine.wait_run("default", run, wait).await }).await;
            self.look_at(view.as_ref(), "a wait");
            match view {
                Some(Ok(view)) if view.state.is_over() => return view,
                Some(Err(error)) if error.kind == Kind::NotFound => {
                    self.world.problem(format!("run {run} was acknowledged and is not found"));
                    std::future::pending::<()>().await;
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn see_through(&self, run: RunId, job: &Job) {
        let view = self.end_of(run).await;
        let wanted = if job.workflow == "endless" { RunState::Cancelled } else { RunState::Succeeded };
        let output = view.output.as_ref().map_or(Value::Null, value);
        if view.state != wanted {
            let error = view.error.as_ref().map(|error| error.message.clone());
            self.world.problem(format!("run {run} of {} is {:?}: {error:?}", job.workflow, view.state));
        } else if without_by(output.clone()) != job.expected {
            self.world.problem(format!("run {run} of {} {} yields {output}", job.workflow, job.inputs));
        }
        let state = consort_proto::orchestrator::RunState::try_from(view.state as i32).unwrap_or_default();
        let ended = Ended { run, state, sequence: view.sequence, output };
        self.world.journal.with(|seen| seen.ended.push(ended));
    }

    /// Publishes events, some of them again.
    pub(crate) async fn publish(mut self, events: u32) {
        for n in 0..events {
            let mut random = [0; 16];
            self.dice.fill(&mut random);
            let event = event(uuid::Builder::from_random_bytes(random).into_uuid(), n);
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..2_000))).await;
            for _ in 0..=u32::from(self.dice.random_bool(0.3)) {
                self.insist("a publication", None, |engine| {
                    let event = event.clone();
                    async move { engine.publish(vec![event]).await }
                })
                .await;
            }
            self.world.seen().published.insert(event.event_id);
        }
    }

    /// Raises signals to the mesh.
    pub(crate) async fn raise(mut self, signals: u32) {
        for n in 0..signals {
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..4_000))).await;
            let request = format!("raise-{n}");
            for _ in 0..=u32::from(self.dice.random_bool(0.3)) {
                let raised = self
                    .insist("a raised signal", None, |engine| {
                        let raise = RaiseSignal {
                            namespace: "default".into(),
                            project: None,
                            signal: signal(n),
                            request: Some(request_id(&request)),
                        };
                        async move { engine.raise_signal(raise).await }
                    })
                    .await;
                if let Some(view) = raised {
                    self.world.seen().raised.entry(request.clone()).or_default().insert(view.row.id);
                }
            }
        }
    }
}

fn signal(n: u32) -> Signal {
    Signal {
        kind: "QUALITY_ISSUE".into(),
        urgency: Urgency::High,
        impact: Impact::Medium,
        title: "Tests are red".into(),
        description: String::new(),
        payload: Data::of(&json!({"n": n})),
        source: "simulated".into(),
        agent: None,
    }
}

fn event(event_id: Uuid, n: u32) -> Published {
    Published {
        event_id,
        event_type: "LOAD.EVENT".into(),
        event_version: 1,
        timestamp: 1_000,
        source: "client".into(),
        instance: "simulated".into(),
        correlation_id: event_id,
        causation_id: None,
        namespace: "default".into(),
        subject: String::new(),
        payload: Data::of(&json!({"n": n})),
        depth: 0,
    }
}

fn request_id(id: &str) -> RequestId {
    RequestId { id: id.to_owned(), fingerprint: [7; 16] }
}

fn value(data: &Data) -> Value {
    match data {
        Data::Inline(json) => json.value(),
        Data::Blob(_) => Value::Null,
    }
}

/// A result without the lease it was made under.
fn without_by(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_by(item.take())),
        Value::Object(fields) => drop(fields.remove("by")),
        _ => {}
    }
    value
}

fn outcome_of<T>(answer: Option<&Result<T, Error>>, run: impl Fn(&T) -> Option<RunId>) -> Outcome {
    match answer {
        None => Outcome::Unknown,
        Some(Ok(done)) => Outcome::Ok(run(done)),
        Some(Err(error)) => match error.kind {
            Kind::InvalidArgument => Outcome::Failed(Code::InvalidArgument),
            Kind::NotFound => Outcome::Failed(Code::NotFound),
            Kind::AlreadyExists => Outcome::Failed(Code::AlreadyExists),
            Kind::FailedPrecondition => Outcome::Failed(Code::FailedPrecondition),
            Kind::OutOfRange => Outcome::Failed(Code::OutOfRange),
            Kind::PermissionDenied => Outcome::Failed(Code::PermissionDenied),
            Kind::ResourceExhausted | Kind::DeadlineExceeded | Kind::Unavailable | Kind::Aborted | Kind::Internal => {
                Outcome::Unknown
            }
        },
    }
}

/// Calls in words, for the digest.
pub(crate) fn calls_in_words(calls: &[Call]) -> String {
    format!("{calls:?}")
}
