//! The state of a run, and what can be read from it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::event::{Cause, DecisionRequested, Failure, Parent, ProjectRef};
use crate::ids::{Millis, RunId, StepKey};
use crate::model::Calls;
use crate::workflow::{Action, Step, Workflow};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RunState {
    /// Accepted; no step has begun.
    Pending = 1,
    /// At least one step is ready or in progress.
    Running = 2,
    /// Only waits remain.
    Waiting = 3,
    /// Nothing new begins until it is resumed.
    Paused = 4,
    /// Over, with an output.
    Succeeded = 5,
    /// Over, with an error.
    Failed = 6,
    /// Stopped.
    Cancelled = 7,
}

impl RunState {
    /// The state of this number, as stores keep it.
    pub fn from_number(number: u8) -> Option<RunState> {
        use RunState::{Cancelled, Failed, Paused, Pending, Running, Succeeded, Waiting};
        [Pending, Running, Waiting, Paused, Succeeded, Failed, Cancelled].into_iter().find(|s| *s as u8 == number)
    }

    /// Whether the run is over.
    pub fn is_over(self) -> bool {
        matches!(self, RunState::Succeeded | RunState::Failed | RunState::Cancelled)
    }

    /// Its name as people and gRPC know it.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Pending => "PENDING",
            RunState::Running => "RUNNING",
            RunState::Waiting => "WAITING",
            RunState::Paused => "PAUSED",
            RunState::Succeeded => "SUCCEEDED",
            RunState::Failed => "FAILED",
            RunState::Cancelled => "CANCELLED",
        }
    }
}

/// Where a step, or one item of a `for_each`, stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its needs are not over.
    #[default]
    Created,
    /// Waits for a worker.
    Ready,
    /// Waits for time, a person, a child run or its next attempt.
    Blocked,
    /// A worker has it.
    InProgress,
    /// Over, with an output.
    Done,
    /// Over, with an error.
    Failed,
    /// Stopped with its run.
    Cancelled,
    /// Will not be done.
    Skipped,
}

impl StepState {
    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, StepState::Done | StepState::Failed | StepState::Cancelled | StepState::Skipped)
    }

    /// Its name in expressions.
    pub fn name(self) -> &'static str {
        match self {
            StepState::Created => "created",
            StepState::Ready => "ready",
            StepState::Blocked => "blocked",
            StepState::InProgress => "in_progress",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Cancelled => "cancelled",
            StepState::Skipped => "skipped",
        }
    }

    /// Whether the table at the head of this module allows the change.
    pub fn may_become(self, next: StepState) -> bool {
        use StepState::{Blocked, Cancelled, Created, Done, Failed, InProgress, Ready, Skipped};
        match self {
            Created => matches!(next, Ready | Blocked | Failed | Skipped | Cancelled),
            Ready => matches!(next, InProgress | Blocked | Failed | Cancelled),
            Blocked => matches!(next, Ready | Failed | Cancelled),
            InProgress => matches!(next, Done | Failed | Blocked | Cancelled),
            Done | Failed | Cancelled | Skipped => false,
        }
    }
}

/// A step, or one item of a `for_each`: what it waits for and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Where it stands.
    pub state: StepState,
    /// Attempts begun in all its lives; names of attempts never repeat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Attempts begun in this life; the retry policy counts these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// What to work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Data>,
    /// What it yielded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Data>,
    /// Its last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The lease in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The last token whose answer was honoured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honoured: Option<u64>,
    /// When time moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Millis>,
    /// When it was first begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Millis>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Millis>,
    /// The question it waits on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<DecisionRequested>>,
    /// When its last question was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Millis>,
    /// The child run it waits on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// Leases of this attempt that ended with their workers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// Calls of models and operations that this attempt has on record.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls: u32,
    /// Reports kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reports: u32,
    /// When the step's time is up, with all its attempts and items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Millis>,
    /// The signal it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Questions asked in all its lives; ids of questions never repeat.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub questions: u32,
    /// What people answered to its questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clarified: Vec<Clarified>,
}

impl Unit {
    /// BLOCKED by nothing: it must begin, or go on, as soon as it can.
    pub(super) fn can_go_on(&self) -> bool {
        self.state == StepState::Blocked
            && self.timer.is_none()
            && self.asked.is_none()
            && self.child.is_none()
            && self.signal.is_none()
    }
}

/// An answered question about a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clarified {
    /// The question's id.
    pub decision: uuid::Uuid,
    /// The question.
    pub title: String,
    /// The chosen option.
    pub option: String,
    /// The filled form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Data>,
    /// Who answered.
    pub by: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Who has a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The worker.
    pub worker: Arc<str>,
    /// Its session.
    pub session: Arc<str>,
    /// The fencing token.
    pub token: u64,
}

/// A step with its items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StepRun {
    /// The step as a whole.
    pub unit: Unit,
    /// Its items, once its `for_each` was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
}

/// The items of a `for_each`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Items {
    pub list: Data,
    pub units: Vec<Unit>,
}

/// Everything that events have said. What can be computed from it stands in [`Derived`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub namespace: Arc<str>,
    pub workflow: Arc<str>,
    pub revision: u64,
    pub state: RunState,
    pub sequence: u64,
    pub inputs: Data,
    pub output: Option<Data>,
    pub error: Option<Failure>,
    pub parent: Option<Parent>,
    pub labels: BTreeMap<String, String>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub ended_at: Option<Millis>,
    pub deadline: Option<Millis>,
    pub paused: bool,
    pub steps: Vec<StepRun>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Data>,
    /// Signals that no step has taken yet, by name, the oldest first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, VecDeque<Data>>,
    /// The failure whose compensation runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<RunId>,
    /// Its model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Box<Calls>>,
}

/// A failure whose compensation runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Failing {
    /// The step that failed.
    pub step: StepKey,
    /// Its error, which will be the run's.
    pub error: Failure,
    /// The first step of the compensation.
    pub goto: Arc<str>,
}

/// Where a unit stands: number of the step, number of the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub step: usize,
    pub item: Option<u32>,
}

/// Computed from [`State`] and kept in step with it, so that no transition has to look at every step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Derived {
    /// Needs of each step that are not over.
    pub needs_left: Vec<usize>,
    /// Steps whose needs are over and that have not begun.
    pub runnable: BTreeSet<usize>,
    /// Items that have not begun, by step.
    pub todo: HashMap<usize, BTreeSet<u32>>,
    /// Items that have begun and are not over, by step.
    pub in_hand: HashMap<usize, u32>,
    /// Items that are over, by step.
    pub items_over: HashMap<usize, u32>,
    /// `for_each` steps to look at: an item can begin, or the step can end.
    pub refill: BTreeSet<usize>,
    /// Units that time moves.
    pub timers: BTreeSet<(Millis, Place, Clock)>,
    /// Units that are BLOCKED by nothing: they begin, or go on.
    pub resume: BTreeSet<Place>,
    /// Units that wait for a signal.
    pub awaiting: BTreeSet<Place>,
    /// Units that are READY or IN_PROGRESS.
    pub active: usize,
    /// Units that are BLOCKED.
    pub blocked: usize,
    /// Steps that must still be over before the run is: those of the compensation that runs, or those of none.
    pub left: usize,
    /// Items of a list, parsed, while some have not begun.
    pub lists: HashMap<usize, Arc<Vec<Data>>>,
}

/// What of a unit time moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Clock {
    /// Its `timer`.
    Timer,
    /// Its `limit`.
    Limit,
}

/// One execution of a workflow revision.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run.
    pub id: RunId,
    pub(super) definition: Arc<Workflow>,
    pub(super) s: State,
    pub(super) d: Derived,
}

/// What a worker needs to know of a READY or IN_PROGRESS step.
#[derive(Clone, Debug)]
pub struct Task {
    /// The agent that shall do it.
    pub agent: Arc<str>,
    /// The attempt.
    pub attempt: u32,
    /// What to work on.
    pub input: Data,
    /// When the attempt is taken as failed.
    pub deadline: Option<Millis>,
    /// What people answered to questions about the step.
    pub clarified: Vec<Clarified>,
}

impl Run {
    /// The tenant.
    pub fn namespace(&self) -> &Arc<str> {
        &self.s.namespace
    }
    /// Id of the workflow.
    pub fn workflow(&self) -> &Arc<str> {
        &self.s.workflow
    }
    /// Its revision.
    pub fn revision(&self) -> u64 {
        self.s.revision
    }
    /// The definition.
    pub fn definition(&self) -> &Arc<Workflow> {
        &self.definition
    }
    /// Where it stands.
    pub fn state(&self) -> RunState {
        self.s.state
    }
    /// Number of its last event.
    pub fn sequence(&self) -> u64 {
        self.s.sequence
    }
    /// What it was started with.
    pub fn inputs(&self) -> &Data {
        &self.s.inputs
    }
    /// What it yielded.
    pub fn output(&self) -> Option<&Data> {
        self.s.output.as_ref()
    }
    /// Why it failed.
    pub fn error(&self) -> Option<&Failure> {
        self.s.error.as_ref()
    }
    /// The step that waits for it.
    pub fn parent(&self) -> Option<&Parent> {
        self.s.parent.as_ref()
    }
    /// What all events of this piece of work share: the project's uid, or else the root of the run's family.
    pub fn root(&self) -> RunId {
        match (&self.s.project, &self.s.parent) {
            (Some(project), _) => RunId(project.uid),
            (None, Some(parent)) => parent.root,
            (None, None) => self.id,
        }
    }
    /// The project it belongs to.
    pub fn project(&self) -> Option<&ProjectRef> {
        self.s.project.as_ref()
    }
    /// What started it, if no client did.
    pub fn cause(&self) -> Option<&Cause> {
        self.s.cause.as_ref()
    }
    /// Its definition's text, if no revision describes it.
    pub fn plan(&self) -> Option<&Data> {
        self.s.plan.as_ref()
    }
    /// The run whose record answers its model calls.
    pub fn replay_of(&self) -> Option<RunId> {
        self.s.replay_of
    }
    /// What its model calls have used; absent if it made none.
    pub fn calls(&self) -> Option<&Calls> {
        self.s.calls.as_deref()
    }
    /// What the output of a step must match.
    pub fn output_schema(&self, key: &StepKey) -> Option<&crate::workflow::Schema> {
        self.definition.steps[*self.definition.index.get(&key.id)?].output.as_ref()
    }
    /// Free labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.s.labels
    }
    /// When it began, when its history last grew, when it ended.
    pub fn times(&self) -> (Millis, Millis, Option<Millis>) {
        (self.s.created_at, self.s.updated_at, self.s.ended_at)
    }
    /// Whether it holds back what has not begun.
    pub fn is_paused(&self) -> bool {
        self.s.paused
    }

    /// When time will next move it.
    pub fn next_wake(&self) -> Option<Millis> {
        if self.s.state.is_over() {
            return None;
        }
        let timer = self.d.timers.first().map(|(at, _, _)| *at);
        [timer, self.s.deadline].into_iter().flatten().min()
    }

    /// Whether something could begin that has not: values it needs are still to be fetched.
    pub fn is_stalled(&self) -> bool {
        let open =
            !self.d.runnable.is_empty() || !self.d.refill.is_empty() || !self.d.resume.is_empty() || self.d.left == 0;
        open && !self.s.paused && !self.s.state.is_over()
    }

    /// The unit of a key.
    pub fn unit(&self, key: &StepKey) -> Option<&Unit> {
        self.place(key).map(|place| self.at(place))
    }

    /// All units in the order of the definition, each `for_each` step before its items.
    pub fn units(&self) -> impl Iterator<Item = (StepKey, &Unit)> {
        self.s.steps.iter().zip(&self.definition.steps).flat_map(|(run, step)| {
            let items = run.items.iter().flat_map(|items| items.units.iter()).enumerate();
            std::iter::once((StepKey::step(step.id.clone()), &run.unit))
                .chain(items.map(|(n, unit)| (StepKey::item(step.id.clone(), n as u32), unit)))
        })
    }

    /// Items of a `for_each` step, and how many are over.
    pub fn items(&self, key: &StepKey) -> Option<(u32, u32)> {
        let step = *self.definition.index.get(&key.id)?;
        let items = self.s.steps[step].items.as_ref().filter(|_| key.item.is_none())?;
        Some((items.units.len() as u32, self.d.items_over.get(&step).copied().unwrap_or(0)))
    }

    /// What a worker needs to know of a READY or IN_PROGRESS agent step.
    pub fn task(&self, key: &StepKey) -> Option<Task> {
        let place = self.place(key)?;
        let unit = self.at(place);
        let Action::Agent { agent, .. } = &self.step(place).action else { return None };
        if !matches!(unit.state, StepState::Ready | StepState::InProgress) {
            return None;
        }
        Some(Task {
            agent: agent.clone(),
            attempt: unit.attempt,
            input: unit.input.clone().unwrap_or_else(Data::null),
            deadline: [unit.timer, self.s.steps[place.step].unit.limit].into_iter().flatten().min(),
            clarified: unit.clarified.clone(),
        })
    }

    /// Keys of the steps that wait for a worker, with their agents.
    pub fn ready(&self) -> Vec<(StepKey, Arc<str>)> {
        let ready = self.units().filter(|(_, unit)| unit.state == StepState::Ready);
        ready.filter_map(|(key, _)| self.task(&key).map(|task| (key, task.agent))).collect()
    }

    /// Leases in force.
    pub fn leases(&self) -> Vec<(StepKey, u32, Lease)> {
        let leased = self.units().filter(|(_, unit)| unit.state == StepState::InProgress);
        leased.filter_map(|(key, unit)| unit.lease.clone().map(|lease| (key, unit.attempt, lease))).collect()
    }

    /// Child runs it waits for.
    pub fn children(&self) -> Vec<(StepKey, RunId)> {
        let blocked = self.units().filter(|(_, unit)| unit.state == StepState::Blocked);
        blocked.filter_map(|(key, unit)| unit.child.map(|child| (key, child))).collect()
    }

    pub(super) fn place(&self, key: &StepKey) -> Option<Place> {
        let step = *self.definition.index.get(&key.id)?;
        match (key.item, &self.s.steps[step].items) {
            (None, _) => Some(Place { step, item: None }),
            (Some(n), Some(items)) if (n as usize) < items.units.len() => Some(Place { step, item: Some(n) }),
            _ => None,
        }
    }

    pub(super) fn key(&self, place: Place) -> StepKey {
        StepKey { id: self.definition.steps[place.step].id.clone(), item: place.item }
    }

    pub(super) fn step(&self, place: Place) -> &Step {
        &self.definition.steps[place.step]
    }

    pub(super) fn at(&self, place: Place) -> &Unit {
        let run = &self.s.steps[place.step];
        match (place.item, &run.items) {
            (Some(n), Some(items)) => &items.units[n as usize],
            _ => &run.unit,
        }
    }

    pub(super) fn at_mut(&mut self, place: Place) -> &mut Unit {
        let run = &mut self.s.steps[place.step];
        match (place.item, &mut run.items) {
            (Some(n), Some(items)) => &mut items.units[n as usize],
            _ => &mut run.unit,
        }
    }
}
