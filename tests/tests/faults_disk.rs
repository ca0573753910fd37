//! Disks that are full or fail: the server stops acknowledging and says why, acknowledges nothing that is not durable, and goes on by
//! itself when it can; after a power cut everything acknowledged is there. The disk is `tests/faults/disk.c`. And file descriptors
//! that run out.
//!
//! `CONSORT_FAULT_ROUNDS=10` asks for ten times as many faults; `CONSORT_FAULT_SEED` repeats the choices.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use consort_proto::orchestrator::RunState;
use consort_sdk::{Client, Code, StartOptions};
use consort_testkit::{
    Asked, CHILD, Journal, Mesh, Outcome, REQUEST_LABEL, Stored, check, eventually, next, outcome_of, output_of,
    refusal, root, run_id,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Faults of one round.
const FAULTS: u64 = 5;
/// Clients at once.
const CLIENTS: u64 = 4;
/// Runs that must be acknowledged for each fault, so that the test cannot pass by failing every call.
const QUOTA: usize = 10;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}=`{text}` is not a number: {error}")))
}

/// The folder of orders to the disk.
struct Disk(PathBuf);

impl Disk {
    /// Compiles the disk and puts it under a new server.
    async fn under(mesh: &mut Mesh) -> Disk {
        let (orders, library) = (mesh.folder().join("disk"), mesh.folder().join("disk.so"));
        std::fs::create_dir_all(orders.join("image")).unwrap();
        let source = root().join("tests/faults/disk.c");
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("there is a C compiler, for SQLite was built with it");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        mesh.kill();
        std::fs::remove_dir_all(mesh.data()).unwrap();
        mesh.set_variable("LD_PRELOAD", library.to_str());
        mesh.set_variable("CONSORT_DISK", orders.to_str());
        mesh.restart().await;
        Disk(orders)
    }

    fn order(&self, order: &str) {
        std::fs::write(self.0.join(order), "").unwrap();
    }

    fn heal(&self, order: &str) {
        std::fs::remove_file(self.0.join(order)).unwrap();
    }

    /// What is not on the disk is gone.
    fn power_cut(&self, data: &Path) {
        for name in ["consort.db", "consort.db-wal", "consort.db-shm"] {
            let _ = std::fs::remove_file(data.join(name));
            let image = self.0.join("image").join(name);
            if image.exists() {
                std::fs::copy(image, data.join(name)).unwrap();
            }
        }
    }
}

/// Starts runs and notes what becomes of each call, until it is stopped.
async fn load(
    client: Client,
    number: u64,
    journal: Arc<Journal>,
    good: Arc<AtomicU64>,
    stop: CancellationToken,
) -> u64 {
    for round in 0.. {
        if stop.is_cancelled() {
            return round;
        }
        let request = format!("{number}-{round}");
        let started = client.start("child", &json!({"n": round}), options(&request)).await;
        let outcome = started.as_ref().map_or_else(outcome_of, |run| Outcome::Ok(Some(run_id(&run.name))));
        good.fetch_add(u64::from(started.is_ok()), Ordering::SeqCst);
        journal.call(Asked::Start(request), outcome);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    0
}

fn options(request: &str) -> StartOptions {
    let labels = HashMap::from([(REQUEST_LABEL.to_owned(), request.to_owned())]);
    StartOptions { request_id: Some(request.to_owned()), labels, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_stops_the_acknowledgements_and_loses_none() {
    let seed = setting("CONSORT_FAULT_SEED").unwrap_or_else(rand::random);
    let rounds = setting("CONSORT_FAULT_ROUNDS").unwrap_or(1);
    println!(
        "again: CONSORT_FAULT_SEED={seed} CONSORT_FAULT_ROUNDS={rounds} cargo test --workspace --test faults_disk"
    );
    let (begun, mut dice) = (Instant::now(), StdRng::seed_from_u64(seed));
    let mut mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    let disk = Disk::under(&mut mesh).await;
    let client = mesh.client();
    client.apply(CHILD).await.unwrap();
    let _worker = mesh.worker("w", dice.random(), 5);
    let (journal, good, stop) = (Arc::new(Journal::default()), Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let lanes: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let impatient = mesh.client().with_patience(Duration::ZERO);
            tokio::spawn(load(impatient, number, Arc::clone(&journal), Arc::clone(&good), stop.clone()))
        })
        .collect();
    let acknowledged = || good.load(Ordering::SeqCst);
    let more = async |what: &str| {
        let before = acknowledged();
        eventually(what, || async { (acknowledged() >= before + QUOTA as u64).then_some(()) }).await;
    };
    for fault in 0..FAULTS * rounds {
        more("runs begin").await;
        let order = if fault % 2 == 0 { "broken" } else { "full" };
        disk.order(order);
        // What was under way when it began may still be acknowledged; then nothing is.
        let probe = client.again().with_patience(Duration::ZERO);
        let error = eventually("a start is refused", || async {
            probe.start("child", &json!({"n": 0}), StartOptions::default()).await.err()
        })
        .await;
        let consort_sdk::Error::Status(status) = error else { panic!("the server answers: {error}") };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(refusal(&status), "STORE_UNAVAILABLE", "{status:?}");
        let before = acknowledged();
        tokio::time::sleep(Duration::from_millis(dice.random_range(300..900))).await;
        assert_eq!(acknowledged(), before, "acknowledged although the disk is {order}");
        // Sometimes the server does not live to see it mended, and then the pages it wrote last are still to be read.
        let killed = dice.random_bool(0.5);
        if killed {
            mesh.kill();
        }
        disk.heal(order);
        if killed {
            mesh.restart().await;
        }
        more("runs begin again").await;
        if dice.random_bool(0.6) {
            mesh.kill();
            disk.power_cut(&mesh.data());
            mesh.restart().await;
        }
    }
    more("runs begin in the end").await;
    stop.cancel();
    let mut asked = Vec::new();
    for (number, lane) in lanes.into_iter().enumerate() {
        asked.push((number, lane.await.unwrap()));
    }
    let log = std::fs::read_to_string(mesh.folder().join("server.log")).unwrap();
    assert!(log.contains("free some space or mend the disk"), "the log does not say what to do");
    // Everybody asks once more, and sees the end.
    for (number, rounds) in asked {
        for round in 0..rounds {
            let request = format!("{number}-{round}");
            let run = client.start("child", &json!({"n": round}), options(&request)).await.unwrap();
            journal.call(Asked::Start(request), Outcome::Ok(Some(run_id(&run.name))));
            let run = client.wait(&run.name, Some(Duration::from_secs(30))).await.unwrap();
            assert_eq!((run.state(), output_of(&run)), (RunState::Succeeded, json!(next(round))));
            journal.ended(&run, output_of(&run));
        }
    }
    mesh.kill();
    disk.power_cut(&mesh.data());
    mesh.restart().await;
    mesh.stop().await;
    let report = check(&journal.seen(), &Stored::read(&mesh.data()).await);
    let calls = journal.seen().calls;
    let unknown = calls.iter().filter(|call| call.outcome == Outcome::Unknown).count();
    println!(
        "{} faults in {:?}: {} runs, {} calls, {unknown} of them without an answer that says what became of them",
        FAULTS * rounds,
        begun.elapsed(),
        report.runs,
        calls.len()
    );
    assert!(report.problems.is_empty(), "seed {seed}:\n{}", report.problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_the_server_waits_and_goes_on() {
    let mut mesh = Mesh::start().await;
    mesh.kill();
    mesh.start_through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    mesh.restart().await;
    let client = mesh.client();
    client.apply(CHILD).await.unwrap();
    let _worker = mesh.worker("w", 1, 5);
    let run = client.start("child", &json!({"n": 1}), StartOptions::default()).await.unwrap();
    client.wait(&run.name, Some(Duration::from_secs(30))).await.unwrap();
    let address: SocketAddr = mesh.addr().parse().unwrap();
    let crowd: Vec<TcpStream> =
        (0..100).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()).collect();
    assert!(crowd.len() >= 64, "only {} connections were made", crowd.len());
    // Who is connected is served: what it starts is written with what is open already.
    let hasty = client.again().with_patience(Duration::from_secs(1));
    let answered = hasty.start("child", &json!({"n": 2}), options("crowded")).await;
    let crowded = Instant::now();
    drop(crowd);
    let run = client.start("child", &json!({"n": 2}), options("crowded")).await.unwrap();
    if let Ok(before) = answered {
        assert_eq!(before.name, run.name);
    }
    let late = mesh.client();
    let run = late.wait(&run.name, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!(output_of(&run), json!(next(2)));
    assert!(crowded.elapsed() < Duration::from_secs(30), "it took {:?} to recover", crowded.elapsed());
    mesh.stop().await;
}
