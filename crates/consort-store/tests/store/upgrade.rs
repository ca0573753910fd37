//! Data of older versions open, and keep everything.

use std::path::Path;

use consort_core::ports::{
    Batch, DeadLetterStore, DecisionQuery, DecisionRow, DecisionState, LogRow, MarkStore, ProjectStore, RunQuery,
    RunRow, RunStore, WorkflowRow, WorkflowStore,
};
use consort_core::run::RunState;
use consort_store::SqliteStore;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

use crate::build::{History, commit, decision, letter, mark, project, run_id, run_row, signal, update, workflow};

/// The schema as the first version made it.
async fn first_schema(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("consort.db")).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let sql = include_str!("../../migrations/0001_begin.sql").into_sql_str();
    let begin = Migration::new(1, "begin".into(), MigrationType::Simple, sql, false);
    Migrator::with_migrations(vec![begin]).run_direct(None, &mut connection, false).await.unwrap();
    connection
}

/// A run, a workflow, a decision and a dead letter as the first version wrote them.
async fn first_data(folder: &Path) -> History {
    let mut connection = first_schema(folder).await;
    let mut history = History::of(1);
    let record = history.next(2);
    let run = run_id(1).0.as_bytes().to_vec();
    let insert = "INSERT INTO log (position, namespace, run, root, sequence, count, at, hash, body) \
        VALUES (1, 'default', ?1, NULL, 1, 2, ?2, ?3, ?4)";
    let insert = sqlx::query(insert).bind(&run).bind(record.at).bind(&record.hash[..]).bind(&record.body);
    insert.execute(&mut connection).await.unwrap();
    let insert = "INSERT INTO runs (id, namespace, workflow, revision, state, created_at, updated_at, ended_at, wake_at, \
        parent, labels, error) VALUES (?1, 'default', 'audit', 3, ?2, 1001, 1001, NULL, 7, NULL, '{\"a\":\"b\"}', NULL)";
    sqlx::query(insert).bind(&run).bind(RunState::Running as u8).execute(&mut connection).await.unwrap();

    let asked = decision(1, 1, DecisionState::Open);
    let mut body = serde_json::to_value(&asked).unwrap();
    assert!(body.as_object_mut().unwrap().remove("kind").is_some() && body.get("project").is_none());
    let insert = "INSERT INTO decisions (id, namespace, run, state, created_at, body) \
        VALUES (?1, 'default', ?2, 'open', ?3, ?4)";
    let insert = sqlx::query(insert).bind(asked.id.as_bytes().to_vec()).bind(&run).bind(asked.created_at);
    insert.bind(body.to_string()).execute(&mut connection).await.unwrap();

    let insert = "INSERT INTO workflows (namespace, id, revision, digest, created_at, created_by, source) \
        VALUES ('default', 'audit', 1, 'digest of a', 5, 'kim', 'a')";
    sqlx::query(insert).execute(&mut connection).await.unwrap();
    let buried = letter(1);
    let insert = "INSERT INTO dead_letters (namespace, id, reason, at, event) VALUES ('default', ?1, ?2, 5, ?3)";
    let insert = sqlx::query(insert).bind(buried.id.as_bytes().to_vec()).bind(&buried.reason).bind(&buried.event);
    insert.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    history
}

fn decisions() -> DecisionQuery {
    let namespace = "default".into();
    DecisionQuery { namespace, run: None, state: None, kind: None, project: None, before: None, limit: 10 }
}

#[tokio::test]
async fn data_of_the_first_version_keep_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = first_data(folder.path()).await;
    let store = SqliteStore::open(folder.path()).await.unwrap();

    let run = RunRow { wake_at: Some(7), labels: [("a".into(), "b".into())].into(), sequence: 2, ..run_row(1) };
    assert_eq!(store.run(run_id(1)).await.unwrap(), Some(run.clone()));
    let all = RunQuery {
        namespace: "default".into(),
        workflow: None,
        states: vec![],
        project: None,
        before: None,
        limit: 10,
    };
    assert_eq!(store.runs(&all).await.unwrap(), [run]);
    assert_eq!(store.due(7, 10).await.unwrap(), [run_id(1)]);
    let asked = decision(1, 1, DecisionState::Open);
    let choices = DecisionQuery { kind: Some(asked.kind), ..decisions() };
    assert_eq!(store.decisions(&choices).await.unwrap(), std::slice::from_ref(&asked));
    let applied = WorkflowRow { revision: 1, ..workflow("audit", "a") };
    assert_eq!(store.workflow("default", "audit", None).await.unwrap(), Some(applied.clone()));
    assert_eq!(store.apply(&workflow("audit", "a")).await.unwrap(), applied);
    assert_eq!(store.triggered(("", ""), 10).await.unwrap(), []);
    assert_eq!(store.dead_letters("default", None, 10).await.unwrap(), [letter(1)]);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());

    // And everything goes on, with what is new.
    let batch = Batch {
        log: vec![LogRow::Run(history.next(1)), LogRow::Run(History::of(2).next(1))],
        created: vec![RunRow { project: Some("oil".into()), ..run_row(2) }],
        updated: vec![update(1, RunState::Succeeded, None)],
        decisions: vec![DecisionRow { project: Some("oil".into()), ..decision(2, 2, DecisionState::Open) }],
        new_projects: vec![project("oil", 1)],
        signals: vec![signal(1, "REQUIREMENT", Some("oil"))],
        marks: vec![mark("a", Some("1"))],
        ..Batch::default()
    };
    commit(&store, batch).await.unwrap();
    store.apply(&WorkflowRow { triggers: true, ..workflow("audit", "b") }).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(folder.path()).await.unwrap();
    assert_eq!(store.run(run_id(1)).await.unwrap().unwrap().state, RunState::Succeeded);
    assert_eq!(store.run_counts("default", "oil").await.unwrap(), [(RunState::Running, 1)]);
    let of_project = DecisionQuery { project: Some("oil".into()), ..decisions() };
    assert_eq!(store.decisions(&of_project).await.unwrap().len(), 1);
    assert_eq!(store.decisions(&decisions()).await.unwrap().len(), 2);
    assert_eq!(store.triggered(("", ""), 10).await.unwrap()[0].revision, 2);
    assert_eq!(store.marks("", "", 10).await.unwrap(), [mark("a", Some("1"))]);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}
