//! What templates give.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::{Action, EvalError, Local, Scope, StepView, Template, Workflow};
use super::{assert_shown, parse};
use crate::data::{BlobRef, Data, Json};

/// A run with inputs, the step `h` (done), the step `time-waste` (skipped), an item and blobs.
struct Run {
    inputs: Data,
    history: Data,
    item: Data,
    blobs: HashMap<BlobRef, Json>,
}

impl Default for Run {
    fn default() -> Run {
        let inputs = json!({"n": 85, "f": 1.5, "s": "text", "list": [1, 2, 3], "o": {"b": 2, "a": {"x": null}}, "big": u64::MAX});
        Run {
            inputs: Data::of(&inputs),
            history: Data::of(
                &json!({"entries": [{"hours": 2, "who": "ann"}, {"hours": 5, "who": "bob"}], "a-b": true}),
            ),
            item: Data::of(&json!({"name": "first"})),
            blobs: HashMap::new(),
        }
    }
}

impl Scope for Run {
    fn inputs(&self) -> &Data {
        &self.inputs
    }

    fn step(&self, id: &str) -> Option<StepView> {
        match id {
            "h" => Some(StepView { status: "done", output: self.history.clone(), error: Data::null() }),
            "time-waste" => Some(StepView { status: "skipped", output: Data::null(), error: Data::null() }),
            _ => None,
        }
    }

    fn local(&self, local: Local) -> Option<Data> {
        match local {
            Local::Item => Some(self.item.clone()),
            Local::Index => Some(Data::of(&7.into())),
            _ => None,
        }
    }

    fn project(&self) -> Option<&str> {
        None
    }

    fn run_id(&self) -> String {
        "run-1".to_owned()
    }

    fn workflow(&self) -> &'static str {
        "w"
    }

    fn blob(&self, blob: &BlobRef) -> Option<Json> {
        self.blobs.get(blob).cloned()
    }
}

/// A workflow whose last step sets the given value, written as JSON.
fn workflow(value: &Value) -> Workflow {
    parse(&format!(
        "name: w\ninputs: {{n: {{}}, f: {{}}, s: {{}}, list: {{}}, o: {{}}, big: {{}}, gone: {{}}}}\nsteps:\n- {{id: h, set: 1}}\n- {{id: time-waste, set: 1}}\n- id: last\n  needs: [h, time-waste]\n  for_each: [1]\n  set: {value}\n"
    ))
}

fn template(value: &Value) -> Template {
    match workflow(value).steps.pop().unwrap().action {
        Action::Set { value } => value,
        _ => unreachable!(),
    }
}

fn eval(value: &Value, run: &Run) -> Result<Data, EvalError> {
    template(value).eval(run)
}

fn expression(source: &str) -> Value {
    json!(format!("${{{{ {source} }}}}"))
}

#[test]
fn expressions_give_native_values() {
    let h = json!({"entries": [{"hours": 2, "who": "ann"}, {"hours": 5, "who": "bob"}], "a-b": true});
    for (source, expected) in [
        // Paths.
        ("inputs.n", json!(85)),
        ("inputs.f", json!(1.5)),
        ("inputs.o.a.x", json!(null)),
        ("inputs['o']['a']", json!({"x": null})),
        ("inputs.list[2]", json!(3)),
        ("inputs.big", json!(u64::MAX)),
        ("steps.h.output", h.clone()),
        ("steps.h.output.entries[1].who", json!("bob")),
        ("steps.h.output['a-b']", json!(true)),
        ("steps.h.status", json!("done")),
        ("steps['time-waste'].status", json!("skipped")),
        ("steps['time-waste'].output", json!(null)),
        ("item", json!({"name": "first"})),
        ("item.name", json!("first")),
        ("index", json!(7)),
        ("run.id", json!("run-1")),
        ("run.workflow", json!("w")),
        // CEL: whole numbers are `int`, so that arithmetic works.
        ("inputs.n + 1", json!(86)),
        ("inputs.n - 100", json!(-15)),
        ("inputs.f * 2.0", json!(3.0)),
        ("double(inputs.n) * inputs.f", json!(127.5)),
        ("inputs.n > 84 && inputs.s == 'text'", json!(true)),
        ("inputs.n > 1.5", json!(true)),
        ("-inputs.n", json!(-85)),
        ("index + 1", json!(8)),
        ("size(inputs.list)", json!(3)),
        ("inputs.list.map(x, x * 10)", json!([10, 20, 30])),
        ("inputs.list.filter(x, x > 1).map(x, string(x))", json!(["2", "3"])),
        ("inputs.list.map(x, x > 1, x)", json!([2, 3])),
        ("inputs.list.exists(x, x == 3)", json!(true)),
        ("inputs.list.all(x, x < 3)", json!(false)),
        ("inputs.list.exists_one(x, x == 1)", json!(true)),
        ("inputs.list.map(x, inputs.list.map(y, x + y))", json!([[2, 3, 4], [3, 4, 5], [4, 5, 6]])),
        ("inputs.o.map(k, k)", json!(["a", "b"])),
        ("steps.h.output.entries.map(item, item.hours)", json!([2, 5])),
        ("steps.h.output.entries.filter(e, e.who.startsWith('b'))[0].hours", json!(5)),
        ("inputs.list[inputs.list[0]]", json!(2)),
        ("2 in inputs.list", json!(true)),
        ("'b' in inputs.o", json!(true)),
        ("{'k': inputs.n, 'l': [inputs.s]}", json!({"k": 85, "l": ["text"]})),
        ("inputs.s + '!'", json!("text!")),
        ("inputs.s.matches('^t.x')", json!(true)),
        ("inputs.n > 50 ? 'high' : 'low'", json!("high")),
        ("type(inputs.n) == int", json!(true)),
        ("steps['time-waste'].output == null", json!(true)),
        ("'a\\nb \"q\" é'", json!("a\nb \"q\" é")),
        // Presence.
        ("has(inputs.n)", json!(true)),
        ("has(inputs.gone)", json!(false)),
        ("has(inputs.gone) && inputs.gone.x > 1", json!(false)),
        ("has(inputs.gone) ? inputs.gone : 'none'", json!("none")),
        ("has(steps.h.output.nothing)", json!(false)),
    ] {
        assert_eq!(eval(&expression(source), &Run::default()), Ok(Data::of(&expected)), "{source}");
    }
}

#[test]
fn trees_are_filled_in() {
    for (value, expected) in [
        (
            json!({"z": "${{ inputs.n }}", "a": ["x", "${{ item.name }}", {"k": 1.5}]}),
            r#"{"a":["x","first",{"k":1.5}],"z":85}"#,
        ),
        (json!("n=${{ inputs.n }}, s=${{ inputs.s }}, o=${{ inputs.o.a }}"), r#""n=85, s=text, o={\"x\":null}""#),
        (json!(["$${{ inputs.n }}", "a $${{ b }} ${{ inputs.n }}"]), r#"["${{ inputs.n }}","a ${{ b }} 85"]"#),
        (json!("$${{ x }}"), r#""${{ x }}""#),
        (json!({"a": [], "b": {}, "c": ""}), r#"{"a":[],"b":{},"c":""}"#),
        (
            json!({"both": "${{ steps.h.output.entries[0].hours + inputs.n }}", "raw": "${{ steps.h.output.entries }}"}),
            r#"{"both":87,"raw":[{"hours":2,"who":"ann"},{"hours":5,"who":"bob"}]}"#,
        ),
    ] {
        let data = eval(&value, &Run::default()).unwrap();
        let Data::Inline(json) = data else { panic!() };
        assert_eq!(json.value(), serde_json::from_str::<Value>(expected).unwrap(), "{value}");
    }
}

#[test]
fn failures_name_the_expression_and_the_reason() {
    let mut text = String::new();
    for source in [
        "inputs.gone",
        "inputs.gone.x",
        "inputs.o.c",
        "inputs.list[3]",
        "steps['time-waste'].output.saving",
        "steps['time-waste'].output.saving > 1",
        "inputs.n.x.y",
        "inputs.n + inputs.f",
        "inputs.n + inputs.s",
        "inputs.n / 0",
        "inputs.list.map(x, x.y)",
        "inputs.list[inputs.n]",
        "{'a': 1}[inputs.s]",
        "9223372036854775807 + inputs.n",
        "double(inputs.n) / 0.0",
        "type(inputs.n)",
        "b'x'",
        "inputs.n ? 1 : 2",
        "inputs.s.matches('(')",
        "int(inputs.s)",
        "inputs.n.map(x, x)",
        "size(inputs.n)",
    ] {
        let EvalError::Failed(why) = eval(&expression(source), &Run::default()).unwrap_err() else {
            panic!("{source}")
        };
        writeln!(text, "{why}").unwrap();
    }
    assert_shown!(text);
}

#[test]
fn bools_and_texts_are_checked() {
    let run = Run::default();
    assert_eq!(template(&expression("inputs.n > 1")).eval_bool(&run), Ok(true));
    assert_eq!(template(&json!(false)).eval_bool(&run), Ok(false));
    let EvalError::Failed(why) = template(&expression("inputs.s")).eval_bool(&run).unwrap_err() else { panic!() };
    assert_eq!(why, "`inputs.s` gives \"text\", not true or false");
    assert_eq!(template(&expression("inputs.s")).eval_text(&run).unwrap(), "text");
    assert_eq!(template(&json!("${{ inputs.n }}s")).eval_text(&run).unwrap(), "85s");
    assert_eq!(template(&expression("inputs.list")).eval_text(&run).unwrap(), "[1,2,3]");
    assert_eq!(template(&json!("a\"b")).eval_text(&run).unwrap(), "a\"b");
}

#[test]
fn blobs_stay_blobs_until_they_are_read() {
    let text = Json::of(&json!({"entries": [1, 2]}));
    let blob = BlobRef::of(text.as_str().as_bytes(), "application/json");
    let item = Json::of(&json!("thing"));
    let other = BlobRef::of(item.as_str().as_bytes(), "application/json");
    let mut run = Run { history: Data::Blob(blob.clone()), item: Data::Blob(other.clone()), ..Run::default() };

    assert_eq!(eval(&expression("steps.h.output"), &run), Ok(Data::Blob(blob.clone())));
    assert_eq!(eval(&expression("item"), &run), Ok(Data::Blob(other.clone())));
    assert_eq!(eval(&expression("steps.h.status"), &run), Ok(Data::of(&json!("done"))));
    assert_eq!(eval(&expression("steps.h.output.entries"), &run), Err(EvalError::NeedsBlobs(vec![blob.clone()])));
    let both = json!({"a": "${{ steps.h.output }}", "b": "${{ item }}", "c": "${{ steps.h.output.entries[0] }}"});
    assert_eq!(eval(&both, &run), Err(EvalError::NeedsBlobs(vec![blob.clone(), other.clone()])));
    assert_eq!(template(&expression("item")).eval_text(&run), Err(EvalError::NeedsBlobs(vec![other.clone()])));

    run.blobs = HashMap::from([(blob, text), (other, item)]);
    assert_eq!(eval(&both, &run), Ok(Data::of(&json!({"a": {"entries": [1, 2]}, "b": "thing", "c": 1}))));
    assert_eq!(eval(&expression("size(steps.h.output.entries)"), &run), Ok(Data::of(&json!(2))));
}

#[test]
fn loops_and_values_have_limits() {
    let list = |length: usize| Data::of(&json!({"list": (0..length).collect::<Vec<_>>(), "s": "x".repeat(60_000)}));
    let failure = |source: &str, inputs: Data| match eval(&expression(source), &Run { inputs, ..Run::default() }) {
        Err(EvalError::Failed(why)) => why,
        other => panic!("{source}: {other:?}"),
    };
    let long = Run { inputs: list(100_000), ..Run::default() };
    assert_eq!(eval(&expression("size(inputs.list.filter(x, x % 2 == 0))"), &long), Ok(Data::of(&json!(50_000))));
    assert!(failure("size(inputs.list)", list(100_001)).contains("a list has more than 100000 items"));
    for slow in [
        "inputs.list.map(x, inputs.list.map(y, x * y)).size()",
        "inputs.list.all(x, inputs.list.all(y, x >= 0 && y >= 0))",
        "inputs.list.map(x, inputs.s + inputs.s).size()",
        "inputs.list.map(x, inputs.s.matches('x+y'))",
    ] {
        assert!(failure(slow, list(10_000)).contains("takes too long"), "{slow}");
    }
    assert!(failure("inputs.list.map(x, inputs.s)", list(1_000)).contains("more than 16777216 bytes"));
}

#[test]
fn only_what_is_read_is_looked_up() {
    struct Strict(Data);
    impl Scope for Strict {
        fn inputs(&self) -> &Data {
            &self.0
        }
        fn step(&self, id: &str) -> Option<StepView> {
            panic!("step {id} is not read")
        }
        fn local(&self, _: Local) -> Option<Data> {
            panic!("the item is not read")
        }
        fn project(&self) -> Option<&str> {
            panic!("the project is not read")
        }
        fn run_id(&self) -> String {
            panic!("the run's id is not read")
        }
        fn workflow(&self) -> &str {
            panic!("the workflow is not read")
        }
        fn blob(&self, _: &BlobRef) -> Option<Json> {
            panic!("no blob is read")
        }
    }
    let scope = Strict(Data::of(&json!({"n": 1})));
    assert_eq!(template(&expression("inputs.n + 1")).eval(&scope), Ok(Data::of(&json!(2))));
    assert_eq!(template(&json!({"a": "b"})).eval(&scope), Ok(Data::of(&json!({"a": "b"}))));
}
