use consort_core::ports::{Store, WorkflowRow};
use futures::future::join_all;

use crate::build::workflow;

async fn revisions(store: &dyn Store, id: &str, before: Option<u64>, limit: u32) -> Vec<u64> {
    let rows = store.revisions("default", id, before, limit).await.unwrap();
    rows.into_iter().map(|row| row.revision).collect()
}

pub(super) async fn revisions_count_from_one(store: &dyn Store) {
    for (revision, source) in (1..).zip(["a", "b", "a"]) {
        let applied = store.apply(&workflow("audit", source)).await.unwrap();
        assert_eq!(applied, WorkflowRow { revision, ..workflow("audit", source) });
        assert_eq!(store.workflow("default", "audit", None).await.unwrap(), Some(applied));
    }
    let second = store.workflow("default", "audit", Some(2)).await.unwrap();
    assert_eq!(second, Some(WorkflowRow { revision: 2, ..workflow("audit", "b") }));
    for missing in [0, 4, u64::MAX] {
        assert_eq!(store.workflow("default", "audit", Some(missing)).await.unwrap(), None);
    }
    assert_eq!(store.workflow("other", "audit", None).await.unwrap(), None);
    assert_eq!(revisions(store, "audit", None, 10).await, [3, 2, 1]);
    assert_eq!(revisions(store, "audit", Some(3), 1).await, [2]);
    assert_eq!(revisions(store, "other", None, 10).await, [0; 0]);
}

pub(super) async fn the_same_digest_makes_no_revision(store: &dyn Store) {
    let first = store.apply(&workflow("audit", "a")).await.unwrap();
    let again = WorkflowRow { created_at: 99, created_by: "lee".into(), ..workflow("audit", "a") };
    assert_eq!(store.apply(&again).await.unwrap(), first);
    assert_eq!(revisions(store, "audit", None, 10).await, [1]);
}

pub(super) async fn a_deleted_workflow_has_no_newest_revision(store: &dyn Store) {
    assert!(!store.delete("default", "audit").await.unwrap());
    store.apply(&workflow("audit", "a")).await.unwrap();
    assert!(!store.delete("other", "audit").await.unwrap());
    assert!(store.delete("default", "audit").await.unwrap());
    assert!(!store.delete("default", "audit").await.unwrap());
    assert_eq!(store.workflow("default", "audit", None).await.unwrap(), None);
    assert!(store.workflow("default", "audit", Some(1)).await.unwrap().is_some());
    assert_eq!(store.workflows("default", "", 10).await.unwrap(), []);
    assert_eq!(revisions(store, "audit", None, 10).await, [1]);
    // The same source again is a new revision, and the workflow is back.
    assert_eq!(store.apply(&workflow("audit", "a")).await.unwrap().revision, 2);
    assert_eq!(store.workflow("default", "audit", None).await.unwrap().unwrap().revision, 2);
}

pub(super) async fn workflows_are_listed_by_id(store: &dyn Store) {
    for (id, source) in [("c", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("gone", "1")] {
        store.apply(&workflow(id, source)).await.unwrap();
    }
    store.apply(&WorkflowRow { namespace: "other".into(), ..workflow("d", "1") }).await.unwrap();
    store.delete("default", "gone").await.unwrap();
    let listed = async |after, limit| -> Vec<(String, u64)> {
        let rows = store.workflows("default", after, limit).await.unwrap();
        rows.into_iter().map(|row| (row.id.to_string(), row.revision)).collect()
    };
    assert_eq!(listed("", 10).await, [("a".into(), 2), ("b".into(), 1), ("c".into(), 1)]);
    assert_eq!(listed("a", 1).await, [("b".into(), 1)]);
    assert_eq!(listed("c", 10).await, []);
}

pub(super) async fn concurrent_applies_make_one_revision_each(store: &dyn Store) {
    let rows: Vec<WorkflowRow> = (0..8).map(|n| workflow("audit", &n.to_string())).collect();
    let applied = join_all(rows.iter().map(|row| store.apply(row))).await;
    let mut numbers: Vec<u64> = applied.into_iter().map(|row| row.unwrap().revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

pub(super) async fn triggered_workflows_are_listed_over_all_namespaces(store: &dyn Store) {
    let apply = async |namespace: &str, id: &str, source: &str, triggers| {
        let row = WorkflowRow { namespace: namespace.into(), triggers, ..workflow(id, source) };
        let applied = store.apply(&row).await.unwrap();
        assert_eq!(applied.triggers, triggers);
    };
    for (namespace, id) in [("b", "a"), ("a", "z"), ("a", "b"), ("a", "gone"), ("b", "c")] {
        apply(namespace, id, "1", true).await;
    }
    apply("a", "plain", "1", false).await;
    // Only the newest revision counts.
    apply("b", "c", "2", false).await;
    apply("a", "z", "2", true).await;
    apply("a", "b", "2", false).await;
    apply("a", "b", "3", true).await;
    store.delete("a", "gone").await.unwrap();
    let listed = async |after, limit| -> Vec<(String, String, u64)> {
        let rows = store.triggered(after, limit).await.unwrap();
        assert!(rows.iter().all(|row| row.triggers));
        rows.into_iter().map(|row| (row.namespace.to_string(), row.id.to_string(), row.revision)).collect()
    };
    let row = |namespace: &str, id: &str, revision| (namespace.to_owned(), id.to_owned(), revision);
    let all = [row("a", "b", 3), row("a", "z", 2), row("b", "a", 1)];
    assert_eq!(listed(("", ""), 10).await, all);
    assert_eq!(listed(("", ""), 2).await, all[..2]);
    assert_eq!(listed(("a", "b"), 10).await, all[1..]);
    assert_eq!(listed(("a", "zz"), 10).await, all[2..]);
    assert_eq!(listed(("b", "a"), 10).await, []);
    assert!(store.workflow("a", "b", Some(1)).await.unwrap().unwrap().triggers);
    // The same source brings a deleted one back.
    apply("a", "gone", "1", true).await;
    assert_eq!(listed(("a", "b"), 1).await, [row("a", "gone", 2)]);
}
