//! Workflows and decisions as this room sees them. The binary implements [`Workflows`] over the engine.

use std::time::Duration;

use async_trait::async_trait;
use consort_core::Error;
use serde_json::{Value, json};

/// A run as it is now.
#[derive(Clone, Debug, Default)]
pub struct RunView {
    /// Its id.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// Its state, for example `RUNNING` or `SUCCEEDED`.
    pub state: String,
    /// Whether the state is its last.
    pub is_over: bool,
    /// What it yielded, if it succeeded; of a value that is too large to be shown, the name of its blob.
    pub output: Option<Value>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The questions that it waits for.
    pub decisions: Vec<DecisionView>,
}

/// An open question to a person.
#[derive(Clone, Debug, Default)]
pub struct DecisionView {
    /// Its id.
    pub decision: String,
    /// The run that asks.
    pub run: String,
    /// The step that asks.
    pub step: String,
    /// What is asked.
    pub question: String,
    /// Options: what is answered, and how a person reads it.
    pub options: Vec<(String, String)>,
    /// JSON Schema of the form that goes with the answer.
    pub form: Option<Value>,
    /// When it closes by itself, RFC 3339; empty if never.
    pub deadline: String,
}

/// An answer to a decision.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Id of the decision.
    pub decision: String,
    /// The chosen option.
    pub option: String,
    /// The filled form.
    pub form: Option<Value>,
    /// Who answers, and through which client: `mcp:NAME`, or `ada via mcp:NAME`.
    pub by: String,
}

/// Workflows of the mesh. Ids are those of the public interface; an unknown one is NOT_FOUND, a bad input INVALID_ARGUMENT with its field.
#[async_trait]
pub trait Workflows: Send + Sync + 'static {
    /// Starts a run.
    async fn start(&self, workflow: &str, inputs: Value) -> Result<RunView, Error>;
    /// A run as it is now.
    async fn status(&self, run: &str) -> Result<RunView, Error>;
    /// Waits until a run is over, or a decision of it is open that is not among `known`, or the time is up; then the run as it is.
    async fn wait(&self, run: &str, known: &[String], patience: Duration) -> Result<RunView, Error>;
    /// Open decisions, oldest first: of one run, or of all; at most so many.
    async fn decisions(&self, run: Option<&str>, most: usize) -> Result<Vec<DecisionView>, Error>;
    /// Answers one.
    async fn answer(&self, answer: Answer) -> Result<(), Error>;
}

impl RunView {
    /// As a tool's output.
    pub(crate) fn json(&self) -> Value {
        let mut said =
            json!({"run": self.run, "workflow": self.workflow, "state": self.state, "is_over": self.is_over});
        if let Some(output) = &self.output {
            said["output"] = output.clone();
        }
        if let Some(error) = &self.error {
            said["error"] = error.clone().into();
        }
        if !self.decisions.is_empty() {
            said["decisions"] = self.decisions.iter().map(DecisionView::json).collect();
        }
        said
    }
}

impl DecisionView {
    /// As a tool's output.
    pub(crate) fn json(&self) -> Value {
        let options: Vec<Value> =
            self.options.iter().map(|(id, label)| json!({"option": id, "label": label})).collect();
        let mut said = json!({"decision": self.decision, "run": self.run, "step": self.step, "question": self.question, "options": options});
        if let Some(form) = &self.form {
            said["form"] = form.clone();
        }
        if !self.deadline.is_empty() {
            said["deadline"] = self.deadline.clone().into();
        }
        said
    }
}
