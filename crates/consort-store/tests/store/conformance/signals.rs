use consort_core::ports::{Batch, SignalQuery, SignalRow, Store};

use crate::build::{commit, signal};

async fn raise(store: &dyn Store, signals: Vec<SignalRow>) {
    commit(store, Batch { signals, ..Batch::default() }).await.unwrap();
}

pub(super) async fn a_signal_comes_back(store: &dyn Store) {
    let mut bare = signal(2, "REQUIREMENT", None);
    bare.signal.agent = None;
    bare.signal.description = "More.\n".into();
    bare.runs.clear();
    assert_eq!(store.signal(bare.id).await.unwrap(), None);
    let full = signal(1, "QUALITY_ISSUE", Some("oil"));
    raise(store, vec![full.clone(), bare.clone()]).await;
    assert_eq!(store.signal(full.id).await.unwrap(), Some(full));
    assert_eq!(store.signal(bare.id).await.unwrap(), Some(bare));
}

pub(super) async fn signals_are_paged_and_filtered(store: &dyn Store) {
    let rows =
        [(1, "A", Some("oil")), (2, "A_B", None), (3, "A", None), (4, "A_B", Some("oil")), (5, "A", Some("gas"))];
    raise(store, rows.map(|(number, kind, project)| signal(number, kind, project)).to_vec()).await;
    raise(store, vec![SignalRow { namespace: "other".into(), ..signal(6, "A", Some("oil")) }]).await;
    // Raised in the same millisecond as the fifth: the id decides.
    raise(store, vec![SignalRow { created_at: 4_005, ..signal(7, "A", Some("oil")) }]).await;
    let listed = async |kind: Option<&str>, project: Option<&str>, before: Option<u64>, limit| -> Vec<u64> {
        let before = before.map(|number| signal(number, "", None)).map(|row| (row.created_at, row.id));
        let (kind, project) = (kind.map(Into::into), project.map(Into::into));
        let query = SignalQuery { namespace: "default".into(), kind, project, before, limit };
        store.signals(&query).await.unwrap().into_iter().map(|row| row.id.as_u64_pair().1).collect()
    };
    assert_eq!(listed(None, None, None, 10).await, [7, 5, 4, 3, 2, 1]);
    assert_eq!(listed(None, None, Some(5), 2).await, [4, 3]);
    assert_eq!(listed(Some("A"), None, None, 10).await, [7, 5, 3, 1]);
    assert_eq!(listed(Some("A"), None, Some(5), 1).await, [3]);
    assert_eq!(listed(None, Some("oil"), None, 10).await, [7, 4, 1]);
    assert_eq!(listed(None, Some("oil"), Some(4), 10).await, [1]);
    assert_eq!(listed(Some("A"), Some("oil"), None, 10).await, [7, 1]);
    assert_eq!(listed(Some("B"), None, None, 10).await, [0; 0]);
    assert_eq!(listed(Some("A_B"), Some("gas"), None, 10).await, [0; 0]);
}
