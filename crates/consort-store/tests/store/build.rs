//! Short ways to make what the stores keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use consort_core::data::Data;
use consort_core::event::{Code, DecisionRequested, Entry, Fact, Failure, LeaseLoss, Published, Record, chain};
use consort_core::ids::{Millis, RunId, StepKey};
use consort_core::ports::{
    Batch, Conflict, DeadLetter, DecisionKind, DecisionRow, DecisionState, LogRow, Mark, ProjectRow, ProjectState,
    RunRow, RunUpdate, SignalRow, Snapshot, Store, StoreError, StoredRequest, WorkflowRow,
};
use consort_core::run::RunState;
use consort_core::signal::{Impact, Route, Signal, Urgency};
use uuid::Uuid;

pub(crate) fn run_id(number: u64) -> RunId {
    RunId(Uuid::from_u64_pair(7, number))
}

/// Writes one run's records, each linked to the one before.
pub(crate) struct History {
    pub(crate) run: RunId,
    pub(crate) namespace: Arc<str>,
    pub(crate) root: RunId,
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
}

impl History {
    pub(crate) fn of(number: u64) -> History {
        let run = run_id(number);
        History { run, namespace: "default".into(), root: run, sequence: 0, hash: [0; 32] }
    }

    pub(crate) fn next(&mut self, count: u32) -> Record {
        let facts = [
            Fact::RunResumed,
            Fact::RunPaused { reason: "“why”\n".into() },
            Fact::StepLeaseLost { token: u64::from(u32::MAX) + 1, reason: LeaseLoss::Expired },
        ];
        let entries: Vec<Entry> = (0..count)
            .map(|n| Entry { step: Some(StepKey::item("a", n)), fact: facts[n as usize % facts.len()].clone() })
            .collect();
        let body = serde_json::to_vec(&entries).unwrap();
        self.hash = chain(&self.hash, &body);
        let record = Record {
            run: self.run,
            namespace: self.namespace.clone(),
            root: self.root,
            sequence: self.sequence + 1,
            count,
            at: 1_000 + self.sequence as Millis,
            body,
            hash: self.hash,
        };
        self.sequence += u64::from(count);
        record
    }
}

pub(crate) fn published(namespace: &str, number: u64) -> Published {
    Published {
        event_id: Uuid::from_u64_pair(9, number),
        event_type: "BUILD.FAILED".into(),
        event_version: 2,
        timestamp: 77,
        source: "ci".into(),
        instance: "ci-1".into(),
        correlation_id: Uuid::from_u64_pair(9, 0),
        causation_id: Some(Uuid::from_u64_pair(9, 1)),
        namespace: namespace.into(),
        subject: "main".into(),
        payload: Data::of(&serde_json::json!({"number": number, "ü": [1.5, null]})),
        depth: 0,
    }
}

pub(crate) fn run_row(number: u64) -> RunRow {
    RunRow {
        id: run_id(number),
        namespace: "default".into(),
        workflow: "audit".into(),
        revision: 3,
        state: RunState::Running,
        sequence: 0,
        created_at: 1_000 + number as Millis,
        updated_at: 1_000 + number as Millis,
        ended_at: None,
        wake_at: None,
        parent: None,
        project: None,
        labels: BTreeMap::new(),
        error: None,
    }
}

pub(crate) fn update(number: u64, state: RunState, wake_at: Option<Millis>) -> RunUpdate {
    let failed = state == RunState::Failed;
    RunUpdate {
        id: run_id(number),
        state,
        updated_at: 9_000,
        ended_at: state.is_over().then_some(9_001),
        wake_at,
        error: failed.then(|| Failure {
            details: vec![("type.googleapis.com/x".into(), "00ff".into())],
            ..Failure::new(Code::Aborted, "it \"broke\"")
        }),
    }
}

pub(crate) fn request(number: u8, at: Millis) -> StoredRequest {
    StoredRequest { key: [number; 16], fingerprint: [number ^ 0xff; 16], answer: vec![number, 0, 255], at }
}

pub(crate) fn snapshot(history: &History, body: &[u8]) -> Snapshot {
    Snapshot { run: history.run, sequence: history.sequence, hash: history.hash, body: body.to_vec() }
}

pub(crate) fn decision(number: u64, run: u64, state: DecisionState) -> DecisionRow {
    let id = Uuid::from_u64_pair(8, number);
    let asked = DecisionRequested {
        decision: id,
        title: "Publish?".into(),
        description: String::new(),
        options: vec!["yes".into(), "no".into()],
        form: Some(Data::of(&serde_json::json!({"type": "object"}))),
        deadline: Some(5_000),
        default: Some("no".into()),
    };
    let answered = state == DecisionState::Answered;
    DecisionRow {
        id,
        namespace: "default".into(),
        run: run_id(run),
        step: StepKey::item("ask", 2),
        asked,
        state,
        created_at: 2_000 + number as Millis,
        closed_at: answered.then_some(4_000),
        option: answered.then(|| "yes".into()),
        form: None,
        answered_by: answered.then(|| "kim".into()),
        kind: DecisionKind::Choice,
        project: None,
    }
}

pub(crate) fn workflow(id: &str, source: &str) -> WorkflowRow {
    WorkflowRow {
        namespace: "default".into(),
        id: id.into(),
        revision: 0,
        source: source.into(),
        digest: format!("digest of {source}"),
        created_at: 5,
        created_by: "kim".into(),
        triggers: false,
    }
}

pub(crate) fn project(id: &str, number: u64) -> ProjectRow {
    ProjectRow {
        namespace: "default".into(),
        id: id.into(),
        uid: Uuid::from_u64_pair(10, number),
        title: "Öl & \"co\"".into(),
        request: Data::of(&serde_json::json!({"goal": "less waste", "n": [1.5, null]})),
        state: ProjectState::Active,
        created_at: 3_000 + number as Millis,
        created_by: "kim".into(),
        closed_at: None,
        reason: String::new(),
        labels: BTreeMap::from([("team".into(), "oil".into())]),
    }
}

/// The project as it is once it is over.
pub(crate) fn closed(project: ProjectRow, state: ProjectState) -> ProjectRow {
    ProjectRow { state, closed_at: Some(9_000), reason: "no money".into(), title: "Öl".into(), ..project }
}

pub(crate) fn signal(number: u64, kind: &str, project: Option<&str>) -> SignalRow {
    SignalRow {
        id: Uuid::from_u64_pair(11, number),
        namespace: "default".into(),
        project: project.map(Into::into),
        signal: Signal {
            kind: kind.into(),
            urgency: Urgency::High,
            impact: Impact::Low,
            title: "Tests are red".into(),
            description: String::new(),
            payload: Data::of(&serde_json::json!({"build": number})),
            source: "ci".into(),
            agent: Some("fixer".into()),
        },
        route: Route::Agent,
        runs: vec![run_id(1), run_id(2)],
        created_at: 4_000 + number as Millis,
    }
}

/// A mark with a value, or one that is to be removed.
pub(crate) fn mark(name: &str, value: Option<&str>) -> Mark {
    Mark { name: name.into(), value: value.map(Into::into) }
}

pub(crate) fn letter(number: u64) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u64_pair(1, number),
        namespace: "default".into(),
        event: format!("{{\"n\": {number}}}"),
        reason: "no such type".into(),
        at: 5,
        group: None,
        attempts: 0,
        place: None,
    }
}

/// Commits rows of the log behind what is there.
pub(crate) async fn append(store: &dyn Store, log: Vec<LogRow>) -> Result<(), StoreError> {
    commit(store, Batch { log, ..Batch::default() }).await
}

/// Commits a batch behind what is there.
pub(crate) async fn commit(store: &dyn Store, batch: Batch) -> Result<(), StoreError> {
    let first_position = store.last_position().await? + 1;
    store.commit(Batch { first_position, ..batch }.into()).await
}

/// Commits a run's first record of one event together with its row.
pub(crate) async fn begin(store: &dyn Store, row: RunRow) -> History {
    let mut history =
        History { run: row.id, namespace: row.namespace.clone(), root: row.id, sequence: 0, hash: [0; 32] };
    let log = vec![LogRow::Run(history.next(1))];
    commit(store, Batch { log, created: vec![row], ..Batch::default() }).await.unwrap();
    history
}

pub(crate) fn conflict(result: Result<(), StoreError>) -> Conflict {
    match result {
        Err(StoreError::Conflict(conflict)) => conflict,
        other => panic!("expected a conflict, got {other:?}"),
    }
}
