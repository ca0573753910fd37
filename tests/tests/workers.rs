//! Workers come, go, die and speak different languages; the work is done.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{
    CompleteTaskRequest, DrainWorkerRequest, FailTaskRequest, LeaseTasksRequest, ListWorkersRequest,
    RenewLeasesRequest, Worker as Attached,
};
use consort_proto::blob::{Payload, payload::Kind};
use consort_proto::google::rpc;
use consort_proto::orchestrator::{RunState, StepState};
use consort_sdk::{Client, Code, StartOptions, Task, TaskError, Worker};
use consort_testkit::{CHAIN, FLAKY, Mesh, Process, eventually, next, output_of, root, serve, soon};
use serde_json::{Value, json};
use tokio::sync::oneshot;

async fn attached(client: &Client) -> Vec<Attached> {
    client.agents().list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().workers
}

async fn wait_for_worker(client: &Client, id: &str) {
    let name = format!("namespaces/default/workers/{id}");
    eventually("the worker is attached", || async {
        attached(client).await.iter().any(|worker| worker.name == name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_without_a_stream_leases_renews_fails_and_completes() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(FLAKY).await.unwrap();
    let run = client.start("flaky", &json!({"n": 3}), StartOptions::default()).await.unwrap().name;
    let mut workers = WorkerServiceClient::new(client.channel());
    let session = uuid::Uuid::new_v4().to_string();
    let lease = LeaseTasksRequest {
        worker_id: "curl".into(),
        session_id: session.clone(),
        agents: vec!["flaky".into()],
        wait: Some(Duration::from_secs(15).try_into().unwrap()),
        ..Default::default()
    };
    let first = soon(workers.lease_tasks(lease.clone())).await.unwrap().into_inner();
    let task = &first.assignments[0];
    assert!(task.task.ends_with("/steps/only/attempts/1") && first.lease_ttl.is_some(), "{first:?}");
    let renew = RenewLeasesRequest { worker_id: "curl".into(), session_id: session, ..Default::default() };
    let renewed = workers.renew_leases(renew).await.unwrap().into_inner();
    assert_eq!((renewed.held[0].lease_token, renewed.cancels.len()), (task.lease_token, 0));
    let error = rpc::Status { code: Code::Unavailable as i32, message: "out of ink".into(), details: vec![] };
    let failed = FailTaskRequest {
        task: task.task.clone(),
        lease_token: task.lease_token,
        error: Some(error),
        retryable: true,
        retry_after: None,
    };
    assert!(workers.fail_task(failed).await.unwrap().into_inner().will_retry);
    let second = soon(workers.lease_tasks(lease)).await.unwrap().into_inner().assignments.remove(0);
    assert_eq!((second.attempt, second.idempotency_key.as_str()), (2, task.idempotency_key.as_str()));
    let output = Some(Payload { kind: Some(Kind::Json("{\"n\": 4}".into())) });
    let done = CompleteTaskRequest { task: second.task, lease_token: second.lease_token, output, ..Default::default() };
    workers.complete_task(done).await.unwrap();
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!(4));
}

#[tokio::test]
async fn a_drained_worker_finishes_what_it_has_and_leaves() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let (go, gone) = oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gone));
    let worker = Worker::new("leaver").agent("next", move |task: Task| {
        let gate = gate.lock().unwrap().take();
        async move {
            gate.ok_or("it took a second task")?.await.map_err(|error| error.to_string())?;
            task.input::<Value>()
        }
    });
    let worker = serve(&mesh, worker);
    let run = client.start("chain", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    eventually("the worker has the step", || async {
        let run = client.get(&run).await.ok()?;
        (run.steps[0].state() == StepState::InProgress && run.steps[0].worker == "leaver").then_some(())
    })
    .await;
    let drain = DrainWorkerRequest { name: "namespaces/default/workers/leaver".into(), ..Default::default() };
    client.agents().drain_worker(drain).await.unwrap();
    go.send(()).unwrap();
    worker.ended().await.unwrap();
    eventually("it is gone from the list", || async { attached(&client).await.is_empty().then_some(()) }).await;
    let left = client.get(&run).await.unwrap();
    assert_eq!((left.steps[0].state(), left.steps[1].state()), (StepState::Done, StepState::Ready));
}

#[tokio::test]
async fn work_of_a_killed_worker_is_taken_over_within_its_lease() {
    let mesh = Mesh::with(&["--lease-ttl-ms", "1000"]).await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let mut doomed = mesh.worker("doomed", 1, 3_600_000);
    wait_for_worker(&client, "doomed").await;
    let run = client.start("chain", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    eventually("the doomed worker has the step", || async {
        (client.get(&run).await.ok()?.steps[0].worker == "doomed").then_some(())
    })
    .await;
    let _heir = mesh.worker("heir", 2, 0);
    wait_for_worker(&client, "heir").await;
    doomed.kill();
    let killed = Instant::now();
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(output_of(&ended), json!(next(next(next(1)))));
    assert!(killed.elapsed() < Duration::from_secs(5), "it took {:?} with a lease of one second", killed.elapsed());
    assert_eq!(ended.steps[0].attempt, 1, "a lost lease is not a failed attempt");
}

#[tokio::test]
async fn a_worker_keeps_its_task_when_the_server_is_killed() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let (go, gone) = oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gone));
    let worker = Worker::new("steady").agent("next", move |task: Task| {
        let gate = gate.lock().unwrap().take();
        async move {
            if let Some(gate) = gate {
                gate.await.map_err(|error| error.to_string())?;
            }
            let input: Value = task.input()?;
            Ok::<_, TaskError>(json!({"n": next(input["n"].as_u64().unwrap())}))
        }
    });
    let _worker = serve(&mesh, worker);
    let run = client.start("chain", &json!({"n": 1}), StartOptions::default()).await.unwrap().name;
    eventually("the worker has the step", || async {
        (client.get(&run).await.ok()?.steps[0].state() == StepState::InProgress).then_some(())
    })
    .await;
    mesh.kill();
    go.send(()).unwrap();
    mesh.restart().await;
    let ended = client.wait(&run, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!((ended.state(), output_of(&ended)), (RunState::Succeeded, json!(next(next(next(1))))));
}

#[tokio::test]
async fn one_run_is_done_by_workers_in_two_languages() {
    let python = root().join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing: `make test` or `deploy/setup.sh dev` makes it", python.display());
    let mesh = Mesh::start().await;
    let client = mesh.client();
    client.apply("name: both\nsteps:\n  - {id: rust, agent: next, with: {n: 1}}\n  - {id: python, agent: noop, needs: [rust], with: {n: \"${{ steps.rust.output.n }}\"}}\n  - {id: again, agent: next, needs: [python], with: {n: \"${{ steps.rust.output.n }}\"}}\noutput: \"${{ steps.again.output.n }}\"\n").await.unwrap();
    let mut command = Command::new(python);
    command.args(["-m", "consort.noop", "--id", "snake", "--address", mesh.addr()]);
    let _python = Process::start("the Python worker", &mut command, &mesh.folder().join("python.log"));
    let _rust = mesh.worker("crab", 1, 0);
    let run = client.start("both", &json!({}), StartOptions::default()).await.unwrap().name;
    let ended = client.wait(&run, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!((ended.state(), output_of(&ended)), (RunState::Succeeded, json!(next(next(1)))));
    let mut sdks: Vec<String> = attached(&client).await.into_iter().map(|worker| worker.sdk).collect();
    sdks.sort();
    assert!(sdks.len() == 2 && sdks[0].starts_with("python ") && sdks[1].starts_with("rust "), "{sdks:?}");
}
