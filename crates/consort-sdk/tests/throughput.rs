//! A no-op worker must not be what limits the mesh.
#![allow(missing_docs)]

mod mesh;

use std::time::{Duration, Instant};

use consort_sdk::Worker;
use mesh::{FakeMesh, task};

/// Tasks a second, with 256 slots that the mesh refills as answers come. Printed, and held against a floor that is far below
/// what an idle machine does, so that a busy one does not fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_op_worker_does_thousands_of_tasks_a_second() {
    const TASKS: u64 = 100_000;
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("noop").addr(&mesh.addr).agent("noop", |_| async { Ok(()) });
    let life = tokio::spawn(worker.run_until(std::future::pending()));
    let mut connection = mesh.attach().await;
    let began = Instant::now();
    let mut next = 0;
    let mut assign = |count: u64| {
        let tasks: Vec<_> = (next..(next + count).min(TASKS)).map(|n| task(n, "noop", "null")).collect();
        next += tasks.len() as u64;
        tasks
    };
    connection.assign(assign(256)).await;
    let mut done = 0;
    while done < TASKS {
        let answers = connection.next().await.completed;
        done += answers.len() as u64;
        let more = assign(answers.len() as u64);
        connection.answer(answers.into_iter().map(|answer| answer.lease), more).await;
    }
    let elapsed = began.elapsed();
    life.abort();
    println!("{:.0} tasks/s", TASKS as f64 / elapsed.as_secs_f64());
    assert!(elapsed < Duration::from_secs(30), "{TASKS} tasks took {elapsed:?}");
}
