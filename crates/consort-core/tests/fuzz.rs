//! Hostile definitions, expressions, histories and snapshots: whatever comes in, the answer is a value or an error, and it comes soon.
//!
//! `CASES=100000 cargo test -p consort-core --test fuzz` looks longer.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use consort_core::RunId;
use consort_core::event::{Record, RunStarted};
use consort_core::run::{Context, Run};
use consort_core::workflow::Workflow;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

/// How long one case may take; far more than any does, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Files of the folder of the language and of the audit.
fn read(folder: &str, ending: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Definitions that are right.
static SOURCES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut sources = read("../../plugins/audit", "yaml");
    for text in read("tests/language", "yaml") {
        let cases: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
        sources.extend(cases.iter().map(|case| case["workflow"].as_str().unwrap().to_owned()));
    }
    sources
});

/// A definition with its history: one JSON array of events per record.
struct History {
    run: RunId,
    definition: Arc<Workflow>,
    records: Vec<(u64, i64, Value)>,
}

static HISTORIES: LazyLock<Vec<History>> = LazyLock::new(|| {
    let mut histories: Vec<History> = Vec::new();
    for line in read("tests/golden", "jsonl").iter().flat_map(|text| text.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(source) = line["workflow"].as_str() {
            let run = RunId(line["run"].as_str().unwrap().parse().unwrap());
            let definition = Arc::new(Workflow::parse(source).unwrap());
            histories.push(History { run, definition, records: Vec::new() });
        } else if let Some(sequence) = line["sequence"].as_u64() {
            let record = (sequence, line["at"].as_i64().unwrap(), line["events"].clone());
            histories.last_mut().unwrap().records.push(record);
        }
    }
    histories
});

/// What is put into a text.
const NASTY: [&str; 33] = [
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "{a: {a: {a: {a: {a: {a: {a: {a: ",
    "&a [*a, *a, *a, *a, *a, *a, *a, *a, *a]",
    "\n&b [*a, *a, *a, *a]",
    "*nobody",
    "<<: *a",
    "? ",
    "\n  - ",
    "\n    ",
    ": ",
    "9223372036854775808",
    "-1",
    "1e999",
    ".nan",
    "0x7fffffffffffffffffff",
    "99999999999999999999d",
    "0s",
    "-5s",
    "5 s",
    "1h1h",
    "${{ ",
    " }}",
    "${{ steps.a.output.map(x, x.map(y, y)) }}",
    "${{ [1,2,3].all(x, x > inputs.n) }}",
    "\u{0}",
    "\u{feff}",
    "\u{202e}é",
    "\"",
    "'",
    "|2\n",
    "!!binary ",
    "name: w\n",
    "on_error: {goto: a}",
];

fn flip(text: &str, edits: &[(u8, u32, u32)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for &(what, one, two) in edits {
        let (one, two) = (one as usize % (bytes.len() + 1), two as usize % (bytes.len() + 1));
        let (from, to) = (one.min(two), one.max(two));
        match what % 7 {
            0 => bytes.truncate(one.max(bytes.len() / 2)),
            1 if from < bytes.len() => bytes[from] ^= 1 << (two % 8),
            2 => {
                let nasty = NASTY[two % NASTY.len()];
                bytes.splice(from..from, nasty.bytes());
            }
            3 => drop(bytes.drain(from..to.min(from + 40))),
            4 => {
                let copy = bytes[from..to.min(from + 200)].to_vec();
                bytes.splice(one..one, copy);
            }
            5 => {
                // A line twice: keys and ids that repeat.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let mut lines: Vec<&str> = text.lines().collect();
                if !lines.is_empty() {
                    let line = lines[one % lines.len()];
                    lines.insert(two % lines.len(), line);
                    bytes = lines.join("\n").into_bytes();
                }
            }
            _ => {
                let nasty = NASTY[two % NASTY.len()];
                bytes.splice(from..to.min(from + 10), nasty.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a definition; if it is right, begins a run of it.
fn try_out(source: &str) {
    let begin = Instant::now();
    match Workflow::parse(source) {
        Ok(workflow) => {
            let Ok(inputs) = workflow.inputs.complete(&Value::Null) else { return };
            let (blobs, workflows) = (HashMap::new(), HashMap::new());
            let cx = Context { now: 1_000, chance: 0.5, blobs: &blobs, workflows: &workflows };
            let started = RunStarted::new("default".into(), workflow.name.clone(), 1, inputs);
            Run::start(RunId(Uuid::from_u128(1)), Arc::new(workflow), started, &cx).unwrap();
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a refusal gives a reason");
            for mistake in mistakes {
                assert!(!mistake.message.trim().is_empty(), "a mistake without message at {}", mistake.path);
                assert!(mistake.message.len() < 2_000, "a message that nobody reads: {}", mistake.message);
            }
        }
    }
    assert!(begin.elapsed() < PATIENCE, "it took {:?}", begin.elapsed());
}

/// Changes one value somewhere in a tree.
fn bend(value: &mut Value, path: &[u32], how: u32) {
    let (Some(&turn), rest) = (path.first(), path.get(1..).unwrap_or_default()) else {
        return replace(value, how);
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = turn as usize % items.len();
            if rest.is_empty() && how.is_multiple_of(5) {
                let copy = items[at].clone();
                items.insert(how as usize % items.len(), copy);
            } else if rest.is_empty() && how % 5 == 1 {
                items.remove(at);
            } else {
                bend(&mut items[at], rest, how);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(turn as usize % map.len()).unwrap().clone();
            if rest.is_empty() && how.is_multiple_of(5) {
                map.remove(&key);
            } else {
                bend(map.get_mut(&key).unwrap(), rest, how);
            }
        }
        other => replace(other, how),
    }
}

fn replace(value: &mut Value, how: u32) {
    let number = [0, 1, 2, 3, 9_999, u64::from(u32::MAX), i64::MAX as u64, u64::MAX][how as usize % 8];
    *value = match (&*value, how / 8 % 6) {
        (Value::Number(_), 0..=3) => json!(number),
        (Value::Number(_), 4) => json!(i64::MIN),
        (Value::String(text), 0) => json!(format!("{text}[{number}]")),
        (Value::String(text), 1) => json!(text.split('[').next()),
        (Value::String(_), 2) => json!(["a", "b", "undo", "all", "all[0]", "call", "ask"][how as usize % 7]),
        (Value::Bool(flag), _) => json!(!flag),
        (_, 3) => Value::Null,
        (_, 4) => json!({}),
        _ => json!([]),
    };
}

/// Gives an event the step, the item or the fact of another one, so that each is well formed and the story makes no sense.
fn mix_up(all: &mut Value, one: u32, two: u32) {
    let records = all.as_array().unwrap();
    let places: Vec<(usize, usize)> = records
        .iter()
        .enumerate()
        .flat_map(|(n, events)| (0..events.as_array().map_or(0, Vec::len)).map(move |m| (n, m)))
        .collect();
    let Some(count) = Some(places.len()).filter(|count| *count > 1) else { return };
    let ((a, b), (c, d)) = (places[1 + one as usize % (count - 1)], places[1 + two as usize % (count - 1)]);
    let other = all[c][d].clone();
    match one / 64 % 4 {
        0 => all[a][b]["s"] = other["s"].clone(),
        1 => all[a][b]["f"] = other["f"].clone(),
        2 => all[a].as_array_mut().unwrap().insert(b, other),
        _ => {
            if let Some(step) = all[a][b]["s"].as_str() {
                let whole = step.split('[').next().unwrap();
                let item = two / 64 % 3;
                all[a][b]["s"] = if step == whole { json!(format!("{whole}[{item}]")) } else { json!(whole) };
            }
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<(u8, u32, u32)>> {
    prop::collection::vec(any::<(u8, u32, u32)>(), 1..6)
}

fn bends() -> impl Strategy<Value = Vec<(Vec<u32>, u32)>> {
    prop::collection::vec((prop::collection::vec(any::<u32>(), 1..7), any::<u32>()), 1..4)
}

fn records(history: &History, all: &Value) -> Vec<Record> {
    let mut sequence = 1;
    let mut records = Vec::new();
    for (n, events) in all.as_array().into_iter().flatten().enumerate() {
        let count = events.as_array().map_or(1, Vec::len) as u32;
        let at = history.records.get(n).map_or(i64::MAX, |(_, at, _)| *at);
        let body = serde_json::to_vec(events).unwrap();
        let (run, namespace, root, hash) = (history.run, "default".into(), history.run, [0; 32]);
        records.push(Record { run, namespace, root, sequence, count, at, hash, body });
        sequence += u64::from(count);
    }
    records
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn hostile_definitions_get_an_answer(which in any::<prop::sample::Index>(), edits in edits()) {
        try_out(&flip(&SOURCES[which.index(SOURCES.len())], &edits));
    }

    #[test]
    fn hostile_expressions_get_an_answer(words in prop::collection::vec(prop::sample::select(vec![
        "inputs.list", "inputs", ".map(x, ", ".filter(y, ", ".all(z, ", ")", "x", "y", "z", "+", "*", "/", "%", "==", "in", "?", ":", "[", "]",
        "{", "}", "'a'", "\"\\u0000\"", "1", "0", "-", "9223372036854775807", "1e308", "size(", "matches('(a*)*b')", "string(", "int(", ".x", "[0]",
        "&&", "||", "!", "null", "true", ",", " ", "run.id", "has(", "bytes(", "duration('1s')", "timestamp(0)", "dyn(", "type(",
    ]), 1..25)) {
        let text = json!(format!("${{{{ {} }}}}", words.concat()));
        try_out(&format!("name: w\ninputs: {{list: {{default: [1, [2], {{x: 3}}, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa']}}}}\nsteps: [{{id: a, set: {text}}}]"));
    }

    #[test]
    fn hostile_histories_and_snapshots_are_refused_or_read(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bends in bends(),
        mixes in prop::collection::vec(any::<(u32, u32)>(), 1..5),
        what in 0..3_u8,
    ) {
        let history = &HISTORIES[which.index(HISTORIES.len())];
        let mut all: Value = history.records.iter().map(|(_, _, events)| events.clone()).collect();
        let definition = || Arc::clone(&history.definition);
        let begin = Instant::now();
        if what == 0 {
            let good = records(history, &all);
            let (before, after) = good.split_at(1 + at.index(good.len()));
            let run = Run::replay(history.run, definition(), before).unwrap();
            let mut state: Value = serde_json::from_slice(&run.snapshot()).unwrap();
            for (path, how) in &bends {
                bend(&mut state, path, *how);
            }
            let text = serde_json::to_vec(&state).unwrap();
            let _ = Run::restore(history.run, definition(), &text, after);
            let _ = Run::restore(history.run, definition(), &text[..text.len() / 2], after);
        } else {
            if what == 1 {
                for (path, how) in &bends {
                    bend(&mut all, path, *how);
                }
            } else {
                for (one, two) in &mixes {
                    mix_up(&mut all, *one, *two);
                }
            }
            let bent = records(history, &all);
            for record in &bent {
                let _ = record.entries();
            }
            let _ = Run::replay(history.run, definition(), &bent);
        }
        prop_assert!(begin.elapsed() < PATIENCE, "it took {:?}", begin.elapsed());
    }
}

#[test]
fn what_grows_is_bounded() {
    let bomb = (1..30).fold(String::new(), |text, n| {
        let before = n - 1;
        text + &format!("  a{n}: &a{n} [*a{before}, *a{before}]\n")
    });
    let wide = |text: &str, times: usize| text.repeat(times);
    for source in [
        format!("name: w\nsteps:\n- id: a\n  set:\n  a0: &a0 [x, x]\n{bomb}"),
        format!("a: {}", wide("[", 100_000)),
        format!("a: {}", wide("{a: ", 100_000)),
        wide("- ", 100_000),
        format!("name: w\nsteps: [{{id: a, set: {}1{}}}]", wide("[", 60), wide("]", 60)),
        format!("name: w\n{}", wide("name: w\n", 50_000)),
        format!("name: w\nsteps:\n{}", wide("- {id: a, set: 1}\n", 20_000)),
        format!("name: {}", wide("x", 2_000_000)),
        format!("name: w\nsteps: [{{id: a, set: \"{}\"}}]", wide("${{ 1 }}", 20_000)),
        format!("name: w\nsteps: [{{id: a, set: \"${{{{ {} }}}}\"}}]", wide("(", 4_000)),
    ] {
        try_out(&source);
    }
}
