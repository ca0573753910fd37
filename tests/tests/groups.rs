//! Consumer groups over the wire: sharing, refusing, dead letters and requeuing, across a kill of the server.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::blob::payload::Kind as Json;
use consort_proto::event::subscribe_request::Kind;
use consort_proto::event::subscribe_start::From;
use consort_proto::event::{
    Event, EventFilter, ListDeadLettersRequest, ListGroupsRequest, PublishRequest, Refusal, RequeueDeadLettersRequest,
    Settle, SubscribeRequest, SubscribeResponse, SubscribeStart,
};
use consort_sdk::{Client, Code};
use consort_testkit::{Mesh, eventually, refusal};
use futures::channel::mpsc;
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

fn event(n: u32) -> Event {
    let payload = Payload { kind: Some(Json::Json(format!("{{\"n\": {n}}}"))) };
    Event { event_type: "TEST.NUMBER".into(), subject: n.to_string(), payload: Some(payload), ..Default::default() }
}

async fn publish(client: &Client, numbers: impl Iterator<Item = u32>) {
    let request = PublishRequest { events: numbers.map(event).collect(), ..Default::default() };
    client.events().publish(request).await.unwrap();
}

struct Member {
    say: mpsc::UnboundedSender<SubscribeRequest>,
    deliveries: Streaming<SubscribeResponse>,
}

fn start() -> SubscribeStart {
    SubscribeStart {
        group: "numbers".into(),
        filter: Some(EventFilter { event_types: vec!["TEST.*".into()], ..Default::default() }),
        from: Some(From::Cursor(0)),
        credit: 8,
        max_attempts: 2,
        ..Default::default()
    }
}

impl Member {
    async fn join(client: &Client, start: SubscribeStart) -> Result<Member, Status> {
        let (say, said) = mpsc::unbounded();
        say.unbounded_send(SubscribeRequest { kind: Some(Kind::Start(start)) }).unwrap();
        let deliveries = client.events().subscribe(said).await?.into_inner();
        Ok(Member { say, deliveries })
    }

    async fn next(&mut self) -> Option<(u32, i64, i32)> {
        let got =
            tokio::time::timeout(Duration::from_secs(20), self.deliveries.message()).await.expect("a delivery comes");
        let got = got.ok()??;
        Some((got.event?.subject.parse().unwrap(), got.delivery_id, got.attempt))
    }

    fn settle(&self, settle: Settle) {
        // The server may be gone; then everything is delivered again.
        let _ = self.say.unbounded_send(SubscribeRequest { kind: Some(Kind::Settle(settle)) });
    }

    fn done(&self, delivery: i64) {
        self.settle(Settle { done: vec![delivery], ..Default::default() });
    }

    fn refuse(&self, delivery_id: i64) {
        let refusal = Refusal { delivery_id, reason: "it is odd".into(), r#final: false };
        self.settle(Settle { refused: vec![refusal], ..Default::default() });
    }
}

#[tokio::test]
async fn a_group_shares_its_events_and_keeps_its_place_over_a_stop_and_a_kill() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    publish(&client, 0..60).await;
    let mut handled = BTreeSet::new();
    let (mut one, mut two) =
        (Member::join(&client, start()).await.unwrap(), Member::join(&client, start()).await.unwrap());
    for _ in 0..15 {
        for member in [&mut one, &mut two] {
            let (n, delivery, _) = member.next().await.unwrap();
            assert!(handled.insert(n), "{n} came twice");
            member.done(delivery);
        }
    }
    eventually("the mesh has heard of all", || async {
        let groups = client.events().list_groups(ListGroupsRequest::default()).await.ok()?.into_inner().groups;
        let group = groups.into_iter().next()?;
        (group.members == 2 && group.cursor + i64::from(group.settled_beyond) == 30).then_some(())
    })
    .await;
    mesh.stop().await;
    mesh.restart().await;
    let mut member = Member::join(&mesh.client(), start()).await.unwrap();
    for _ in 0..10 {
        let (n, delivery, _) = member.next().await.unwrap();
        assert!(handled.insert(n), "{n} was settled before the stop");
        member.done(delivery);
    }
    mesh.kill();
    mesh.restart().await;
    let mut member = Member::join(&mesh.client(), start()).await.unwrap();
    let mut repeats = 0;
    while handled.len() < 60 {
        let (n, delivery, _) = member.next().await.unwrap();
        repeats += u32::from(!handled.insert(n));
        member.done(delivery);
    }
    assert!(repeats <= 10, "only what was settled in the last moment before a kill is delivered again, not {repeats}");
    assert_eq!(handled, (0..60).collect());
}

#[tokio::test]
async fn what_a_group_cannot_handle_is_a_dead_letter_and_can_be_requeued() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    publish(&client, 0..4).await;
    let mut member = Member::join(&client, start()).await.unwrap();
    let mut attempts = Vec::new();
    // Even ones are handled; odd ones are refused twice, which is the most.
    for _ in 0..6 {
        let (n, delivery, attempt) = member.next().await.unwrap();
        attempts.push((n, attempt));
        if n % 2 == 0 { member.done(delivery) } else { member.refuse(delivery) }
    }
    attempts.sort_unstable();
    assert_eq!(attempts, [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2)]);
    let letters = eventually("both are dead letters", || async {
        let page = client.events().list_dead_letters(ListDeadLettersRequest::default()).await.ok()?.into_inner();
        (page.dead_letters.len() == 2).then_some(page.dead_letters)
    })
    .await;
    assert!(letters.iter().all(|letter| letter.reason.contains("it is odd") && letter.attempts == 2), "{letters:?}");
    assert!(letters[0].group.ends_with("/groups/numbers"));

    let ids: Vec<String> = letters.into_iter().map(|letter| letter.id).chain(["nothing".into()]).collect();
    let request = RequeueDeadLettersRequest { ids, ..Default::default() };
    let results = client.events().requeue_dead_letters(request).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|result| result.error.is_empty()).collect::<Vec<_>>(), [true, true, false]);
    let mut again = BTreeSet::new();
    for _ in 0..2 {
        let (n, delivery, _) = member.next().await.unwrap();
        again.insert(n);
        member.done(delivery);
    }
    assert_eq!(again, BTreeSet::from([1, 3]));
    let left = client.events().list_dead_letters(ListDeadLettersRequest::default()).await.unwrap().into_inner();
    assert!(left.dead_letters.is_empty());
}

#[tokio::test]
async fn who_joins_a_group_must_agree_with_it() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    let _first = Member::join(&client, start()).await.unwrap();
    eventually("the group is there", || async {
        let groups = client.events().list_groups(ListGroupsRequest::default()).await.ok()?.into_inner().groups;
        (!groups.is_empty()).then_some(())
    })
    .await;
    let differs = SubscribeStart { max_attempts: 7, ..start() };
    let refused = match Member::join(&client, differs).await {
        Err(status) => status,
        Ok(mut member) => member.deliveries.message().await.unwrap_err(),
    };
    assert_eq!((refused.code(), refusal(&refused).as_str()), (Code::FailedPrecondition, "GROUP_DIFFERS"));
    let leaves_it_out = SubscribeStart { group: "numbers".into(), credit: 1, ..Default::default() };
    Member::join(&client, leaves_it_out).await.unwrap();
    let bad = SubscribeStart { group: "no such name!".into(), ..start() };
    let refused = match Member::join(&client, bad).await {
        Err(status) => status,
        Ok(mut member) => member.deliveries.message().await.unwrap_err(),
    };
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "start.group");
}

#[tokio::test]
async fn an_event_that_breaks_the_contract_of_its_type_reaches_nobody() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    let broken = Event {
        event_type: "ORDER.VALIDATED".into(),
        payload: Some(Payload { kind: Some(Json::Json("{\"order\": 7}".into())) }),
        ..Default::default()
    };
    let request = PublishRequest { events: vec![broken], ..Default::default() };
    let refused = client.events().publish(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    assert!(violations[0].field.contains("payload"), "{violations:?}");
    let page = client.events().list_dead_letters(ListDeadLettersRequest::default()).await.unwrap().into_inner();
    assert!(page.dead_letters[0].reason.contains("order_id"), "{page:?}");
}
