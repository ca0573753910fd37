//! The worker against a mesh that the tests play.
#![allow(missing_docs)]

mod mesh;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use consort_proto::agent::step_report::Kind;
use consort_proto::agent::{ConnectResponse, LogLevel};
use consort_proto::blob::{BlobRef, Payload, payload};
use consort_sdk::{Agent, Code, Task, TaskError, Worker};
use mesh::{FakeMesh, Running, SOON, inline, lease, name_of, task};
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::Status;

fn echo() -> Worker {
    Worker::new("notes").agent("echo", |task: Task| async move { task.input::<serde_json::Value>() })
}

#[tokio::test]
async fn hello_says_who_it_is_and_what_it_offers() {
    let mut mesh = FakeMesh::start().await;
    let agent = Agent::new("summarise").kind("writing").description("Shortens.").capability("en").slot("gpu");
    let worker = echo().agent(agent, |_| async { Ok(()) }).slot("gpu", 2).slots(7);
    let _worker = Running::start(&mesh, worker);
    let hello = mesh.accept().await.hello;
    assert_eq!((hello.worker_id.as_str(), hello.parent.as_str()), ("notes", "namespaces/default"));
    assert_eq!((hello.min_protocol, hello.max_protocol), (1, 1));
    assert!(hello.sdk.starts_with("rust "));
    let slots: Vec<_> = hello.slots.iter().map(|slot| (slot.slot.as_str(), slot.credits)).collect();
    assert_eq!(slots, [("default", 7), ("gpu", 2)]);
    let offer = &hello.agents[1];
    assert_eq!((offer.agent.as_str(), offer.r#type.as_str(), offer.slot.as_str()), ("summarise", "writing", "gpu"));
    assert_eq!(offer.capabilities, ["en"]);
}

#[tokio::test]
async fn many_tasks_are_answered_in_few_frames() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, echo());
    let mut connection = mesh.attach().await;
    connection.assign((0..200).map(|n| task(n, "echo", &n.to_string())).collect()).await;
    let (mut frames, mut answers) = (0, Vec::new());
    while answers.len() < 200 {
        frames += 1;
        answers.extend(connection.next().await.completed);
    }
    assert!(frames <= 50, "200 answers came in {frames} frames");
    answers.sort_by_key(|answer| answer.lease.as_ref().unwrap().lease_token);
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.lease.unwrap(), lease(&task(n as u64, "echo", "")));
        assert_eq!(inline(answer.output), n.to_string());
    }
}

#[tokio::test]
async fn leases_are_renewed_with_what_the_process_uses() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, echo());
    let mut connection = mesh.accept().await;
    connection.welcome(Duration::from_millis(90), &[]).await;
    for _ in 0..3 {
        let renew = connection.frame().await.unwrap().renew.expect("an idle worker only renews");
        assert!(renew.cpu >= 0.0);
        assert!(!cfg!(target_os = "linux") || renew.memory_bytes > 0);
    }
}

#[tokio::test]
async fn reports_come_before_the_answer_of_their_task() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes").agent("talk", |task: Task| async move {
        task.progress(0.5, "half way").await;
        task.log(LogLevel::Warn, "careful").await;
        task.note("model.call", &serde_json::json!({"tokens": 3})).await?;
        Ok((task.attempt(), task.idempotency_key().to_owned()))
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "talk", "null")]).await;
    let mut kinds = Vec::new();
    let answer = loop {
        let mut frame = connection.next().await;
        kinds.extend(frame.reports.into_iter().map(|report| report.report.unwrap().kind.unwrap()));
        if let Some(answer) = frame.completed.pop() {
            break answer;
        }
    };
    assert!(matches!(&kinds[0], Kind::Progress(progress) if progress.text == "half way"));
    assert!(matches!(&kinds[1], Kind::Log(line) if line.level() == LogLevel::Warn && line.text == "careful"));
    assert!(matches!(&kinds[2], Kind::Note(note) if note.name == "model.call"));
    assert_eq!(inline(answer.output), r#"[1,"key-1"]"#);
}

#[tokio::test]
async fn answers_that_were_not_acknowledged_are_sent_again() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, echo());
    let mut first = mesh.attach().await;
    first.assign(vec![task(1, "echo", "1"), task(2, "echo", "2")]).await;
    let answers = first.completed(2).await;
    first.ack([answers.iter().map(|a| a.lease.clone()).find(|l| l.as_ref().unwrap().lease_token == 1).unwrap()]).await;
    let session = first.hello.session_id.clone();
    first.fail(Status::unavailable("restarting")).await;

    let mut second = mesh.accept().await;
    assert_eq!(second.hello.session_id, session);
    second.welcome(Duration::from_secs(30), &[]).await;
    let again = second.completed(1).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].lease.clone().unwrap().lease_token, 2);
}

#[tokio::test]
async fn a_lease_that_was_not_resumed_is_cancelled_and_an_unknown_one_given_back() {
    let mut mesh = FakeMesh::start().await;
    let stopped = Arc::new(Notify::new());
    let told = stopped.clone();
    let worker = echo().agent("wait", move |task: Task| {
        let told = told.clone();
        async move {
            task.cancelled().await;
            told.notify_one();
            Ok("ignored")
        }
    });
    let _worker = Running::start(&mesh, worker);
    let first = mesh.attach().await;
    first.assign(vec![task(1, "wait", "null")]).await;
    first.fail(Status::unavailable("restarting")).await;

    let mut second = mesh.accept().await;
    second.welcome(Duration::from_secs(30), &[lease(&task(9, "echo", ""))]).await;
    timeout(SOON, stopped.notified()).await.expect("the handler is told");
    let released = second.next().await.released;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].lease.clone().unwrap(), lease(&task(9, "echo", "")));
    // The cancelled task's answer never comes; the next one's does.
    second.assign(vec![task(2, "echo", "2")]).await;
    assert_eq!(second.completed(1).await[0].lease.clone().unwrap().lease_token, 2);
}

#[tokio::test]
async fn a_lease_that_was_resumed_goes_on() {
    let mut mesh = FakeMesh::start().await;
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let worker = Worker::new("notes").agent("wait", move |_| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            Ok("done")
        }
    });
    let _worker = Running::start(&mesh, worker);
    let first = mesh.attach().await;
    first.assign(vec![task(1, "wait", "null")]).await;
    first.fail(Status::unavailable("restarting")).await;
    let mut second = mesh.accept().await;
    second.welcome(Duration::from_secs(30), &[lease(&task(1, "wait", ""))]).await;
    go.notify_one();
    assert_eq!(inline(second.completed(1).await.pop().unwrap().output), r#""done""#);
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand_and_takes_nothing_new() {
    let mut mesh = FakeMesh::start().await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, gate) = (begun.clone(), go.clone());
    let worker = Worker::new("notes").agent("wait", move |_| {
        let (begin, gate) = (begin.clone(), gate.clone());
        async move {
            begin.notify_one();
            gate.notified().await;
            Ok(())
        }
    });
    let worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "wait", "null")]).await;
    timeout(SOON, begun.notified()).await.unwrap();
    let Running { stop, life } = worker;
    stop.send(()).unwrap();
    assert!(connection.next().await.draining);
    connection.assign(vec![task(2, "wait", "null")]).await;
    assert_eq!(connection.next().await.released[0].lease.as_ref().unwrap().lease_token, 2);
    go.notify_one();
    let answer = connection.completed(1).await.pop().unwrap();
    connection.ack([answer.lease]).await;
    assert!(connection.frame().await.is_none(), "the worker closes its side");
    drop(connection);
    timeout(SOON, life).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_unfinished_after_the_grace_is_given_back() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes").grace(Duration::from_millis(50)).agent("wait", |task: Task| async move {
        task.cancelled().await;
        Ok(())
    });
    let Running { stop, life } = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "wait", "null"), task(2, "nobody", "null")]).await;
    assert_eq!(connection.failed().await.error.unwrap().code, Code::Unimplemented as i32);
    connection.ack([Some(lease(&task(2, "", "")))]).await;
    stop.send(()).unwrap();
    assert!(connection.next().await.draining);
    assert_eq!(connection.next().await.released[0].lease.as_ref().unwrap().lease_token, 1);
    drop(connection);
    timeout(SOON, life).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_by_a_mesh_that_stays_ends_the_worker() {
    let mut mesh = FakeMesh::start().await;
    let worker = Running::start(&mesh, echo());
    let mut connection = mesh.attach().await;
    connection.say(ConnectResponse { drain: true, ..Default::default() }).await;
    assert!(connection.next().await.draining);
    assert!(connection.frame().await.is_none());
    drop(connection);
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_drain_by_a_mesh_that_shuts_down_does_not_end_the_worker() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, echo());
    let mut connection = mesh.attach().await;
    connection.say(ConnectResponse { drain: true, ..Default::default() }).await;
    assert!(connection.next().await.draining);
    connection.fail(Status::unavailable("shutting down")).await;
    mesh.attach().await;
}

#[tokio::test]
async fn a_worker_that_was_replaced_does_not_push_back() {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let mut mesh = FakeMesh::start().await;
    let worker = Running::start(&mesh, echo());
    let details = ErrorDetails::with_error_info("SESSION_REPLACED", "consort.dev", [] as [(String, String); 0]);
    mesh.attach().await.fail(Status::with_error_details(Code::Aborted, "another process took over", details)).await;
    assert_eq!(worker.end().await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn a_refused_hello_ends_the_worker() {
    let mut mesh = FakeMesh::start().await;
    let worker = Running::start(&mesh, echo());
    mesh.accept().await.fail(Status::invalid_argument("hello.slots: too many")).await;
    assert_eq!(worker.end().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn large_values_travel_as_blobs() {
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes").agent("double", |task: Task| async move {
        let text: String = task.input()?;
        Ok(text.repeat(2))
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    // Three chunks; the fake mesh breaks every download after one.
    let json = format!("\"{}\"", "x".repeat(150_000));
    let blob = BlobRef { sha256: name_of(json.as_bytes()), size_bytes: json.len() as i64, media_type: String::new() };
    mesh.blobs.lock().unwrap().insert(blob.sha256.clone(), json.into());
    let mut assignment = task(1, "double", "");
    assignment.input = Some(Payload { kind: Some(payload::Kind::Blob(blob)) });
    connection.assign(vec![assignment]).await;
    let output = connection.completed(1).await.pop().unwrap().output.unwrap().kind.unwrap();
    let payload::Kind::Blob(output) = output else { panic!("{output:?} is not a blob") };
    assert_eq!((output.size_bytes, output.media_type.as_str()), (300_002, "application/json"));
    assert_eq!(mesh.blobs.lock().unwrap()[&output.sha256], format!("\"{}\"", "x".repeat(300_000)));
}

#[tokio::test]
async fn a_blob_that_is_missing_or_too_large_fails_the_task_for_good() {
    let mut mesh = FakeMesh::start().await;
    let _worker = Running::start(&mesh, echo());
    let mut connection = mesh.attach().await;
    for (n, size, code) in [(1, 3, Code::NotFound), (2, 1 << 40, Code::InvalidArgument)] {
        let blob = BlobRef { sha256: "0".repeat(64), size_bytes: size, media_type: String::new() };
        let mut assignment = task(n, "echo", "");
        assignment.input = Some(Payload { kind: Some(payload::Kind::Blob(blob)) });
        connection.assign(vec![assignment]).await;
        let failed = connection.failed().await;
        assert_eq!((failed.error.unwrap().code, failed.retryable), (code as i32, false));
    }
}

#[tokio::test]
async fn a_panic_fails_its_task_and_the_worker_lives_on() {
    let mut mesh = FakeMesh::start().await;
    let worker = echo().agent("boom", |task: Task| async move {
        if task.input::<bool>()? {
            return task.blocking(|_| -> Result<(), TaskError> { panic!("on a thread") }).await;
        }
        panic!("the roof is on fire")
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    for (n, input, why) in [(1, "false", "the roof is on fire"), (2, "true", "on a thread")] {
        connection.assign(vec![task(n, "boom", input)]).await;
        let failed = connection.failed().await;
        let error = failed.error.unwrap();
        assert_eq!((error.code, failed.retryable), (Code::Internal as i32, true));
        assert!(error.message.contains(why), "{}", error.message);
    }
    connection.assign(vec![task(3, "echo", "3")]).await;
    assert_eq!(inline(connection.completed(1).await.pop().unwrap().output), "3");
}

#[tokio::test]
async fn a_bad_input_names_its_field_and_is_not_tried_again() {
    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Input {
        entries: Vec<f64>,
    }
    let mut mesh = FakeMesh::start().await;
    let worker = Worker::new("notes").agent("sum", |task: Task| async move {
        let input: Input = task.input()?;
        Ok(input.entries.iter().sum::<f64>())
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    connection.assign(vec![task(1, "sum", r#"{"entries": [1, "two"]}"#)]).await;
    let failed = connection.failed().await;
    let error = failed.error.unwrap();
    assert_eq!((error.code, failed.retryable), (Code::InvalidArgument as i32, false));
    assert!(error.message.starts_with("entries[1]: "), "{}", error.message);
    assert!(error.details[0].type_url.ends_with("google.rpc.BadRequest"));
}

#[tokio::test]
async fn tasks_beyond_twice_the_slots_are_given_back() {
    let mut mesh = FakeMesh::start().await;
    let running = Arc::new(AtomicUsize::new(0));
    let count = running.clone();
    let worker = Worker::new("notes").slots(2).agent("wait", move |task: Task| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            task.cancelled().await;
            Ok(())
        }
    });
    let _worker = Running::start(&mesh, worker);
    let mut connection = mesh.attach().await;
    connection.assign((0..7).map(|n| task(n, "wait", "null")).collect()).await;
    assert_eq!(connection.next().await.released.len(), 3);
    assert!(running.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn computing_code_hears_of_its_cancellation() {
    let mut mesh = FakeMesh::start().await;
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (begun.clone(), ended.clone());
    let saw = Arc::new(AtomicBool::new(false));
    let seen = saw.clone();
    let worker = Worker::new("notes").agent("compute", move |task: Task| {
        let (begin, end, seen) = (begin.clone(), end.clone(), seen.clone());
        async move {
            task.blocking(move |task| {
                begin.notify_one();
                while !task.is_cancelled() {
                    std::thread::yield_now();
                }
                seen.store(true, Ordering::SeqCst);
                end.notify_one();
                Ok(())
            })
            .await
        }
    });
    let _worker = Running::start(&mesh, worker);
    let connection = mesh.attach().await;
    connection.assign(vec![task(1, "compute", "null")]).await;
    timeout(SOON, begun.notified()).await.unwrap();
    connection.cancel(lease(&task(1, "compute", ""))).await;
    timeout(SOON, ended.notified()).await.expect("the thread hears of it");
    assert!(saw.load(Ordering::SeqCst));
}
