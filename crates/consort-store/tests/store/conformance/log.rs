use consort_core::ports::{Batch, LogRow, Store};

use crate::build::{History, append, published, run_id};

pub(super) async fn an_empty_log_ends_at_zero(store: &dyn Store) {
    assert_eq!(store.last_position().await.unwrap(), 0);
    assert_eq!(store.log_after(0, "", 10).await.unwrap(), []);
}

pub(super) async fn rows_come_back_as_they_went_in(store: &dyn Store) {
    let mut child = History { root: run_id(9), ..History::of(1) };
    let rows = vec![
        LogRow::Run(child.next(3)),
        LogRow::Published(published("default", 1)),
        LogRow::Run(History::of(2).next(1)),
        LogRow::Run(child.next(2)),
    ];
    append(store, rows.clone()).await.unwrap();
    let expected: Vec<(u64, LogRow)> = (1..).zip(rows).collect();
    assert_eq!(store.log_after(0, "", 10).await.unwrap(), expected);
    assert_eq!(store.last_position().await.unwrap(), 4);
}

pub(super) async fn pages_follow_each_other(store: &dyn Store) {
    append(store, (0..7).map(|n| LogRow::Published(published("default", n))).collect()).await.unwrap();
    let (mut position, mut seen) = (0, Vec::new());
    loop {
        let page = store.log_after(position, "", 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some((last, _)) = page.last() else { break };
        position = *last;
        seen.extend(page.into_iter().map(|(position, _)| position));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
}

pub(super) async fn a_namespace_sees_its_own_rows(store: &dyn Store) {
    let mut red = History { namespace: "red".into(), ..History::of(1) };
    let rows = vec![
        LogRow::Published(published("blue", 1)),
        LogRow::Run(red.next(1)),
        LogRow::Published(published("red", 2)),
        LogRow::Published(published("blue", 3)),
    ];
    append(store, rows).await.unwrap();
    let positions = async |after, namespace, limit| -> Vec<u64> {
        store.log_after(after, namespace, limit).await.unwrap().into_iter().map(|(position, _)| position).collect()
    };
    assert_eq!(positions(0, "red", 10).await, [2, 3]);
    assert_eq!(positions(1, "blue", 10).await, [4]);
    assert_eq!(positions(0, "blue", 1).await, [1]);
    assert_eq!(positions(0, "green", 10).await, [0; 0]);
}

pub(super) async fn an_empty_batch_changes_nothing(store: &dyn Store) {
    store.commit(Batch { first_position: 41, ..Batch::default() }.into()).await.unwrap();
    assert_eq!(store.last_position().await.unwrap(), 0);
}

pub(super) async fn many_rows_keep_their_order(store: &dyn Store) {
    let mut histories: Vec<History> = (0..10).map(History::of).collect();
    let mut expected = Vec::new();
    // Sizes around those of the prepared statements.
    for size in [1, 255, 257, 1_023] {
        let rows: Vec<LogRow> = (0..size).map(|n| LogRow::Run(histories[n % 10].next(1))).collect();
        append(store, rows.clone()).await.unwrap();
        expected.extend(rows);
    }
    let stored = store.log_after(0, "", 10_000).await.unwrap();
    assert_eq!(stored.len(), expected.len());
    for (index, ((position, row), expected)) in stored.iter().zip(&expected).enumerate() {
        assert_eq!((*position, row), (index as u64 + 1, expected));
    }
}
