//! Answers of workers: results, plans, questions and failures. A large result is held against its step's schema beside the ledger.

use std::sync::Arc;

use consort_core::data::BlobRef;
use consort_core::event::{Code, Failure};
use consort_core::ids::{RunId, StepKey};
use consort_core::run::{ChildOutcome, Command, mismatch};
use consort_core::workflow::Workflow;
use consort_core::{Data, Error};

use super::Ledger;
use super::messages::{AckDue, Message, To};
use crate::environment::beside;
use crate::loader::Loader;
use crate::types::{Answer, Done, TaskFailure};

impl Ledger {
    pub(super) fn answer(&mut self, answer: Answer, namespace: Option<Arc<str>>, to: To) {
        let run = answer.lease.run;
        self.on_run(run, Message::Answer { answer, namespace, to }, |ledger, message| {
            let Message::Answer { answer, namespace, to } = message else { return };
            if let (Some(named), Some(hot)) = (&namespace, ledger.hot.get(&answer.lease.run))
                && named != hot.run.namespace()
            {
                let outcome = Err(Error::not_found("run", answer.lease.run));
                ledger.acks.push(AckDue { to, outcome, lease: answer.lease });
                return;
            }
            if let Ok(Done::Output(Data::Blob(blob))) = &answer.result
                && let Some(definition) = ledger.schema_of(answer.lease.run, &answer.lease.step)
            {
                let blob = blob.clone();
                ledger.verify(answer, namespace, to, blob, definition);
                return;
            }
            ledger.decide_answer(answer, namespace, to);
        });
    }

    fn decide_answer(&mut self, answer: Answer, namespace: Option<Arc<str>>, to: To) {
        let Answer { lease, result } = answer;
        if let To::Worker(worker) = to {
            let answer = Answer { lease: lease.clone(), result: result.clone() };
            self.redo.push(Message::Answer { answer, namespace, to: To::Worker(worker) });
        }
        let (step, token) = (lease.step.clone(), lease.token);
        let command = match result {
            Ok(Done::Output(output) | Done::Verified(output)) => Command::Complete { step, token, output },
            Ok(Done::Plan { source, plan }) => Command::Plan { step, token, source, plan },
            Ok(Done::Asked(question)) => Command::Ask { step, token, question },
            Ok(Done::PlanText(_)) => {
                let error = Failure::new(Code::Internal, "the plan was not read");
                Command::Fail { step, token, error, retryable: false, retry_after: None }
            }
            Err(f) => {
                Command::Fail { step, token, error: f.failure, retryable: f.retryable, retry_after: f.retry_after }
            }
        };
        let outcome = self.decide(lease.run, command, Some(token));
        self.acks.push(AckDue { to, lease, outcome });
    }

    /// The definition of a live run whose step has an output schema.
    fn schema_of(&self, run: RunId, step: &StepKey) -> Option<Arc<Workflow>> {
        let run = &self.hot.get(&run)?.run;
        run.output_schema(step)?;
        Some(Arc::clone(run.definition()))
    }

    /// Holds a large result against its step's schema, and answers then.
    fn verify(
        &mut self,
        answer: Answer,
        namespace: Option<Arc<str>>,
        to: To,
        blob: BlobRef,
        definition: Arc<Workflow>,
    ) {
        let (loader, own, loads) = (self.loader.clone(), self.own.clone(), Arc::clone(&self.loads));
        tokio::spawn(async move {
            let _permit = loads.acquire().await;
            let Answer { lease, .. } = answer;
            let result = match check(&loader, definition, &lease.step, &blob).await {
                Ok(None) => Ok(Done::Verified(Data::Blob(blob))),
                Ok(Some(failure)) => Err(TaskFailure { failure, retryable: true, retry_after: None }),
                Err(error) => {
                    tracing::warn!(run = %lease.run, %error, "a large answer could not be read; trying again");
                    tokio::time::sleep(super::COMMIT_RETRY).await;
                    Ok(Done::Output(Data::Blob(blob)))
                }
            };
            let _ = own.send(Message::Answer { answer: Answer { lease, result }, namespace, to });
        });
    }

    /// A command as it is, unless it brings a large output that must be held against a schema first.
    pub(super) fn verified(&mut self, run: RunId, command: Command) -> Option<Command> {
        let Command::ChildOver { step, child, outcome: ChildOutcome::Succeeded(Data::Blob(blob)) } = command else {
            return Some(command);
        };
        let Some(definition) = self.schema_of(run, &step) else {
            let outcome = ChildOutcome::Succeeded(Data::Blob(blob));
            return Some(Command::ChildOver { step, child, outcome });
        };
        let (loader, own, loads) = (self.loader.clone(), self.own.clone(), Arc::clone(&self.loads));
        tokio::spawn(async move {
            let _permit = loads.acquire().await;
            let message = match check(&loader, definition, &step, &blob).await {
                Ok(wrong) => {
                    let outcome = wrong.map_or(ChildOutcome::Succeeded(Data::Blob(blob)), ChildOutcome::Failed);
                    Message::Verified(run, Command::ChildOver { step, child, outcome })
                }
                Err(error) => {
                    tracing::warn!(%run, %error, "a large output could not be read; trying again");
                    tokio::time::sleep(super::COMMIT_RETRY).await;
                    let outcome = ChildOutcome::Succeeded(Data::Blob(blob));
                    Message::Do(run, Command::ChildOver { step, child, outcome })
                }
            };
            let _ = own.send(message);
        });
        None
    }
}

/// What is wrong with a blob as a step's output.
async fn check(
    loader: &Loader,
    definition: Arc<Workflow>,
    step: &StepKey,
    blob: &BlobRef,
) -> Result<Option<Failure>, consort_core::ports::StoreError> {
    let json = match loader.text(blob).await? {
        Ok(json) => json,
        Err(why) => return Ok(Some(Failure::new(Code::Internal, format!("the answer's blob {}: {why}", blob.sha256)))),
    };
    let step = definition.index.get(&step.id).copied();
    let checked = beside(&loader.environment, move || {
        let schema = step.and_then(|step| definition.steps[step].output.as_ref());
        schema.and_then(|schema| mismatch(schema, &json.value()))
    });
    Ok(checked.await.unwrap_or_else(|_| Some(Failure::new(Code::Internal, "the answer could not be checked"))))
}
