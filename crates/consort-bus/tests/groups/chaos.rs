//! Ten thousand events, members that refuse, dawdle and leave, and servers that stop and die: every event is handled or becomes a dead
//! letter, and none is handled twice while nothing dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consort_bus::groups::{Delivery, Joining, Member};
use consort_store::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::mesh::{Mesh, SOON, done, from_the_beginning, life, number, refused};

const EVENTS: u64 = 10_000;

/// How a life ends.
enum End {
    /// As a server stops.
    Stop,
    /// By `kill -9`.
    Crash,
    /// Everything is settled.
    Over,
}

/// What happens to a group over many lives.
struct Storm {
    dice: StdRng,
    crashes: bool,
    published: u64,
    /// How often each event was handled.
    handled: BTreeMap<u64, u32>,
    /// Members of servers that died: if they left, that would be heard.
    ghosts: Vec<Member>,
}

impl Storm {
    fn new(seed: u64, crashes: bool) -> Storm {
        let dice = StdRng::seed_from_u64(seed);
        Storm { dice, crashes, published: 0, handled: BTreeMap::new(), ghosts: Vec::new() }
    }

    /// Lives until everything is settled: how often each event was handled, and which ones are dead letters.
    fn blow(mut self) -> (BTreeMap<u64, u32>, BTreeSet<u64>) {
        let store = Arc::new(MemoryStore::new());
        for _ in 0..1_000 {
            let over = life(&store, async |mesh| match self.live(&mesh).await {
                End::Over => Some(mesh.letters().await.into_iter().map(|letter| letter.place.unwrap().0 - 1).collect()),
                End::Crash => None,
                End::Stop => {
                    mesh.restart().await;
                    None
                }
            });
            if let Some(dead) = over {
                return (self.handled, dead);
            }
        }
        panic!("{} of {EVENTS} events are handled after a thousand lives", self.handled.len());
    }

    async fn live(&mut self, mesh: &Mesh) -> End {
        let joining = Joining { max_attempts: Some(4), ..from_the_beginning(64) };
        let mut members: Vec<Member> = Vec::new();
        for _ in 0..5_000 {
            let more = self.dice.random_range(1..200).min(EVENTS - self.published);
            if more > 0 {
                mesh.publish(self.published..self.published + more).await;
                self.published += more;
            }
            while members.len() < 3 {
                members.push(mesh.join(&joining).await);
            }
            tokio::time::sleep(SOON).await;
            for member in &members {
                while let Ok(delivery) = tokio::time::timeout(Duration::ZERO, member.next()).await {
                    self.decide(member, delivery.unwrap());
                }
            }
            match self.dice.random_range(0..20) {
                0 => drop(members.swap_remove(self.dice.random_range(0..members.len()))),
                1 => tokio::time::sleep(Duration::from_secs(31)).await,
                2 if self.crashes => {
                    self.ghosts.append(&mut members);
                    return End::Crash;
                }
                2 => return End::Stop,
                _ => {}
            }
            let view = mesh.groups.list(&"acme".into()).await.unwrap().remove(0);
            if view.cursor == EVENTS {
                return End::Over;
            }
        }
        panic!("the group does not come to an end");
    }

    fn decide(&mut self, member: &Member, delivery: Delivery) {
        assert!((1..=4).contains(&delivery.attempt));
        match self.dice.random_range(0..100) {
            // Nothing is said; the time runs out.
            0 => {}
            1..=5 => member.settle(refused(&delivery, "dice", false)),
            6 => member.settle(refused(&delivery, "never", true)),
            _ => {
                *self.handled.entry(number(&delivery)).or_default() += 1;
                member.settle(done(&[delivery]));
            }
        }
    }
}

#[test]
fn every_event_is_settled_exactly_once_or_becomes_a_dead_letter() {
    for seed in 0..3 {
        let (handled, dead) = Storm::new(seed, false).blow();
        assert!(handled.values().all(|times| *times == 1), "seed {seed}: handled twice");
        assert!(dead.iter().all(|number| !handled.contains_key(number)), "seed {seed}: handled and dead");
        assert_eq!(handled.len() + dead.len(), EVENTS as usize, "seed {seed}");
        assert!(dead.len() > 50, "seed {seed}: the dice did something");
    }
}

#[test]
fn crashes_lose_nothing() {
    for seed in 0..3 {
        let (handled, dead) = Storm::new(seed, true).blow();
        let all: BTreeSet<u64> = handled.into_keys().chain(dead).collect();
        assert_eq!(all.len(), EVENTS as usize, "seed {seed}");
    }
}
