//! What a run may be started with.

use serde_json::json;

use super::{AUDIT, parse};
use crate::data::Data;

fn violations(source: &str, given: &serde_json::Value) -> Vec<String> {
    let found = parse(source).inputs.complete(given).unwrap_err();
    found.into_iter().map(|v| format!("{}: {}", v.field, v.description)).collect()
}

#[test]
fn defaults_are_filled_in() {
    let inputs = parse(AUDIT).inputs;
    assert_eq!(inputs.complete(&json!({"repo": "/r"})), Ok(Data::of(&json!({"hourly_rate": 85, "repo": "/r"}))));
    assert_eq!(
        inputs.complete(&json!({"repo": "/r", "hourly_rate": 1.5})),
        Ok(Data::of(&json!({"hourly_rate": 1.5, "repo": "/r"})))
    );
    let none = parse("name: w\nsteps: [{id: a, set: 1}]").inputs;
    assert_eq!(none.complete(&serde_json::Value::Null), Ok(Data::of(&json!({}))));
}

#[test]
fn every_violation_is_listed() {
    assert_eq!(
        violations(AUDIT, &json!({"hourly_rate": -5, "repoo": 1, "zzzzzz": 1})),
        [
            "inputs.repo: it is missing; the workflow needs a value of type string: path of a git repository",
            "inputs.hourly_rate: -5 is less than the minimum of 0",
            "inputs.repoo: the workflow declares no such input; did you mean `repo`?",
            "inputs.zzzzzz: the workflow declares no such input; declared are `repo` and `hourly_rate`",
        ]
    );
    assert_eq!(violations(AUDIT, &json!([1])), ["inputs: [1] is not an object; write {\"name\": value}"]);
}

#[test]
fn violations_inside_values_name_the_place() {
    let source = "name: w\nsteps: [{id: a, set: 1}]\ninputs:\n  list: {type: array, items: {$ref: '#/$defs/host'}, $defs: {host: {type: object, properties: {port: {type: integer}}}}}\n";
    assert_eq!(
        violations(source, &json!({"list": [{}, {"port": "x"}]})),
        ["inputs.list[1].port: \"x\" is not of type \"integer\""]
    );
}
