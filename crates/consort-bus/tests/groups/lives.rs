//! The lives of a group: restarts, crashes, dead letters that are tried again, deletion.

use std::sync::Arc;
use std::time::Duration;

use consort_bus::Filter;
use consort_bus::groups::{Joining, Origin, RequestKey};
use consort_core::Kind;
use consort_core::ports::{DeadLetterStore as _, MarkStore as _};
use consort_store::MemoryStore;

use crate::mesh::{Mesh, all, done, from_the_beginning, life, next, number, numbers, refused, row_of};

/// Longer than a group lives without members.
const GONE: Duration = Duration::from_secs(60);

fn again(credit: usize) -> Joining {
    Joining { credit, ..Joining::default() }
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_place_and_what_is_settled_beyond_it() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(100)).await;
    mesh.publish(0..10).await;
    let ten = all(&member).await;
    member.settle(done(&[ten[0].clone(), ten[3].clone(), ten[7].clone()]));
    member.settle(refused(&ten[1], "not now", false));
    let one = next(&member).await;
    assert_eq!((number(&one), one.attempt), (1, 2));

    let mesh = mesh.restart().await;
    mesh.publish(10..11).await;
    let member = mesh.join(&again(100)).await;
    let rest = all(&member).await;
    assert_eq!(numbers(&rest), [1, 2, 4, 5, 6, 8, 9, 10]);
    assert_eq!(rest[0].attempt, 2, "what was refused counts, what the stop took back does not");
    assert!(rest[1..].iter().all(|delivery| delivery.attempt == 1));
    member.settle(done(&rest));
    drop(member);
    let mesh = mesh.restart().await;
    let view = mesh.groups.list(&"acme".into()).await.unwrap().remove(0);
    assert_eq!((view.cursor, view.settled_beyond, view.lag, view.members), (11, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_its_place_within_a_row() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(100)).await;
    mesh.append(vec![row_of(3)]).await;
    let three = all(&member).await;
    assert_eq!(three.iter().map(|delivery| delivery.cursor).collect::<Vec<_>>(), [0, 0, 1]);
    member.settle(done(&three[..1]));
    member.settle(done(&three[2..]));
    let mesh = mesh.restart().await;
    let rest = all(&mesh.join(&again(100)).await).await;
    assert_eq!(rest.iter().map(|delivery| delivery.event.event_id).collect::<Vec<_>>(), [three[1].event.event_id]);
}

#[test]
fn a_crash_loses_nothing_and_a_new_group_keeps_where_it_began() {
    let store = Arc::new(MemoryStore::new());
    let member = life(&store, async |mesh| {
        mesh.publish(0..3).await;
        let member = mesh.join(&again(10)).await;
        mesh.publish(3..6).await;
        assert_eq!(numbers(&all(&member).await), [3, 4, 5], "a group begins at what is committed from now on");
        // Kept, or else it would leave before the end.
        member
    });
    life(&store, async |mesh| {
        assert_eq!(numbers(&all(&mesh.join(&again(10)).await).await), [3, 4, 5]);
    });
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn a_group_ends_without_members_and_comes_back() {
    let mesh = Mesh::new().await;
    drop(mesh.join(&from_the_beginning(1)).await);
    mesh.publish(0..2).await;
    tokio::time::sleep(GONE).await;
    let member = mesh.join(&again(1)).await;
    assert_eq!(number(&next(&member).await), 0);
    drop(member);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let member = mesh.join(&again(1)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(next(&member).await.attempt, 2, "it was not away for long enough to end");
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_must_want_the_same() {
    let mesh = Mesh::new().await;
    let orders = || Some(Filter::new(vec!["ORDER.*".into()], None, String::new()));
    let first = Joining { filter: orders(), ..from_the_beginning(1) };
    let member = mesh.join(&first).await;
    mesh.join(&first).await;
    let other = Joining { filter: Some(Filter::default()), ..again(1) };
    let error = mesh.try_join(&other).await.err().unwrap();
    assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "GROUP_DIFFERS"));
    assert!(error.message.contains("`filter`"), "{error}");
    drop(member);
    let mesh = mesh.restart().await;
    assert!(mesh.try_join(&other).await.is_err(), "it is decided once and for all");
    let view = mesh.groups.list(&"acme".into()).await.unwrap().remove(0);
    assert_eq!((&*view.id, Some(view.filter)), ("g", orders()));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_tried_again_in_a_live_group() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(10)).await;
    mesh.publish(0..3).await;
    let three = all(&member).await;
    member.settle(refused(&three[1], "no", true));
    member.settle(done(&[three[0].clone(), three[2].clone()]));
    assert!(all(&member).await.is_empty());
    let letters = mesh.letters().await;
    assert_eq!(mesh.groups.requeue(&letters).await.unwrap(), [None]);
    assert!(mesh.letters().await.is_empty());
    let tried = next(&member).await;
    assert_eq!((number(&tried), tried.attempt), (1, 1));
    member.settle(refused(&tried, "no again", true));
    assert!(all(&member).await.is_empty());
    let again = mesh.letters().await;
    assert_eq!((again[0].id, again[0].reason.as_str()), (letters[0].id, "no again"));
    mesh.groups.requeue(&again).await.unwrap();
    member.settle(done(&[next(&member).await]));
    assert!(all(&member).await.is_empty() && mesh.letters().await.is_empty());
}

#[test]
fn a_dead_letter_waits_for_its_group() {
    let store = Arc::new(MemoryStore::new());
    life(&store, async |mesh| {
        let member = mesh.join(&from_the_beginning(10)).await;
        mesh.publish(0..1).await;
        member.settle(refused(&next(&member).await, "no", true));
        assert!(all(&member).await.is_empty());
    });
    life(&store, async |mesh| {
        let letters = mesh.letters().await;
        assert_eq!(mesh.groups.requeue(&letters).await.unwrap(), [None]);
        // Removed and put on the mark in one transaction: a crash right now loses nothing.
    });
    life(&store, async |mesh| {
        assert!(mesh.letters().await.is_empty());
        let member = mesh.join(&again(10)).await;
        let tried = next(&member).await;
        assert_eq!(number(&tried), 0);
        member.settle(done(&[tried]));
        tokio::time::sleep(GONE).await;
    });
    life(&store, async |mesh| {
        assert!(all(&mesh.join(&again(10)).await).await.is_empty(), "it is settled for good");
    });
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_a_group_that_is_gone_stays() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(10)).await;
    mesh.publish(0..1).await;
    member.settle(refused(&next(&member).await, "no", true));
    assert!(all(&member).await.is_empty());
    drop(member);
    mesh.groups.delete(&"acme".into(), &"g".into(), None).await.unwrap();
    let letters = mesh.letters().await;
    let answers = mesh.groups.requeue(&letters).await.unwrap();
    assert!(answers[0].as_ref().unwrap().contains("no group `g`"), "{answers:?}");
    assert_eq!(mesh.letters().await, letters);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_deleted_when_nobody_uses_it() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(10)).await;
    mesh.publish(0..2).await;
    member.settle(done(&[next(&member).await]));
    let (namespace, id) = ("acme".into(), "g".into());
    let key = |text: &str| Some(RequestKey(text.into()));
    let error = mesh.groups.delete(&namespace, &id, key("r1")).await.unwrap_err();
    assert_eq!((error.kind, error.reason), (Kind::FailedPrecondition, "GROUP_IN_USE"));
    drop(member);
    mesh.groups.delete(&namespace, &id, key("r1")).await.unwrap();
    assert!(mesh.groups.list(&namespace).await.unwrap().is_empty());
    mesh.groups.delete(&namespace, &id, key("r1")).await.unwrap();
    assert_eq!(mesh.groups.delete(&namespace, &id, None).await.unwrap_err().kind, Kind::NotFound);
    let other = mesh.groups.delete(&namespace, &"h".into(), key("r1")).await.unwrap_err();
    assert_eq!(other.reason, "REQUEST_ID_REUSED");
    tokio::time::sleep(GONE).await;
    assert!(mesh.store.marks("group/", "", 10).await.unwrap().is_empty(), "its coordinator saves it no more");
    let member = mesh.join(&from_the_beginning(10)).await;
    assert_eq!(numbers(&all(&member).await), [0, 1], "the same name begins anew");
    mesh.groups.delete(&namespace, &id, key("r1")).await.unwrap();
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn groups_of_other_namespaces_are_others() {
    let mesh = Mesh::new().await;
    let joining = from_the_beginning(10);
    let _member = mesh.join(&joining).await;
    let other = mesh.groups.join(&"other".into(), &"g".into(), &joining).await.unwrap();
    mesh.publish(0..1).await;
    assert!(all(&other).await.is_empty());
    assert_eq!(mesh.groups.list(&"other".into()).await.unwrap()[0].cursor, 1, "it passes over what is not its own");
    assert!(mesh.groups.list(&"none".into()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_the_end() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&Joining { from: Some(Origin::Latest), ..again(1) }).await;
    let groups = mesh.groups.clone();
    let (heard, ()) = tokio::join!(member.next(), groups.stop());
    assert_eq!(heard.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(mesh.try_join(&again(1)).await.err().unwrap().kind, Kind::Unavailable);
    assert!(mesh.store.dead_letters("acme", None, 1).await.unwrap().is_empty());
}
