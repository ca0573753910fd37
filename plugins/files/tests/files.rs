//! The plugin on real folders, and against those who swap them for links.

// A test may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use consort_plugin_files::plugin;
use consort_sdk::Code;
use consort_sdk::plugin::testing::{Bench, Done};
use consort_sdk::plugin::{Fault, Permissions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

/// A workspace beside a folder that must not be reached.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/key"), "SECRET").unwrap();
        Place(folder)
    }

    fn with(files: &[(&str, &str)]) -> Place {
        let place = Place::new();
        for (path, text) in files {
            fs::create_dir_all(place.at(path).parent().unwrap()).unwrap();
            fs::write(place.at(path), text).unwrap();
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("work").join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn bench(&self) -> Bench {
        let root = self.at("").display().to_string();
        let granted = Permissions { fs_write: vec![root.clone()], ..Permissions::default() };
        Bench::new(&plugin()).config(json!({"root": root})).granted(granted)
    }

    async fn call(&self, operation: &str, input: Value) -> Result<Done, Fault> {
        self.bench().invoke(operation, input).await
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(operation, input).await.unwrap().output
    }

    async fn fails(&self, operation: &str, input: Value) -> Fault {
        self.call(operation, input).await.unwrap_err()
    }
}

#[tokio::test]
async fn files_are_written_whole_and_read_in_parts() {
    let place = Place::new();
    let missing = place.fails("write", json!({"path": "a/b.txt", "text": "aé"})).await;
    assert_eq!(missing.code, Code::NotFound, "{missing}");
    let input = json!({"path": "a/b.txt", "text": "aé", "folders": true, "if_sha256": "none"});
    let dry = place.bench().dry_run(true).invoke("write", input.clone()).await.unwrap();
    assert!(dry.would.len() == 1 && !place.at("a").exists());
    let done = place.call("write", input.clone()).await.unwrap();
    assert_eq!((&done.output["created"], &done.output["changed"], done.actions.len()), (&json!(true), &json!(true), 1));
    // Done twice is done once.
    let again = place.call("write", input).await.unwrap();
    assert_eq!((&again.output["changed"], again.actions.len()), (&json!(false), 0));
    let whole = place.ok("read", json!({"path": "a/b.txt"})).await;
    assert_eq!((&whole["text"], &whole["sha256"]), (&json!("aé"), &done.output["sha256"]));
    let part = place.ok("read", json!({"path": "a/b.txt", "limit_bytes": 2})).await;
    assert_eq!((&part["text"], &part["next_offset"]), (&json!("a"), &json!(1)));
    let rest = place.ok("read", json!({"path": "a/b.txt", "offset": 1})).await;
    assert_eq!((&rest["text"], &rest["next_offset"]), (&json!("é"), &Value::Null));
    fs::set_permissions(place.at("a/b.txt"), fs::Permissions::from_mode(0o750)).unwrap();
    let fault = place.fails("write", json!({"path": "a/b.txt", "text": "new", "if_sha256": "none"})).await;
    assert_eq!(fault.reason.as_deref(), Some("FILE_CHANGED"));
    let old = done.output["sha256"].clone();
    place.ok("write", json!({"path": "a/b.txt", "base64": "AP8=", "if_sha256": old})).await;
    assert_eq!(place.ok("read", json!({"path": "a/b.txt"})).await["base64"], "AP8=");
    assert_eq!(fs::metadata(place.at("a/b.txt")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read_dir(place.at("a")).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn folders_are_listed() {
    let place = Place::with(&[("b", "12"), ("a/x", ""), ("a/y/z", "")]);
    symlink(place.outside(), place.at("c")).unwrap();
    let paths = |output: &Value| {
        let entries = output["entries"].as_array().unwrap().iter();
        entries.map(|entry| format!("{} {}", entry["path"], entry["what"]).replace('"', "")).collect::<Vec<_>>()
    };
    let list = place.ok("list", json!({})).await;
    assert_eq!(paths(&list), ["a folder", "b file", "c link"]);
    assert_eq!(list["entries"][1]["size_bytes"], 2);
    let all = place.ok("list", json!({"recursive": true})).await;
    assert_eq!(paths(&all), ["a folder", "b file", "c link", "a/x file", "a/y folder", "a/y/z file"]);
    let cut = place.ok("list", json!({"limit": 2})).await;
    assert_eq!((paths(&cut).len(), &cut["truncated"]), (2, &json!(true)));
}

#[tokio::test]
async fn lines_are_found() {
    let place = Place::with(&[
        (".gitignore", "target/\n*.log\n!keep.log\n"),
        ("a.rs", "fn one() {}\n// Two\nfn two() {}"),
        ("target/b.rs", "fn two() {}"),
        ("x.log", "two"),
        ("keep.log", "two"),
        ("docs/a.md", "two\n"),
        ("bin", "two\0"),
        (".git/config", "two"),
    ]);
    symlink(place.outside(), place.at("link")).unwrap();
    let lines = |output: &Value| {
        let matches = output["matches"].as_array().unwrap().iter();
        matches
            .map(|found| format!("{}:{}:{}", found["path"].as_str().unwrap(), found["line"], found["column"]))
            .collect::<Vec<_>>()
    };
    for (input, wanted) in [
        (json!({"pattern": "two"}), vec!["a.rs:3:4", "docs/a.md:1:1", "keep.log:1:1"]),
        (json!({"pattern": "TWO", "ignore_case": true, "files": ["*.rs"]}), vec!["a.rs:2:4", "a.rs:3:4"]),
        (json!({"pattern": "^two$", "files": ["docs/**"], "path": "docs"}), vec!["docs/a.md:1:1"]),
        (json!({"pattern": "two", "gitignore": false, "files": ["*.rs"]}), vec!["a.rs:3:4", "target/b.rs:1:4"]),
        (json!({"pattern": "one", "path": "a.rs"}), vec!["a.rs:1:4"]),
        (json!({"pattern": "SECRET", "gitignore": false}), vec![]),
    ] {
        assert_eq!(lines(&place.ok("search", input.clone()).await), wanted, "{input}");
    }
    assert_eq!(place.ok("search", json!({"pattern": "two", "limit": 1})).await["truncated"], true);
    assert_eq!(place.fails("search", json!({"pattern": "("})).await.violations[0].0, "pattern");
}

#[tokio::test]
async fn a_patch_is_applied_or_refused_as_a_whole() {
    let place = Place::with(&[("a", "1\n2\n3\n"), ("d/gone", "x\n")]);
    let diff = "--- a/a\n+++ b/a\n@@ -2 +2 @@\n-2\n+two\n--- /dev/null\n+++ b/new/n\n@@ -0,0 +1 @@\n+n\n\
                --- a/d/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n";
    let dry = place.bench().dry_run(true).invoke("patch", json!({"diff": diff})).await.unwrap();
    assert_eq!(dry.would, ["patch `a` (changed)", "patch `new/n` (added)", "patch `d/gone` (deleted)"]);
    assert!(place.text("a") == "1\n2\n3\n" && !place.at("new").exists());
    // The last file does not fit: nothing is changed.
    fs::write(place.at("d/gone"), "y\n").unwrap();
    let fault = place.fails("patch", json!({"diff": diff})).await;
    assert_eq!((fault.reason.as_deref(), fault.violations[0].0.as_str()), (Some("PATCH_REFUSED"), "d/gone"));
    assert!(place.text("a") == "1\n2\n3\n" && !place.at("new").exists());
    fs::write(place.at("d/gone"), "x\n").unwrap();
    let done = place.call("patch", json!({"diff": diff})).await.unwrap();
    assert_eq!((place.text("a").as_str(), place.text("new/n").as_str()), ("1\ntwo\n3\n", "n\n"));
    assert!(!place.at("d/gone").exists() && done.actions.len() == 3);
    for (diff, code) in [
        ("--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+n\n", Code::InvalidArgument),
        ("--- /dev/null\n+++ b/.git/hooks/post-commit\n@@ -0,0 +1 @@\n+n\n", Code::PermissionDenied),
        (diff, Code::FailedPrecondition),
    ] {
        assert_eq!(place.fails("patch", json!({"diff": diff})).await.code, code, "{diff}");
    }
}

#[tokio::test]
async fn things_are_moved_and_deleted() {
    let place = Place::with(&[("a", "a"), ("b", "b"), ("d/e/f", "f"), (".git/config", "x"), ("sub/.git/config", "x")]);
    assert_eq!(place.fails("move", json!({"from": "a", "to": "b"})).await.code, Code::AlreadyExists);
    place.ok("move", json!({"from": "a", "to": "b", "replace": true})).await;
    assert!(place.text("b") == "a" && !place.at("a").exists());
    place.ok("move", json!({"from": "b", "to": "n/m/b", "folders": true})).await;
    assert_eq!(place.text("n/m/b"), "a");
    assert_eq!(place.fails("move", json!({"from": "d", "to": "d/e/d"})).await.code, Code::InvalidArgument);
    assert_eq!(place.fails("move", json!({"from": "gone", "to": "x"})).await.code, Code::NotFound);
    assert!(place.fails("delete", json!({"path": "d"})).await.message.contains("recursive"));
    symlink(place.outside(), place.at("d/e/link")).unwrap();
    let dry = place.bench().dry_run(true).invoke("delete", json!({"path": "d", "recursive": true})).await.unwrap();
    assert!(dry.would.len() == 1 && place.at("d/e/f").exists());
    let gone = place.ok("delete", json!({"path": "d", "recursive": true})).await;
    assert_eq!(gone, json!({"deleted": true, "things": 4}));
    assert!(!place.at("d").exists() && place.outside().join("key").exists());
    assert_eq!(place.ok("delete", json!({"path": "d"})).await["deleted"], false);
    for path in [".git", ".git/config", "sub"] {
        let fault = place.fails("delete", json!({"path": path, "recursive": true})).await;
        assert_eq!(fault.reason.as_deref(), Some("PROTECTED"), "{path}");
    }
    let fault = place.fails("delete", json!({"path": ".", "recursive": true})).await;
    assert_eq!(fault.code, Code::InvalidArgument);
}

#[tokio::test]
async fn only_what_is_granted_is_a_workspace() {
    let place = Place::with(&[("a", "a")]);
    let root = place.at("").display().to_string();
    let read = Permissions { fs_read: vec![root.clone()], ..Permissions::default() };
    let bench = Bench::new(&plugin()).config(json!({"root": root})).granted(read);
    bench.invoke("read", json!({"path": "a"})).await.unwrap();
    assert_eq!(bench.invoke("delete", json!({"path": "a"})).await.unwrap_err().code, Code::PermissionDenied);
    let bench = Bench::new(&plugin()).config(json!({"root": place.outside()}));
    assert_eq!(bench.invoke("read", json!({"path": "key"})).await.unwrap_err().code, Code::PermissionDenied);
}

#[tokio::test]
async fn links_and_odd_files_are_refused() {
    let place = Place::with(&[("d/a", "a")]);
    symlink(place.outside(), place.at("out")).unwrap();
    symlink(place.outside().join("key"), place.at("key")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(place.at("pipe")).status().unwrap();
    assert!(status.success());
    for (operation, input) in [
        ("read", json!({"path": "out/key"})),
        ("read", json!({"path": "key"})),
        ("read", json!({"path": "pipe"})),
        ("list", json!({"path": "out"})),
        ("search", json!({"path": "out", "pattern": "."})),
        ("write", json!({"path": "out/new", "text": "x"})),
        ("write", json!({"path": "key", "text": "x"})),
        ("write", json!({"path": "out/sub/new", "text": "x", "folders": true})),
        ("move", json!({"from": "d/a", "to": "out/a"})),
        ("move", json!({"from": "out/key", "to": "key2"})),
        ("delete", json!({"path": "out/key"})),
        ("read", json!({"path": "../outside/key"})),
    ] {
        let fault = place.fails(operation, input.clone()).await;
        let codes = [Code::PermissionDenied, Code::FailedPrecondition, Code::InvalidArgument];
        assert!(codes.contains(&fault.code), "{operation} {input}: {fault}");
    }
    assert_eq!(fs::read_dir(place.outside()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(place.outside().join("key")).unwrap(), "SECRET");
}

/// While calls are made, a folder and a link that leads out change places as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_with_links_is_not_lost() {
    let place = Place::with(&[("d/key", "inside"), ("d/sub/x", "x")]);
    symlink(place.outside(), place.at("swap")).unwrap();
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let swapper = {
        let (stop, swaps, one, other) = (stop.clone(), swaps.clone(), place.at("d"), place.at("swap"));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let bench = place.bench();
    let (mut inside, mut refused) = (0, 0);
    for n in 0..400 {
        match bench.invoke("read", json!({"path": "d/key"})).await {
            Ok(done) => {
                assert_eq!(done.output["text"], "inside");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
        let diff = format!("--- /dev/null\n+++ b/d/p{n}\n@@ -0,0 +1 @@\n+n\n");
        // Whatever comes of them, nothing outside may change.
        let _ = bench.invoke("write", json!({"path": format!("d/w{n}"), "text": "x"})).await;
        let _ = bench.invoke("write", json!({"path": format!("d/f{n}/w"), "text": "x", "folders": true})).await;
        let _ = bench.invoke("patch", json!({"diff": diff})).await;
        let _ = bench.invoke("move", json!({"from": format!("d/w{n}"), "to": format!("d/m{n}")})).await;
        let _ = bench.invoke("delete", json!({"path": "d/key2", "recursive": true})).await;
        let found = bench.invoke("search", json!({"pattern": "SECRET"})).await;
        assert!(found.is_err() || found.unwrap().output["matches"] == json!([]));
        if n % 20 == 19 {
            let _ = bench.invoke("delete", json!({"path": "d/sub", "recursive": true})).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    let left: Vec<_> = fs::read_dir(place.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["key"]);
    assert_eq!(fs::read_to_string(place.outside().join("key")).unwrap(), "SECRET");
    let swaps = swaps.load(Ordering::Relaxed);
    assert!(inside > 0 && refused > 0 && swaps > 400, "{inside} read, {refused} refused, {swaps} swaps: no race");
}
