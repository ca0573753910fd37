//! What a policy lets go, and what stays because somebody needs it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use consort_core::event::Code;
use consort_core::ids::RunId;
use consort_core::keep::KeepStore;
use consort_core::ports::{DeadLetter, Mark, Store};
use consort_core::run::RunState;
use consort_engine::{CreateProject, Options, Policy, Pruned, RunCommand, RunView};
use consort_store::MemoryStore;
use serde_json::json;
use uuid::Uuid;

const ONE: &str = r#"
name: one
inputs: {fail: {type: boolean, default: false}}
steps:
  - {id: only, agent: work, with: {fail: "${{ inputs.fail }}"}}
"#;

const CHILD: &str = r"
name: child
steps: [{id: only, agent: work, with: {fail: false}}]
";

const PARENT: &str = r"
name: parent
steps:
  - {id: below, workflow: child}
  - {id: ask, needs: below, decide: {title: Go on?, options: [yes, no]}}
";

async fn mesh() -> (Mesh, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let mesh = Mesh::over(store.clone(), Options::default()).await;
    mesh.engine.keep_in(store.clone());
    for source in [ONE, CHILD, PARENT] {
        mesh.apply(source).await;
    }
    let script = |task: &consort_engine::Assignment| {
        let fails = value(&task.input)["fail"] == json!(true);
        if fails {
            let lasting = failure(Code::InvalidArgument, "as asked");
            return Err(consort_engine::TaskFailure { retryable: false, ..lasting });
        }
        Ok(json!(1))
    };
    mesh.scripted(&["work"], 8, script).await;
    (mesh, store)
}

/// Says that the triggers have seen everything, as they do themselves every few seconds.
async fn seen(store: &MemoryStore) {
    let end = store_of(store).last_position().await.unwrap();
    let mark = Mark { name: "triggers/position".into(), value: Some(end.to_string()) };
    store_of(store).set_marks(&[mark]).await.unwrap();
}

fn store_of(store: &MemoryStore) -> &dyn Store {
    store
}

fn any_age() -> Policy {
    Policy { older_than: Some(Duration::ZERO), ..Policy::default() }
}

/// Something behind the runs, so that none of them has the last row of the log.
async fn something_more(mesh: &Mesh) {
    mesh.start("parent", json!({})).await.unwrap();
}

async fn prune(mesh: &Mesh, store: &MemoryStore, policy: &Policy) -> Pruned {
    something_more(mesh).await;
    // Ended a moment ago is not "before now" within the same millisecond.
    tokio::time::sleep(Duration::from_millis(3)).await;
    seen(store).await;
    mesh.engine.prune(policy, false).await.unwrap()
}

async fn is_there(mesh: &Mesh, run: RunId) -> bool {
    mesh.engine.run("default", run).await.is_ok()
}

async fn ended(mesh: &Mesh, count: usize) -> Vec<RunView> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(mesh.run("one", json!({})).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    runs
}

#[tokio::test]
async fn the_newest_and_the_failed_stay_if_they_shall() {
    let (mesh, store) = mesh().await;
    let failed = mesh.run("one", json!({"fail": true})).await;
    assert_eq!(failed.state, RunState::Failed);
    let runs = ended(&mesh, 4).await;
    let young = Policy { older_than: Some(Duration::from_secs(3_600)), ..Policy::default() };
    assert_eq!(prune(&mesh, &store, &young).await, Pruned::default());
    let policy = Policy { keep_last: 2, keep_failed: true, ..any_age() };
    let pruned = prune(&mesh, &store, &policy).await;
    assert_eq!((pruned.runs, pruned.archives.len()), (2, 1), "{pruned:?}");
    for (run, there) in [(&failed, true), (&runs[0], false), (&runs[1], false), (&runs[2], true), (&runs[3], true)] {
        assert_eq!(is_there(&mesh, run.id).await, there);
    }
    let pruned = prune(&mesh, &store, &any_age()).await;
    assert_eq!(pruned.runs, 3, "{pruned:?}");
    mesh.stop().await;
}

#[tokio::test]
async fn a_family_goes_as_a_whole_once_all_of_it_is_over() {
    let (mesh, store) = mesh().await;
    let parent = mesh.start("parent", json!({})).await.unwrap().id;
    let view = mesh.until(parent, |view| view.state == RunState::Waiting && view.steps[1].started_at.is_some()).await;
    let children = store.children(view.id, None, 9).await.unwrap();
    assert_eq!(children.len(), 1);
    let pruned = prune(&mesh, &store, &any_age()).await;
    assert_eq!(pruned.runs, 0, "a child stays with its parent: {pruned:?}");
    mesh.engine.command("default", parent, RunCommand::Cancel { reason: "enough".into() }, None).await.unwrap();
    let pruned = prune(&mesh, &store, &any_age()).await;
    assert_eq!(pruned.runs, 2, "{pruned:?}");
    assert!(!is_there(&mesh, parent).await && !is_there(&mesh, children[0]).await);
    mesh.stop().await;
}

#[tokio::test]
async fn what_somebody_has_still_to_see_stays() {
    let (mesh, store) = mesh().await;
    let run = mesh.run("one", json!({})).await.id;
    let group = |cursor: u64, requeued: &str| Mark {
        name: "group/default/g".into(),
        value: Some(format!(r#"{{"cursor":{cursor},"requeued":{requeued}}}"#)),
    };
    let first = store.rows_of(run, 0, 1).await.unwrap()[0].0;
    let letter = DeadLetter {
        id: Uuid::from_u128(1),
        namespace: "default".into(),
        event: "{}".into(),
        reason: String::new(),
        at: 1,
        group: Some("g".into()),
        attempts: 1,
        place: Some((first, 0)),
    };
    let all = store_of(&store);
    for (mark, bury) in
        [(group(first, "[]"), false), (group(1_000, &format!("[[{first},0]]")), false), (group(1_000, "[]"), true)]
    {
        all.set_marks(std::slice::from_ref(&mark)).await.unwrap();
        if bury {
            all.bury(std::slice::from_ref(&letter)).await.unwrap();
        }
        let pruned = prune(&mesh, &store, &any_age()).await;
        assert_eq!((pruned.runs, pruned.runs_held), (0, 1), "{mark:?}");
        assert!(is_there(&mesh, run).await);
    }
    let pruned = prune(&mesh, &store, &Policy { others_older_than: Some(Duration::ZERO), ..any_age() }).await;
    assert_eq!((pruned.runs, pruned.letters), (0, 1), "the letter goes first");
    assert_eq!(prune(&mesh, &store, &any_age()).await.runs, 1);
    mesh.stop().await;
}

#[tokio::test]
async fn an_active_project_keeps_its_runs_and_a_closed_one_goes_after_them() {
    let (mesh, store) = mesh().await;
    let project = CreateProject {
        namespace: "default".into(),
        id: Some("oil".into()),
        title: "Oil".into(),
        request: consort_core::Data::of(&json!({})),
        labels: std::collections::BTreeMap::new(),
        created_by: String::new(),
        request_id: None,
    };
    mesh.engine.create_project(project).await.unwrap();
    let start = consort_engine::StartRun { project: Some("oil".into()), ..request("one", json!({})) };
    let run = mesh.engine.start_run(start, Some(WAIT)).await.unwrap().id;
    assert_eq!(prune(&mesh, &store, &any_age()).await.runs_held, 1);
    mesh.engine.complete_project("default", "oil").await.unwrap();
    let pruned = prune(&mesh, &store, &Policy { others_older_than: Some(Duration::ZERO), ..any_age() }).await;
    assert_eq!((pruned.runs, pruned.projects), (1, 1), "{pruned:?}");
    assert!(pruned.events > 0 && !is_there(&mesh, run).await, "{pruned:?}");
    mesh.stop().await;
}

#[tokio::test]
async fn a_run_that_comes_back_fires_nothing_and_can_be_retried() {
    let (mesh, store) = mesh().await;
    let failed = mesh.run("one", json!({"fail": true})).await;
    let pruned = prune(&mesh, &store, &any_age()).await;
    let archive = &pruned.archives[0];
    let gone = mesh.engine.command("default", failed.id, RunCommand::Retry, None).await.unwrap_err();
    assert_eq!(gone.reason, "NOT_FOUND");
    let heard = mesh.heard.rows.lock().unwrap().len();
    let bytes = mesh.engine.read_archive(&archive.name, 0, archive.size as usize).await.unwrap().unwrap();
    let mut intake = mesh.engine.import().await.unwrap();
    intake.write(&bytes).await.unwrap();
    assert_eq!(intake.finish().await.unwrap().runs, 1);
    assert_eq!(mesh.heard.rows.lock().unwrap().len(), heard);
    assert_eq!(mesh.engine.run("default", failed.id).await.unwrap().state, RunState::Failed);
    mesh.engine.command("default", failed.id, RunCommand::Retry, None).await.unwrap();
    assert_eq!(mesh.end_of(failed.id).await.state, RunState::Failed);
    mesh.stop().await;
}
