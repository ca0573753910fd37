//! What is over leaves for an archive and comes back; what is listed is held against the log; blobs that nobody wants go.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use consort_core::data::{BlobRef, Data};
use consort_core::event::{Record, RunStarted, chain};
use consort_core::ids::{Millis, RunId, StepKey};
use consort_core::keep::{Archive, Imported, KeepError, KeepStore, Parts, Selection};
use consort_core::ports::{
    Batch, BlobStore as _, LogRow, RunStore as _, RunUpdate, Snapshot, Store, WorkflowRow, WorkflowStore as _,
};
use consort_core::run::{Command, Context, Run, Transition};
use consort_core::workflow::Workflow;
use consort_store::{MemoryStore, RestoreError, SqliteStore, restore};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use crate::build::{append, commit, letter, project, published, run_id, signal};

const ASK: &str =
    r#"{"name":"ask","inputs":{"v":{}},"steps":[{"id":"ask","decide":{"title":"Go on?","options":["yes","no"]}}]}"#;

trait Both: Store + KeepStore {}
impl<T: Store + KeepStore> Both for T {}

async fn disk() -> (Arc<SqliteStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(SqliteStore::open(folder.path()).await.unwrap()), folder)
}

/// One run as the ledger would write it.
struct Life {
    run: Run,
    hash: [u8; 32],
}

impl Life {
    /// Begins a run that asks a question.
    async fn begin(store: &dyn Store, number: u64, value: Data) -> Life {
        let applied = store.apply(&definition()).await.unwrap();
        let definition = Arc::new(Workflow::parse(ASK).unwrap());
        let (id, inputs) = (run_id(number), Data::of(&json!({"v": 1})));
        let mut started = RunStarted::new("default".into(), "ask".into(), applied.revision, inputs);
        if let Data::Blob(_) = value {
            started.inputs = value;
        }
        let (blobs, workflows) = (HashMap::new(), HashMap::new());
        let cx = Context { now: 1_000, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let (run, transition) = Run::start(id, definition, started, &cx).unwrap();
        let mut life = Life { run, hash: [0; 32] };
        life.write(store, transition, 1_000, true).await;
        life
    }

    /// Answers the question, which ends the run.
    async fn end(mut self, store: &dyn Store, now: Millis) -> Life {
        let step = StepKey::step("ask");
        let decision = self.run.id.decision(&step, 1);
        let command = Command::Answer { step, decision, option: "yes".into(), form: None, by: "kim".into() };
        let (blobs, workflows) = (HashMap::new(), HashMap::new());
        let cx = Context { now, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let transition = self.run.decide(command, &cx).unwrap();
        self.write(store, transition, now, false).await;
        self
    }

    /// Tells it something, which is one more row.
    async fn signal(&mut self, store: &dyn Store, now: Millis) {
        let command = Command::Signal { signal: "s".into(), payload: Data::null() };
        let (blobs, workflows) = (HashMap::new(), HashMap::new());
        let cx = Context { now, chance: 0.5, blobs: &blobs, workflows: &workflows };
        let transition = self.run.decide(command, &cx).unwrap();
        self.write(store, transition, now, false).await;
    }

    async fn write(&mut self, store: &dyn Store, transition: Transition, at: Millis, begins: bool) {
        let body = serde_json::to_vec(&transition.entries).unwrap();
        let count = transition.entries.len() as u32;
        self.hash = chain(&self.hash, &body);
        let sequence = self.run.sequence() + 1 - u64::from(count);
        let (run, root, hash) = (self.run.id, self.run.root(), self.hash);
        let record = Record { run, namespace: "default".into(), root, sequence, count, at, body, hash };
        let row = self.run.row();
        let update = RunUpdate {
            id: run,
            state: row.state,
            updated_at: row.updated_at,
            ended_at: row.ended_at,
            wake_at: row.wake_at,
            error: row.error.clone(),
        };
        let batch = Batch {
            log: vec![LogRow::Run(record)],
            created: if begins { vec![row] } else { Vec::new() },
            updated: if begins { Vec::new() } else { vec![update] },
            decisions: transition.decisions,
            ..Batch::default()
        };
        commit(store, batch).await.unwrap();
    }
}

fn definition() -> WorkflowRow {
    WorkflowRow {
        namespace: "default".into(),
        id: "ask".into(),
        revision: 0,
        source: ASK.into(),
        digest: "d".into(),
        created_at: 5,
        created_by: "kim".into(),
        triggers: false,
    }
}

fn runs(numbers: &[u64]) -> Selection {
    Selection { runs: numbers.iter().map(|number| run_id(*number)).collect(), ..Selection::default() }
}

async fn bytes_of(keep: &dyn KeepStore, archive: &Archive) -> Vec<u8> {
    keep.read_archive(&archive.name, 0, archive.size as usize).await.unwrap().unwrap()
}

async fn import(keep: Arc<dyn Both>, bytes: &[u8]) -> Result<Imported, KeepError> {
    let mut intake = keep.import().await?;
    for part in bytes.chunks(1_000) {
        intake.write(part).await?;
    }
    intake.finish().await
}

/// Everything that can be read about a run.
async fn shown(store: &dyn Both, run: RunId) -> String {
    let decision = store.decision(run.decision(&StepKey::step("ask"), 1)).await.unwrap();
    let (row, rows) = (store.run(run).await.unwrap(), store.rows_of(run, 0, 99).await.unwrap());
    format!("{row:?} {rows:?} {decision:?}")
}

async fn leaves_and_comes_back(store: Arc<dyn Both>) {
    let large = BlobRef::of(b"{\"v\":2}", "application/json");
    store.put(&large, b"{\"v\":2}").await.unwrap();
    Life::begin(&*store, 1, Data::Blob(large.clone())).await.end(&*store, 2_000).await;
    Life::begin(&*store, 2, Data::null()).await.end(&*store, 3_000).await;
    append(&*store, vec![LogRow::Published(published("default", 1))]).await.unwrap();
    let live = Life::begin(&*store, 3, Data::null()).await;
    let signals = vec![signal(1, "REQUIREMENT", None)];
    commit(&*store, Batch { signals, new_projects: vec![project("oil", 1)], ..Batch::default() }).await.unwrap();
    store.bury(&[letter(1)]).await.unwrap();
    assert_eq!(store.last_position().await.unwrap(), 6);

    let (one, two) = (shown(&*store, run_id(1)).await, shown(&*store, run_id(2)).await);
    let signal_id = signal(1, "REQUIREMENT", None).id;
    let selection = Selection {
        events: vec![5],
        signals: vec![signal_id],
        letters: vec![("default".into(), letter(1).id)],
        ..runs(&[1, 2])
    };
    let archive = store.archive(&selection).await.unwrap();
    assert_eq!(store.archives().await.unwrap(), std::slice::from_ref(&archive));
    assert_eq!(shown(&*store, run_id(1)).await, one, "an archive changes nothing");
    store.remove(&selection).await.unwrap();
    store.remove(&selection).await.unwrap();
    for gone in [1, 2] {
        assert_eq!(store.run(run_id(gone)).await.unwrap(), None);
        assert!(store.load(run_id(gone)).await.unwrap().is_none());
    }
    assert!(store.signal(signal_id).await.unwrap().is_none());
    assert_eq!(store.log_after(0, "", 99).await.unwrap().len(), 1);
    assert_eq!((store.erased(1, 5).await.unwrap(), store.erased(4, 6).await.unwrap()), (5, 2));
    assert_eq!(store.last_position().await.unwrap(), 6, "no position is used again");
    let live = live.end(&*store, 4_000).await;
    assert_eq!(store.last_position().await.unwrap(), 7);

    let bytes = bytes_of(&*store, &archive).await;
    let back = Imported { runs: 2, known: 0, rows: 5, others: 3 };
    assert_eq!(import(store.clone(), &bytes).await.unwrap(), back);
    assert_eq!((shown(&*store, run_id(1)).await, shown(&*store, run_id(2)).await), (one, two));
    assert_eq!(store.erased(1, 7).await.unwrap(), 0);
    let again = import(store.clone(), &bytes).await.unwrap();
    assert_eq!((again.runs, again.known, again.rows), (0, 2, 0), "importing twice is importing once");
    assert_eq!(store.run(live.run.id).await.unwrap().unwrap().state.name(), "SUCCEEDED");
}

#[tokio::test]
async fn what_leaves_comes_back_on_disk() {
    let (store, _folder) = disk().await;
    leaves_and_comes_back(store.clone()).await;
    let report = store.examine(&mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.runs, 3);
}

#[tokio::test]
async fn what_leaves_comes_back_in_memory() {
    let store = Arc::new(MemoryStore::new());
    leaves_and_comes_back(store.clone()).await;
    assert!(store.integrity().await.unwrap().is_sound());
}

#[tokio::test]
async fn a_long_run_leaves_in_steps_and_comes_back() {
    let (store, _folder) = disk().await;
    let mut long = Life::begin(&*store, 1, Data::null()).await;
    for now in 0..600 {
        long.signal(&*store, 2_000 + now).await;
        if now % 100 == 0 {
            append(&*store, vec![LogRow::Published(published("default", now as u64))]).await.unwrap();
        }
    }
    long.end(&*store, 9_000).await;
    Life::begin(&*store, 2, Data::null()).await;
    let whole = |rows: &[(u64, Record)]| rows.len() == 602;
    let before = store.rows_of(run_id(1), 0, 999).await.unwrap();
    assert!(whole(&before));
    let archive = store.archive(&runs(&[1])).await.unwrap();
    store.remove(&runs(&[1])).await.unwrap();
    assert!(store.rows_of(run_id(1), 0, 999).await.unwrap().is_empty());
    assert_eq!(store.erased(1, 608).await.unwrap(), 602);
    assert!(!store.is_leaving(run_id(1)).await.unwrap());
    assert!(store.examine(&mut |_| {}).await.unwrap().is_sound());
    let bytes = bytes_of(&*store, &archive).await;
    assert_eq!(import(store.clone(), &bytes).await.unwrap().rows, 602);
    assert_eq!(store.rows_of(run_id(1), 0, 999).await.unwrap(), before);
    assert!(!store.is_leaving(run_id(1)).await.unwrap());
    let report = store.examine(&mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// Changes the text of an archive.
fn edited(bytes: &[u8], edit: impl Fn(Vec<String>) -> Vec<String>) -> Vec<u8> {
    let mut text = String::new();
    flate2::bufread::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    let lines = edit(text.lines().map(str::to_owned).collect());
    (lines.join("\n") + "\n").into_bytes()
}

#[tokio::test]
async fn an_archive_that_is_not_as_it_was_is_refused() {
    let (store, _folder) = disk().await;
    for number in 1..4 {
        Life::begin(&*store, number, Data::null()).await.end(&*store, 2_000).await;
    }
    let archive = store.archive(&runs(&[1, 2])).await.unwrap();
    let bytes = bytes_of(&*store, &archive).await;
    store.remove(&runs(&[1, 2])).await.unwrap();
    let drop_line = |number: usize| {
        edited(&bytes, |lines| lines.into_iter().enumerate().filter(|(n, _)| *n != number).map(|(_, l)| l).collect())
    };
    let last = edited(&bytes, |lines| lines).split(|b| *b == b'\n').count() - 2;
    let other =
        |from: &str, to: &str| edited(&bytes, |lines| lines.iter().map(|line| line.replace(from, to)).collect());
    for (what, wrong, says) in [
        ("cut off", bytes[..bytes.len() - 20].to_vec(), "cut off"),
        ("cut off early", bytes[..60].to_vec(), "cut off"),
        ("without its end", drop_line(last), "it has no end"),
        ("without a row", drop_line(3), "goes from event"),
        ("with another answer", other("\"option\":\"yes\"", "\"option\":\"no\""), "breaks the chain"),
        ("with another time", other("\"at\":2000", "\"at\":2001"), "SHA-256"),
        ("newer", other("\"version\":1,\"store\"", "\"version\":9,\"store\""), "has version 9"),
        ("of something else", b"{\"a\":1}\n".to_vec(), "not an archive"),
        ("empty", Vec::new(), "not an archive"),
    ] {
        let error = import(store.clone(), &wrong).await.unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert!(store.run(run_id(1)).await.unwrap().is_none(), "{what}: nothing came back");
    }
    assert_eq!(import(store.clone(), &edited(&bytes, |lines| lines)).await.unwrap().runs, 2, "plain text is as good");
    assert!(store.examine(&mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test]
async fn an_archive_goes_home_or_into_an_empty_store() {
    let (store, _folder) = disk().await;
    for number in 1..4 {
        Life::begin(&*store, number, Data::null()).await.end(&*store, 2_000).await;
    }
    let first = bytes_of(&*store, &store.archive(&runs(&[1])).await.unwrap()).await;
    let later = bytes_of(&*store, &store.archive(&runs(&[3])).await.unwrap()).await;

    let (other, _other) = disk().await;
    Life::begin(&*other, 9, Data::null()).await;
    let error = import(other.clone(), &first).await.unwrap_err();
    assert!(matches!(&error, KeepError::Taken(said) if said.contains("of store")), "{error:?}");

    let (empty, _empty) = disk().await;
    let error = import(empty.clone(), &first).await.unwrap_err();
    assert!(matches!(&error, KeepError::Taken(said) if said.contains("--offline")), "{error:?}");
    let folder = tempfile::tempdir().unwrap();
    let alone = Arc::new(SqliteStore::open(folder.path()).await.unwrap().alone());
    assert_eq!(import(alone.clone(), &later).await.unwrap().runs, 1);
    assert_eq!(import(alone.clone(), &first).await.unwrap().runs, 1, "an earlier one fits between");
    assert_eq!(alone.identity().await.unwrap(), store.identity().await.unwrap());
    assert_eq!(shown(&*alone, run_id(3)).await, shown(&*store, run_id(3)).await);
    let report = alone.examine(&mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(alone.workflow("default", "ask", None).await.unwrap().is_none(), "nothing starts because it came back");
    Life::begin(&*alone, 8, Data::null()).await;
    assert!(alone.last_position().await.unwrap() > 6);
}

#[tokio::test]
async fn what_a_crash_left_half_way_goes_when_the_store_settles() {
    let (store, folder) = disk().await;
    for number in 1..4 {
        Life::begin(&*store, number, Data::null()).await.end(&*store, 2_000).await;
    }
    store.close().await;
    std::fs::write(folder.path().join("unfinished-x"), b"half a copy").unwrap();
    tamper(
        folder.path(),
        "INSERT INTO leaving SELECT id FROM runs ORDER BY id LIMIT 1; DELETE FROM runs WHERE id IN leaving; \
        DELETE FROM decisions WHERE run IN leaving",
    )
    .await;
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let report = store.examine(&mut |_| {}).await.unwrap();
    assert!(report.is_sound(), "a run that is leaving is no damage: {report:?}");
    store.settle().await.unwrap();
    assert!(store.load(run_id(1)).await.unwrap().is_none() && store.erased(1, 2).await.unwrap() == 2);
    assert!(!folder.path().join("unfinished-x").exists());
    let report = store.examine(&mut |_| {}).await.unwrap();
    assert!(report.is_sound() && report.runs == 2, "{report:?}");
}

/// Changes the database behind the store's back.
async fn tamper(folder: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(folder.join("consort.db"));
    let mut connection = options.connect().await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_doctor_finds_and_mends_what_is_listed_wrong() {
    let (store, folder) = disk().await;
    let ended = Life::begin(&*store, 1, Data::null()).await.end(&*store, 2_000).await;
    let open = Life::begin(&*store, 2, Data::null()).await;
    let body = open.run.snapshot();
    let snapshots = vec![Snapshot { run: open.run.id, sequence: open.run.sequence(), hash: open.hash, body }];
    commit(&*store, Batch { snapshots, ..Batch::default() }).await.unwrap();
    let sound = (shown(&*store, ended.run.id).await, shown(&*store, open.run.id).await);
    store.close().await;
    for (sql, says) in [
        ("UPDATE runs SET state = 2 WHERE state = 5", "state RUNNING"),
        ("UPDATE runs SET ended_at = 7 WHERE ended_at IS NOT NULL", "with end"),
        ("UPDATE runs SET wake_at = 12345", "with wake-up"),
        ("UPDATE runs SET labels = '{\"a\":\"b\"}'", "with labels"),
        ("UPDATE runs SET error = '{\"code\":2,\"message\":\"x\"}'", "with error"),
        ("UPDATE runs SET updated_at = 1 WHERE state = 5", "with last change"),
        ("DELETE FROM runs WHERE state = 5", "is not listed"),
        ("DELETE FROM decisions", "is not listed"),
        ("UPDATE decisions SET body = replace(body, 'answered', 'open')", "differ otherwise"),
        (
            "UPDATE snapshots SET body = CAST(replace(CAST(body AS TEXT), '\"attempt\":1', '\"attempt\":2') AS BLOB)",
            "lead to different states",
        ),
    ] {
        tamper(folder.path(), sql).await;
        let look = SqliteStore::look(folder.path()).await.unwrap();
        let found = look.examine(&mut |_| {}).await.unwrap();
        look.close().await;
        assert!(found.problems.iter().any(|problem| problem.contains(says)), "{sql}: {found:?}");
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let (_, changed) = store.repair(&mut |_| {}).await.unwrap();
        assert!(!changed.is_empty(), "{sql}");
        let report = store.examine(&mut |_| {}).await.unwrap();
        assert!(report.is_sound(), "{sql}: {report:?}");
        assert_eq!((shown(&store, ended.run.id).await, shown(&store, open.run.id).await), sound, "{sql}");
        store.close().await;
    }
    // The log itself is reported where it is wrong, and left as it is.
    tamper(
        folder.path(),
        "UPDATE log SET body = CAST(replace(CAST(body AS TEXT), 'kim', 'eve') AS BLOB) WHERE position = 2",
    )
    .await;
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let (report, changed) = store.repair(&mut |_| {}).await.unwrap();
    assert!(report.problems.iter().any(|p| p.contains("position 2") && p.contains("breaks the chain")), "{report:?}");
    assert!(store.examine(&mut |_| {}).await.unwrap().problems.len() == 1, "{changed:?}");
    tamper(folder.path(), "DELETE FROM log WHERE position = 1").await;
    let report = store.examine(&mut |_| {}).await.unwrap();
    assert!(report.problems.iter().any(|p| p.contains("no row between positions 0 and 2")), "{report:?}");
}

#[tokio::test]
async fn looking_changes_nothing_and_needs_no_lock() {
    let (store, folder) = disk().await;
    Life::begin(&*store, 1, Data::null()).await;
    let look = SqliteStore::look(folder.path()).await.unwrap();
    assert!(look.examine(&mut |_| {}).await.unwrap().is_sound());
    assert!(append(&look, vec![LogRow::Published(published("default", 1))]).await.is_err());
    look.close().await;
    let Err(error) = SqliteStore::look(&folder.path().join("nothing")).await else { panic!("there is nothing") };
    assert!(error.to_string().contains("no data"), "{error}");
}

/// Makes a blob as old as it would be after two days.
fn age(folder: &Path, sha256: &str) {
    let file = File::open(folder.join("blobs").join(&sha256[..2]).join(sha256)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
}

#[tokio::test]
async fn only_old_blobs_that_nobody_wants_are_collected() {
    let (store, folder) = disk().await;
    let texts = [
        "[\"wanted by a run\"]",
        "[\"wanted by a project\"]",
        "[\"young\"]",
        "[\"old\"]",
        "[\"put again\"]",
        "[\"asked for\"]",
    ];
    let blobs: Vec<BlobRef> = texts.iter().map(|text| BlobRef::of(text.as_bytes(), "text/plain")).collect();
    for (blob, text) in blobs.iter().zip(texts) {
        store.put(blob, text.as_bytes()).await.unwrap();
        age(folder.path(), &blob.sha256);
    }
    let [run, of_project, young, old, again, asked] = &blobs[..] else { panic!("six") };
    Life::begin(&*store, 1, Data::Blob(run.clone())).await;
    let row = consort_core::ports::ProjectRow { request: Data::Blob(of_project.clone()), ..project("oil", 1) };
    commit(&*store, Batch { new_projects: vec![row], ..Batch::default() }).await.unwrap();
    age(folder.path(), &run.sha256);
    age(folder.path(), &of_project.sha256);
    File::open(folder.path().join("blobs").join(&young.sha256[..2]).join(&*young.sha256))
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    store.put(again, b"[\"put again\"]").await.unwrap();
    assert!(store.stat(&asked.sha256).await.unwrap().is_some());

    let day_ago = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64 - 86_400_000;
    let collected = store.collect_blobs(day_ago).await.unwrap();
    assert_eq!((collected.blobs, collected.bytes), (1, old.size));
    for blob in &blobs {
        let there = store.stat(&blob.sha256).await.unwrap().is_some();
        assert_eq!(there, blob != old, "{blob:?}");
    }
    assert_eq!(store.collect_blobs(day_ago).await.unwrap().blobs, 0);
    store.put(old, b"[\"old\"]").await.unwrap();
    assert!(store.stat(&old.sha256).await.unwrap().is_some(), "it can come again");
}

async fn all(mut parts: Box<dyn Parts>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        assert!(!part.is_empty() && part.len() <= 64 * 1024);
        bytes.extend(part);
    }
    bytes
}

#[tokio::test]
async fn a_backup_comes_back_and_a_damaged_one_does_not() {
    let (store, folder) = disk().await;
    let bytes = vec![7; 100_000];
    let large = BlobRef::of(&bytes, "text/csv");
    store.put(&large, &bytes).await.unwrap();
    Life::begin(&*store, 1, Data::null()).await.end(&*store, 2_000).await;
    let begun = store.backup().await.unwrap();
    assert!(matches!(store.backup().await, Err(KeepError::Refused(_))), "one at a time");
    // What comes while it is under way is not in it.
    Life::begin(&*store, 2, Data::null()).await;
    let bytes = all(begun).await;
    let leftovers = || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("unfinished"))
            .count()
    };
    while leftovers() > 0 {
        tokio::task::yield_now().await;
    }

    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("a/b");
    let from = |bytes: &[u8]| Box::new(std::io::Cursor::new(bytes.to_vec()));
    let restored = restore(from(&bytes), &target).await.unwrap();
    assert_eq!((restored.position, restored.store), (2, store.identity().await.unwrap()));
    let copy = SqliteStore::open(&target).await.unwrap();
    assert_eq!(shown(&copy, run_id(1)).await, shown(&*store, run_id(1)).await);
    assert!(copy.run(run_id(2)).await.unwrap().is_none());
    assert_eq!(copy.stat(&large.sha256).await.unwrap(), Some(large));
    copy.close().await;
    assert!(matches!(restore(from(&bytes), &target).await, Err(RestoreError::NotEmpty(_))));

    let flipped = |at: usize| {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x10;
        wrong
    };
    let empty = scratch.path().join("c");
    for (wrong, says) in [
        (bytes[..bytes.len() / 2].to_vec(), "cut off"),
        (bytes[..bytes.len() - 4_096].to_vec(), "cut off"),
        (flipped(20_000), "damaged"),
        (flipped(bytes.len() / 2), "damaged"),
        (b"hello".to_vec(), "not a backup"),
        (Vec::new(), "empty"),
    ] {
        let error = restore(from(&wrong), &empty).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
