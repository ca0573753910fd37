//! The engine in a simulated world: its clock, its store and the network of its workers are ports, and behind them is a storm that a
//! seed decides. Everything ends, nothing is lost, nothing is applied twice; and one seed is always the same story.
//!
//! `CONSORT_SIM_SEEDS=10000` tells more stories, `CONSORT_SIM_SEED=17` one again, with what the engine logs.
#![allow(clippy::panic, clippy::unwrap_used)]

mod client;
mod rules;
mod simulate;
mod store;
mod worker;
mod workflows;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use simulate::{Ended, simulate};
use world::Plant;

/// Stories of every test.
const SEEDS: u64 = 200;
/// Stories that are told twice.
const TWICE: u64 = 8;
/// Stories in which a planted mistake must show.
const PLANTED: u64 = 60;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}=`{text}` is not a number: {error}")))
}

/// How to see a story again.
fn again(seed: u64) -> String {
    format!("CONSORT_SIM_SEED={seed} cargo test --workspace --test simulation -- --nocapture")
}

/// The stories of many seeds, on both cores.
fn all(seeds: impl Iterator<Item = u64> + Send, tell: impl Fn(u64, Ended) + Sync) {
    let seeds = Mutex::new(seeds);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { break };
                    tell(seed, simulate(seed, None));
                }
            });
        }
    });
}

#[test]
fn whatever_happens_everything_ends_and_nothing_is_lost_or_done_twice() {
    let begun = Instant::now();
    let seeds = match (setting("CONSORT_SIM_SEED"), setting("CONSORT_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    if count == 1 {
        let level = tracing_subscriber::filter::LevelFilter::DEBUG;
        tracing_subscriber::fmt().with_test_writer().with_max_level(level).without_time().init();
    }
    let sums: [AtomicU64; 6] = std::array::from_fn(|_| AtomicU64::new(0));
    let wrong = Mutex::new(Vec::new());
    all(seeds, |seed, ended| {
        let figures = [
            ended.runs as u64,
            ended.events as u64,
            ended.crashes,
            ended.faults,
            ended.leases_lost as u64,
            ended.refused,
        ];
        for (sum, figure) in sums.iter().zip(figures) {
            sum.fetch_add(figure, Ordering::Relaxed);
        }
        if !ended.problems.is_empty() {
            wrong.lock().unwrap().push((seed, ended.problems));
        }
    });
    let [runs, events, crashes, faults, lost, refused] = sums.map(AtomicU64::into_inner);
    println!(
        "{count} stories in {:?}: {runs} runs, {events} events, {crashes} crashes, {faults} faults in all, {lost} leases lost, \
         {refused} late answers refused",
        begun.elapsed()
    );
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    let told: Vec<String> = wrong
        .iter()
        .take(5)
        .map(|(seed, problems)| {
            let first: Vec<&str> = problems.iter().take(8).map(String::as_str).collect();
            format!("seed {seed}: {} problems:\n  {}\n  again: {}", problems.len(), first.join("\n  "), again(*seed))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {count} stories went wrong:\n{}", wrong.len(), told.join("\n"));
    // A storm that meets no work proves nothing.
    assert!(runs >= 20 * count && crashes >= count / 2 && lost >= count / 2, "the faults met too little work");
}

#[test]
fn one_seed_is_always_the_same_story() {
    let first = setting("CONSORT_SIM_SEED").unwrap_or(1_000);
    for seed in first..first + TWICE {
        let (once, twice) = (simulate(seed, None), simulate(seed, None));
        assert_eq!(once.digest, twice.digest, "seed {seed} told two stories; again: {}", again(seed));
    }
}

/// Plants a mistake and asserts that it is found, and named.
fn caught(plant: Plant, expected: &[&str]) {
    let mut found = Vec::new();
    for seed in 0..PLANTED {
        found.extend(simulate(seed, Some(plant)).problems);
        if expected.iter().all(|expected| found.iter().any(|problem| problem.contains(expected))) {
            return;
        }
    }
    panic!("{plant:?} shows in none of {PLANTED} stories; {expected:?} was wanted, and found was only {found:#?}");
}

#[test]
fn what_is_acknowledged_before_it_is_written_is_caught() {
    caught(Plant::AcknowledgedBeforeCommit, &["is not stored"]);
}

#[test]
fn forgotten_requests_are_caught() {
    caught(Plant::NoDedupe, &["is stored 2 times"]);
}

#[test]
fn tokens_that_begin_anew_are_caught() {
    caught(Plant::TokensBeginAnew, &["got token"]);
}

#[test]
fn a_number_that_is_left_out_is_caught() {
    caught(Plant::SequenceSkipped, &["stands where"]);
}

#[test]
fn a_server_without_a_fence_is_caught() {
    caught(Plant::NoFence, &["took the work of lease"]);
}

#[test]
fn a_task_that_is_handed_out_twice_is_caught() {
    caught(Plant::HandedOutTwice, &["was handed out for"]);
}
