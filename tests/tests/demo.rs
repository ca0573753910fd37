//! `consort demo`, as somebody sees it who types it.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use consort_testkit::{binary, root};
use git2::{IndexAddOption, Repository, Signature, Time};
use serde_json::{Value, json};

/// `consort demo` with these arguments, in a machine's environment but for servers of others.
fn demo(arguments: &[&str], out: &Path) -> Command {
    let python = root().join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing: `make test` or `deploy/setup.sh dev` makes it", python.display());
    let mut demo = Command::new(binary("consort"));
    demo.arg("demo").args(arguments).arg("--out").arg(out).current_dir(root());
    demo.env_remove("CONSORT_ADDR").env_remove("CONSORT_DATA").env_remove("CONSORT_PYTHON");
    demo
}

/// Its JSON, and what it said meanwhile.
fn result_of(output: &Output) -> (Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{said}");
    let result = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("no JSON ({error}): {printed}{said}"));
    (result, said)
}

/// A repository with three commits: a folder, a file at the top, a scope.
fn repository(at: PathBuf) -> PathBuf {
    let repository = Repository::init(&at).unwrap();
    std::fs::create_dir(at.join("src")).unwrap();
    for (minutes, file, subject) in [
        (0, "src/a.rs", "Add a"),
        (45, "LICENSE", "Choose a licence"),
        (600, "src/b.rs", "fix(parser): stop at the end"),
    ] {
        std::fs::write(at.join(file), subject).unwrap();
        let mut index = repository.index().unwrap();
        index.add_all(["*"], IndexAddOption::DEFAULT, None).unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        // 2026-01-05T08:00:00Z, at +01:00.
        let who = Signature::new("Ana", "Ana@example.org", &Time::new(1_767_600_000 + minutes * 60, 60)).unwrap();
        let head = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<_> = head.iter().collect();
        repository.commit(Some("HEAD"), &who, &who, subject, &tree, &parents).unwrap();
    }
    at
}

#[test]
fn the_demo_survives_its_crashes_and_leaves_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let csv = root().join("plugins/audit/sample.csv").display().to_string();
    let output = demo(&["--crash", "--answer", "publish", "--csv", &csv], &out).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("killed twice") && said.contains("recorded exactly once"), "{said}");
    assert!(!said.contains("posted"), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert!(report.as_object().is_some_and(|report| report.len() > 3), "{report}");
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("</html>"), "the page has its charts");
    for outside in ["src=\"http", "<link ", "@import"] {
        assert!(!html.contains(outside), "the page is not self-contained: `{outside}`");
    }
}

#[test]
fn a_repository_is_read_and_its_figures_posted_once_whatever_crashes_and_without_node_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (out, repository, nothing) = (root.join("report"), repository(root.join("r")), root.join("nothing"));
    std::fs::create_dir(&nothing).unwrap();
    let within = repository.join("src").display().to_string();
    let mut demo = demo(&["--crash", "--post", "--answer", "publish", "-o", "json", "--repo", &within], &out);
    let (result, said) = result_of(&demo.env("PATH", &nothing).output().unwrap());
    // Ana: half an hour, then 45 minutes, then half an hour again.
    assert_eq!(result["hours"], 1.75, "{result}");
    let history = &result["history"];
    assert_eq!((&history["sound"], &history["server_kills"]), (&json!(true), &json!(3)), "{result}\n{said}");
    // The third crash was between the delivery and its answer: it came again, with the same id.
    let posted = &result["posted"];
    assert_eq!((posted["accepted"].as_array().map(Vec::len), &posted["refused"]), (Some(1), &Value::Null), "{posted}");
    let delivery = &posted["accepted"][0];
    assert!(delivery["deliveries"].as_u64().is_some_and(|times| times >= 2), "{posted}\n{said}");
    let run = result["run"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(delivery["id"], format!("{run}/post"));
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["history"]["source"]["kind"], "git", "{report}");
    let tasks = report.to_string();
    assert!(!tasks.contains("<html"), "the figures are no page");
    assert!(delivery["bytes"].as_u64().is_some_and(|bytes| (100..10_000).contains(&bytes)), "{posted}");
    for line in [
        &format!("git (rust) may read {};", repository.display()),
        "notify (python) may connect to 127.0.0.1:",
        "node       not found: plugins and workers in TypeScript would need Node 20 or newer",
        "go         not found: plugins and workers in Go would need Go 1.26 or newer",
    ] {
        assert!(said.contains(line), "`{line}` is not said: {said}");
    }
}

#[test]
fn what_is_discarded_is_not_posted_and_what_is_no_repository_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let csv = root().join("plugins/audit/sample.csv").display().to_string();
    let output = demo(&["--post", "--answer", "discard", "-o", "json", "--csv", &csv], &out).output().unwrap();
    let (result, said) = result_of(&output);
    assert_eq!((&result["posted"]["accepted"], &result["report_html"]), (&json!([]), &Value::Null), "{result}\n{said}");
    assert!(!said.contains("git (rust)"), "no repository, no git: {said}");
    let none = folder.path().display().to_string();
    let output = demo(&["--answer", "discard", "--repo", &none], &out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("path: ") && said.contains("is not in a git repository"), "{said}");
}

#[test]
fn the_doctor_takes_node_and_go_for_what_only_some_need() {
    let folder = tempfile::tempdir().unwrap();
    let mut doctor = Command::new(binary("consort"));
    doctor.args(["doctor", "-o", "json"]).current_dir(root()).env("PATH", folder.path());
    doctor.env_remove("CONSORT_ADDR").env_remove("CONSORT_DATA").env_remove("CONSORT_PYTHON");
    let output = doctor.output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of =
        |what: &str| found["checks"].as_array().unwrap().iter().find(|check| check["check"] == what).cloned().unwrap();
    assert_eq!((&of("node")["state"], &of("go")["state"]), (&json!("note"), &json!("note")), "{found}");
    assert_eq!(of("demo plugins")["found"], "2 of 2", "{found}");
    assert!(["ok", "note"].contains(&of("sandbox")["state"].as_str().unwrap()), "{found}");
}
