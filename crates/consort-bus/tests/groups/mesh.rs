//! A log, a bus and groups over it, without a server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use consort_bus::groups::{Delivery, Joining, Member, Origin, Refused, Settlement};
use consort_bus::{Bus, Groups};
use consort_core::event::{Entry, Fact, Published, Record};
use consort_core::ports::{Batch, DeadLetter, DeadLetterStore as _, LogRow, News as _, RunStore as _, Store};
use consort_core::{Data, Error, RunId};
use consort_store::MemoryStore;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for everything that needs no clock: the clock is paused, so it passes when nobody has anything to do.
pub(crate) const SOON: Duration = Duration::from_millis(10);

pub(crate) struct Mesh {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) bus: Bus,
    pub(crate) groups: Groups,
    stop: CancellationToken,
}

pub(crate) fn from_the_beginning(credit: usize) -> Joining {
    Joining { from: Some(Origin::After(0)), credit, ..Joining::default() }
}

/// One life of a server over a store, which ends as `kill -9` ends it: whatever is under way is dropped where it stands.
pub(crate) fn life<T>(store: &Arc<MemoryStore>, of: impl AsyncFnOnce(Mesh) -> T) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { of(Mesh::over(Arc::clone(store)).await).await })
}

impl Mesh {
    pub(crate) async fn new() -> Mesh {
        Mesh::over(Arc::new(MemoryStore::new())).await
    }

    pub(crate) async fn over(store: Arc<MemoryStore>) -> Mesh {
        let bus = Bus::new(Arc::clone(&store) as Arc<_>).await.unwrap();
        let stop = CancellationToken::new();
        let groups = Groups::new(bus.clone(), Arc::clone(&store) as Arc<dyn Store>, "test", stop.clone());
        Mesh { store, bus, groups, stop }
    }

    /// Ends everything as a server does, and begins again over what is stored.
    pub(crate) async fn restart(self) -> Mesh {
        self.stop.cancel();
        self.groups.stop().await;
        Mesh::over(self.store).await
    }

    /// Appends rows in one commit.
    pub(crate) async fn append(&self, log: Vec<LogRow>) {
        let first_position = self.bus.end() + 1;
        let rows: Arc<[LogRow]> = log.clone().into();
        self.store.commit(Batch { first_position, log, ..Batch::default() }.into()).await.unwrap();
        self.bus.committed(first_position, rows);
    }

    /// Publishes events whose payloads are `{"n": number}`.
    pub(crate) async fn publish(&self, numbers: std::ops::Range<u64>) {
        self.append(numbers.map(|n| LogRow::Published(event("TEST.HAPPENED", json!({"n": n})))).collect()).await;
    }

    pub(crate) async fn join(&self, joining: &Joining) -> Member {
        self.try_join(joining).await.unwrap()
    }

    pub(crate) async fn try_join(&self, joining: &Joining) -> Result<Member, Error> {
        self.groups.join(&"acme".into(), &"g".into(), joining).await
    }

    /// The letters of the namespace by number.
    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        let mut letters = self.store.dead_letters("acme", None, 100_000).await.unwrap();
        letters.sort_by_key(|letter| letter.place);
        letters
    }
}

pub(crate) fn event(event_type: &str, payload: Value) -> Published {
    let event_id = Uuid::new_v4();
    Published {
        event_id,
        event_type: event_type.into(),
        event_version: 1,
        timestamp: 1_000,
        source: "client".into(),
        instance: "here".into(),
        correlation_id: event_id,
        causation_id: None,
        namespace: "acme".into(),
        subject: String::new(),
        payload: Data::of(&payload),
        depth: 0,
    }
}

/// A row of a run with this many events.
pub(crate) fn row_of(count: u32) -> LogRow {
    let entries: Vec<Entry> = (0..count).map(|_| Entry { step: None, fact: Fact::RunResumed }).collect();
    let run = RunId(Uuid::new_v4());
    let body = serde_json::to_vec(&entries).unwrap();
    let hash = consort_core::event::chain(&[0; 32], &body);
    LogRow::Run(Record { run, namespace: "acme".into(), root: run, sequence: 1, count, at: 0, body, hash })
}

/// The number of an event that [`Mesh::publish`] made.
pub(crate) fn number(delivery: &Delivery) -> u64 {
    let Data::Inline(payload) = &delivery.event.payload else { panic!("the payload is small") };
    payload.value()["n"].as_u64().unwrap()
}

/// The next delivery, which is there or comes without any time passing.
pub(crate) async fn next(member: &Member) -> Delivery {
    tokio::time::timeout(SOON, member.next()).await.expect("a delivery is there").unwrap()
}

/// Everything that is there.
pub(crate) async fn all(member: &Member) -> Vec<Delivery> {
    let mut found = Vec::new();
    while let Ok(delivery) = tokio::time::timeout(SOON, member.next()).await {
        found.push(delivery.unwrap());
    }
    found
}

pub(crate) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

pub(crate) fn set(deliveries: &[Delivery]) -> BTreeSet<u64> {
    deliveries.iter().map(number).collect()
}

pub(crate) fn done(deliveries: &[Delivery]) -> Settlement {
    Settlement { done: deliveries.iter().map(|delivery| delivery.id).collect(), ..Settlement::default() }
}

pub(crate) fn refused(delivery: &Delivery, reason: &str, last: bool) -> Settlement {
    let refused = Refused { delivery: delivery.id, reason: reason.into(), last };
    Settlement { refused: vec![refused], ..Settlement::default() }
}
