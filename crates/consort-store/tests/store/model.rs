//! Random batches do to SQLite what they do to the store in memory, and both say the same about it.

use std::sync::Arc;

use consort_core::ports::{
    Batch, DecisionKind, DecisionQuery, DecisionRow, DecisionState, LogRow, ProjectQuery, ProjectState, RunQuery,
    RunRow, RunStore, SignalQuery, Store, StoreError,
};
use consort_core::run::RunState;
use consort_store::{MemoryStore, SqliteStore};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::build::{
    History, closed, decision, mark, project, published, request, run_id, run_row, signal, snapshot, update,
};

/// Runs and request keys in play: few, so that batches collide.
const RUNS: u64 = 4;
const KEYS: u8 = 6;
const PROJECTS: [&str; 3] = ["coal", "gas", "oil"];
const MARKS: [&str; 4] = ["a", "a/b", "a/c", "b"];

const STATES: [RunState; 4] = [RunState::Running, RunState::Waiting, RunState::Succeeded, RunState::Failed];
const DECISION_STATES: [DecisionState; 3] = [DecisionState::Open, DecisionState::Answered, DecisionState::Expired];

/// What a random batch does.
#[derive(Clone, Debug)]
struct Doing {
    /// Run, events, and whether the writer has missed the newest record.
    records: Vec<(u64, u32, bool)>,
    published: bool,
    create: Option<u64>,
    update: Vec<(u64, usize, Option<i64>)>,
    snapshot: Option<u64>,
    decide: Option<(u64, usize)>,
    requests: Vec<(u8, i64)>,
    wake: Vec<(u64, i64)>,
    forget: Option<(i64, u32)>,
    found: Option<usize>,
    close: Option<usize>,
    raise: Option<u64>,
    /// Name, and value if it is set.
    marks: Vec<(usize, Option<u8>)>,
}

fn doing() -> impl Strategy<Value = Doing> {
    let stale = prop::bool::weighted(0.1);
    let history = (
        vec((0..RUNS, 1..4_u32, stale), 0..4),
        any::<bool>(),
        option::weighted(0.3, 0..RUNS),
        vec((0..RUNS, 0..STATES.len(), option::of(0..50_i64)), 0..4),
        option::weighted(0.3, 0..RUNS),
    );
    let others = (
        option::weighted(0.4, (0..6_u64, 0..DECISION_STATES.len())),
        vec((0..KEYS, 0..50_i64), 0..2),
        vec((0..RUNS, 0..50_i64), 0..3),
        option::weighted(0.2, (0..50_i64, 0..3_u32)),
    );
    let projects = (
        option::weighted(0.2, 0..PROJECTS.len()),
        option::weighted(0.2, 0..PROJECTS.len()),
        option::weighted(0.2, 0..8_u64),
        vec((0..MARKS.len(), option::of(0..9_u8)), 0..4),
    );
    (history, others, projects).prop_map(|(history, others, projects)| {
        let (records, published, create, update, snapshot) = history;
        let (decide, requests, wake, forget) = others;
        let (found, close, raise, marks) = projects;
        Doing {
            records,
            published,
            create,
            update,
            snapshot,
            decide,
            requests,
            wake,
            forget,
            found,
            close,
            raise,
            marks,
        }
    })
}

/// Every other one belongs to a project.
fn project_of(number: u64) -> Option<Arc<str>> {
    (number % 2 == 1).then(|| PROJECTS[number as usize % PROJECTS.len()].into())
}

fn deciding(number: u64, state: DecisionState) -> DecisionRow {
    let kind = if number.is_multiple_of(3) { DecisionKind::Clarification } else { DecisionKind::Choice };
    DecisionRow { kind, project: project_of(number), ..decision(number, number % RUNS, state) }
}

/// The batch, built on what the store holds.
async fn batch(store: &dyn Store, doing: &Doing) -> Batch {
    let mut histories = Vec::new();
    for number in 0..RUNS {
        let records = store.records_after(run_id(number), 0, u32::MAX).await.unwrap();
        let newest = records.last().map_or((0, [0; 32]), |record| (record.last_sequence(), record.hash));
        histories.push(History { sequence: newest.0, hash: newest.1, ..History::of(number) });
    }
    let mut log = Vec::new();
    for (run, count, stale) in &doing.records {
        let history = &mut histories[*run as usize];
        let record = if *stale { History::of(*run).next(*count) } else { history.next(*count) };
        log.push(LogRow::Run(record));
    }
    if doing.published {
        log.push(LogRow::Published(published("other", 1)));
    }
    Batch {
        first_position: store.last_position().await.unwrap() + 1,
        log,
        created: doing
            .create
            .map(|number| RunRow { project: project_of(number), ..run_row(number) })
            .into_iter()
            .collect(),
        updated: doing.update.iter().map(|(run, state, wake)| update(*run, STATES[*state], *wake)).collect(),
        snapshots: doing.snapshot.map(|run| snapshot(&histories[run as usize], b"state")).into_iter().collect(),
        decisions: doing.decide.map(|(n, state)| deciding(n, DECISION_STATES[state])).into_iter().collect(),
        requests: doing.requests.iter().map(|(key, at)| request(*key, *at)).collect(),
        blobs: Vec::new(),
        wake: doing.wake.iter().map(|(run, at)| (run_id(*run), *at)).collect(),
        new_projects: doing.found.map(|n| project(PROJECTS[n], n as u64)).into_iter().collect(),
        projects: doing
            .close
            .map(|n| closed(project(PROJECTS[n], n as u64), ProjectState::Completed))
            .into_iter()
            .collect(),
        signals: doing
            .raise
            .map(|n| signal(n, ["A", "B"][n as usize / 4], project_of(n).as_deref()))
            .into_iter()
            .collect(),
        marks: doing
            .marks
            .iter()
            .map(|(n, value)| mark(MARKS[*n], value.map(|value| value.to_string()).as_deref()))
            .collect(),
    }
}

/// What a store answered, comparable.
fn answer(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(mut conflict)) => {
            conflict.runs.sort();
            conflict.projects.sort();
            conflict.requests.sort_by_key(|request| request.key);
            format!("{conflict:?}")
        }
        other => format!("{other:?}"),
    }
}

/// Everything that can be read.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for namespace in ["", "default", "other"] {
        seen.push(format!("{:?}", store.log_after(1, namespace, 20).await.unwrap()));
    }
    for number in 0..RUNS {
        seen.push(format!("{:?}", store.load(run_id(number)).await.unwrap()));
        seen.push(format!("{:?}", store.run(run_id(number)).await.unwrap()));
        seen.push(format!("{:?}", store.records_after(run_id(number), 3, 2).await.unwrap()));
    }
    let namespace: Arc<str> = "default".into();
    for states in [vec![], vec![RunState::Failed], vec![RunState::Running, RunState::Failed]] {
        for project in [None, project_of(1)] {
            let (namespace, states) = (namespace.clone(), states.clone());
            let query = RunQuery { namespace, workflow: None, states, project, before: None, limit: 3 };
            seen.push(format!("{:?}", store.runs(&query).await.unwrap()));
        }
    }
    for state in [None, Some(DecisionState::Open)] {
        for (kind, project) in [(None, None), (Some(DecisionKind::Clarification), None), (None, project_of(3))] {
            let namespace = namespace.clone();
            let query = DecisionQuery { namespace, run: None, state, kind, project, before: None, limit: 4 };
            seen.push(format!("{:?}", store.decisions(&query).await.unwrap()));
        }
    }
    for state in [None, Some(ProjectState::Active), Some(ProjectState::Completed)] {
        let query = ProjectQuery { namespace: namespace.clone(), state, before: None, limit: 2 };
        seen.push(format!("{:?}", store.projects(&query).await.unwrap()));
    }
    for project in PROJECTS {
        seen.push(format!("{:?}", store.project("default", project).await.unwrap()));
        seen.push(format!("{:?}", store.run_counts("default", project).await.unwrap()));
    }
    for (kind, project) in
        [(None, None), (Some("A".into()), None), (None, project_of(1)), (Some("B".into()), project_of(5))]
    {
        let query = SignalQuery { namespace: namespace.clone(), kind, project, before: None, limit: 3 };
        seen.push(format!("{:?}", store.signals(&query).await.unwrap()));
    }
    for (prefix, after) in [("", ""), ("a", ""), ("a/", ""), ("a/", "a/b"), ("", "a/b")] {
        seen.push(format!("{:?}", store.marks(prefix, after, 3).await.unwrap()));
    }
    for key in 0..KEYS {
        seen.push(format!("{:?}", store.request(&[key; 16]).await.unwrap()));
    }
    seen.push(format!("{:?}", store.due(25, 3).await.unwrap()));
    seen.push(format!("{:?}", store.last_position().await.unwrap()));
    seen
}

async fn agree(doings: Vec<Doing>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = SqliteStore::open(folder.path()).await.unwrap();
    let memory = MemoryStore::new();
    for doing in doings {
        let batch = std::sync::Arc::new(batch(&memory, &doing).await);
        assert_eq!(answer(disk.commit(batch.clone()).await), answer(memory.commit(batch).await), "{doing:?}");
        if let Some((before, limit)) = doing.forget {
            let forgotten = memory.forget_requests(before, limit).await.unwrap();
            assert_eq!(disk.forget_requests(before, limit).await.unwrap(), forgotten);
        }
        assert_eq!(everything(&disk).await, everything(&memory).await, "{doing:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_and_memory_agree(doings in vec(doing(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(doings));
    }
}
