use consort_core::ports::{Batch, LogRow, ProjectRow, ProjectState, Store, StoreError};

use crate::build::{
    History, append, begin, closed, commit, conflict, mark, project, published, request, run_id, run_row, signal,
    snapshot,
};

pub(super) async fn a_taken_sequence_is_refused_by_name(store: &dyn Store) {
    let mut winner = begin(store, run_row(1)).await;
    let mut loser = History { ..begin(store, run_row(2)).await };
    let mut stale = History { hash: winner.hash, sequence: 1, ..History::of(1) };
    append(store, vec![LogRow::Run(winner.next(2))]).await.unwrap();
    let conflict = conflict(append(store, vec![LogRow::Run(loser.next(1)), LogRow::Run(stale.next(1))]).await);
    assert_eq!((conflict.runs, conflict.requests.len()), (vec![run_id(1)], 0));
    assert_eq!(store.last_position().await.unwrap(), 3);
}

pub(super) async fn a_run_cannot_begin_twice(store: &dyn Store) {
    begin(store, run_row(1)).await;
    let log = vec![LogRow::Run(History::of(1).next(1))];
    let again = Batch { log, created: vec![run_row(1)], ..Batch::default() };
    assert_eq!(conflict(commit(store, again).await).runs, [run_id(1)]);
}

pub(super) async fn a_taken_request_is_refused_with_what_is_stored(store: &dyn Store) {
    let first = request(1, 10);
    commit(store, Batch { requests: vec![first.clone()], ..Batch::default() }).await.unwrap();
    let mut second = request(1, 20);
    second.answer = b"other".to_vec();
    let requests = vec![request(2, 20), second];
    let conflict = conflict(commit(store, Batch { requests, ..Batch::default() }).await);
    assert_eq!(conflict.requests, std::slice::from_ref(&first));
    assert_eq!(conflict.runs, []);
    assert_eq!(store.request(&first.key).await.unwrap(), Some(first));
    assert_eq!(store.request(&[2; 16]).await.unwrap(), None);
}

pub(super) async fn every_collision_is_named(store: &dyn Store) {
    for number in 1..=3 {
        begin(store, run_row(number)).await;
    }
    let requests = vec![request(1, 10), request(2, 10)];
    commit(store, Batch { requests: requests.clone(), ..Batch::default() }).await.unwrap();
    let log = (1..=4).map(|number| LogRow::Run(History::of(number).next(1))).collect();
    let requests_again = vec![request(3, 10), request(2, 10), request(1, 10)];
    let mut conflict = conflict(commit(store, Batch { log, requests: requests_again, ..Batch::default() }).await);
    conflict.requests.sort_by_key(|request| request.key);
    conflict.runs.sort();
    assert_eq!(conflict.requests, requests);
    assert_eq!(conflict.runs, [run_id(1), run_id(2), run_id(3)]);
}

pub(super) async fn a_refused_batch_leaves_nothing(store: &dyn Store) {
    let old = begin(store, run_row(1)).await;
    let requests = vec![request(1, 10)];
    let (new_projects, marks) = (vec![project("old", 1)], vec![mark("a", Some("1"))]);
    commit(store, Batch { requests, new_projects, marks, ..Batch::default() }).await.unwrap();
    let mut new = History::of(2);
    let batch = Batch {
        log: vec![LogRow::Run(new.next(1)), LogRow::Published(published("default", 1))],
        created: vec![run_row(2)],
        snapshots: vec![snapshot(&old, b"state")],
        requests: vec![request(2, 10), request(1, 10)],
        wake: vec![(run_id(1), 0)],
        new_projects: vec![project("new", 2)],
        projects: vec![closed(project("old", 1), ProjectState::Stopped)],
        signals: vec![signal(1, "QUALITY_ISSUE", None)],
        marks: vec![mark("a", Some("2")), mark("b", Some("1"))],
        ..Batch::default()
    };
    conflict(commit(store, batch).await);
    assert_eq!(store.last_position().await.unwrap(), 1);
    assert!(store.load(run_id(2)).await.unwrap().is_none());
    assert_eq!(store.run(run_id(2)).await.unwrap(), None);
    assert_eq!(store.load(run_id(1)).await.unwrap().unwrap().snapshot, None);
    assert_eq!(store.request(&[2; 16]).await.unwrap(), None);
    assert_eq!(store.due(i64::MAX, 10).await.unwrap(), []);
    assert_eq!(store.project("default", "new").await.unwrap(), None);
    assert_eq!(store.project("default", "old").await.unwrap(), Some(project("old", 1)));
    assert_eq!(store.signal(signal(1, "", None).id).await.unwrap(), None);
    assert_eq!(store.marks("", "", 10).await.unwrap(), [mark("a", Some("1"))]);
    // And the store goes on.
    begin(store, run_row(2)).await;
    assert_eq!(store.last_position().await.unwrap(), 2);
}

pub(super) async fn a_taken_project_is_refused_by_name(store: &dyn Store) {
    let elsewhere = ProjectRow { namespace: "other".into(), ..project("c", 3) };
    let new_projects = vec![project("a", 1), project("b", 2), elsewhere];
    commit(store, Batch { new_projects, ..Batch::default() }).await.unwrap();

    let again = || vec![project("c", 9), project("b", 8), project("a", 7)];
    let log = vec![LogRow::Published(published("default", 1))];
    let mut all = conflict(commit(store, Batch { log, new_projects: again(), ..Batch::default() }).await);
    all.projects.sort();
    assert_eq!(all.projects, [("default".into(), "a".into()), ("default".into(), "b".into())]);
    assert_eq!((all.runs.len(), all.requests.len()), (0, 0));
    assert_eq!(store.last_position().await.unwrap(), 0);
    assert_eq!(store.project("default", "c").await.unwrap(), None);
    assert_eq!(store.project("default", "a").await.unwrap(), Some(project("a", 1)));

    // Together with other guards, all are named, also if the log has moved on.
    let requests = vec![request(1, 10)];
    commit(store, Batch { requests: requests.clone(), ..Batch::default() }).await.unwrap();
    append(store, vec![LogRow::Published(published("default", 1))]).await.unwrap();
    let log = vec![LogRow::Published(published("default", 2))];
    let late = Batch { first_position: 1, log, new_projects: again(), requests: requests.clone(), ..Batch::default() };
    let both = conflict(store.commit(late.into()).await);
    assert_eq!((both.projects.len(), both.requests), (2, requests));
}

pub(super) async fn a_known_signal_is_no_conflict(store: &dyn Store) {
    let first = signal(1, "QUALITY_ISSUE", None);
    commit(store, Batch { signals: vec![first.clone()], ..Batch::default() }).await.unwrap();
    let signals = vec![signal(2, "REQUIREMENT", None), signal(1, "REQUIREMENT", None)];
    match commit(store, Batch { signals, ..Batch::default() }).await {
        Err(StoreError::Corrupt(message)) => assert!(message.contains(&first.id.to_string()), "{message}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(store.signal(first.id).await.unwrap(), Some(first));
    assert_eq!(store.signal(signal(2, "", None).id).await.unwrap(), None);
}

pub(super) async fn a_gap_in_positions_is_refused(store: &dyn Store) {
    begin(store, run_row(1)).await;
    for first_position in [1, 3] {
        let log = vec![LogRow::Published(published("default", 1))];
        match store.commit(Batch { first_position, log, ..Batch::default() }.into()).await {
            Err(StoreError::Corrupt(message)) => {
                assert!(message.contains("ends at position 1"), "{message}");
                assert!(message.contains(&format!("begins at {first_position}")), "{message}");
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    assert_eq!(store.last_position().await.unwrap(), 1);
}

pub(super) async fn a_batch_that_contradicts_itself_is_no_conflict(store: &dyn Store) {
    let record = History::of(1).next(1);
    let twice = [
        Batch { requests: vec![request(1, 10), request(1, 20)], ..Batch::default() },
        Batch { log: vec![LogRow::Run(record.clone()), LogRow::Run(record)], ..Batch::default() },
        Batch { created: vec![run_row(1), run_row(1)], ..Batch::default() },
        Batch { new_projects: vec![project("a", 1), project("a", 2)], ..Batch::default() },
        Batch { signals: vec![signal(1, "A", None), signal(1, "B", None)], ..Batch::default() },
    ];
    for batch in twice {
        match commit(store, batch).await {
            Err(StoreError::Corrupt(message)) => assert!(message.contains("twice"), "{message}"),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    assert_eq!(store.last_position().await.unwrap(), 0);
    assert_eq!(store.run(run_id(1)).await.unwrap(), None);
}
