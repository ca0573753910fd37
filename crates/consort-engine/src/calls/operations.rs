//! Operations of plugins, called for a task: on record, answered from the record when the task is handed out again or replayed, and never
//! done twice without somebody saying so.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use consort_core::event::Fact;
use consort_core::ids::{RunId, StepKey};
use consort_core::model::Digest;
use consort_core::plugin::{
    Effect, Invocation, Invoke, InvokeNews, OperationBegan, OperationCalled, OperationName, Origin, Outcome, Plugins,
    request_digest,
};
use consort_core::ports::StoreError;
use consort_core::run::Command;
use consort_core::workflow::CALL;
use consort_core::{Data, Error, Kind};
use std::time::Duration;

use crate::ledger::{Message as Ask, TaskFacts};
use crate::loader::Loader;
use crate::types::LeaseRef;
use crate::{Engine, store_error};

/// Leases whose records are in memory; the oldest leave.
const LEASES: usize = 10_000;
/// Records read at once.
const PAGE: u32 = 256;

/// By fencing token, what is on record for a lease and not used yet.
#[derive(Default)]
pub(super) struct Operated {
    leases: Mutex<BTreeMap<u64, Found>>,
}

/// What a history has of a step's operations.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Outcomes.
    called: VecDeque<Arc<OperationCalled>>,
    /// Writes that were begun and whose outcome is not known.
    unknown: VecDeque<Arc<OperationBegan>>,
}

/// What is asked for a task.
#[derive(Clone, Debug)]
pub struct OperationAsked {
    /// What.
    pub operation: OperationName,
    /// Its input.
    pub input: Data,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// How long it may take; `None` means the operation's own.
    pub timeout: Option<Duration>,
    /// Equal for all tries; `None` means one for the step and its call.
    pub idempotency_key: Option<String>,
    /// A write whose outcome is not known is done again.
    pub again: bool,
}

impl Engine {
    /// Gives the engine the plugins. Without them, calls are refused and `call` steps wait.
    pub fn use_plugins(&self, plugins: Arc<dyn Plugins>) {
        let _ = self.inner.calls.plugins.set(plugins);
    }

    /// The plugins.
    pub fn plugins(&self) -> Result<&Arc<dyn Plugins>, Error> {
        let hint = "this server runs without plugins; start it without --no-plugins";
        self.inner.calls.plugins.get().ok_or_else(|| Error::precondition("NO_PLUGINS", hint))
    }

    /// Calls an operation on behalf of a task. Its outcome is on record before it is given, and an outcome that is on record already is given
    /// again. LEASE_LOST if the task is not the caller's any more; ABORTED (reason OUTCOME_UNKNOWN) if the call was begun
    /// before, must not be done twice, and nobody knows whether it was done.
    pub async fn operate_for(&self, lease: LeaseRef, asked: OperationAsked) -> Result<Box<dyn Invocation>, Error> {
        let plugins = Arc::clone(self.plugins()?);
        let facts = self.ask(|reply| Ask::Task { lease: lease.clone(), reply }).await??;
        let request = request_digest(&asked.operation, &asked.input, asked.dry_run);
        match self.known(&lease, &facts, request).await? {
            Known::Outcome(called) => return Ok(Box::new(Again(Some(outcome(&called))))),
            Known::Begun if !asked.again => {
                let text = format!(
                    "`{}` was begun before the mesh or the plugin stopped, and nobody knows whether it was done",
                    asked.operation
                );
                return Err(Error::new(Kind::Aborted, "OUTCOME_UNKNOWN", text));
            }
            Known::Begun | Known::Nothing => {}
        }
        if let Some(run) = facts.replay_of {
            let text = format!("step `{}` calls `{}`, which run {run} did not call so", lease.step, asked.operation);
            return Err(Error::precondition("REPLAY_MISS", text));
        }
        let agent = self.caller(&facts).await?;
        let described = plugins.describe(&asked.operation, Some(&agent)).await?;
        let effect = if asked.dry_run { Effect::Read } else { described.effect };
        let call_id = self.environment().new_id();
        let LeaseRef { run, step, attempt, token } = lease.clone();
        let key = || format!("{run}/{step}/{}", hex_of(request));
        let record = Recording {
            engine: self.clone(),
            namespace: facts.namespace.clone(),
            lease,
            called: Some(Box::new(OperationCalled {
                attempt,
                token,
                operation: asked.operation.clone(),
                version: "".into(),
                effect,
                request,
                call_id,
                input: asked.input.clone(),
                output: None,
                error: None,
                would: Vec::new(),
                actions: Vec::new(),
                dry_run: asked.dry_run,
                took_ms: 0,
            })),
        };
        if effect == Effect::Write {
            let operation = asked.operation.clone();
            let began = OperationBegan { attempt, token, operation, effect, request, call_id };
            record.put(Fact::OperationBegan(Box::new(began))).await?;
        }
        let call = Invoke {
            idempotency_key: asked.idempotency_key.unwrap_or_else(key),
            operation: asked.operation,
            input: asked.input,
            dry_run: asked.dry_run,
            call_id,
            origin: Origin { namespace: facts.namespace, step: Some((run, step)), agent: Some(agent) },
            timeout: asked.timeout,
        };
        match plugins.invoke(call).await {
            Ok(invocation) => Ok(Box::new(Recorded { record, invocation: Some(invocation) })),
            Err(error) => Err(record.not_done(error).await),
        }
    }

    /// The agent that calls. What a plan calls is called by the agent that made it: otherwise a plan could do what its author may not.
    async fn caller(&self, facts: &TaskFacts) -> Result<Arc<str>, Error> {
        let Some((run, step)) = facts.planned_by.as_ref().filter(|_| &*facts.agent == CALL) else {
            return Ok(facts.agent.clone());
        };
        let loaded = Loader::of(self).load(*run).await.map_err(|e| store_error(&e))?;
        let planner = loaded.and_then(|loaded| {
            let step = loaded.run.definition().steps.iter().find(|of| of.id == step.id)?;
            step.action.target().cloned()
        });
        planner.ok_or_else(|| Error::internal(format!("run {run} has no agent that made a plan in step `{step}`")))
    }

    /// What is on record of a request. Equal requests get their outcomes in the order in which they were called.
    async fn known(&self, lease: &LeaseRef, facts: &TaskFacts, request: Digest) -> Result<Known, Error> {
        self.read_operations(lease, facts).await?;
        let mut leases = self.operated();
        let Some(found) = leases.get_mut(&lease.token) else { return Ok(Known::Nothing) };
        let place = found.called.iter().position(|call| call.request == request);
        if let Some(called) = place.and_then(|place| found.called.remove(place)) {
            return Ok(Known::Outcome(called));
        }
        let before = found.unknown.len();
        // Whoever calls again has been told.
        found.unknown.retain(|call| call.request != request);
        Ok(if found.unknown.len() < before { Known::Begun } else { Known::Nothing })
    }

    /// How many writes of this kind the step has begun whose outcome is not known.
    pub(super) async fn unknown_of(&self, lease: &LeaseRef, asked: &OperationAsked) -> Result<usize, Error> {
        let facts = self.ask(|reply| Ask::Task { lease: lease.clone(), reply }).await??;
        self.read_operations(lease, &facts).await?;
        let request = request_digest(&asked.operation, &asked.input, asked.dry_run);
        let leases = self.operated();
        let found = leases.get(&lease.token).map(|found| found.unknown.iter().filter(|call| call.request == request));
        Ok(found.map_or(0, Iterator::count))
    }

    /// Reads what a lease finds on record, once.
    async fn read_operations(&self, lease: &LeaseRef, facts: &TaskFacts) -> Result<(), Error> {
        if self.operated().contains_key(&lease.token) {
            return Ok(());
        }
        let replay = facts.replay_of;
        // The usual case, a first call of a first lease, reads nothing.
        let nothing = replay.is_none() && facts.calls == 0 && lease.attempt == 1;
        let found = if nothing { Found::default() } else { self.operations_of(lease, replay).await? };
        let mut leases = self.operated();
        while leases.len() >= LEASES {
            leases.pop_first();
        }
        leases.entry(lease.token).or_insert(found);
        Ok(())
    }

    fn operated(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Found>> {
        self.inner.calls.operated.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the history of a run, or of the one that it replays, has for a step.
    async fn operations_of(&self, lease: &LeaseRef, replay: Option<RunId>) -> Result<Found, Error> {
        let (mut called, mut began) = (Vec::new(), Vec::new());
        let mine = |step: &Option<StepKey>| step.as_ref() == Some(&lease.step);
        let mut after = 0;
        let run = replay.unwrap_or(lease.run);
        loop {
            let records = self.inner.store.records_after(run, after, PAGE).await.map_err(|e| store_error(&e))?;
            let Some(last) = records.last() else { break };
            after = last.last_sequence();
            for record in &records {
                let entries = record.entries().map_err(|e| store_error(&StoreError::Corrupt(e.to_string())))?;
                for entry in entries {
                    match entry.fact {
                        Fact::OperationCalled(call) if mine(&entry.step) => called.push(call),
                        Fact::OperationBegan(call) if mine(&entry.step) => began.push(call),
                        _ => {}
                    }
                }
            }
        }
        let over: HashSet<_> = called.iter().map(|call| call.call_id).collect();
        // A replay follows the attempt that came to an end; a task that is handed out again, its own.
        let attempt = match replay {
            Some(_) => called.iter().map(|call| call.attempt).max().unwrap_or(0),
            None => lease.attempt,
        };
        let of_attempt =
            |call: &OperationCalled| call.attempt == attempt && (replay.is_some() || call.token != lease.token);
        let unknown =
            |call: &OperationBegan| replay.is_none() && !over.contains(&call.call_id) && call.token != lease.token;
        Ok(Found {
            called: called.into_iter().filter(|call| of_attempt(call)).map(Arc::from).collect(),
            unknown: began.into_iter().filter(|call| unknown(call)).map(Arc::from).collect(),
        })
    }
}

enum Known {
    Outcome(Arc<OperationCalled>),
    Begun,
    Nothing,
}

fn hex_of(digest: Digest) -> String {
    digest.to_string().chars().take(16).collect()
}

fn outcome(called: &OperationCalled) -> Outcome {
    Outcome {
        result: match (&called.output, &called.error) {
            (_, Some(failure)) => Err(failure.clone()),
            (output, None) => Ok(output.clone().unwrap_or_else(|| Data::of(&serde_json::Value::Null))),
        },
        would: called.would.clone(),
        actions: called.actions.clone(),
        took: Duration::from_millis(called.took_ms),
        version: called.version.clone(),
    }
}

/// The outcome of a call that was made before.
struct Again(Option<Outcome>);

#[async_trait::async_trait]
impl Invocation for Again {
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>> {
        self.0.take().map(|outcome| Ok(InvokeNews::Done(outcome)))
    }
}

/// What a call's record needs.
struct Recording {
    engine: Engine,
    namespace: Arc<str>,
    lease: LeaseRef,
    /// Taken when the outcome is known.
    called: Option<Box<OperationCalled>>,
}

impl Recording {
    async fn put(&self, fact: Fact) -> Result<(), Error> {
        let LeaseRef { run, step, attempt, token } = self.lease.clone();
        let command = Command::RecordOperation { step, attempt, token, fact: Box::new(fact) };
        self.engine.change(&self.namespace, run, command, None).await.map(drop)
    }

    async fn done(&mut self, outcome: &Outcome) -> Result<(), Error> {
        let Some(mut called) = self.called.take() else { return Ok(()) };
        called.version = outcome.version.clone();
        match &outcome.result {
            Ok(output) => called.output = Some(output.clone()),
            Err(failure) => called.error = Some(failure.clone()),
        }
        called.would.clone_from(&outcome.would);
        called.actions.clone_from(&outcome.actions);
        called.took_ms = outcome.took.as_millis() as u64;
        self.put(Fact::OperationCalled(called)).await
    }

    /// A write that did not reach its plugin is known not to be done.
    async fn not_done(mut self, error: Error) -> Error {
        let begun = self.called.take().filter(|called| called.effect == Effect::Write);
        if let Some(mut called) = begun.filter(|_| error.reason != "OUTCOME_UNKNOWN") {
            let failure = consort_core::event::Failure::new(super::worker::code(error.kind), error.message.clone());
            called.error = Some(failure);
            if let Err(lost) = self.put(Fact::OperationCalled(called)).await {
                return lost;
            }
        }
        error
    }
}

struct Recorded {
    record: Recording,
    invocation: Option<Box<dyn Invocation>>,
}

#[async_trait::async_trait]
impl Invocation for Recorded {
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>> {
        match self.invocation.as_mut()?.next().await? {
            Ok(InvokeNews::Done(outcome)) => {
                self.invocation = None;
                Some(self.record.done(&outcome).await.map(|()| InvokeNews::Done(outcome)))
            }
            Ok(news) => Some(Ok(news)),
            Err(error) => {
                self.invocation = None;
                let engine = self.record.engine.clone();
                let (namespace, lease) = (self.record.namespace.clone(), self.record.lease.clone());
                let record = Recording { engine, namespace, lease, called: self.record.called.take() };
                Some(Err(record.not_done(error).await))
            }
        }
    }
}
