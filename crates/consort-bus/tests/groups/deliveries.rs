//! Deliveries: shared, as far as credit goes, and tried again.

use std::time::Duration;

use consort_bus::Filter;
use consort_bus::groups::{Joining, Settlement};
use consort_core::ports::LogRow;
use serde_json::json;

use crate::mesh::{Mesh, SOON, all, done, event, from_the_beginning, next, number, numbers, refused, row_of, set};

const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn members_share_the_events() {
    let mesh = Mesh::new().await;
    let (one, two) = (mesh.join(&from_the_beginning(100)).await, mesh.join(&from_the_beginning(100)).await);
    mesh.publish(0..50).await;
    let (first, second) = (all(&one).await, all(&two).await);
    assert_eq!((first.len(), second.len()), (25, 25));
    assert!(numbers(&first).is_sorted() && numbers(&second).is_sorted(), "each in log order");
    assert_eq!(&set(&first) | &set(&second), (0..50).collect(), "each event goes to one of them");
    assert!(first.iter().chain(&second).all(|delivery| delivery.attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_delivered_than_credit_was_given() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(3)).await;
    mesh.publish(0..10).await;
    let three = all(&member).await;
    assert_eq!(numbers(&three), [0, 1, 2]);
    member.grant(2).unwrap();
    assert_eq!(numbers(&all(&member).await), [3, 4]);
    member.settle(done(&three[..2]));
    assert_eq!(numbers(&all(&member).await), [5, 6], "each settled delivery grants one");
    member.settle(done(&three[..2]));
    member.settle(Settlement { done: vec![99, 0], ..Settlement::default() });
    assert!(all(&member).await.is_empty(), "settling again, or what never was, grants nothing");
    assert_eq!(member.grant(1_000_000).unwrap_err().violations[0].field, "credit");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_in_time_goes_to_somebody_else() {
    let mesh = Mesh::new().await;
    let slow = mesh.join(&from_the_beginning(1)).await;
    mesh.publish(0..1).await;
    let held = next(&slow).await;
    let quick = mesh.join(&Joining { credit: 1, ..Joining::default() }).await;
    assert!(all(&quick).await.is_empty());
    tokio::time::advance(TIMEOUT).await;
    let again = next(&quick).await;
    assert_eq!((number(&again), again.attempt), (0, 2));
    slow.settle(done(&[held]));
    assert!(all(&quick).await.is_empty());
    mesh.publish(1..2).await;
    assert_eq!(number(&next(&slow).await), 1, "an answer that comes late gives its credit back");
    quick.settle(refused(&again, "still mine", false));
    assert_eq!(next(&quick).await.attempt, 3, "and changes nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_while_nobody_else_has_the_event() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(1)).await;
    mesh.publish(0..2).await;
    let held = next(&member).await;
    tokio::time::sleep(2 * TIMEOUT).await;
    member.settle(done(&[held]));
    assert_eq!(numbers(&all(&member).await), [1]);
    let view = mesh.groups.list(&"acme".into()).await.unwrap().remove(0);
    assert_eq!((view.cursor, view.in_flight, view.members, view.lag), (1, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_again_until_it_becomes_a_dead_letter() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&Joining { max_attempts: Some(3), ..from_the_beginning(1) }).await;
    mesh.publish(0..2).await;
    for attempt in 1..=3 {
        let delivery = next(&member).await;
        assert_eq!((number(&delivery), delivery.attempt), (0, attempt));
        member.settle(refused(&delivery, &format!("reason {attempt}"), false));
    }
    assert_eq!(numbers(&all(&member).await), [1], "the group goes on");
    let letter = mesh.letters().await.remove(0);
    assert_eq!((letter.group.as_deref(), letter.attempts, letter.reason.as_str()), (Some("g"), 3, "reason 3"));
    assert_eq!(letter.place, Some((1, 0)));
    assert!(letter.event.contains("TEST.HAPPENED"), "{}", letter.event);
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_is_a_dead_letter_at_once() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(5)).await;
    mesh.publish(0..1).await;
    member.settle(refused(&next(&member).await, "never", true));
    assert!(all(&member).await.is_empty());
    let letters = mesh.letters().await;
    assert_eq!((letters.len(), letters[0].attempts, letters[0].reason.as_str()), (1, 1, "never"));
}

#[tokio::test(start_paused = true)]
async fn timeouts_end_in_a_dead_letter_too() {
    let mesh = Mesh::new().await;
    let timeout = Some(Duration::from_secs(1));
    let member = mesh.join(&Joining { ack_timeout: timeout, max_attempts: Some(2), ..from_the_beginning(10) }).await;
    mesh.publish(0..1).await;
    assert_eq!(next(&member).await.attempt, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(next(&member).await.attempt, 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(all(&member).await.is_empty());
    assert_eq!(mesh.letters().await[0].reason, "not acknowledged within 1 s");
}

#[tokio::test(start_paused = true)]
async fn what_a_member_held_that_left_is_handed_out_at_once() {
    let mesh = Mesh::new().await;
    let gone = mesh.join(&from_the_beginning(2)).await;
    mesh.publish(0..3).await;
    assert_eq!(number(&next(&gone).await), 0);
    tokio::time::sleep(SOON).await;
    let stays = mesh.join(&Joining { credit: 10, ..Joining::default() }).await;
    assert_eq!(numbers(&all(&stays).await), [2]);
    drop(gone);
    let again = all(&stays).await;
    assert_eq!(numbers(&again), [0, 1]);
    assert_eq!(again.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 1], "1 was never taken");
}

#[tokio::test(start_paused = true)]
async fn a_filter_and_a_contract_decide_what_is_delivered() {
    let mesh = Mesh::new().await;
    let filter = Some(Filter::new(vec!["ORDER.*".into()], None, String::new()));
    let member = mesh.join(&Joining { filter, ..from_the_beginning(10) }).await;
    let rows = [
        event("TEST.HAPPENED", json!({})),
        event("ORDER.VALIDATED", json!({})),
        event("ORDER.PAID", json!({"n": 2})),
        event("ORDER.VALIDATED", json!({"order_id": "3", "n": 3})),
    ];
    mesh.append(rows.map(LogRow::Published).into()).await;
    assert_eq!(numbers(&all(&member).await), [2, 3]);
    let letters = mesh.letters().await;
    assert_eq!((letters.len(), letters[0].attempts, letters[0].place), (1, 0, Some((2, 0))));
    assert!(letters[0].reason.contains("payload.order_id"), "{}", letters[0].reason);
    let requeued = mesh.groups.requeue(&letters).await.unwrap();
    assert!(requeued[0].as_ref().unwrap().contains("payload.order_id"), "it breaks its contract still");
}

#[tokio::test(start_paused = true)]
async fn at_most_a_thousand_are_in_hand() {
    let mesh = Mesh::new().await;
    let member = mesh.join(&from_the_beginning(10_000)).await;
    mesh.append(vec![row_of(1_500)]).await;
    mesh.publish(0..500).await;
    let first = all(&member).await;
    assert_eq!(first.len(), 1_000);
    member.settle(done(&first[1..]));
    assert!(all(&member).await.is_empty(), "the first one holds up the place, and the place holds up the rest");
    let view = mesh.groups.list(&"acme".into()).await.unwrap().remove(0);
    assert_eq!((view.cursor, view.settled_beyond, view.in_flight), (0, 999, 1));
    member.settle(done(&first[..1]));
    assert_eq!(all(&member).await.len(), 1_000, "the rest, although the row is not settled yet");
}
