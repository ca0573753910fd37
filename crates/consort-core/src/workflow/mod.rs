//! Workflow definitions as the engine uses them: checked, with expressions compiled and names turned into indices.
//!
//! [`Workflow::parse`] is the only way to make one; whatever it accepts can run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::data::{Data, Json};

mod cron;
mod duration;
mod evaluate;
mod expression;
mod graph;
pub(crate) mod inputs;
mod lookup;
mod parse;
mod scan;
mod schema;
mod steps;
pub(crate) mod suggest;
mod template;
#[cfg(test)]
mod tests;
mod triggers;
mod yaml;

pub use cron::{Cron, CronError};
pub use duration::parse_duration;
pub use expression::Local;
pub use parse::Mistake;
pub use schema::editor_schema;
pub use steps::call::CALL;
pub use steps::infer::{INFER, budget_of};
pub use suggest::nearest;
pub use template::{EvalError, Scope, StepView, Template};
pub use triggers::{CatchUp, EventTrigger, Overlap, ScheduleTrigger, SignalTrigger, Triggers};

/// A checked definition.
#[derive(Debug)]
pub struct Workflow {
    /// Its id.
    pub name: Arc<str>,
    /// What it is for.
    pub description: String,
    /// What a run is started with.
    pub inputs: Inputs,
    /// The steps in the order of the definition.
    pub steps: Vec<Step>,
    /// What a run yields; absent means the output of the last step.
    pub output: Option<Template>,
    /// How long a run may last.
    pub timeout: Option<Duration>,
    /// Step numbers by id.
    pub index: HashMap<Arc<str>, usize>,
    /// What starts it, beside clients.
    pub triggers: Triggers,
    /// What a run and all its children may spend on models.
    pub budget: crate::model::Budget,
}

/// A node of the graph.
#[derive(Debug)]
pub struct Step {
    /// Its id.
    pub id: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Numbers of the steps that must be over before it, without repeats.
    pub needs: Vec<usize>,
    /// Numbers of the steps that need it: the inverse of `needs`.
    pub dependents: Vec<usize>,
    /// Whether it is done at all; evaluated to a bool.
    pub condition: Option<Template>,
    /// Do it once per item.
    pub for_each: Option<ForEach>,
    /// Do it again while something is true; never together with `for_each`.
    pub repeat: Option<While>,
    /// When and how a failed attempt is repeated.
    pub retry: Retry,
    /// How long one attempt may last (agent), or one item of the step (others).
    pub timeout: Option<Duration>,
    /// How long the step may last, with all its attempts, waits and items.
    pub limit: Option<Duration>,
    /// What follows when it fails.
    pub on_error: OnError,
    /// What its output must match.
    pub output: Option<Schema>,
    /// Whether its agent may answer with a plan.
    pub plan: bool,
    /// What must be asked before it begins.
    pub clarify: Option<Clarify>,
    /// The first step of the compensation that it belongs to, by number: itself, for that first step.
    pub compensates: Option<usize>,
}

/// Do a step again while something is true.
#[derive(Debug)]
pub struct While {
    /// Evaluated after each iteration; must give a bool.
    pub condition: Template,
    /// Most iterations.
    pub max: u32,
}

/// What follows when a step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on.
    Continue,
    /// The compensation that begins with this step runs, then the run fails.
    Goto(usize),
}

/// What must be asked before a step begins.
#[derive(Debug)]
pub struct Clarify {
    /// Whether it must be asked; evaluated to a bool.
    pub condition: Template,
    /// The question.
    pub question: Decide,
}

/// A JSON Schema.
#[derive(Debug)]
pub struct Schema {
    validator: jsonschema::Validator,
}

impl Schema {
    /// What is wrong with a value, at most 20 violations, with fields that begin with `path`.
    pub fn check(&self, value: &serde_json::Value, path: &str) -> Vec<crate::error::Violation> {
        inputs::violations(&self.validator, value, path)
    }
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// A worker's agent does it.
    Agent {
        /// Id of the agent.
        agent: Arc<str>,
        /// Its input.
        with: Template,
    },
    /// The step yields a value.
    Set {
        /// The value.
        value: Template,
    },
    /// A person decides.
    Decide(Decide),
    /// Time passes.
    Wait {
        /// How long: a duration such as `90s`, `2m` or `1h30m`, once evaluated.
        duration: Template,
    },
    /// A signal to the run comes.
    Await {
        /// Its name.
        signal: String,
    },
    /// An event is published, or a signal to the mesh raised.
    Emit(Emit),
    /// A child run does it.
    Workflow {
        /// Id of the workflow; its newest revision when the child starts.
        workflow: Arc<str>,
        /// The child's inputs.
        with: Template,
    },
}

impl Action {
    /// The key that names it in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::Agent { agent, .. } if **agent == *INFER => "infer",
            Action::Agent { agent, .. } if **agent == *CALL => "call",
            Action::Agent { .. } => "agent",
            Action::Set { .. } => "set",
            Action::Decide(_) => "decide",
            Action::Wait { .. } | Action::Await { .. } => "wait",
            Action::Emit(_) => "emit",
            Action::Workflow { .. } => "workflow",
        }
    }

    /// The agent or workflow it names.
    pub fn target(&self) -> Option<&Arc<str>> {
        match self {
            Action::Agent { agent, .. } => Some(agent),
            Action::Workflow { workflow, .. } => Some(workflow),
            _ => None,
        }
    }
}

/// A question to a person.
#[derive(Debug)]
pub struct Decide {
    /// The question; evaluated to a string.
    pub title: Template,
    /// More about it; evaluated to a string.
    pub description: Option<Template>,
    /// What can be chosen.
    pub options: Vec<String>,
    /// JSON Schema of the form that goes with an answer.
    pub form: Option<Json>,
    /// How long to wait for an answer.
    pub deadline: Option<Duration>,
    /// What the deadline chooses; one of `options`.
    pub default: Option<String>,
    /// Chooses without asking: evaluated to one of `options`, or to null.
    pub auto: Option<Template>,
}

/// What an `emit` step says.
#[derive(Debug)]
pub enum Emit {
    /// An event.
    Event {
        /// Its type.
        event_type: String,
        /// Version of its contract.
        version: u32,
        /// What it is about; evaluated to a string.
        subject: Option<Template>,
        /// Evaluated to an object.
        payload: Template,
    },
    /// A signal to the mesh.
    Signal {
        /// Its type.
        kind: String,
        /// How soon somebody must act.
        urgency: crate::signal::Urgency,
        /// How much depends on it.
        impact: crate::signal::Impact,
        /// What it is; evaluated to a string.
        title: Template,
        /// More about it; evaluated to a string.
        description: Option<Template>,
        /// Evaluated to an object.
        payload: Template,
        /// The agent it is meant for.
        agent: Option<Arc<str>>,
    },
}

/// Do a step once per item.
#[derive(Debug)]
pub struct ForEach {
    /// Evaluated to a list of at most 10,000 items.
    pub list: Template,
    /// How many items at once; absent means all.
    pub max_parallel: Option<u32>,
}

/// When and how a failed attempt is repeated. The delay before attempt n+1 is `backoff * factor^(n-1)`, at most `max_backoff`,
/// spread by `jitter` (0.2 means between 80 % and 120 %).
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all; 1 means none is repeated.
    pub max: u32,
    /// Delay before the second attempt.
    pub backoff: Duration,
    /// Growth of the delay.
    pub factor: f64,
    /// Longest delay.
    pub max_backoff: Duration,
    /// Spread of the delay, 0 to 1.
    pub jitter: f64,
    /// Numbers of the codes that are repeated; empty means every code that can pass with time: UNKNOWN, DEADLINE_EXCEEDED,
    /// RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE.
    pub on: Vec<i32>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            max: 1,
            backoff: Duration::from_secs(1),
            factor: 2.0,
            max_backoff: Duration::from_secs(60),
            jitter: 0.2,
            on: Vec::new(),
        }
    }
}

/// The declared inputs of a workflow.
#[derive(Debug, Default)]
pub struct Inputs {
    /// By name, in the order of the definition.
    pub fields: Vec<Input>,
}

/// One declared input.
#[derive(Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its JSON Schema.
    pub schema: serde_json::Value,
    /// Its value when none is given; an input without default is required.
    pub default: Option<serde_json::Value>,
    /// What it is.
    pub description: String,
    /// Its compiled schema.
    pub(crate) validator: Option<jsonschema::Validator>,
}

impl Inputs {
    /// Fills in defaults and checks. The error lists every violation with fields such as `inputs.hourly_rate`; an undeclared
    /// input is a violation too. Inputs given as a blob are not supported by this check: the caller loads them first.
    pub fn complete(&self, given: &serde_json::Value) -> Result<Data, Vec<crate::error::Violation>> {
        inputs::complete(self, given)
    }
}

/// Checks that a value is a JSON Schema; the error says why it is none.
pub fn check_schema(schema: &serde_json::Value) -> Result<(), String> {
    inputs::compile(schema).map(drop).map_err(|error| suggest::brief(&error.to_string(), 200))
}

impl Workflow {
    /// Reads and checks a definition (YAML, of which JSON is a subset). Every mistake is reported at once.
    pub fn parse(source: &str) -> Result<Workflow, Vec<Mistake>> {
        parse::workflow(source)
    }
}
