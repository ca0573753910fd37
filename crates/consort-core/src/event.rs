//! The facts of a run's history, and how a transition of them is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::data::Data;
use crate::ids::{Millis, RunId, StepKey};
use crate::model::ModelCalled;
use crate::plugin::{OperationBegan, OperationCalled};

/// What happened, and to which step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The step it is about; absent for the run as a whole.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepKey>,
    /// The fact.
    #[serde(rename = "f")]
    pub fact: Fact,
}

/// A fact. The stored names are a contract: histories written by older versions must read for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of the messages in run_event.proto
pub enum Fact {
    /// The run was started.
    RunStarted(RunStarted),
    /// Nothing new begins until it is resumed.
    RunPaused { reason: String },
    /// The run goes on.
    RunResumed,
    /// The run is over, and every step that was not.
    RunCancelled { reason: String },
    /// Failed and cancelled steps begin a new life.
    RunRetried { steps: Vec<Arc<str>> },
    /// The run is over, with an output.
    RunSucceeded { output: Data },
    /// The run is over, with an error.
    RunFailed { step: Option<StepKey>, error: Failure },
    /// A signal came.
    SignalReceived { signal: String, payload: Data },
    /// The step is READY. `input` is absent when it is the input of the attempt before.
    StepScheduled {
        agent: Arc<str>,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Data>,
    },
    /// The step is IN_PROGRESS.
    StepLeased { attempt: u32, worker: Arc<str>, session: Arc<str>, token: u64 },
    /// The lease ended without an answer; the step is BLOCKED.
    StepLeaseLost { token: u64, reason: LeaseLoss },
    /// A worker said something worth keeping.
    StepReported { report: Report },
    /// The step is DONE. `token` is the lease that was honoured, absent for steps the mesh performs itself.
    StepSucceeded {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
        attempt: u32,
        output: Data,
    },
    /// An attempt failed; the step is BLOCKED until `at`.
    StepRetryScheduled {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
        attempt: u32,
        error: Failure,
        at: Millis,
    },
    /// The step is FAILED.
    StepFailed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
        attempt: u32,
        error: Failure,
    },
    /// The step is SKIPPED.
    StepSkipped { reason: String },
    /// A `for_each` has its items.
    StepExpanded { items: u32, list: Data },
    /// The step is BLOCKED until `until`.
    WaitStarted { until: Millis },
    /// The step is BLOCKED until a person answers.
    DecisionRequested(DecisionRequested),
    /// A person, or the deadline, answered.
    DecisionAnswered {
        decision: Uuid,
        option: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        form: Option<Data>,
        by: String,
    },
    /// The step is BLOCKED until its child run is over. `plan` is the definition that an agent answered with, `token` its lease.
    ChildStarted {
        child: RunId,
        workflow: Arc<str>,
        revision: u64,
        inputs: Data,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Data>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// A `while` begins an iteration.
    StepIterated { iteration: u32 },
    /// The step is BLOCKED until a signal comes.
    SignalAwaited {
        signal: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Millis>,
    },
    /// A step failed, and its compensation begins at `goto`; everything else is over.
    RunCompensating { step: StepKey, error: Failure, goto: Arc<str> },
    /// The step is BLOCKED until somebody says what it shall do. `token` is the lease of the worker that asked.
    ClarificationRequested {
        question: DecisionRequested,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// Somebody, or the deadline, said it.
    ClarificationAnswered {
        decision: Uuid,
        option: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        form: Option<Data>,
        by: String,
    },
    /// An event was published in the commit of this one.
    EventEmitted { event_id: Uuid, event_type: String },
    /// The step called a model, which answered.
    ModelCalled(Box<ModelCalled>),
    /// The step is about to call an operation that must not be done twice.
    OperationBegan(Box<OperationBegan>),
    /// The step called an operation, and its outcome is known.
    OperationCalled(Box<OperationCalled>),
}

impl Fact {
    /// The event type of the envelope, for example `STEP.SUCCEEDED`.
    pub fn event_type(&self) -> &'static str {
        match self {
            Fact::RunStarted(_) => "RUN.STARTED",
            Fact::RunPaused { .. } => "RUN.PAUSED",
            Fact::RunResumed => "RUN.RESUMED",
            Fact::RunCancelled { .. } => "RUN.CANCELLED",
            Fact::RunRetried { .. } => "RUN.RETRIED",
            Fact::RunSucceeded { .. } => "RUN.SUCCEEDED",
            Fact::RunFailed { .. } => "RUN.FAILED",
            Fact::SignalReceived { .. } => "RUN.SIGNAL_RECEIVED",
            Fact::StepScheduled { .. } => "STEP.SCHEDULED",
            Fact::StepLeased { .. } => "STEP.LEASED",
            Fact::StepLeaseLost { .. } => "STEP.LEASE_LOST",
            Fact::StepReported { .. } => "STEP.REPORTED",
            Fact::StepSucceeded { .. } => "STEP.SUCCEEDED",
            Fact::StepRetryScheduled { .. } => "STEP.RETRY_SCHEDULED",
            Fact::StepFailed { .. } => "STEP.FAILED",
            Fact::StepSkipped { .. } => "STEP.SKIPPED",
            Fact::StepExpanded { .. } => "STEP.EXPANDED",
            Fact::WaitStarted { .. } => "STEP.WAIT_STARTED",
            Fact::DecisionRequested(_) => "DECISION.REQUESTED",
            Fact::DecisionAnswered { .. } => "DECISION.ANSWERED",
            Fact::ChildStarted { .. } => "STEP.CHILD_STARTED",
            Fact::StepIterated { .. } => "STEP.ITERATED",
            Fact::SignalAwaited { .. } => "STEP.SIGNAL_AWAITED",
            Fact::RunCompensating { .. } => "RUN.COMPENSATING",
            Fact::ClarificationRequested { .. } => "DECISION.CLARIFICATION_REQUESTED",
            Fact::ClarificationAnswered { .. } => "DECISION.CLARIFICATION_ANSWERED",
            Fact::EventEmitted { .. } => "STEP.EVENT_EMITTED",
            Fact::ModelCalled(_) => "STEP.MODEL_CALLED",
            Fact::OperationBegan(_) => "STEP.OPERATION_BEGAN",
            Fact::OperationCalled(_) => "STEP.OPERATION_CALLED",
        }
    }

    /// The values it carries, for moving large ones out to blobs before they are stored.
    pub fn data_mut(&mut self) -> Vec<&mut Data> {
        match self {
            Fact::RunStarted(started) => {
                let mut data = vec![&mut started.inputs];
                data.extend(&mut started.plan);
                data
            }
            Fact::RunSucceeded { output } | Fact::StepSucceeded { output, .. } => vec![output],
            Fact::SignalReceived { payload, .. } => vec![payload],
            Fact::StepScheduled { input, .. } => input.iter_mut().collect(),
            Fact::StepReported { report: Report::Note { value, .. } } => vec![value],
            Fact::StepExpanded { list, .. } => vec![list],
            Fact::DecisionRequested(asked) => asked.form.iter_mut().collect(),
            Fact::ClarificationRequested { question, .. } => question.form.iter_mut().collect(),
            Fact::DecisionAnswered { form, .. } | Fact::ClarificationAnswered { form, .. } => form.iter_mut().collect(),
            Fact::ModelCalled(call) => {
                let mut data = vec![&mut call.messages, &mut call.reply];
                data.extend(&mut call.settings);
                data
            }
            Fact::OperationCalled(call) => {
                let mut data = vec![&mut call.input];
                data.extend(&mut call.output);
                data
            }
            Fact::ChildStarted { inputs, plan, .. } => {
                let mut data = vec![inputs];
                data.extend(plan);
                data
            }
            _ => Vec::new(),
        }
    }
}

/// The run was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The tenant.
    pub namespace: Arc<str>,
    /// Id of the workflow.
    pub workflow: Arc<str>,
    /// Its revision.
    pub revision: u64,
    /// Inputs with defaults filled in.
    pub inputs: Data,
    /// The run and step that started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectRef>,
    /// What started it, if no client did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The definition itself (JSON text), of a run that no revision describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Data>,
    /// The run whose record answers its model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<RunId>,
}

impl RunStarted {
    /// A run of a revision that a client started, without labels and project.
    pub fn new(namespace: Arc<str>, workflow: Arc<str>, revision: u64, inputs: Data) -> RunStarted {
        let labels = BTreeMap::new();
        RunStarted {
            namespace,
            workflow,
            revision,
            inputs,
            parent: None,
            labels,
            project: None,
            cause: None,
            plan: None,
            replay_of: None,
        }
    }
}

/// Names a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectRef {
    /// Its id.
    pub id: Arc<str>,
    /// The correlation id of all its events.
    pub uid: Uuid,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// What fired.
    pub trigger: Trigger,
    /// How many triggered runs led to it, this one included.
    pub depth: u32,
    /// The event that it follows from, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Uuid>,
}

/// What fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of the messages in run.proto
pub enum Trigger {
    /// A schedule that was due.
    Schedule { at: Millis },
    /// An event.
    Event { event_id: Uuid, event_type: String },
    /// A signal to the mesh.
    Signal { signal: Uuid },
}

/// The step that waits for a child run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// The run that waits.
    pub run: RunId,
    /// Its step.
    pub step: StepKey,
    /// The root of the family: the correlation id of all its events.
    pub root: RunId,
    /// How deep below the root, from 1.
    pub depth: u32,
    /// The event of the parent that tells of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Uuid>,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRequested {
    /// Its id.
    pub decision: Uuid,
    /// The question.
    pub title: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// JSON Schema of the form that goes with an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Data>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// What the deadline chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Why a lease ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseLoss {
    /// Not renewed in time.
    Expired,
    /// The worker gave it back.
    Released,
    /// The worker came back with another session, or without this lease.
    Replaced,
}

impl LeaseLoss {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            LeaseLoss::Expired => "expired",
            LeaseLoss::Released => "released",
            LeaseLoss::Replaced => "worker replaced",
        }
    }
}

/// What a worker says about a task and is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are those of StepReport in agent_service.proto
pub enum Report {
    /// A log line. `level` is `debug`, `info`, `warn` or `error`.
    Log { level: String, text: String },
    /// A named value.
    Note { name: String, value: Data },
}

/// An error on record: `google.rpc.Status` with what the retry policy needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Number of a `google.rpc.Code`.
    pub code: i32,
    /// For people.
    pub message: String,
    /// `google.rpc.Status.details`: type URL and bytes in hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, String)>,
}

impl Failure {
    /// A failure with a canonical code.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code: code as i32, message: message.into(), details: Vec::new() }
    }
}

/// Canonical codes of gRPC, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes with their names.
    pub const NAMES: [(Code, &'static str); 17] = [
        (Code::Ok, "OK"),
        (Code::Cancelled, "CANCELLED"),
        (Code::Unknown, "UNKNOWN"),
        (Code::InvalidArgument, "INVALID_ARGUMENT"),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Code::NotFound, "NOT_FOUND"),
        (Code::AlreadyExists, "ALREADY_EXISTS"),
        (Code::PermissionDenied, "PERMISSION_DENIED"),
        (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Code::FailedPrecondition, "FAILED_PRECONDITION"),
        (Code::Aborted, "ABORTED"),
        (Code::OutOfRange, "OUT_OF_RANGE"),
        (Code::Unimplemented, "UNIMPLEMENTED"),
        (Code::Internal, "INTERNAL"),
        (Code::Unavailable, "UNAVAILABLE"),
        (Code::DataLoss, "DATA_LOSS"),
        (Code::Unauthenticated, "UNAUTHENTICATED"),
    ];

    /// The code of this name.
    pub fn named(name: &str) -> Option<Code> {
        Code::NAMES.iter().find(|(_, n)| *n == name).map(|(code, _)| *code)
    }

    /// The name of a code's number; `UNKNOWN` for numbers that are none.
    pub fn name_of(number: i32) -> &'static str {
        Code::NAMES.iter().find(|(code, _)| *code as i32 == number).map_or("UNKNOWN", |(_, name)| name)
    }
}

/// Beginnings of event types that belong to the mesh.
pub const RESERVED: [&str; 4] = ["RUN.", "STEP.", "DECISION.", "SIGNAL."];

/// Whether a text can be the type of an event: upper-case words joined by `.` and `_`, at most 200 characters.
pub fn is_type(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.len() <= 200 && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.split(['.', '_']).all(word)
}

/// One transition of a run as it is stored: several events in one row, numbered `sequence`, `sequence + 1` and so on.
///
/// A writer that has not seen the newest record begins at a number that is taken, because every reader stops at the end
/// of a record; so the primary key alone refuses a fork.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The run.
    pub run: RunId,
    /// The tenant.
    pub namespace: Arc<str>,
    /// Correlation id of its events: the project's uid, or else the root of the run's family.
    pub root: RunId,
    /// Number of the first event.
    pub sequence: u64,
    /// How many events.
    pub count: u32,
    /// When.
    pub at: Millis,
    /// JSON array of [`Entry`].
    pub body: Vec<u8>,
    /// [`chain`] of the hash before and `body`.
    pub hash: [u8; 32],
}

impl Record {
    /// Number of the last event.
    pub fn last_sequence(&self) -> u64 {
        self.sequence + u64::from(self.count) - 1
    }

    /// The events.
    pub fn entries(&self) -> Result<Vec<Entry>, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// The hash that links a record to all before it: SHA-256 of the previous hash and the body; zeros before the first.
pub fn chain(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(body).finalize().into()
}

/// An event that a client published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// UUID.
    pub event_id: Uuid,
    /// Upper-case words joined by `.` and `_`.
    pub event_type: String,
    /// Version of the payload's contract, from 1.
    pub event_version: u32,
    /// When it happened.
    pub timestamp: Millis,
    /// The kind of component that says so.
    pub source: String,
    /// Which one of them.
    pub instance: String,
    /// Equal for all events of one piece of work.
    pub correlation_id: Uuid,
    /// The event that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// The tenant.
    pub namespace: Arc<str>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// What happened.
    pub payload: Data,
    /// How many triggered runs led to it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_zero(n: &u32) -> bool {
    *n == 0
}
