//! Calls of models and operations on behalf of tasks: they become part of the run's history, are made once, and models draw on the run's
//! budget.
//!
//! A call goes: which task is it for ([`facts`])? Is its answer on record ([`recorded`])? Does the budget reach ([`accounts`])? Then the
//! router is asked, and what the model says is passed on, shown to those who watch ([`live`]) and, before its end is passed on, put on
//! record ([`recording`]). Operations of plugins go the same way
//! without a budget ([`operations`]). `infer` and `call` steps are tasks of a worker that lives in this room ([`worker`]).

mod accounts;
mod infer;
mod live;
mod operate;
mod operations;
mod recorded;
mod recording;
mod worker;

use std::sync::{Arc, OnceLock};

use consort_core::model::{Asked, Caller, GenerateRequest, Generation, Message, Models, Part, RecordedCall, Reply};
use consort_core::plugin::Plugins;
use consort_core::{Error, Kind};

use crate::Engine;
use crate::ledger::Message as Ask;
use crate::types::LeaseRef;

pub use live::{Follow, LiveCall};
pub use operations::OperationAsked;

/// The room's state.
#[derive(Default)]
pub(crate) struct Calls {
    models: OnceLock<Arc<dyn Models>>,
    live: live::LiveCalls,
    accounts: accounts::Accounts,
    recorded: recorded::Recorded,
    plugins: OnceLock<Arc<dyn Plugins>>,
    operated: operations::Operated,
}

impl Engine {
    /// Gives the engine the router of models. Without one, calls are refused and `infer` steps wait.
    pub fn use_models(&self, models: Arc<dyn Models>) {
        let _ = self.inner.calls.models.set(models);
    }

    /// The router of models.
    pub fn models(&self) -> Result<&Arc<dyn Models>, Error> {
        self.inner.calls.models.get().ok_or_else(|| {
            Error::new(
                Kind::FailedPrecondition,
                "NO_MODELS",
                "this server runs without models; start it without --no-models",
            )
        })
    }

    /// Calls a model on behalf of a task. The answer is on record before its end is given; an answer that is on record already is given
    /// again. LEASE_LOST if the task is not the caller's any more.
    pub async fn generate_for(
        &self,
        lease: LeaseRef,
        mut request: GenerateRequest,
        key: Option<Arc<str>>,
        request_id: Option<String>,
    ) -> Result<Box<dyn Generation>, Error> {
        match self.look_up(lease, &mut request, key, request_id).await? {
            Prepared::Recorded(found) => Ok(recording::again(found)),
            Prepared::Ask(asking) => {
                let generation = asking.models.generate(Arc::new(request), &asking.caller).await?;
                Ok(asking.stream(generation))
            }
        }
    }

    /// The same, and waits for the whole answer. One that breaks its schema is asked for again, as often as is configured.
    pub async fn complete_for(
        &self,
        lease: LeaseRef,
        mut request: GenerateRequest,
        key: Option<Arc<str>>,
        request_id: Option<String>,
    ) -> Result<Reply, Error> {
        match self.look_up(lease, &mut request, key, request_id).await? {
            Prepared::Recorded(found) => Ok(found.reply()),
            Prepared::Ask(mut asking) => {
                let reply = asking.models.complete(Arc::new(request), &asking.caller).await?;
                asking.record(reply.clone()).await?;
                Ok(reply)
            }
        }
    }

    async fn look_up(
        &self,
        lease: LeaseRef,
        request: &mut GenerateRequest,
        key: Option<Arc<str>>,
        request_id: Option<String>,
    ) -> Result<Prepared, Error> {
        let models = Arc::clone(self.models()?);
        request.check()?;
        let facts = self.ask(|reply| Ask::Task { lease: lease.clone(), reply }).await??;
        let asked = Asked { request_id, ..Asked::of(&redacted(request, &*models)) };
        if let Some(found) = self.recorded(&lease, &facts, &asked).await? {
            return Ok(Prepared::Recorded(found));
        }
        let (budget, accounts) = self.budget_of(&lease, &facts).await?;
        let caller = Caller {
            namespace: facts.namespace.clone(),
            agent: Some(facts.agent.clone()),
            run: Some(lease.run),
            root: accounts.last().copied(),
            step: Some(lease.step.clone()),
            key,
            budget,
        };
        if request.routing.task_type.is_empty() && !facts.agent.contains('@') {
            request.routing.task_type = facts.agent.to_string();
        }
        let (engine, asked) = (self.clone(), Some(Box::new(asked)));
        Ok(Prepared::Ask(Box::new(recording::Asking { engine, models, caller, lease, asked, accounts })))
    }

    /// Answers of models to steps of a run that are not whole yet.
    pub fn live_calls(&self, run: consort_core::RunId) -> live::Follow {
        self.inner.calls.live.follow(run)
    }
}

/// What becomes of a call.
enum Prepared {
    /// It was made before.
    Recorded(Arc<RecordedCall>),
    /// A model is to be asked.
    Ask(Box<recording::Asking>),
}

/// A request as it may be stored: what the configuration redacts is not in it.
fn redacted(request: &GenerateRequest, models: &dyn Models) -> GenerateRequest {
    let mut stored = request.clone();
    stored.messages.iter_mut().for_each(|message| redact(message, models));
    stored
}

fn redact(message: &mut Message, models: &dyn Models) {
    let mend = |text: &mut String| {
        if let Some(clean) = models.redact(text) {
            *text = clean;
        }
    };
    for part in &mut message.parts {
        match part {
            Part::Text { text } | Part::Reasoning { text, .. } => mend(text),
            Part::ToolCall(call) => mend(&mut call.arguments),
            Part::ToolResult { content, .. } => mend(content),
            Part::Image { .. } => {}
        }
    }
}
