//! One simulation: a seed, a world, an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consort_core::ports::{AgentNews, DecisionRow, LogRow, News, RunQuery, RunStore as _};
use consort_core::run::RunState;
use consort_engine::{Engine, Options, Service};
use consort_testkit::{Stored, check};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::store::SimStore;
use crate::worker::{Blow, Fate, Poller, Worker};
use crate::world::{Life, Plant, Surroundings, World};
use crate::{rules, workflows};

/// Clients that start runs, and runs of each.
const CLIENTS: u64 = 4;
const JOBS: u32 = 6;
/// Workers with a stream.
const WORKERS: usize = 3;
/// In how much simulated time everything must be over once the weather is fair.
const LIMIT: Duration = Duration::from_secs(300);

/// How long triggers may lag behind in fair weather.
const SETTLE: Duration = Duration::from_secs(5);

/// What came of a simulation.
#[derive(Debug)]
pub(crate) struct Ended {
    pub problems: Vec<String>,
    pub digest: [u8; 32],
    pub runs: usize,
    pub events: usize,
    pub crashes: u64,
    pub faults: u64,
    pub leases_lost: usize,
    pub refused: u64,
}

/// Runs the simulation of a seed.
pub(crate) fn simulate(seed: u64, plant: Option<Plant>) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs no more than a thread").block_on(play(World::new(seed, plant)))
}

async fn play(world: Arc<World>) -> Ended {
    let server = tokio::spawn(serve(Arc::clone(&world)));
    let engine = world.life().await.engine.clone();
    for source in workflows::ALL {
        engine.apply_workflow("default", source, "simulated", false, None).await.expect("the definitions are sound");
    }
    drop(engine);
    world.set_fair(false);
    let fates: Vec<Arc<Fate>> = (0..WORKERS).map(|_| Arc::new(Fate::default())).collect();
    for (number, fate) in fates.iter().enumerate() {
        tokio::spawn(Worker::new(&world, number, fate).live());
    }
    tokio::spawn(Poller { world: Arc::clone(&world), name: "poller".into() }.live());
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(Client::new(&world, number).work(JOBS))).collect();
    clients.push(tokio::spawn(Client::new(&world, 100).publish(8)));
    clients.push(tokio::spawn(Client::new(&world, 101).raise(4)));
    storm(&world, &fates).await;
    world.set_fair(true);

    let all = async {
        for client in clients {
            if let Err(error) = client.await {
                world.problem(format!("a client panicked: {error}"));
            }
        }
        // What events and times start comes a little later.
        tokio::time::sleep(SETTLE).await;
        while live(&world).await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(LIMIT, all).await.is_err() {
        let doing = world.seen().doing.clone();
        world.problem(format!("not everything is over {LIMIT:?} after the weather became fair; clients: {doing:?}"));
    }
    world.over.cancel();
    if tokio::time::timeout(LIMIT, server).await.is_err() {
        world.problem("the server does not stop".to_owned());
    }

    let damage = world.store.integrity().await.expect("memory can be read").problems;
    let stored = Stored::of(&*world.store, damage).await;
    let report = check(&world.journal.seen(), &stored);
    let (mut problems, digest) = rules::check(&world, &stored).await;
    problems.extend(report.problems);
    Ended {
        problems,
        digest,
        runs: report.runs,
        events: report.events,
        crashes: world.crashes.load(Ordering::SeqCst),
        faults: world.faults.load(Ordering::SeqCst),
        leases_lost: report.leases_lost,
        refused: world.seen().refused.values().sum(),
    }
}

/// How many runs are not over.
async fn live(world: &World) -> usize {
    let query = RunQuery {
        namespace: "default".into(),
        workflow: None,
        states: vec![RunState::Pending, RunState::Running, RunState::Waiting, RunState::Paused],
        project: None,
        before: None,
        limit: 1_000,
    };
    world.store.runs(&query).await.expect("memory can be read").len()
}

/// Crashes, stalls, broken links and jumping clocks for a while.
async fn storm(world: &World, fates: &[Arc<Fate>]) {
    let end = tokio::time::Instant::now() + Duration::from_millis(10_000 + world.below(15_000));
    while tokio::time::Instant::now() < end {
        let pause = world.below((4_000.0 / world.weather.strikes) as u64);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.faults.fetch_add(1, Ordering::SeqCst);
        let fate = &fates[world.below(fates.len() as u64) as usize];
        match world.below(9) {
            0 | 1 => world.crash(),
            2 => world.restart.notify_one(),
            3 => fate.strike(Blow::Break),
            4 => fate.strike(Blow::Kill),
            5 | 6 => fate.strike(Blow::Stall(Duration::from_millis(1_000 + world.below(6_000)))),
            _ if world.weather.clock_jumps => world.jump(world.below(12_000) as i64 - 4_000),
            _ => {}
        }
    }
}

/// The server: one life after the other.
async fn serve(world: Arc<World>) {
    while !world.over.is_cancelled() {
        let dead = world.conceive();
        if let Some((engine, service)) = open(&world, &dead).await {
            world.rise(Life { engine, dead: dead.clone() });
            live_once(&world, service, &dead).await;
        }
        // Whatever is left of this life does nothing more.
        dead.cancel();
        let pause = world.below(1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn open(world: &Arc<World>, dead: &CancellationToken) -> Option<(Engine, Service)> {
    let hidden = match world.plant {
        Some(Plant::TokensBeginAnew) => world.store.last_position().await.expect("memory can be read"),
        _ => 0,
    };
    let store = SimStore { world: Arc::clone(world), dead: dead.clone(), hidden: AtomicU64::new(hidden) };
    let surroundings = Surroundings { world: Arc::clone(world), dead: dead.clone() };
    let options = Options {
        instance: "simulated".into(),
        lease_ttl: Duration::from_secs(2),
        idle_runs: 2,
        environment: Arc::new(surroundings),
        ..Options::default()
    };
    tokio::select! {
        biased;
        () = dead.cancelled() => None,
        opened = Engine::open(Arc::new(store), Arc::new(Follower(Arc::clone(world))), options) => opened.ok(),
    }
}

async fn live_once(world: &World, service: Service, dead: &CancellationToken) {
    let stop = CancellationToken::new();
    let mut service = tokio::spawn(service.run(stop.clone()));
    tokio::select! {
        biased;
        () = dead.cancelled() => {}
        () = world.over.cancelled() => {}
        () = world.restart.notified() => {}
        ended = &mut service => {
            world.set();
            return world.problem(format!("the engine ended by itself: {ended:?}"));
        }
    }
    if !dead.is_cancelled() {
        world.set();
        stop.cancel();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            ended = tokio::time::timeout(LIMIT, &mut service) => match ended {
                Ok(Ok(())) => return,
                other => world.problem(format!("the engine did not stop in good order: {other:?}")),
            },
        }
    }
    service.abort();
    let _ = service.await;
}

/// Notes what followers are told.
struct Follower(Arc<World>);

impl News for Follower {
    fn committed(&self, first_position: u64, rows: Arc<[LogRow]>) {
        let told = (first_position..).zip(rows.iter()).map(|(position, row)| (position, rules::digest(row)));
        if self.0.plant != Some(Plant::TokensBeginAnew) {
            self.0.seen().told.extend(told);
        }
    }
    fn decision(&self, _: &DecisionRow) {}
    fn agent(&self, _: AgentNews) {}
}
