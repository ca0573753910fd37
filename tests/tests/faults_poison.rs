//! Poison among ten thousand tasks: some panic, hang, answer with far too much, end their worker or take all its memory. Everything
//! else is done, each of them fails with an error that says why, and the workers, which somebody restarts, go on.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use consort_sdk::StartOptions;
use consort_testkit::{Mesh, Process, binary, next};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Tasks in all, and of one run.
const TASKS: usize = 10_000;
const A_RUN: usize = 1_000;
/// Address space of a worker: what takes more gets none, and ends.
const MEMORY_KIB: &str = "600000";
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(240);

const MIXED: &str = r#"
name: mixed
inputs: {list: {type: array}}
steps:
  - id: each
    agent: poison
    for_each: "${{ inputs.list }}"
    with: {n: "${{ item.n }}", case: "${{ item.case }}"}
    timeout: 1s
    retry: {max: 2, backoff: 10ms}
    on_error: continue
output: "${{ steps.each.output }}"
"#;

/// What is wrong with a task.
fn case(n: usize) -> &'static str {
    match n % 500 {
        17 => "panic",
        130 => "hang",
        260 => "huge",
        _ if n == 4_444 => "abort",
        _ if n == 7_777 => "memory",
        _ => "none",
    }
}

/// Keeps a worker running: when its process ends another one begins.
async fn supervise(addr: String, log: std::path::PathBuf, id: String, stop: CancellationToken) -> u32 {
    let mut lives = 0;
    while !stop.is_cancelled() {
        lives += 1;
        let worker = binary("consort-test-worker");
        let limited = format!("ulimit -v {MEMORY_KIB}; ulimit -c 0; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, "sh"]).arg(worker).args([&*id, "1", "0"]).env("CONSORT_ADDR", &addr);
        command.env_remove("CONSORT_WORKER_ID").env_remove("CONSORT_NAMESPACE");
        let mut process = Process::start(&id, &mut command, &log);
        while process.ended().is_none() && !stop.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    lives
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_costs_itself_and_nothing_else() {
    let begun = Instant::now();
    let mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    let client = mesh.client();
    client.apply(MIXED).await.unwrap();
    let stop = CancellationToken::new();
    let supervisors: Vec<_> = (0..2)
        .map(|number| format!("w{number}"))
        .map(|id| (mesh.folder().join(format!("{id}.log")), id))
        .map(|(log, id)| tokio::spawn(supervise(mesh.addr().to_owned(), log, id, stop.clone())))
        .collect();
    let mut runs = Vec::new();
    for first in (0..TASKS).step_by(A_RUN) {
        let list: Vec<Value> = (first..first + A_RUN).map(|n| json!({"n": n, "case": case(n)})).collect();
        let run = client.start("mixed", &json!({"list": list}), StartOptions::default()).await.unwrap();
        runs.push((first, run.name));
    }
    let mut failures: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (first, name) in runs {
        let left = LIMIT.saturating_sub(begun.elapsed());
        let run = client.wait(&name, Some(left)).await.unwrap();
        let output = client.payload_value(run.output.as_ref()).await.unwrap();
        let results = output.as_array().unwrap_or_else(|| panic!("run {name} is {:?} with {output}", run.state()));
        assert_eq!(results.len(), A_RUN);
        for (n, result) in (first..).zip(results) {
            match case(n) {
                "none" => assert_eq!(result, &json!({"n": next(n as u64)}), "task {n} suffered from its neighbours"),
                // It became a blob, like every value that is too large for a message.
                "huge" => assert_eq!(result.as_str().map(str::len), Some(8 << 20), "task {n}"),
                poison => {
                    assert_eq!(result, &Value::Null, "task {n}, which is {poison}");
                    let step = format!("each[{}]", n - first);
                    let step = run.steps.iter().find(|other| other.step == step).unwrap();
                    failures.entry(poison).or_default().push(step.error.as_ref().unwrap().message.clone());
                }
            }
        }
    }
    stop.cancel();
    let mut lives = 0;
    for supervisor in supervisors {
        lives += supervisor.await.unwrap();
    }
    println!("{TASKS} tasks in {:?}; {lives} lives of two workers", begun.elapsed());
    let expected = [
        ("panic", 20, "planted: this task panics"),
        ("hang", 20, "1s"),
        ("abort", 1, "16 workers died or fell silent"),
        ("memory", 1, "16 workers died or fell silent"),
    ];
    for (poison, count, why) in expected {
        let messages = &failures[poison];
        assert_eq!(messages.len(), count, "{poison}");
        // What shares a worker with a task that ends it may be counted as ending it too.
        // On a busy machine a task's time is up before it has taken all its worker's memory.
        let instead = match poison {
            "hang" => "workers died",
            "memory" => "timeout of 1s",
            _ => why,
        };
        let clear = |message: &&String| message.contains(why) || message.contains(instead);
        let unclear: Vec<_> = messages.iter().filter(|message| !clear(message)).collect();
        assert!(unclear.is_empty(), "{poison} should say `{why}`: {unclear:?}");
    }
    // Two attempts of 16 lives, whether the two that end their workers share them or not.
    assert!(lives >= 32, "only {lives} lives: the poison was not served");
}
