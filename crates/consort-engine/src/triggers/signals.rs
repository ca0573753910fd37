//! Signals to the mesh: from what was detected to the runs that act on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use consort_core::Error;
use consort_core::data::Data;
use consort_core::event::{Cause, ProjectRef, Published, RunStarted, Trigger};
use consort_core::ids::RunId;
use consort_core::ports::{ProjectState, SignalRow};
use consort_core::run::{ORCHESTRATOR, project_name};
use consort_core::signal::{Impact, Route, Signal, Urgency};
use consort_core::workflow::{Local, Workflow};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::events::payload_of;
use super::fire::{Fired, MAX_CHAIN, start};
use crate::Engine;
use crate::environment::beside;
use crate::ledger::Act;

/// The type of the event that raises a signal.
pub(crate) const DETECTED: &str = "SIGNAL.DETECTED";
/// The type of the event that says where a signal went, which the runs that act on it follow from.
const ROUTED: &str = "SIGNAL.ROUTED";
/// Callers that may wait for their signals.
const MAX_WAITING: usize = 10_000;

/// What an agent gets that no workflow stands before.
const FOR_AGENT: &str = r#"{"name":"signal","inputs":{"signal":{"type":"object"}},"steps":[{"id":"act","agent":"AGENT","with":"${{ inputs.signal }}"}]}"#;
/// What a person is asked.
const FOR_PERSON: &str = r#"{"name":"signal","inputs":{"signal":{"type":"object"}},"steps":[{"id":"act","decide":{"title":"${{ inputs.signal.title }}","description":"${{ inputs.signal.description }}","options":["done","dismiss"]}}]}"#;

/// Callers that wait until their signals are routed.
#[derive(Default)]
pub(crate) struct Waiting {
    callers: Mutex<BTreeMap<Uuid, oneshot::Sender<SignalRow>>>,
}

impl Waiting {
    /// Is told when the signal is routed; an old caller of the same signal is let go.
    pub(crate) fn wait(&self, signal: Uuid) -> oneshot::Receiver<SignalRow> {
        let (sender, receiver) = oneshot::channel();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_WAITING {
            callers.retain(|_, caller| !caller.is_closed());
        }
        callers.insert(signal, sender);
        receiver
    }

    pub(crate) fn tell(&self, row: SignalRow) {
        let caller = self.callers.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
        if let Some(caller) = caller {
            let _ = caller.send(row);
        }
    }
}

/// Classifies a signal, chooses its route, and adds what follows to an act.
pub(super) async fn route(engine: &Engine, event: &Published, act: &mut Act) -> Result<(), Error> {
    let payload = payload_of(engine, event).await?;
    let Some((id, signal, project)) = read(&payload) else {
        tracing::error!(event = %event.event_id, "a signal cannot be read; it is passed over");
        return Ok(());
    };
    let store = &engine.inner.store;
    if store.signal(id).await.map_err(|e| crate::store_error(&e))?.is_some() {
        return Ok(());
    }
    let of = match &project {
        Some(project) => store.project(&event.namespace, project).await.map_err(|e| crate::store_error(&e))?,
        None => None,
    };
    // What a closed project is told is acted on outside of it.
    let of = of.filter(|row| row.state == ProjectState::Active).map(|row| ProjectRef { id: row.id, uid: row.uid });
    let routed = Routed { engine, event, id, signal, project, of };
    let (route, targets, starts) = routed.targets().await?;
    let runs: Vec<RunId> = starts.iter().map(|(run, _, _)| *run).collect();
    act.starts.extend(starts);
    act.events.extend(routed.events(route, &targets, &runs));
    let Routed { id, signal, project, .. } = routed;
    act.signals.push(SignalRow {
        id,
        namespace: event.namespace.clone(),
        project,
        signal,
        route,
        runs,
        created_at: event.timestamp,
    });
    Ok(())
}

/// The id, the signal and the project that an event tells of.
fn read(payload: &Value) -> Option<(Uuid, Signal, Option<Arc<str>>)> {
    let text = |key: &str| payload.get(key).and_then(Value::as_str);
    let last = |name: &str| name.rsplit('/').next().map(str::to_owned);
    let id = Uuid::parse_str(&last(text("signal")?)?).ok()?;
    let kind = text("type")?.to_owned();
    let urgency = text("urgency").and_then(|name| Urgency::ALL.into_iter().find(|u| u.name() == name));
    let impact = text("impact").and_then(|name| Impact::ALL.into_iter().find(|i| i.name() == name));
    let signal = Signal {
        urgency: urgency.unwrap_or_else(|| Urgency::of(&kind)),
        impact: impact.unwrap_or_else(|| Impact::of(&kind)),
        title: text("title")?.to_owned(),
        description: text("description").unwrap_or_default().to_owned(),
        payload: Data::of(payload.get("payload").unwrap_or(&json!({}))),
        source: text("source").unwrap_or_default().to_owned(),
        agent: text("agent").map(Arc::from),
        kind,
    };
    Some((id, signal, text("project").and_then(last).map(Arc::from)))
}

struct Routed<'a> {
    engine: &'a Engine,
    event: &'a Published,
    id: Uuid,
    signal: Signal,
    project: Option<Arc<str>>,
    of: Option<ProjectRef>,
}

type Start = (RunId, RunStarted, Arc<Workflow>);

impl Routed<'_> {
    /// Where the signal goes: to workflows, or else to its agent, or else to a person.
    async fn targets(&self) -> Result<(Route, Vec<String>, Vec<Start>), Error> {
        let view = self.view();
        let depth = self.event.depth + 1;
        let matching = self.engine.inner.registry.of(&self.event.namespace);
        let (signal, of, trigger) = (self.signal.clone(), self.of.clone(), self.trigger());
        let (seen, routed) = (view.clone(), Some(self.event_id(ROUTED)));
        let environment = Arc::clone(self.engine.environment());
        // Expressions may take a while: not on a thread that others need.
        let evaluated = beside(self.engine.environment(), move || {
            let fired = Fired::new(Local::Signal, &seen);
            let mut starts: Vec<Start> = Vec::new();
            for triggered in &matching {
                let wanting = triggered.definition.triggers.signals.iter().filter(|t| t.wants(&signal));
                for wanted in wanting.take(if depth > MAX_CHAIN { 0 } else { usize::MAX }) {
                    let inputs = match fired.holds(wanted.condition.as_ref()) {
                        Ok(false) => continue,
                        Ok(true) => fired.inputs(&wanted.inputs, &triggered.definition),
                        Err(why) => Err(why),
                    };
                    match inputs {
                        Ok(inputs) => {
                            let id = RunId(environment.new_id());
                            starts.push(start(id, triggered, inputs, trigger.clone(), depth, of.clone(), routed));
                        }
                        Err(why) => {
                            let workflow = &triggered.workflow;
                            tracing::warn!(%workflow, why, "a signal that matches a trigger starts nothing");
                        }
                    }
                }
            }
            starts
        });
        let starts = evaluated.await.map_err(|_| Error::internal("the triggers of a signal could not be evaluated"))?;
        if !starts.is_empty() {
            let targets = starts.iter().map(|(_, started, _)| started.workflow.to_string()).collect();
            return Ok((Route::Workflow, targets, starts));
        }
        let (route, source, targets) = match &self.signal.agent {
            Some(agent) => (Route::Agent, FOR_AGENT.replace("AGENT", agent), vec![agent.to_string()]),
            None => (Route::Person, FOR_PERSON.to_owned(), Vec::new()),
        };
        Ok((route, targets, vec![self.run_of(&source, &view, depth)?]))
    }

    /// A run that no workflow describes.
    fn run_of(&self, source: &str, view: &Value, depth: u32) -> Result<Start, Error> {
        let definition = Workflow::parse(source).map_err(|mistakes| {
            let first = mistakes.first().map(|m| m.message.clone()).unwrap_or_default();
            Error::internal(format!("the run of a signal has a mistake: {first}"))
        })?;
        let started = RunStarted {
            project: self.of.clone(),
            cause: Some(Cause { trigger: self.trigger(), depth, event: Some(self.event_id(ROUTED)) }),
            plan: Some(Data::of(&source.into())),
            ..RunStarted::new(
                self.event.namespace.clone(),
                definition.name.clone(),
                0,
                Data::of(&json!({"signal": view})),
            )
        };
        Ok((RunId(self.engine.environment().new_id()), started, Arc::new(definition)))
    }

    /// The id of the event of this type about this signal.
    fn event_id(&self, event_type: &str) -> Uuid {
        Uuid::new_v5(&self.event.event_id, event_type.as_bytes())
    }

    fn trigger(&self) -> Trigger {
        Trigger::Signal { signal: self.id }
    }

    fn name(&self) -> String {
        format!("namespaces/{}/signals/{}", self.event.namespace, self.id)
    }

    /// The signal as expressions and agents see it.
    fn view(&self) -> Value {
        let Signal { kind, urgency, impact, title, description, payload, source, .. } = &self.signal;
        let payload = match payload {
            Data::Inline(json) => json.value(),
            Data::Blob(_) => Value::Null,
        };
        json!({
            "id": self.id.to_string(),
            "type": kind,
            "urgency": urgency.name(),
            "impact": impact.name(),
            "title": title,
            "description": description,
            "source": source,
            "project": self.project.as_deref(),
            "payload": payload,
        })
    }

    /// What is on record of the pipeline: each event names the one before as its cause.
    fn events(&self, route: Route, targets: &[String], runs: &[RunId]) -> Vec<Published> {
        let name = self.name();
        let run_name = |run: &RunId| format!("namespaces/{}/runs/{run}", self.event.namespace);
        let runs: Vec<String> = runs.iter().map(run_name).collect();
        let Signal { kind, urgency, impact, .. } = &self.signal;
        let steps = [
            (
                "SIGNAL.CLASSIFIED",
                json!({"signal": name, "type": kind, "urgency": urgency.name(), "impact": impact.name()}),
            ),
            (ROUTED, json!({"signal": name, "route": route.name(), "targets": targets})),
            ("SIGNAL.ACTED", json!({"signal": name, "runs": runs})),
        ];
        let mut cause = self.event.event_id;
        let at = self.engine.now();
        let event = |(event_type, payload): (&str, Value)| {
            let event_id = self.event_id(event_type);
            let causation_id = Some(std::mem::replace(&mut cause, event_id));
            Published {
                event_id,
                event_type: event_type.to_owned(),
                event_version: 1,
                timestamp: at,
                source: ORCHESTRATOR.to_owned(),
                instance: self.engine.inner.options.instance.clone(),
                correlation_id: self.event.correlation_id,
                causation_id,
                namespace: self.event.namespace.clone(),
                subject: name.clone(),
                payload: Data::of(&payload),
                depth: self.event.depth,
            }
        };
        steps.into_iter().map(event).collect()
    }
}

/// The payload of [`DETECTED`].
pub(crate) fn detected(namespace: &Arc<str>, id: Uuid, project: Option<&str>, signal: &Signal) -> Value {
    let payload = match &signal.payload {
        Data::Inline(json) => json.value(),
        Data::Blob(_) => Value::Null,
    };
    let mut said = json!({
        "signal": format!("namespaces/{namespace}/signals/{id}"),
        "type": signal.kind,
        "urgency": signal.urgency.name(),
        "impact": signal.impact.name(),
        "title": signal.title,
        "source": signal.source,
        "payload": payload,
    });
    if !signal.description.is_empty() {
        said["description"] = signal.description.clone().into();
    }
    if let Some(project) = project {
        said["project"] = project_name(namespace, project).into();
    }
    if let Some(agent) = &signal.agent {
        said["agent"] = (&**agent).into();
    }
    said
}
