use consort_core::ports::{DeadLetter, Store};
use uuid::Uuid;

use crate::build::{letter, mark};

/// An event that a group could not handle.
fn undelivered(number: u64) -> DeadLetter {
    let place = Some((u64::from(u32::MAX) + number, u32::MAX));
    DeadLetter { group: Some("billing".into()), attempts: 5, place, ..letter(number) }
}

fn elsewhere(number: u64) -> DeadLetter {
    DeadLetter { namespace: "other".into(), ..letter(number) }
}

/// Those of these numbers that are kept, the oldest first.
async fn kept(store: &dyn Store, numbers: &[u64]) -> Vec<DeadLetter> {
    let ids: Vec<Uuid> = numbers.iter().map(|number| letter(*number).id).collect();
    let mut letters = store.dead_letters_of("default", &ids).await.unwrap();
    letters.sort_by_key(|letter| letter.id);
    letters
}

pub(super) async fn dead_letters_are_paged_newest_first(store: &dyn Store) {
    store.bury(&[]).await.unwrap();
    store.bury(&[letter(2), letter(1)]).await.unwrap();
    store.bury(&[letter(3), elsewhere(4)]).await.unwrap();
    let all = store.dead_letters("default", None, 10).await.unwrap();
    assert_eq!(all, [letter(3), letter(2), letter(1)]);
    assert_eq!(store.dead_letters("default", Some(all[0].id), 1).await.unwrap(), [letter(2)]);
    assert_eq!(store.dead_letters("default", Some(all[2].id), 10).await.unwrap(), []);
}

pub(super) async fn a_dead_letter_keeps_its_group_and_place(store: &dyn Store) {
    let first = DeadLetter { place: Some((1, 0)), ..undelivered(2) };
    store.bury(&[undelivered(1), first.clone(), letter(3)]).await.unwrap();
    assert_eq!(store.dead_letters("default", None, 10).await.unwrap(), [letter(3), first, undelivered(1)]);
}

pub(super) async fn burying_again_does_nothing(store: &dyn Store) {
    store.bury(&[undelivered(1)]).await.unwrap();
    let again = DeadLetter { reason: "again".into(), attempts: 9, ..undelivered(1) };
    store.bury(&[again.clone(), letter(2), DeadLetter { reason: "again".into(), ..letter(2) }]).await.unwrap();
    assert_eq!(kept(store, &[1, 2]).await, [undelivered(1), letter(2)]);
    // Once it is gone it can come back.
    store.exhume("default", &[again.id], &[]).await.unwrap();
    store.bury(std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(kept(store, &[1]).await, [again]);
}

pub(super) async fn dead_letters_are_found_by_id(store: &dyn Store) {
    let letters: Vec<DeadLetter> = (0..300).map(letter).collect();
    store.bury(&letters).await.unwrap();
    store.bury(&[elsewhere(300)]).await.unwrap();
    assert_eq!(kept(store, &[]).await, []);
    assert_eq!(kept(store, &[7, 300, 3, 999, 7]).await, [letter(3), letter(7)]);
    let all: Vec<u64> = (0..=300).collect();
    assert_eq!(kept(store, &all).await, letters);
    assert_eq!(store.dead_letters_of("other", &[letter(300).id, letter(1).id]).await.unwrap(), [elsewhere(300)]);
}

pub(super) async fn exhumed_letters_are_gone_and_marks_set(store: &dyn Store) {
    store.bury(&[letter(1), undelivered(2), letter(3), elsewhere(4)]).await.unwrap();
    store.set_marks(&[mark("old", Some("1"))]).await.unwrap();
    let ids = [1, 2, 2, 4, 9].map(|number| letter(number).id);
    store.exhume("default", &ids, &[mark("old", None), mark("requeue/2", Some("{}"))]).await.unwrap();
    assert_eq!(store.dead_letters("default", None, 10).await.unwrap(), [letter(3)]);
    assert_eq!(store.dead_letters("other", None, 10).await.unwrap(), [elsewhere(4)]);
    assert_eq!(store.marks("", "", 10).await.unwrap(), [mark("requeue/2", Some("{}"))]);
    // Each alone, and neither.
    store.exhume("default", &[], &[mark("requeue/2", None)]).await.unwrap();
    store.exhume("default", &[letter(3).id], &[]).await.unwrap();
    store.exhume("default", &[], &[]).await.unwrap();
    assert_eq!(store.dead_letters("default", None, 10).await.unwrap(), []);
    assert_eq!(store.marks("", "", 10).await.unwrap(), []);
}

pub(super) async fn a_reason_is_replaced(store: &dyn Store) {
    store.bury(&[letter(1), undelivered(2), letter(3), elsewhere(4)]).await.unwrap();
    let reasons = [(1, "first"), (2, "new"), (1, "last"), (4, "not its own"), (9, "nobody's")];
    let reasons = reasons.map(|(number, reason)| (letter(number).id, reason.to_owned()));
    store.restate("default", &reasons).await.unwrap();
    store.restate("default", &[]).await.unwrap();
    let restated = |reason: &str, letter| DeadLetter { reason: reason.into(), ..letter };
    let all = store.dead_letters("default", None, 10).await.unwrap();
    assert_eq!(all, [letter(3), restated("new", undelivered(2)), restated("last", letter(1))]);
    assert_eq!(store.dead_letters("other", None, 10).await.unwrap(), [elsewhere(4)]);
}
