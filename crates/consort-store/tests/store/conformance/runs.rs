use std::collections::BTreeMap;

use consort_core::ids::Millis;
use consort_core::ports::{Batch, LogRow, RunQuery, RunRow, Store};
use consort_core::run::RunState;

use crate::build::{History, append, begin, commit, request, run_id, run_row, snapshot, update};

fn all(limit: u32) -> RunQuery {
    RunQuery { namespace: "default".into(), workflow: None, states: vec![], project: None, before: None, limit }
}

async fn listed(store: &dyn Store, query: &RunQuery) -> Vec<u64> {
    store.runs(query).await.unwrap().into_iter().map(|run| run.id.0.as_u64_pair().1).collect()
}

async fn wake_at(store: &dyn Store, number: u64) -> Option<Millis> {
    store.run(run_id(number)).await.unwrap().unwrap().wake_at
}

pub(super) async fn an_unknown_run_is_absent(store: &dyn Store) {
    assert_eq!(store.run(run_id(1)).await.unwrap(), None);
    assert!(store.load(run_id(1)).await.unwrap().is_none());
    assert_eq!(store.records_after(run_id(1), 0, 10).await.unwrap(), []);
    assert_eq!(store.request(&[1; 16]).await.unwrap(), None);
    assert_eq!(store.decision(run_id(1).0).await.unwrap(), None);
    assert_eq!(store.runs(&all(10)).await.unwrap(), []);
    assert_eq!(store.due(i64::MAX, 10).await.unwrap(), []);
}

pub(super) async fn a_row_comes_back_with_its_sequence(store: &dyn Store) {
    let row = RunRow {
        parent: Some(run_id(9)),
        project: Some("öl".into()),
        labels: BTreeMap::from([("team".into(), "öl & \"co\"".into()), ("a".into(), String::new())]),
        wake_at: Some(0),
        // What a writer says about it does not count.
        sequence: 999,
        ..run_row(1)
    };
    let mut history = begin(store, row.clone()).await;
    assert_eq!(store.run(run_id(1)).await.unwrap(), Some(RunRow { sequence: 1, ..row.clone() }));

    let change = update(1, RunState::Failed, None);
    let (log, updated) = (vec![LogRow::Run(history.next(4))], vec![change.clone()]);
    commit(store, Batch { log, updated, ..Batch::default() }).await.unwrap();
    let changed = RunRow {
        state: RunState::Failed,
        sequence: 5,
        updated_at: 9_000,
        ended_at: Some(9_001),
        wake_at: None,
        error: change.error,
        ..row
    };
    assert_eq!(store.run(run_id(1)).await.unwrap(), Some(changed.clone()));
    assert_eq!(store.runs(&all(10)).await.unwrap(), [changed]);
}

pub(super) async fn the_last_update_of_a_batch_counts(store: &dyn Store) {
    begin(store, run_row(1)).await;
    let states = [RunState::Waiting, RunState::Paused, RunState::Running, RunState::Cancelled];
    let updated = states.into_iter().map(|state| update(1, state, Some(state as Millis))).collect();
    commit(store, Batch { updated, created: vec![run_row(2)], ..Batch::default() }).await.unwrap();
    let run = store.run(run_id(1)).await.unwrap().unwrap();
    assert_eq!((run.state, run.wake_at), (RunState::Cancelled, Some(RunState::Cancelled as Millis)));
}

pub(super) async fn updates_of_unknown_runs_do_nothing(store: &dyn Store) {
    let updated = vec![update(1, RunState::Running, Some(1))];
    commit(store, Batch { updated, wake: vec![(run_id(2), 1)], ..Batch::default() }).await.unwrap();
    assert_eq!(store.run(run_id(1)).await.unwrap(), None);
    assert_eq!(store.due(i64::MAX, 10).await.unwrap(), []);
}

pub(super) async fn pages_are_newest_first(store: &dyn Store) {
    // Two runs began in the same millisecond: their ids decide.
    for number in [3, 1, 2, 5, 4] {
        begin(store, RunRow { created_at: 1_000 + (number / 2) as Millis, ..run_row(number) }).await;
    }
    begin(store, RunRow { namespace: "other".into(), ..run_row(6) }).await;
    assert_eq!(listed(store, &all(10)).await, [5, 4, 3, 2, 1]);
    let mut query = all(2);
    let mut seen = Vec::new();
    loop {
        let page = store.runs(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        query.before = Some((last.created_at, last.id));
        seen.extend(page.into_iter().map(|run| run.id.0.as_u64_pair().1));
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

pub(super) async fn pages_filter_by_workflow_and_state(store: &dyn Store) {
    use RunState::{Cancelled, Failed, Paused, Pending, Running, Succeeded, Waiting};
    for (number, state) in (1..).zip([Pending, Running, Waiting, Paused, Succeeded, Failed, Cancelled]) {
        begin(store, RunRow { state, ..run_row(number) }).await;
    }
    begin(store, RunRow { workflow: "other".into(), state: Failed, ..run_row(8) }).await;
    let query = |workflow: Option<&str>, states: &[RunState]| RunQuery {
        workflow: workflow.map(Into::into),
        states: states.to_vec(),
        ..all(10)
    };
    assert_eq!(listed(store, &query(None, &[Failed])).await, [8, 6]);
    assert_eq!(listed(store, &query(None, &[Cancelled, Failed])).await, [8, 7, 6]);
    assert_eq!(listed(store, &query(Some("audit"), &[Cancelled, Failed])).await, [7, 6]);
    assert_eq!(listed(store, &query(None, &[Pending, Failed])).await, [8, 6, 1]);
    assert_eq!(listed(store, &query(None, &[Running, Waiting, Paused, Succeeded])).await, [5, 4, 3, 2]);
    assert_eq!(listed(store, &query(Some("other"), &[])).await, [8]);
    assert_eq!(listed(store, &query(Some("none"), &[])).await, [0; 0]);
    let after_seven = RunQuery { before: Some((1_007, run_id(7))), ..query(None, &[Cancelled, Failed]) };
    assert_eq!(listed(store, &after_seven).await, [6]);
}

pub(super) async fn pages_filter_by_project(store: &dyn Store) {
    use RunState::{Failed, Running};
    for number in 1..=9 {
        let project = ["a", "b", "a%"][number as usize % 3];
        let state = if number > 5 { Failed } else { Running };
        begin(store, RunRow { project: Some(project.into()), state, ..run_row(number) }).await;
    }
    begin(store, run_row(10)).await;
    begin(store, RunRow { namespace: "other".into(), project: Some("a".into()), ..run_row(11) }).await;
    let of = |project: &str| RunQuery { project: Some(project.into()), ..all(10) };
    assert_eq!(listed(store, &of("a")).await, [9, 6, 3]);
    assert_eq!(listed(store, &of("b")).await, [7, 4, 1]);
    assert_eq!(listed(store, &of("a%")).await, [8, 5, 2]);
    assert_eq!(listed(store, &of("c")).await, [0; 0]);
    assert_eq!(listed(store, &all(20)).await, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    let page = RunQuery { before: Some((1_009, run_id(9))), limit: 1, ..of("a") };
    assert_eq!(listed(store, &page).await, [6]);
    assert_eq!(listed(store, &RunQuery { states: vec![Failed], ..of("a") }).await, [9, 6]);
    let before = Some((1_009, run_id(9)));
    assert_eq!(listed(store, &RunQuery { states: vec![Failed], before, ..of("a") }).await, [6]);
    assert_eq!(listed(store, &RunQuery { states: vec![Running], ..of("a") }).await, [3]);
    assert_eq!(listed(store, &RunQuery { workflow: Some("none".into()), ..of("a") }).await, [0; 0]);
}

pub(super) async fn due_runs_come_soonest_first(store: &dyn Store) {
    for (number, wake_at) in [(1, Some(30)), (2, None), (3, Some(0)), (4, Some(20)), (5, Some(20))] {
        begin(store, RunRow { wake_at, ..run_row(number) }).await;
    }
    assert_eq!(store.due(19, 10).await.unwrap(), [run_id(3)]);
    assert_eq!(store.due(30, 10).await.unwrap(), [run_id(3), run_id(4), run_id(5), run_id(1)]);
    assert_eq!(store.due(30, 2).await.unwrap(), [run_id(3), run_id(4)]);
    let updated = vec![update(3, RunState::Waiting, None), update(2, RunState::Waiting, Some(25))];
    commit(store, Batch { updated, ..Batch::default() }).await.unwrap();
    assert_eq!(store.due(25, 10).await.unwrap(), [run_id(4), run_id(5), run_id(2)]);
}

pub(super) async fn a_wake_up_only_moves_forward(store: &dyn Store) {
    for (number, wake_at) in [(1, None), (2, Some(50)), (3, Some(5))] {
        begin(store, RunRow { wake_at, ..run_row(number) }).await;
    }
    // The earliest of several wake-ups in one batch counts, and it comes after the updates of the batch.
    let wake = vec![(run_id(1), 20), (run_id(1), 10), (run_id(2), 10), (run_id(3), 10), (run_id(1), 15)];
    commit(store, Batch { wake, ..Batch::default() }).await.unwrap();
    assert_eq!(wake_at(store, 1).await, Some(10));
    assert_eq!(wake_at(store, 2).await, Some(10));
    assert_eq!(wake_at(store, 3).await, Some(5));
    let updated = vec![update(1, RunState::Waiting, None)];
    commit(store, Batch { updated, wake: vec![(run_id(1), 70)], ..Batch::default() }).await.unwrap();
    assert_eq!(wake_at(store, 1).await, Some(70));
}

pub(super) async fn loading_reads_the_snapshot_and_what_follows(store: &dyn Store) {
    let mut history = begin(store, run_row(1)).await;
    begin(store, run_row(2)).await;
    let second = history.next(2);
    append(store, vec![LogRow::Run(second.clone())]).await.unwrap();
    let stored = store.load(run_id(1)).await.unwrap().unwrap();
    assert_eq!(stored.snapshot, None);
    assert_eq!(stored.records.len(), 2);
    assert_eq!(stored.records[1], second);

    for body in [b"old".as_slice(), b"\x00new\xff"] {
        let log = vec![LogRow::Run(history.next(3))];
        let snapshots = vec![snapshot(&history, body)];
        commit(store, Batch { log, snapshots, ..Batch::default() }).await.unwrap();
    }
    let newest = snapshot(&history, b"\x00new\xff");
    let stored = store.load(run_id(1)).await.unwrap().unwrap();
    assert_eq!((stored.snapshot, stored.records.len()), (Some(newest.clone()), 0));

    let after = history.next(1);
    append(store, vec![LogRow::Run(after.clone())]).await.unwrap();
    let stored = store.load(run_id(1)).await.unwrap().unwrap();
    assert_eq!((stored.snapshot, stored.records), (Some(newest), vec![after]));
}

pub(super) async fn records_begin_at_the_one_that_contains_the_event(store: &dyn Store) {
    let (mut history, mut other) = (History::of(1), History::of(2));
    // Events 1-3, 4, 5-8.
    let records = [history.next(3), history.next(1), history.next(4)];
    let mut log: Vec<LogRow> = records.iter().cloned().map(LogRow::Run).collect();
    log.insert(1, LogRow::Run(other.next(5)));
    append(store, log).await.unwrap();
    let first = [0, 0, 0, 1, 2, 2, 2, 2];
    for (after, first) in (0..).zip(first) {
        assert_eq!(store.records_after(run_id(1), after, 10).await.unwrap(), records[first..], "after {after}");
    }
    assert_eq!(store.records_after(run_id(1), 8, 10).await.unwrap(), []);
    assert_eq!(store.records_after(run_id(1), 1, 2).await.unwrap(), records[..2]);
}

pub(super) async fn requests_are_found_and_forgotten(store: &dyn Store) {
    let requests = vec![request(1, 30), request(2, 10), request(3, 20), request(4, 40)];
    commit(store, Batch { requests: requests.clone(), ..Batch::default() }).await.unwrap();
    assert_eq!(store.request(&[3; 16]).await.unwrap().as_ref(), Some(&requests[2]));
    assert_eq!(store.forget_requests(10, 10).await.unwrap(), 0);
    assert_eq!(store.forget_requests(40, 2).await.unwrap(), 2);
    let left = async |number: u8| store.request(&[number; 16]).await.unwrap().is_some();
    assert_eq!((left(1).await, left(2).await, left(3).await, left(4).await), (true, false, false, true));
    assert_eq!(store.forget_requests(40, 10).await.unwrap(), 1);
    // A forgotten key is free again.
    commit(store, Batch { requests: vec![request(2, 50)], ..Batch::default() }).await.unwrap();
    assert_eq!(store.request(&[2; 16]).await.unwrap().unwrap().at, 50);
}
