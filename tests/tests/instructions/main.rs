//! The regression guard of speed: instructions that the hot paths execute per step, counted by valgrind, held against
//! `tests/bench/instructions.json`. A count does not depend on how busy the machine is.
//!
//! `CONSORT_INSTRUCTIONS=write cargo test --workspace --test instructions` writes the counts as the new budget.
#![allow(clippy::panic, clippy::unwrap_used)]

mod paths;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

/// How many runs a path executes.
const RUNS_VARIABLE: &str = "CONSORT_HOT_RUNS";
/// Runs of ten steps each; what a start costs falls out of the difference.
const RUNS: (u64, u64) = (64, 320);
const STEPS: f64 = 10.0;
/// More than this beyond the budget is a regression. Hash maps are seeded by chance and batches fall as they fall: counts differ
/// by one or two in a hundred between runs.
const TOLERANCE: f64 = 0.06;

#[test]
fn hot_paths_stay_within_their_budget() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "valgrind is not installed; deploy/setup.sh dev installs it");
        println!("valgrind is not installed, so nothing is counted; deploy/setup.sh dev installs it");
        return;
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench/instructions.json");
    let budget: BTreeMap<String, f64> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let counts: BTreeMap<&str, f64> = ["core", "ledger", "store", "mesh"]
        .map(|name| {
            let [few, many] = [RUNS.0, RUNS.1].map(|runs| count(name, runs));
            (name, ((many - few) / (RUNS.1 - RUNS.0) as f64 / STEPS).round())
        })
        .into();
    for (name, count) in &counts {
        println!("{name:<8} {count:>9} instructions a step; the budget is {}", budget.get(*name).unwrap_or(&0.0));
    }
    if std::env::var("CONSORT_INSTRUCTIONS").is_ok_and(|wish| wish == "write") {
        let text = serde_json::to_string_pretty(&json!(counts)).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
        return;
    }
    let over: Vec<String> = counts
        .iter()
        .filter(|(name, count)| **count > budget[**name] * (1.0 + TOLERANCE))
        .map(|(name, count)| format!("{name}: {count} instructions a step, {} are budgeted", budget[*name]))
        .collect();
    assert!(
        over.is_empty(),
        "{}. Look for what costs more ({RUNS_VARIABLE}=320 valgrind --tool=callgrind {} --exact paths::NAME); if it is worth it, \
         write a new budget with CONSORT_INSTRUCTIONS=write and say why in the commit",
        over.join("; "),
        std::env::current_exe().unwrap().display()
    );
}

/// Instructions of one execution.
fn count(path: &str, runs: u64) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("paths::{path}"), "--test-threads=1"])
        .env(RUNS_VARIABLE, runs.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path} failed:\n{said}");
    let line = said.lines().find_map(|line| line.split_once("I   refs:").or_else(|| line.split_once("I refs:")));
    let Some((_, number)) = line else { panic!("valgrind counted nothing:\n{said}") };
    number.trim().replace(',', "").parse().unwrap()
}
