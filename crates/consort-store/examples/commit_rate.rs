//! How fast batches become durable: units a second by batch size. A unit is a record in the log, a run that begins and a
//! request id that is used up.
//!
//! `cargo run -p consort-store --example commit_rate [FOLDER]`; the folder decides which disk is measured.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_core::event::{Record, chain};
use consort_core::ids::RunId;
use consort_core::ports::{Batch, LogRow, RunRow, RunStore, StoredRequest};
use consort_core::run::RunState;
use consort_store::SqliteStore;
use uuid::Uuid;

/// A record of a typical size.
const BODY: usize = 400;

/// How long each size is measured.
const MEASURED: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("consort-commit-rate-{}", std::process::id()));
    println!("{:>6} {:>10} {:>10} {:>9} {:>9}", "batch", "commits/s", "units/s", "p50 ms", "p99 ms");
    for size in [1, 16, 64, 256] {
        let store = SqliteStore::open(&folder).await?;
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < MEASURED {
            let batch = batch(store.last_position().await? + 1, size);
            let before = Instant::now();
            store.commit(Arc::new(batch)).await?;
            times.push(before.elapsed());
        }
        let busy = times.iter().sum::<Duration>().as_secs_f64();
        times.sort();
        let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let commits = times.len() as f64 / busy;
        println!(
            "{size:>6} {commits:>10.0} {:>10.0} {:>9.2} {:>9.2}",
            commits * size as f64,
            percentile(50),
            percentile(99)
        );
        store.close().await;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn batch(first_position: u64, size: usize) -> Batch {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64);
    let mut batch = Batch { first_position, ..Batch::default() };
    for _ in 0..size {
        let run = RunId(Uuid::now_v7());
        let body = vec![b' '; BODY];
        let record = Record {
            run,
            namespace: "default".into(),
            root: run,
            sequence: 1,
            count: 2,
            at: now,
            hash: chain(&[0; 32], &body),
            body,
        };
        batch.log.push(LogRow::Run(record));
        batch.created.push(RunRow {
            id: run,
            namespace: "default".into(),
            workflow: "audit".into(),
            revision: 1,
            state: RunState::Running,
            sequence: 0,
            created_at: now,
            updated_at: now,
            ended_at: None,
            wake_at: Some(0),
            parent: None,
            project: None,
            labels: [].into(),
            error: None,
        });
        let (key, fingerprint) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
        batch.requests.push(StoredRequest { key, fingerprint, answer: run.0.into_bytes().to_vec(), at: now });
    }
    batch
}
