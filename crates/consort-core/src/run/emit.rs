//! What leaves a run: its own events, the events and signals of `emit` steps, and what its project is told.

use std::sync::Arc;

use serde_json::{Value, json};

use super::scope::RunScope;
use super::state::{Place, Run};
use super::{Context, Transition};
use crate::contract;
use crate::data::Data;
use crate::error::{Error, Kind};
use crate::event::{Code, Entry, Fact, Failure, Published};
use crate::ids::StepKey;
use crate::workflow::{Action, Emit, EvalError};

/// The kind of component that says what a run's steps publish.
const WORKFLOW: &str = "workflow";
/// The kind of component that says what the mesh itself publishes.
pub const ORCHESTRATOR: &str = "orchestrator";

impl Run {
    /// Applies a fact and puts it on record; large values become blobs on the way.
    pub(super) fn emit(
        &mut self,
        step: Option<StepKey>,
        fact: Fact,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<(), Error> {
        let mut entry = Entry { step, fact };
        spill(&mut entry.fact, t);
        self.apply(&entry, cx.now).map_err(|e| Error::new(Kind::Internal, "ILLEGAL_TRANSITION", e.to_string()))?;
        if self.s.project.is_some()
            && let Some(step) = &entry.step
        {
            self.tell_project(step, &entry.fact, cx, t);
        }
        t.entries.push(entry);
        Ok(())
    }

    /// Performs an `emit` step.
    pub(super) fn emit_event(
        &mut self,
        place: Place,
        emit: &Emit,
        item: super::scope::Round,
        cx: &Context<'_>,
        t: &mut Transition,
    ) -> Result<Result<(), EvalError>, Error> {
        let scope = RunScope { run: self, round: item, clarified: None, blobs: cx.blobs };
        let said = match said(emit, &scope) {
            Ok(said) => said,
            Err(error) => return Ok(Err(error)),
        };
        let key = self.key(place);
        let sequence = self.s.sequence + 1;
        let event_id = self.id.emitted(sequence);
        let (event_type, event_version, subject, payload, output) = match said {
            Said::Event { event_type, version, subject, payload } => {
                let output = json!({"event_id": event_id.to_string()});
                (event_type, version, subject, payload, output)
            }
            Said::Signal { mut payload } => {
                let name = format!("namespaces/{}/signals/{}", self.s.namespace, self.id.signal(sequence));
                payload["signal"] = name.clone().into();
                if let Some(project) = &self.s.project {
                    payload["project"] = project_name(&self.s.namespace, &project.id).into();
                }
                ("SIGNAL.DETECTED".to_owned(), 1, Some(name.clone()), payload, json!({"signal": name}))
            }
        };
        let violations = contract::check(&event_type, event_version, &payload).err();
        let event = Published {
            event_id,
            event_type,
            event_version,
            timestamp: cx.now,
            source: WORKFLOW.to_owned(),
            instance: self.s.workflow.to_string(),
            correlation_id: self.root().0,
            causation_id: Some(self.id.event(sequence)),
            namespace: self.s.namespace.clone(),
            subject: subject.unwrap_or_else(|| self.name()),
            payload: Data::of(&payload),
            depth: self.depth(),
        };
        if let Some(violations) = violations {
            let error = Error::bad_fields(violations);
            let text = format!("the event breaks the contract of its type: {}", error.message);
            t.refused.push((Published { causation_id: Some(self.id.event(sequence - 1)), ..event }, text.clone()));
            self.fail_step(place, None, Failure::new(Code::InvalidArgument, text), cx, t)?;
            return Ok(Ok(()));
        }
        let fact = Fact::EventEmitted { event_id, event_type: event.event_type.clone() };
        self.emit(Some(key.clone()), fact, cx, t)?;
        publish(event, t);
        let fact = Fact::StepSucceeded { token: None, attempt: 0, output: Data::of(&output) };
        self.emit(Some(key), fact, cx, t)?;
        Ok(Ok(()))
    }

    /// How many triggered runs led to this one.
    pub fn depth(&self) -> u32 {
        self.s.cause.as_ref().map_or(0, |cause| cause.depth)
    }

    fn name(&self) -> String {
        format!("namespaces/{}/runs/{}", self.s.namespace, self.id)
    }

    /// The steps of a project's runs are its work items: what becomes of them is published beside the run's own events.
    fn tell_project(&self, step: &StepKey, fact: &Fact, cx: &Context<'_>, t: &mut Transition) {
        let Some(project) = &self.s.project else { return };
        let Some(place) = self.place(step) else { return };
        let worker = match &self.step(place).action {
            Action::Agent { agent, .. } => Some(agent),
            _ => None,
        };
        let (event_type, mut payload) = match (fact, worker) {
            (Fact::StepScheduled { agent, attempt, .. }, _) => {
                ("WORK.ITEM_DISPATCHED", json!({"agent": &**agent, "attempt": attempt}))
            }
            (Fact::StepLeased { attempt, worker, .. }, Some(agent)) => {
                ("WORK.ITEM_STARTED", json!({"agent": &**agent, "attempt": attempt, "worker": &**worker}))
            }
            (Fact::StepSucceeded { attempt, .. }, Some(_)) => ("WORK.ITEM_COMPLETED", json!({"attempt": attempt})),
            (Fact::StepRetryScheduled { attempt, error, .. }, Some(_)) => {
                ("WORK.ITEM_FAILED", failed(*attempt, error, true))
            }
            (Fact::StepFailed { attempt, error, .. }, Some(_)) => ("WORK.ITEM_FAILED", failed(*attempt, error, false)),
            (Fact::DecisionRequested(asked), _) => (
                "QUESTION.CREATED",
                json!({"question": self.question_name(asked.decision), "title": asked.title, "options": asked.options, "kind": "choice"}),
            ),
            (Fact::ClarificationRequested { question, .. }, _) => {
                let name = self.question_name(question.decision);
                self.tell(
                    "CLARIFICATION.NEEDED",
                    project,
                    step,
                    json!({"question": name, "title": question.title}),
                    cx,
                    t,
                );
                (
                    "QUESTION.CREATED",
                    json!({"question": name, "title": question.title, "options": question.options, "kind": "clarification"}),
                )
            }
            (
                Fact::DecisionAnswered { decision, option, by, .. }
                | Fact::ClarificationAnswered { decision, option, by, .. },
                _,
            ) => (
                "QUESTION.ANSWER_RECORDED",
                json!({"question": self.question_name(*decision), "option": option, "answered_by": by}),
            ),
            _ => return,
        };
        let payload = std::mem::take(&mut payload);
        self.tell(event_type, project, step, payload, cx, t);
    }

    fn question_name(&self, decision: uuid::Uuid) -> String {
        format!("namespaces/{}/decisions/{decision}", self.s.namespace)
    }

    fn tell(
        &self,
        event_type: &str,
        project: &crate::event::ProjectRef,
        step: &StepKey,
        mut payload: Value,
        cx: &Context<'_>,
        t: &mut Transition,
    ) {
        let cause = self.id.event(self.s.sequence);
        payload["project"] = project_name(&self.s.namespace, &project.id).into();
        payload["run"] = self.name().into();
        payload["step"] = step.to_string().into();
        let work_item = format!("{}/steps/{step}", self.name());
        if !event_type.starts_with("QUESTION.") {
            payload["work_item"] = work_item.clone().into();
        }
        let event = Published {
            event_id: uuid::Uuid::new_v5(&cause, event_type.as_bytes()),
            event_type: event_type.to_owned(),
            event_version: 1,
            timestamp: cx.now,
            source: ORCHESTRATOR.to_owned(),
            instance: self.s.workflow.to_string(),
            correlation_id: project.uid,
            causation_id: Some(cause),
            namespace: self.s.namespace.clone(),
            subject: work_item,
            payload: Data::of(&payload),
            depth: self.depth(),
        };
        publish(event, t);
    }
}

/// `namespaces/{namespace}/projects/{id}`.
pub fn project_name(namespace: &Arc<str>, id: &str) -> String {
    format!("namespaces/{namespace}/projects/{id}")
}

fn failed(attempt: u32, error: &Failure, will_retry: bool) -> Value {
    let code = Code::name_of(error.code);
    json!({"attempt": attempt, "code": code, "message": error.message, "will_retry": will_retry})
}

/// What an `emit` step says, evaluated.
enum Said {
    Event { event_type: String, version: u32, subject: Option<String>, payload: Value },
    Signal { payload: Value },
}

fn said(emit: &Emit, scope: &RunScope<'_>) -> Result<Said, EvalError> {
    let object = |template| match scope.value(template)? {
        Value::Object(map) => Ok(Value::Object(map)),
        other => {
            let found = super::scope::brief(&other.to_string());
            Err(EvalError::Failed(format!("`payload` must give an object, but gave {found}")))
        }
    };
    match emit {
        Emit::Event { event_type, version, subject, payload } => Ok(Said::Event {
            event_type: event_type.clone(),
            version: *version,
            subject: subject.as_ref().map(|subject| scope.string(subject)).transpose()?,
            payload: object(payload)?,
        }),
        Emit::Signal { kind, urgency, impact, title, description, payload, agent } => {
            let mut said = json!({
                "type": kind,
                "urgency": urgency.name(),
                "impact": impact.name(),
                "title": scope.string(title)?,
                "payload": object(payload)?,
                "source": format!("workflows/{}", scope.run.s.workflow),
            });
            if let Some(description) = description {
                said["description"] = scope.string(description)?.into();
            }
            if let Some(agent) = agent {
                said["agent"] = (&**agent).into();
            }
            Ok(Said::Signal { payload: said })
        }
    }
}

/// Adds an event to the commit; a large payload becomes a blob.
fn publish(mut event: Published, t: &mut Transition) {
    if let Some((reference, blob, text)) = event.payload.spill() {
        event.payload = reference;
        t.blobs.push((blob, text));
    }
    t.published.push(event);
}

pub(super) fn spill(fact: &mut Fact, t: &mut Transition) {
    for data in fact.data_mut() {
        if let Some((reference, blob, text)) = data.spill() {
            *data = reference;
            t.blobs.push((blob, text));
        }
    }
}
