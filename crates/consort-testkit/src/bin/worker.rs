//! A worker for tests, in a process that can be killed. It serves `next` (a number to the next one), `flaky` (the same, but every
//! step's first attempt fails) and `bulk` (a text of the wanted length), each after a few random milliseconds; and `poison`, which does
//! what no task should do. It answers `pause` (an answer after the wanted milliseconds, four at once).
//!
//! `consort-test-worker ID SEED MAX_MS`; the mesh is found by `CONSORT_ADDR`. Says `ready` on standard output before it dials.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use consort_sdk::{Agent, Code, Inquiry, Task, TaskError, Worker};
use consort_testkit::next;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, seed, max_ms] = &arguments[..] else { return Err("use: consort-test-worker ID SEED MAX_MS".into()) };
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}` is not a number: {error}"));
    let (seed, max_ms) = (number(seed)?, number(max_ms)?);
    let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let after_a_while = move |work: fn(&Task) -> Result<Value, TaskError>| {
        let dice = Arc::clone(&dice);
        move |task: Task| {
            let nap = dice.lock().map_or(0, |mut dice| dice.random_range(0..=max_ms));
            async move {
                tokio::time::sleep(Duration::from_millis(nap)).await;
                work(&task)
            }
        }
    };
    // What the SDK says of lost leases and refused answers is for tests to read.
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    println!("ready");
    Worker::new(id)
        .slots(16)
        .agent("next", after_a_while(number_after))
        .agent("flaky", after_a_while(at_second_try))
        .agent("bulk", after_a_while(bulk))
        .agent("poison", poison)
        .answers(Agent::new("pause").at_once(4), |inquiry: Inquiry| async move {
            let ms: u64 = inquiry.input()?;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(ms)
        })
        .run()
        .await
        .map_err(|error| error.to_string())
}

fn number_after(task: &Task) -> Result<Value, TaskError> {
    let input: Value = task.input()?;
    let n = input["n"].as_u64().ok_or_else(|| TaskError::bad_input("n", "is not a number; give one"))?;
    Ok(json!({"n": next(n)}))
}

fn at_second_try(task: &Task) -> Result<Value, TaskError> {
    if task.attempt() == 1 {
        return Err(TaskError::new(Code::Unavailable, "the first attempt fails"));
    }
    number_after(task)
}

/// What becomes of `n` is in the case: it panics, hangs, is huge, ends the process, or takes all its memory.
#[allow(clippy::panic)] // it is told to
async fn poison(task: Task) -> Result<Value, TaskError> {
    let input: Value = task.input()?;
    match input["case"].as_str().unwrap_or_default() {
        "panic" => panic!("planted: this task panics"),
        "hang" => std::future::pending().await,
        "huge" => Ok(json!("x".repeat(8 << 20))),
        end @ ("abort" | "memory") => {
            // What else is in hand is done and answered first.
            tokio::time::sleep(Duration::from_millis(30)).await;
            if end == "memory" {
                let mut eaten: Vec<Vec<u8>> = Vec::new();
                loop {
                    eaten.push(vec![1; 64 << 20]);
                }
            }
            std::process::abort()
        }
        _ => number_after(&task),
    }
}

fn bulk(task: &Task) -> Result<Value, TaskError> {
    let input: Value = task.input()?;
    let length = input["length"].as_u64().ok_or_else(|| TaskError::bad_input("length", "is not a number; give one"))?;
    Ok(json!("x".repeat(usize::try_from(length).unwrap_or(0))))
}
