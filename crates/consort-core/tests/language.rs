//! The language by example: each file of `tests/language` holds workflows and what happens to their runs, and the snapshot beside it what
//! becomes of them. `tests/language/README.md` says how to read and write one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Case, World, golden};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Files of a folder with this ending, by name, in order.
fn files(name: &str, ending: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "there is no *.{ending} in tests/{name}");
    found
}

#[test]
fn every_example_does_what_its_snapshot_says() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder("language"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut failed = Vec::new();
    for (name, text) in files("language", "yaml").into_iter().filter(|(name, _)| name.contains(&only)) {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
            let mut story = String::new();
            let mut kept = Vec::new();
            for case in &cases {
                let world = World::play(case);
                assert_eq!(world.story(), World::play(case).story(), "the same script gives the same history");
                world.check_replays();
                story += &world.story();
                kept.extend(golden::lines(case, &world));
            }
            golden::write(&folder("golden").join(format!("{name}.jsonl")), &kept);
            settings.bind(|| insta::assert_snapshot!(name.as_str(), story));
        }));
        failed.extend(checked.is_err().then_some(name));
    }
    assert!(failed.is_empty(), "these examples do something else than their snapshots say: {}", failed.join(", "));
}

#[test]
fn histories_of_older_versions_are_read_as_they_were_meant() {
    for (name, text) in files("golden", "jsonl") {
        golden::check(&name, &text);
    }
}
