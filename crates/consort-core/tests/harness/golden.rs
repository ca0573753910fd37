//! Histories as a version wrote them, for all later versions to read; see `tests/golden/README.md`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use consort_core::RunId;
use consort_core::data::Data;
use consort_core::event::{Code, Failure, Record, chain};
use consort_core::run::Run;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::parse;
use super::{Case, World};

/// For each run of a case: a line with its definition, its records, and a line that says how it ended.
pub(crate) fn lines(case: &Case, world: &World) -> Vec<Value> {
    let mut lines = Vec::new();
    for member in &world.members {
        lines.push(json!({"case": case.case.trim(), "run": member.run.id.to_string(), "workflow": member.source}));
        for record in &member.records {
            let events: Value = serde_json::from_slice(&record.body).unwrap();
            lines.push(json!({"sequence": record.sequence, "count": record.count, "at": record.at, "events": events}));
        }
        lines.push(json!({"end": end(&member.run)}));
    }
    lines
}

/// Writes a file that is not there yet, if it is asked to.
pub(crate) fn write(path: &Path, lines: &[Value]) {
    if std::env::var_os("GOLDEN").is_none() || path.exists() {
        return;
    }
    let text: String = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
    fs::write(path, text).unwrap();
}

/// Replays the runs of a file and holds them against what it says of their ends.
pub(crate) fn check(name: &str, text: &str) {
    let (mut run, mut source, mut records) = (RunId(Uuid::nil()), String::new(), Vec::<Record>::new());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(workflow) = line["workflow"].as_str() {
            run = RunId(line["run"].as_str().unwrap().parse().unwrap());
            workflow.clone_into(&mut source);
            records.clear();
        } else if let Some(sequence) = line["sequence"].as_u64() {
            let body = serde_json::to_vec(&line["events"]).unwrap();
            let previous = records.last().map_or([0; 32], |record| record.hash);
            records.push(Record {
                run,
                namespace: "default".into(),
                root: run,
                sequence,
                count: line["count"].as_u64().unwrap() as u32,
                at: line["at"].as_i64().unwrap(),
                hash: chain(&previous, &body),
                body,
            });
        } else {
            let replayed = Run::replay(run, Arc::clone(&parse(&source)), &records);
            let replayed = replayed.unwrap_or_else(|damaged| panic!("{name}.jsonl: {damaged}\n{source}"));
            assert_eq!(end(&replayed), line["end"], "{name}.jsonl: this run ended otherwise\n{source}");
        }
    }
}

/// How a run ended, in words that later versions keep.
fn end(run: &Run) -> Value {
    let data = |data: Option<&Data>| match data {
        None => Value::Null,
        Some(Data::Inline(json)) => json.value(),
        Some(Data::Blob(blob)) => json!({"blob": blob.sha256}),
    };
    let error = |error: Option<&Failure>| error.map(|e| json!({"code": Code::name_of(e.code), "message": e.message}));
    let steps: Vec<Value> = run
        .units()
        .map(|(key, unit)| {
            let (state, attempt) = (unit.state.name(), unit.attempt);
            let (output, error) = (data(unit.output.as_ref()), error(unit.error.as_ref()));
            json!({"step": key.to_string(), "state": state, "attempt": attempt, "output": output, "error": error})
        })
        .collect();
    let (state, output) = (run.state().name(), data(run.output()));
    json!({"state": state, "sequence": run.sequence(), "output": output, "error": error(run.error()), "steps": steps})
}
