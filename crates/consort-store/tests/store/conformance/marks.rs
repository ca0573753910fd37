use consort_core::ports::{Batch, LogRow, Mark, Store};

use crate::build::{commit, conflict, mark, published, request};

async fn named(store: &dyn Store, prefix: &str, after: &str, limit: u32) -> Vec<String> {
    store.marks(prefix, after, limit).await.unwrap().into_iter().map(|mark| mark.name).collect()
}

fn all(names: &[&str]) -> Vec<Mark> {
    names.iter().map(|name| mark(name, Some("{}"))).collect()
}

pub(super) async fn marks_are_set_replaced_and_removed(store: &dyn Store) {
    assert_eq!(store.marks("", "", 10).await.unwrap(), []);
    store.set_marks(&[]).await.unwrap();
    let (a, b) = (mark("a", Some("{\"at\": 1}")), mark("b/ü", Some("")));
    store.set_marks(&[b.clone(), a.clone()]).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), [a.clone(), b.clone()]);
    let changed = mark("a", Some("{\"at\": 2}"));
    store.set_marks(&[changed.clone(), mark("none", None)]).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), [changed, b]);
    store.set_marks(&[mark("a", None), mark("c", Some("3"))]).await.unwrap();
    assert_eq!(named(store, "", "", 10).await, ["b/ü", "c"]);
    store.set_marks(&[mark("b/ü", None), mark("c", None)]).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), []);
}

pub(super) async fn marks_are_paged_by_prefix(store: &dyn Store) {
    let names =
        ["group/b", "schedule/a", "schedule", "schedule/b/0", "schedule/b", "schedule/é", "signal/a", "schedule0"];
    store.set_marks(&all(&names)).await.unwrap();
    let schedules = ["schedule/a", "schedule/b", "schedule/b/0", "schedule/é"];
    assert_eq!(named(store, "schedule/", "", 10).await, schedules);
    assert_eq!(named(store, "schedule/", "", 2).await, schedules[..2]);
    assert_eq!(named(store, "schedule/", "schedule/b", 2).await, schedules[2..]);
    assert_eq!(named(store, "schedule/", "schedule/aa", 1).await, schedules[1..2]);
    assert_eq!(named(store, "schedule/", "schedule/é", 10).await, [""; 0]);
    assert_eq!(named(store, "schedule/", "", 0).await, [""; 0]);
    // A name outside the prefix is before or behind all of it.
    assert_eq!(named(store, "schedule/", "a", 10).await, schedules);
    assert_eq!(named(store, "schedule/", "z", 10).await, [""; 0]);
    assert_eq!(named(store, "schedule/b/0", "", 10).await, ["schedule/b/0"]);
    assert_eq!(named(store, "zzz", "", 10).await, [""; 0]);
    assert_eq!(named(store, "", "", 100).await.len(), names.len());
    assert_eq!(named(store, "", "schedule/é", 10).await, ["schedule0", "signal/a"]);
}

pub(super) async fn a_prefix_is_literal(store: &dyn Store) {
    store.set_marks(&all(&["a%b", "a_b", "axb", "A_b", "a*b", "a[b", "\u{10ffff}a", "\u{10ffff}b"])).await.unwrap();
    for (prefix, expected) in [("a_", "a_b"), ("a%", "a%b"), ("a*", "a*b"), ("a[", "a[b"), ("A", "A_b")] {
        assert_eq!(named(store, prefix, "", 10).await, [expected]);
    }
    assert_eq!(named(store, "\u{10ffff}", "", 10).await, ["\u{10ffff}a", "\u{10ffff}b"]);
}

pub(super) async fn the_last_mark_of_a_name_counts(store: &dyn Store) {
    let marks = [mark("a", Some("1")), mark("b", None), mark("a", None), mark("b", Some("2")), mark("c", Some("3"))];
    store.set_marks(&marks).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), [mark("b", Some("2")), mark("c", Some("3"))]);
}

pub(super) async fn a_batch_brings_its_marks(store: &dyn Store) {
    store.set_marks(&all(&["gone"])).await.unwrap();
    let marks = vec![mark("a", Some("1")), mark("gone", None), mark("a", Some("2"))];
    let log = vec![LogRow::Published(published("default", 1))];
    commit(store, Batch { log, marks, ..Batch::default() }).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), [mark("a", Some("2"))]);
    // Alone, too.
    commit(store, Batch { marks: vec![mark("a", None)], ..Batch::default() }).await.unwrap();
    assert_eq!(store.marks("", "", 10).await.unwrap(), []);
}

pub(super) async fn a_refused_batch_sets_no_marks(store: &dyn Store) {
    store.set_marks(&all(&["kept"])).await.unwrap();
    commit(store, Batch { requests: vec![request(1, 1)], ..Batch::default() }).await.unwrap();
    let marks = vec![mark("new", Some("1")), mark("kept", None)];
    conflict(commit(store, Batch { requests: vec![request(1, 1)], marks, ..Batch::default() }).await);
    assert_eq!(store.marks("", "", 10).await.unwrap(), all(&["kept"]));
}
