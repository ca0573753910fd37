//! What the ledger is asked to do.

use std::sync::Arc;

use consort_core::Error;
use consort_core::event::{Published, RunStarted};
use consort_core::ids::{RunId, StepKey};
use consort_core::model::Budget;
use consort_core::ports::{Mark, ProjectRow, SignalRow, StoreError, StoredRequest};
use consort_core::run::{Command, Transition};
use consort_core::workflow::Workflow;
use tokio::sync::oneshot;

use super::Hot;
use crate::dispatcher::WorkerId;
use crate::loader::{Fetched, Loaded};
use crate::outbox::Outbox;
use crate::types::{AgentView, Answer, FromWorker, Hello, LeaseRef, RunView, TaskView, WorkerView};

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done; the run as it is now, if it is about one.
    Done(Option<Box<RunView>>),
    /// It had been done before; this is what was stored then.
    Repeated(StoredRequest),
    /// A commit failed on somebody else's account; ask again.
    AskAgain,
}

pub(crate) type ReplyTo = oneshot::Sender<Result<Outcome, Error>>;

/// A reply that is due once the batch is on disk.
pub(super) struct Reply {
    pub run: Option<RunId>,
    pub key: Option<[u8; 16]>,
    /// A project that shall begin.
    pub project: Option<(Arc<str>, Arc<str>)>,
    pub to: ReplyTo,
}

/// An acknowledgement that is due once the batch is on disk.
pub(super) struct AckDue {
    pub to: To,
    pub lease: LeaseRef,
    pub outcome: Result<bool, Error>,
}

/// Who is told what became of an answer.
pub(crate) enum To {
    /// A worker's stream.
    Worker(WorkerId),
    /// A caller.
    Caller(oneshot::Sender<Result<bool, Error>>),
}

/// Begins a run.
pub(crate) struct Start {
    pub id: RunId,
    pub started: RunStarted,
    pub definition: Arc<Workflow>,
    pub request: Option<StoredRequest>,
    pub reply: ReplyTo,
    /// Told when the run is over.
    pub over: Option<oneshot::Sender<RunView>>,
}

/// Things that must become true together.
#[derive(Clone, Default)]
pub(crate) struct Act {
    /// Runs that begin.
    pub starts: Vec<(RunId, RunStarted, Arc<Workflow>)>,
    /// Events that are published, after what the runs have to say.
    pub events: Vec<Published>,
    /// See [`consort_core::ports::Batch`].
    pub new_projects: Vec<ProjectRow>,
    /// See [`consort_core::ports::Batch`].
    pub projects: Vec<ProjectRow>,
    /// See [`consort_core::ports::Batch`].
    pub signals: Vec<SignalRow>,
    /// See [`consort_core::ports::Batch`].
    pub marks: Vec<Mark>,
    /// The request id that is used up.
    pub request: Option<StoredRequest>,
}

/// Changes a run from outside.
pub(crate) struct Change {
    pub run: RunId,
    /// The tenant that the caller named; another tenant's run is not found.
    pub namespace: Arc<str>,
    pub command: Command,
    pub request: Option<StoredRequest>,
    pub reply: ReplyTo,
}

/// What a model call must know of the task on whose behalf it is made.
pub(crate) struct TaskFacts {
    pub namespace: Arc<str>,
    pub agent: Arc<str>,
    /// The run that waits for its run.
    pub parent: Option<RunId>,
    /// If its run is a plan: the run and the step whose agent made it.
    pub planned_by: Option<(RunId, StepKey)>,
    /// What its run may spend, and what is on record.
    pub budget: Budget,
    pub spent: Budget,
    /// The run whose record answers.
    pub replay_of: Option<RunId>,
    /// Calls of this attempt on record.
    pub calls: u32,
}

/// A worker that is attached.
pub(crate) struct Attached {
    pub id: WorkerId,
    pub resumed: Vec<LeaseRef>,
}

/// A run that comes back.
pub(crate) enum Back {
    /// From the store.
    Loaded(Result<Option<Box<Loaded>>, StoreError>),
    /// From evaluation off the ledger's thread.
    Evaluated(Box<Hot>, Box<Result<Transition, Error>>, Fetched),
    /// What it needs could not be fetched now.
    NotFetched(Box<Hot>, StoreError),
}

pub(crate) enum Message {
    Start(Box<Start>),
    Change(Box<Change>),
    /// A command that nobody waits for.
    Do(RunId, Command),
    /// The end of a child whose large output was held against its step's schema.
    Verified(RunId, Command),
    /// Does several things at once.
    Act {
        act: Box<Act>,
        reply: ReplyTo,
    },
    Answer {
        answer: Answer,
        namespace: Option<Arc<str>>,
        to: To,
    },
    View {
        run: RunId,
        reply: oneshot::Sender<Option<RunView>>,
    },
    /// Asks to be told when the run is over; the sender is dropped if it is.
    Wait {
        run: RunId,
        over: oneshot::Sender<RunView>,
    },
    /// Answers with the cursor behind the events, or nothing if the commit failed on somebody else's account.
    Publish {
        events: Vec<Published>,
        requests: Vec<StoredRequest>,
        reply: oneshot::Sender<Result<Option<u64>, Error>>,
    },
    /// Uses up a request id.
    Claim {
        request: StoredRequest,
        reply: ReplyTo,
    },
    NewestChanged {
        namespace: Arc<str>,
        workflow: Arc<str>,
    },
    Back(RunId, Back),
    /// Asks to have runs that are over left alone. Answers with those that are in use, which are not.
    Leave {
        runs: Vec<RunId>,
        reply: oneshot::Sender<Vec<RunId>>,
    },
    /// They are gone, or stay after all.
    Left {
        runs: Vec<RunId>,
    },

    Attach {
        hello: Box<Hello>,
        outbox: Arc<Outbox>,
        reply: oneshot::Sender<Attached>,
    },
    Detach {
        worker: WorkerId,
        outbox: Arc<Outbox>,
    },
    From {
        worker: WorkerId,
        from: FromWorker,
    },
    /// Lets a worker without a stream take this many tasks more; 0 takes the permission back.
    Grant {
        worker: WorkerId,
        more: u32,
        reply: oneshot::Sender<()>,
    },
    Agents {
        namespace: Arc<str>,
        reply: oneshot::Sender<Vec<AgentView>>,
    },
    AgentTasks {
        namespace: Arc<str>,
        agent: Arc<str>,
        reply: oneshot::Sender<Option<Vec<TaskView>>>,
    },
    Workers {
        namespace: Arc<str>,
        reply: oneshot::Sender<Vec<WorkerView>>,
    },
    /// Asks about a task in hand.
    Task {
        lease: LeaseRef,
        reply: oneshot::Sender<Result<TaskFacts, Error>>,
    },
    Leases {
        worker: WorkerId,
        reply: oneshot::Sender<Vec<LeaseRef>>,
    },
    Drain {
        namespace: Arc<str>,
        worker: Arc<str>,
        reply: oneshot::Sender<Option<WorkerView>>,
    },
}
