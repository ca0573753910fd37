//! The plugin on real repositories.

// A test may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use consort_plugin_git::plugin;
use consort_sdk::Code;
use consort_sdk::plugin::testing::{Bench, Done};
use consort_sdk::plugin::{Fault, Permissions};
use git2::{Repository, RepositoryInitOptions, Signature, Time};
use serde_json::{Value, json};

/// 2026-01-05T08:00:00Z.
const MONDAY: i64 = 1_767_600_000;

/// A folder that is granted, with a repository in it, beside one that is not.
struct Place {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["granted", "secret"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let repository = init(&folder.path().join("granted/r"));
        Place { folder, repository }
    }

    /// With three commits: `a` by Ana, `b` by Bo, `a` again by Ana.
    fn with_history() -> Place {
        let place = Place::new();
        for (file, text, who, hours) in
            [("a", "one\n", "Ana", 0), ("d/b", "b\n", "Bo", 24), ("a", "one\ntwo\n", "Ana", 48)]
        {
            place.write(file, text);
            commit(&place.repository, file, who, hours);
        }
        place
    }

    fn granted(&self) -> PathBuf {
        self.folder.path().join("granted")
    }

    fn path(&self) -> PathBuf {
        self.granted().join("r")
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn bench(&self) -> Bench {
        let committer = json!({"name": "Robot", "email": "robot@example.org"});
        let granted = Permissions { fs_write: vec![self.granted().display().to_string()], ..Permissions::default() };
        Bench::new(&plugin()).config(json!({"root": self.granted(), "committer": committer})).granted(granted)
    }

    async fn call(&self, operation: &str, mut input: Value) -> Result<Done, Fault> {
        input["path"] = json!(self.path());
        self.bench().invoke(operation, input).await
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(operation, input).await.unwrap().output
    }

    async fn fails(&self, operation: &str, input: Value) -> Fault {
        self.call(operation, input).await.unwrap_err()
    }
}

fn init(at: &Path) -> Repository {
    let mut options = RepositoryInitOptions::new();
    Repository::init_opts(at, options.initial_head("main").mkpath(true)).unwrap()
}

fn commit(repository: &Repository, file: &str, who: &str, hours: i64) {
    let mut index = repository.index().unwrap();
    index.add_path(Path::new(file)).unwrap();
    index.write().unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let time = Time::new(MONDAY + hours * 3_600, 60);
    let who = Signature::new(who, &format!("{who}@example.org"), &time).unwrap();
    let head = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
    let parents: Vec<_> = head.iter().collect();
    repository.commit(Some("HEAD"), &who, &who, &format!("Change {file}\n\nWhy."), &tree, &parents).unwrap();
}

fn subjects(output: &Value) -> Vec<&str> {
    output["commits"].as_array().unwrap().iter().map(|commit| commit["subject"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn log_lists_commits_with_their_files() {
    let place = Place::with_history();
    let log = place.ok("log", json!({})).await;
    assert_eq!(subjects(&log), ["Change a", "Change d/b", "Change a"]);
    let newest = &log["commits"][0];
    assert_eq!(
        newest["files"],
        json!([{"path": "a", "change": "modified", "added": 1, "deleted": 0, "binary": false}])
    );
    assert_eq!(
        newest["author"],
        json!({"name": "Ana", "email": "Ana@example.org", "time": "2026-01-07T09:00:00+01:00"})
    );
    assert_eq!((&newest["message"], &log["truncated"]), (&json!("Change a\n\nWhy."), &json!(false)));
    for (filter, wanted) in [
        (json!({"limit": 1}), vec!["Change a"]),
        (json!({"author": "bo@"}), vec!["Change d/b"]),
        (json!({"since": "2026-01-06", "until": "2026-01-06T23:00:00Z"}), vec!["Change d/b"]),
        (json!({"file": "d"}), vec!["Change d/b"]),
        (json!({"revision": "HEAD~2"}), vec!["Change a"]),
    ] {
        assert_eq!(subjects(&place.ok("log", filter.clone()).await), wanted, "{filter}");
    }
    assert_eq!(place.ok("log", json!({"limit": 1})).await["truncated"], true);
    assert_eq!(place.ok("log", json!({"limit": 3})).await["truncated"], false);
    // A relative path, from the configured root.
    let log = place.bench().invoke("log", json!({"path": "r/d", "files": false})).await.unwrap();
    assert_eq!(log.output["commits"][0].get("files"), None);
}

#[tokio::test]
async fn a_log_can_be_small() {
    let place = Place::with_history();
    for file in ["d/c", "e/f", "e/g/h", "top"] {
        place.write(file, format!("{file}\n"));
    }
    place.call("commit", json!({"add": ["."], "message": "Many\n\nWhy."})).await.unwrap();
    place.write("f/c", "d/c\n");
    fs::remove_file(place.path().join("d/c")).unwrap();
    place.call("commit", json!({"add": ["."], "message": "Move"})).await.unwrap();
    let log = place.ok("log", json!({"files": false, "messages": false, "folders": 2})).await;
    let of = |number: usize| log["commits"][number]["folders"].clone();
    // What moved counts in both; equal counts are in order of names; files at the top count nowhere.
    assert_eq!(of(0), json!([{"name": "d", "files": 1}, {"name": "f", "files": 1}]));
    assert_eq!(of(1), json!([{"name": "e", "files": 2}, {"name": "d", "files": 1}]));
    assert_eq!((of(2), of(3), of(4)), (json!([]), json!([{"name": "d", "files": 1}]), json!([])));
    let newest = log["commits"][1].as_object().unwrap();
    assert_eq!(newest["subject"], "Many");
    assert!(!newest.contains_key("message") && !newest.contains_key("files"), "{newest:?}");
    assert_eq!(place.ok("log", json!({"limit": 1})).await["commits"][0].get("folders"), None);
}

#[tokio::test]
async fn bad_inputs_are_told() {
    let place = Place::with_history();
    for (operation, input, code, part) in [
        ("log", json!({"limit": 0}), Code::InvalidArgument, "limit"),
        ("log", json!({"folders": 101}), Code::InvalidArgument, "folders: is 101; give 0 to 100"),
        ("log", json!({"since": "soon"}), Code::InvalidArgument, "since"),
        ("log", json!({"revision": "nope"}), Code::NotFound, "no revision `nope`"),
        ("log", json!({"revision": "a..b"}), Code::InvalidArgument, "revision"),
        ("show", json!({"file": "nope"}), Code::NotFound, "there is no `nope`"),
        ("show", json!({"file": "d"}), Code::InvalidArgument, "is a folder"),
        ("diff", json!({"files": ["../x"]}), Code::InvalidArgument, "stay in it"),
        ("create_branch", json!({"name": "a b"}), Code::InvalidArgument, "no name"),
        ("commit", json!({"add": [], "message": "x"}), Code::InvalidArgument, "add"),
        ("commit", json!({"add": ["a"], "message": " "}), Code::InvalidArgument, "message"),
        ("commit", json!({"add": ["nope"], "message": "x"}), Code::NotFound, "there is no `nope`"),
        ("commit", json!({"add": [".git/config"], "message": "x"}), Code::InvalidArgument, "stay in it"),
        ("commit", json!({"add": ["a"], "message": "x"}), Code::FailedPrecondition, "nothing differs"),
        ("push", json!({}), Code::NotFound, "origin"),
    ] {
        let fault = place.fails(operation, input.clone()).await;
        assert!(fault.code == code && fault.message.contains(part), "{operation} {input}: {fault}");
    }
    let bench = place.bench();
    let fault = bench.invoke("log", json!({"path": place.granted().join("nope")})).await.unwrap_err();
    assert!(
        fault.code == Code::NotFound && fault.message.contains("path: ") && fault.message.contains("/nope`"),
        "{fault}"
    );
    let fault = bench.invoke("log", json!({"path": place.granted()})).await.unwrap_err();
    assert!(fault.code == Code::NotFound && fault.message.contains("is not in a git repository"), "{fault}");
    let empty = Place::new();
    assert_eq!(empty.fails("log", json!({})).await.reason.as_deref(), Some("NO_COMMITS"));
}

#[tokio::test]
async fn what_is_not_granted_cannot_be_reached() {
    let place = Place::with_history();
    let outside = place.folder.path().join("secret/s");
    let secret = init(&outside);
    fs::write(outside.join("key"), "hidden").unwrap();
    commit(&secret, "key", "Eve", 0);
    let denied = async |path: PathBuf| {
        let fault = place.bench().invoke("log", json!({"path": path})).await.unwrap_err();
        assert_eq!(fault.reason.as_deref(), Some("PATH_NOT_GRANTED"), "{}: {fault}", path.display());
    };
    denied(outside.clone()).await;
    denied(outside.join("not there")).await;
    denied(place.granted().join("../secret/s")).await;
    std::os::unix::fs::symlink(&outside, place.granted().join("link")).unwrap();
    denied(place.granted().join("link")).await;
    // A `.git` file that points away.
    fs::create_dir(place.granted().join("pointer")).unwrap();
    fs::write(place.granted().join("pointer/.git"), format!("gitdir: {}\n", outside.join(".git").display())).unwrap();
    denied(place.granted().join("pointer")).await;
    // A repository whose working tree is elsewhere, and one whose objects are.
    let elsewhere = init(&place.granted().join("elsewhere"));
    elsewhere.config().unwrap().set_str("core.worktree", outside.to_str().unwrap()).unwrap();
    denied(place.granted().join("elsewhere")).await;
    init(&place.granted().join("borrows"));
    let objects = outside.join(".git/objects");
    fs::write(place.granted().join("borrows/.git/objects/info/alternates"), format!("{}\n", objects.display()))
        .unwrap();
    denied(place.granted().join("borrows")).await;
    // The folder above what is granted is a repository.
    init(place.folder.path());
    fs::create_dir(place.granted().join("plain")).unwrap();
    let fault = place.bench().invoke("log", json!({"path": place.granted().join("plain")})).await.unwrap_err();
    assert_eq!(fault.code, Code::NotFound, "{fault}");
    // What may be read may not be changed.
    let only_read = Permissions { fs_read: vec![place.granted().display().to_string()], ..Permissions::default() };
    let bench = Bench::new(&plugin()).granted(only_read);
    bench.invoke("log", json!({"path": place.path()})).await.unwrap();
    let input = json!({"path": place.path(), "name": "x"});
    assert_eq!(bench.invoke("create_branch", input).await.unwrap_err().code, Code::PermissionDenied);
}

#[tokio::test]
async fn files_and_differences_are_shown() {
    let place = Place::with_history();
    let old = place.ok("show", json!({"file": "a", "revision": "HEAD~1"})).await;
    assert_eq!((&old["text"], &old["mode"], &old["size_bytes"]), (&json!("one\n"), &json!("100644"), &json!(4)));
    let cut = place.ok("show", json!({"file": "a", "limit_bytes": 3})).await;
    assert_eq!((&cut["text"], &cut["truncated"]), (&json!("one"), &json!(true)));
    let diff = place.ok("diff", json!({"from": "HEAD~1", "to": "HEAD"})).await;
    assert_eq!((&diff["added"], &diff["files_changed"], &diff["truncated"]), (&json!(1), &json!(1), &json!(false)));
    assert!(diff["text"].as_str().unwrap().ends_with("@@ -1 +1,2 @@\n one\n+two\n"), "{}", diff["text"]);
    place.write("a", "one\nthree\n");
    place.write("bin", [0, 159, 146, 150]);
    let tree = place.ok("diff", json!({"untracked": true})).await;
    assert_eq!((&tree["added"], &tree["deleted"]), (&json!(1), &json!(1)));
    assert_eq!(tree["files"][1]["binary"], true);
    let cut = place.ok("diff", json!({"limit_bytes": 90})).await;
    assert!(cut["truncated"] == true && cut["text"].as_str().unwrap().len() <= 90);
    assert_eq!(place.ok("diff", json!({"files": ["d"]})).await["files_changed"], 0);
    place.call("commit", json!({"add": ["."], "message": "Both"})).await.unwrap();
    assert_eq!(place.ok("show", json!({"file": "bin"})).await["base64"], "AJ+Slg==");
}

#[tokio::test]
async fn a_commit_is_made_once() {
    let place = Place::with_history();
    place.write("new", "text\n");
    fs::remove_file(place.path().join("d/b")).unwrap();
    place.write("unnamed", "stays\n");
    let input = json!({"path": place.path(), "add": ["new", "d"], "message": "Add new"});
    let dry = place.bench().dry_run(true).invoke("commit", input.clone()).await.unwrap();
    assert!(dry.would.len() == 1 && dry.would[0].contains("d/b, new"), "{:?}", dry.would);
    assert_eq!(subjects(&place.ok("log", json!({})).await).len(), 3);
    let first = place.bench().idempotency_key("k1").invoke("commit", input.clone()).await.unwrap();
    assert_eq!((&first.output["created"], first.actions.len()), (&json!(true), 1));
    let changes: Vec<_> =
        first.output["files"].as_array().unwrap().iter().map(|file| (&file["path"], &file["change"])).collect();
    assert_eq!(changes, [(&json!("d/b"), &json!("deleted")), (&json!("new"), &json!("added"))]);
    let again = place.bench().idempotency_key("k1").invoke("commit", input.clone()).await.unwrap();
    assert_eq!((&again.output["created"], &again.output["commit"]), (&json!(false), &first.output["commit"]));
    assert!(again.actions.is_empty());
    let log = place.ok("log", json!({"limit": 1})).await;
    assert_eq!(log["commits"][0]["author"]["name"], "Robot");
    assert_eq!(log["commits"][0]["message"], "Add new\n\nConsort-Call: k1\n");
    let status = place.ok("status", json!({})).await;
    assert_eq!(status["files"], json!([{"path": "unnamed", "untracked": true}]));
    // A link leads out of the repository.
    std::os::unix::fs::symlink(place.folder.path().join("secret"), place.path().join("out")).unwrap();
    let fault = place.fails("commit", json!({"add": ["out/key"], "message": "x"})).await;
    assert!(fault.message.contains("goes through the link"), "{fault}");
}

#[tokio::test]
async fn the_first_commit_needs_no_parent_and_a_committer() {
    let place = Place::new();
    place.write("a", "a");
    let granted = Permissions { fs_write: vec![place.granted().display().to_string()], ..Permissions::default() };
    let input = json!({"path": place.path(), "add": ["a"], "message": "First"});
    let fault = Bench::new(&plugin()).granted(granted).invoke("commit", input).await.unwrap_err();
    assert_eq!(fault.reason.as_deref(), Some("NO_COMMITTER"));
    let author = json!({"name": "Ana", "email": "ana@example.org"});
    let done = place.ok("commit", json!({"add": ["a"], "message": "First", "author": author})).await;
    assert_eq!((&done["branch"], &done["created"]), (&json!("main"), &json!(true)));
    assert_eq!(place.ok("log", json!({})).await["commits"][0]["author"]["name"], "Ana");
}

#[tokio::test]
async fn branches_are_made_and_listed() {
    let place = Place::with_history();
    let input = json!({"name": "topic", "from": "HEAD~1", "switch": true});
    place.write("a", "not committed");
    let fault = place.fails("create_branch", input.clone()).await;
    assert!(fault.message.contains("cannot be switched"), "{fault}");
    place.write("a", "one\ntwo\n");
    let made = place.ok("create_branch", input.clone()).await;
    assert_eq!((&made["created"], &made["current"]), (&json!(true), &json!(true)));
    // HEAD~1 is another commit now.
    let same = place.ok("create_branch", json!({"name": "topic", "switch": true})).await;
    assert_eq!((&same["created"], &same["current"]), (&json!(false), &json!(true)));
    assert_eq!(fs::read_to_string(place.path().join("a")).unwrap(), "one\n");
    let fault = place.fails("create_branch", json!({"name": "topic", "from": "main"})).await;
    assert_eq!(fault.code, Code::AlreadyExists);
    let list = place.ok("branches", json!({})).await;
    let names: Vec<_> = list["branches"].as_array().unwrap().iter().map(|branch| &branch["name"]).collect();
    assert_eq!((names, &list["current"]), (vec![&json!("main"), &json!("topic")], &json!("topic")));
}

#[tokio::test]
async fn a_branch_is_pushed_to_a_bare_repository() {
    let place = Place::with_history();
    let bare = Repository::init_bare(place.granted().join("bare.git")).unwrap();
    place.repository.remote("origin", place.granted().join("bare.git").to_str().unwrap()).unwrap();
    let input = json!({"path": place.path()});
    let dry = place.bench().dry_run(true).invoke("push", input.clone()).await.unwrap();
    assert!(dry.would.len() == 1 && bare.find_reference("refs/heads/main").is_err());
    let done = place.bench().invoke("push", input.clone()).await.unwrap();
    let there = bare.find_reference("refs/heads/main").unwrap().target().unwrap().to_string();
    assert_eq!((done.output["commit"].as_str().unwrap(), done.actions.len()), (&*there, 1));
    // Somebody else pushed meanwhile.
    let commit = bare.find_commit(bare.refname_to_id("refs/heads/main").unwrap()).unwrap();
    let who = commit.author();
    bare.commit(Some("refs/heads/main"), &who, &who, "Theirs", &commit.tree().unwrap(), &[&commit]).unwrap();
    place.write("a", "mine");
    place.ok("commit", json!({"add": ["a"], "message": "Mine"})).await;
    assert_eq!(place.fails("push", json!({})).await.reason.as_deref(), Some("NOT_FAST_FORWARD"));
    // Remotes that are not granted, or not spoken.
    Repository::init_bare(place.folder.path().join("secret/out.git")).unwrap();
    let out = place.folder.path().join("secret/out.git");
    for (url, code) in [
        (out.to_str().unwrap(), Code::PermissionDenied),
        ("../../secret/out.git", Code::PermissionDenied),
        ("ssh://git@example.org/x.git", Code::FailedPrecondition),
    ] {
        place.repository.remote_set_url("origin", url).unwrap();
        assert_eq!(place.fails("push", json!({})).await.code, code, "{url}");
    }
    // An address that the repository's settings turn into another one.
    place.repository.remote_set_url("origin", "/one").unwrap();
    let mut config = place.repository.config().unwrap();
    config.set_str(&format!("url.{}.insteadOf", out.display()), "/two").unwrap();
    config.set_str("url./two.insteadOf", "/one").unwrap();
    assert_ne!(place.fails("push", json!({})).await.code, Code::Ok);
    assert!(Repository::open_bare(&out).unwrap().is_empty().unwrap());
}
