use consort_core::ports::{DeadLetter, Store};
use uuid::Uuid;

pub(super) async fn dead_letters_are_paged_newest_first(store: &dyn Store) {
    let letter = |number: u64, namespace: &str| DeadLetter {
        id: Uuid::from_u64_pair(1, number),
        namespace: namespace.into(),
        event: format!("{{\"n\": {number}}}"),
        reason: "no such type".into(),
        at: 5,
    };
    store.bury(&[]).await.unwrap();
    store.bury(&[letter(2, "default"), letter(1, "default")]).await.unwrap();
    store.bury(&[letter(3, "default"), letter(4, "other")]).await.unwrap();
    // Burying again does nothing.
    store.bury(&[DeadLetter { reason: "again".into(), ..letter(2, "default") }]).await.unwrap();
    let all = store.dead_letters("default", None, 10).await.unwrap();
    assert_eq!(all, [letter(3, "default"), letter(2, "default"), letter(1, "default")]);
    assert_eq!(store.dead_letters("default", Some(all[0].id), 1).await.unwrap(), [letter(2, "default")]);
    assert_eq!(store.dead_letters("default", Some(all[2].id), 10).await.unwrap(), []);
}
