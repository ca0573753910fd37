//! A store that is kept healthy: backups under load, archives that leave and come back, and a doctor that looks.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consort_proto::admin::{CreateBackupRequest, ListArchivesRequest, PruneRunsRequest};
use consort_proto::decision::ListDecisionsRequest;
use consort_proto::orchestrator::{Run, RunState};
use consort_sdk::{Client, StartOptions};
use consort_testkit::{
    ASK, CHAIN, CHILD, Mesh, PARENT, Seen, Stored, binary, check, eventually, next, output_of, refusal,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tonic::Code;

const WAIT: Option<Duration> = Some(Duration::from_secs(20));

/// Runs `consort` on a data folder.
fn consort(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("consort"));
    command.args(arguments).arg("--data").arg(data).env_remove("CONSORT_ADDR").env_remove("CONSORT_NAMESPACE");
    command.output().unwrap()
}

fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let output = consort(data, &[arguments, &["-o", "json"]].concat());
    let (text, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}{said}"))
}

/// The exit code and what was said on standard error.
fn fails(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = consort(data, arguments);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn assert_sound(data: &Path) -> Value {
    let report = json_of(data, &["doctor"]);
    assert_eq!((&report["problems"], &report["problems_left"]), (&json!([]), &json!(0)), "{report}");
    report
}

async fn chain(client: &Client, n: u64) -> Run {
    let options = StartOptions { wait: WAIT, ..Default::default() };
    client.start("chain", &json!({"n": n}), options).await.unwrap()
}

async fn question(client: &Client, run: &str) -> String {
    eventually("the question is asked", || async {
        let decisions =
            client.decisions().list_decisions(ListDecisionsRequest::default()).await.ok()?.into_inner().decisions;
        decisions.into_iter().find(|decision| decision.run == run).map(|decision| decision.name)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_acknowledged_and_live_runs_go_on() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    for definition in [ASK, CHAIN] {
        client.apply(definition).await.unwrap();
    }
    let _worker = mesh.worker("w", 1, 1);
    let live = client.start("ask", &json!({"n": 5}), StartOptions::default()).await.unwrap().name;
    let decision = question(&client, &live).await;

    let ended: Arc<Mutex<Vec<Run>>> = Arc::default();
    let (stop, number) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let lanes: Vec<_> = (0..4)
        .map(|_| {
            let (client, ended, stop, number) = (mesh.client(), ended.clone(), stop.clone(), number.clone());
            tokio::spawn(async move {
                while stop.load(Ordering::Acquire) == 0 {
                    let run = chain(&client, number.fetch_add(1, Ordering::AcqRel)).await;
                    ended.lock().await.push(run);
                }
            })
        })
        .collect();
    eventually("there is load", || async { (ended.lock().await.len() > 40).then_some(()) }).await;
    let acknowledged = ended.lock().await.clone();
    let file = mesh.folder().join("mesh.tar");
    let path = file.display().to_string();
    let before = ended.lock().await.len();
    let made = json_of(&mesh.data(), &["backup", &path]);
    assert!(made["size_bytes"].as_u64().unwrap() > 10_000, "{made}");
    eventually("the load goes on", || async { (ended.lock().await.len() > before).then_some(()) }).await;
    stop.store(1, Ordering::Release);
    for lane in lanes {
        lane.await.unwrap();
    }
    let (code, said) = fails(&mesh.data(), &["backup", &path]);
    assert!(code == Some(2) && said.contains("already"), "{said}");
    mesh.kill();

    // Damage is told before anything has a name.
    let (wrong, target) = (mesh.folder().join("wrong.tar"), mesh.folder().join("restored"));
    let bytes = std::fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (wrongly, says) in [(&bytes[..middle], "cut off"), (&flipped, "damaged"), (b"no tar", "not a backup")] {
        std::fs::write(&wrong, wrongly).unwrap();
        let (code, said) = fails(&target, &["restore", &wrong.display().to_string()]);
        assert!(code == Some(1) && said.contains(says) && !target.exists(), "{says}: {said}");
    }
    let (code, said) = fails(&mesh.data(), &["restore", &path]);
    assert!(code == Some(2) && said.contains("not empty"), "{said}");

    // Another machine: the same server over what the backup holds.
    std::fs::rename(mesh.data(), mesh.folder().join("lost")).unwrap();
    let restored = json_of(&mesh.data(), &["restore", &path]);
    assert!(restored["position"].as_u64().unwrap() > 0, "{restored}");
    assert_sound(&mesh.data());
    mesh.restart().await;
    let client = mesh.client();
    for run in &acknowledged {
        let found = client.get(&run.name).await.unwrap();
        assert_eq!((found.state(), output_of(&found)), (run.state(), output_of(run)), "{}", run.name);
    }
    client.decide(&decision, "yes", "me").await.unwrap();
    let done = client.wait(&live, WAIT).await.unwrap();
    assert_eq!(output_of(&done), json!({"option": "yes", "n": next(next(5))}));
    let (_, status) = mesh.stop().await;
    assert!(status.success());
    let wal = mesh.data().join("consort.db-wal");
    assert!(!wal.exists() || std::fs::metadata(&wal).unwrap().len() == 0, "a clean stop leaves no write-ahead log");
}

async fn prune(client: &Client, dry_run: bool) -> consort_proto::admin::PruneRunsResponse {
    let request = PruneRunsRequest {
        older_than: Some(Duration::ZERO.try_into().unwrap()),
        dry_run,
        request_id: "p".into(),
        ..Default::default()
    };
    client.admin().prune_runs(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_runs_leave_for_an_archive_and_come_back() {
    let mut mesh = Mesh::start().await;
    let client = mesh.client();
    for definition in [ASK, CHAIN, CHILD, PARENT] {
        client.apply(definition).await.unwrap();
    }
    let _worker = mesh.worker("w", 1, 1);
    let options = || StartOptions { wait: WAIT, ..Default::default() };
    let mut runs = vec![client.start("parent", &json!({"n": 3}), options()).await.unwrap()];
    for n in 0..20 {
        runs.push(chain(&client, n).await);
    }
    assert!(runs.iter().all(|run| run.state() == RunState::Succeeded), "{runs:#?}");
    for run in &mut runs {
        *run = client.get(&run.name).await.unwrap();
    }
    let live = client.start("ask", &json!({"n": 5}), StartOptions::default()).await.unwrap().name;
    let decision = question(&client, &live).await;

    // The triggers save how far they are every few seconds; until then what they may not have seen stays.
    let due = eventually("all finished runs are due", || async {
        let counted = prune(&client, true).await;
        (counted.runs == 22).then_some(counted)
    })
    .await;
    assert!(due.archives.is_empty(), "{due:?}");
    assert_eq!(client.get(&runs[0].name).await.unwrap(), runs[0], "counting changes nothing");
    let pruned = prune(&client, false).await;
    assert_eq!((pruned.runs, pruned.archives.len()), (22, 1), "{pruned:?}");
    for run in &runs {
        let gone = client.get(&run.name).await.unwrap_err();
        assert!(gone.to_string().contains("there is no run"), "{gone}");
    }
    assert_eq!(prune(&client, false).await.runs, 0);
    assert_sound(&mesh.data());
    let listed = client.admin().list_archives(ListArchivesRequest::default()).await.unwrap().into_inner().archives;
    assert_eq!(listed, pruned.archives);

    // Nothing is lost by a crash, and what is live goes on.
    mesh.kill();
    mesh.restart().await;
    client.decide(&decision, "yes", "me").await.unwrap();
    assert_eq!(client.wait(&live, WAIT).await.unwrap().state(), RunState::Succeeded);

    let (data, file) = (mesh.data(), mesh.folder().join("old.jsonl.gz"));
    let (name, path) = (listed[0].name.clone(), file.display().to_string());
    json_of(&data, &["archives", &name, "--to", &path]);
    let came = json_of(&data, &["import", &path]);
    assert_eq!((&came["runs"], &came["runsKnown"]), (&json!("22"), &json!("0")), "{came}");
    let again = json_of(&data, &["import", &path]);
    assert_eq!((&again["runs"], &again["runsKnown"]), (&json!("0"), &json!("22")), "{again}");
    for run in &runs {
        assert_eq!(client.get(&run.name).await.unwrap(), *run, "as it was");
    }
    assert_sound(&data);

    let cut = mesh.folder().join("cut.jsonl.gz");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 30]).unwrap();
    let (code, said) = fails(&data, &["import", &cut.display().to_string()]);
    assert!(code == Some(2) && said.contains("cut off"), "{code:?} {said}");

    // An empty folder takes it too, and a server of its own can show it.
    let old = mesh.folder().join("old");
    let (code, said) = fails(&data, &["import", &path, "--offline"]);
    assert!(code == Some(2) && said.contains("in use"), "{said}");
    assert_eq!(json_of(&old, &["import", &path, "--offline"])["runs"], json!(22));
    assert_sound(&old);

    mesh.stop().await;
    let report = check(&Seen::default(), &Stored::read(&data).await);
    assert!(report.problems.is_empty(), "{}", report.problems.join("\n"));
    assert_eq!(report.runs, 23);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_prunes_by_itself_and_keeps_what_it_shall() {
    let options = ["--prune-keep-last", "2", "--prune-older-than", "0s", "--prune-every", "1s"];
    let mesh = Mesh::with(&options).await;
    let client = mesh.client();
    client.apply(CHAIN).await.unwrap();
    let _worker = mesh.worker("w", 1, 1);
    let mut runs = Vec::new();
    for n in 0..6 {
        runs.push(chain(&client, n).await);
    }
    let kept = eventually("the policy has pruned", || async {
        let mut kept = Vec::new();
        for run in &runs {
            if client.get(&run.name).await.is_ok() {
                kept.push(run.name.clone());
            }
        }
        (kept.len() == 2).then_some(kept)
    })
    .await;
    assert_eq!(kept, [runs[4].name.clone(), runs[5].name.clone()], "the newest stay");
    assert_sound(&mesh.data());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_and_only_with_a_disk() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    // A reader that takes nothing holds the backup open as soon as more waits for it than a connection may send ahead.
    let bytes = vec![7_u8; 16_000_000];
    client.upload(bytes, "application/octet-stream").await.unwrap();
    let slow = client.admin().create_backup(CreateBackupRequest {}).await.unwrap();
    let second = client.admin().create_backup(CreateBackupRequest {}).await.unwrap_err();
    assert_eq!((second.code(), refusal(&second).as_str()), (Code::FailedPrecondition, "KEEPER_BUSY"));
    drop(slow);
    eventually("the one that was left is over", || async {
        client.admin().create_backup(CreateBackupRequest {}).await.ok().map(drop)
    })
    .await;

    let memory = Mesh::with(&["--memory"]).await;
    let refused = memory.client().admin().create_backup(CreateBackupRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refusal(&refused).as_str()), (Code::FailedPrecondition, "NOT_SUPPORTED"));
    assert!(refused.message().contains("memory"), "{refused}");
}
