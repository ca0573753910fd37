//! What definitions are accepted, and what is said about the others.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Action, Retry, Workflow};
use super::{AUDIT, assert_shown, check, parse};
use crate::data::Data;

/// Checks named definitions and shows them with their mistakes.
pub(super) fn table(cases: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, source) in cases {
        writeln!(text, "# {name}\n{}", check(source)).unwrap();
    }
    text
}

/// A definition with one step `a` and the given keys below it.
pub(super) fn step(keys: &str) -> String {
    format!("name: w\ninputs: {{n: {{type: integer}}, my-in: {{default: 1}}}}\nsteps:\n  - id: a\n{}", indent(keys))
}

fn indent(text: &str) -> String {
    lines(text.lines(), |line| format!("    {line}"))
}

fn lines<T>(items: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    items.into_iter().fold(String::new(), |text, item| text + &line(item) + "\n")
}

pub(super) fn steps(cases: &[&str]) -> String {
    let mut text = String::new();
    for keys in cases {
        let shown: String = keys.chars().take(120).collect();
        writeln!(text, "{shown}\n{}", indent(&check(&step(keys)))).unwrap();
    }
    text
}

#[test]
fn the_example_is_understood() {
    let workflow = parse(AUDIT);
    assert_eq!(&*workflow.name, "audit");
    let ids: Vec<&str> = workflow.steps.iter().map(|step| &*step.id).collect();
    assert_eq!(ids, ["history", "waste", "cost", "approve", "report"]);
    assert_eq!(workflow.index["cost"], 2);
    assert_eq!(workflow.steps[2].needs, [0, 1]);
    assert_eq!(workflow.steps[0].dependents, [1, 2]);
    assert_eq!(workflow.steps[0].timeout, Some(Duration::from_secs(120)));
    assert_eq!(
        workflow.steps[1].retry,
        Retry { max: 3, backoff: Duration::from_secs(2), on: vec![14, 4], ..Retry::default() }
    );
    let Action::Decide(decide) = &workflow.steps[3].action else { panic!() };
    assert_eq!(decide.options, ["publish", "discard"]);
    assert_eq!(decide.deadline, Some(Duration::from_secs(86_400)));
    assert_eq!(decide.default.as_deref(), Some("discard"));
    assert_eq!(workflow.steps[4].action.target().map(|t| &**t), Some("reporter"));
    assert_eq!(workflow.inputs.fields[1].default, Some(85.into()));
    assert_eq!(workflow.inputs.fields[0].description, "path of a git repository");
    assert!(workflow.output.is_some());
}

#[test]
fn every_kind_of_step_is_understood() {
    let workflow = parse(
        r"
name: kinds
timeout: 1h
inputs: {hosts: {type: array}}
steps:
  - {id: s, set: {a: 1, b: [x]}}
  - {id: w, wait: 90s}
  - {id: v, wait: '${{ inputs.hosts[0] }}s', needs: s}
  - {id: d, decide: {title: Go?, options: [yes, no], form: {type: object}}, if: 'size(inputs.hosts) > 0'}
  - {id: c, workflow: child, with: '${{ steps.s.output }}', needs: [s]}
  - {id: e, agent: a, for_each: '${{ inputs.hosts }}', max_parallel: 2, with: {host: '${{ item }}', n: '${{ index }}'}}
  - {id: l, agent: a, for_each: [x, '${{ inputs.hosts[0] }}'], if: true}
",
    );
    let kinds: Vec<&str> = workflow.steps.iter().map(|step| step.action.kind()).collect();
    assert_eq!(kinds, ["set", "wait", "wait", "decide", "workflow", "agent", "agent"]);
    assert_eq!(workflow.timeout, Some(Duration::from_secs(3600)));
    assert_eq!(workflow.steps[2].needs, [0]);
    let Action::Set { value } = &workflow.steps[0].action else { panic!() };
    assert_eq!(value.as_constant(), Some(&Data::of(&serde_json::json!({"a": 1, "b": ["x"]}))));
    let Action::Agent { with, .. } = &workflow.steps[6].action else { panic!() };
    assert_eq!(with.as_constant(), Some(&Data::of(&serde_json::json!({}))));
    let for_each = workflow.steps[5].for_each.as_ref().unwrap();
    assert_eq!(for_each.max_parallel, Some(2));
}

#[test]
fn json_definitions_are_understood() {
    let workflow = parse(r#"{"name": "w", "steps": [{"id": "a", "set": {"x": "${{ run.id }}"}}]}"#);
    assert_eq!(workflow.steps.len(), 1);
}

#[test]
fn mistakes_at_the_top() {
    assert_shown!(table(&[
        ("empty", ""),
        ("nothing", "~"),
        ("a list", "- a\n"),
        ("broken", "name: [a\nsteps: b"),
        ("tabs", "name: w\nsteps:\n\t- id: a\n"),
        ("missing all", "description: x\n"),
        ("wrong types", "name: 5\ndescription: [a]\nsteps: {a: 1}\ntimeout: 10\n"),
        ("no steps", "name: w\nsteps: []\n"),
        ("unknown keys", "nam: w\nstep: []\nfoo: 1\n"),
        ("a key twice", "name: w\nname: v\nsteps: [{id: a, set: 1, set: 2}]\n"),
        ("bad name", "name: my workflow\nsteps: [{id: a, set: 1}]\n"),
        (
            "triggers",
            "name: w\non: {manual: {x: 1}, schedule: {cron: x}, event: {}, signal: {}, cron: 1}\nsteps: [{id: a, set: 1}]\n"
        ),
        ("trigger as text", "name: w\non: manual\nsteps: [{id: a, set: 1}]\n"),
        ("tags", "name: !mine w\nsteps: [{id: a, set: 1}]\n"),
        ("zero timeout", "name: w\ntimeout: 0s\nsteps: [{id: a, set: 1}]\n"),
        ("bad output", "name: w\nsteps: [{id: a, set: 1}]\noutput: {x: '${{ steps.b.output }}', y: '${{ item }}'}\n"),
    ]));
}

#[test]
fn mistakes_in_steps() {
    assert_shown!(steps(&[
        "set: 1\nagent: x",
        "needs: []",
        "agnet: x",
        "team: x",
        "call: {}",
        "infer: {}",
        "vote: {}",
        "emit: {}",
        "agent: x\nwhile: true\nmax: 3\non_error: fail\noutput: {}",
        "wait: {signal: x}",
        "wait: soon",
        "wait: 5",
        "wait: -5s",
        "agent: a b\nwith: [1]",
        "workflow: 7\nwith: text",
        "set: 1\nwith: {}\nretry: {max: 2}",
        "agent: x\nretry: {max: 0, backoff: 1, factor: 0.5, max_backoff: 10ms, jitter: 2, on: [unavailable, NOPE, 4], tries: 1}",
        "agent: x\nretry: {backoff: 10s, max_backoff: 1s, on: []}",
        "agent: x\nretry: 3",
        "agent: x\ntimeout: 0s",
        "agent: x\nmax_parallel: 2",
        "agent: x\nfor_each: 5\nmax_parallel: 0",
        "agent: x\nfor_each: 'a ${{ inputs.n }}'",
        "agent: x\nfor_each: '${{ item }}'",
        "agent: x\nif: 5",
        "agent: x\nif: '${{ inputs.n }} > 1'",
        "agent: x\nneeds: [a, b, 5]",
        "agent: x\nneeds: {b: 1}",
        "decide: {}",
        "decide: {title: 5, options: [yes, yes, true, ''], form: {type: nope}, deadline: 0s, default: maybe, quorum: 2, descripton: x}",
        "decide: {title: x, options: [], default: x}",
        "decide: which?",
    ]));
}

#[test]
fn mistakes_in_ids_and_needs() {
    assert_shown!(table(&[
        (
            "ids",
            "name: w\nsteps:\n  - set: 1\n  - id: a b\n    set: 1\n  - id: a.b\n    set: 1\n  - id: c\n    set: 1\n  - id: c\n    set: 2\n  - 5\n",
        ),
        (
            "unknown needs",
            "name: w\nsteps:\n  - {id: first, set: 1}\n  - {id: second, set: 1, needs: [frist, nothing]}\n"
        ),
        (
            "one cycle",
            "name: w\nsteps:\n  - {id: a, set: 1, needs: c}\n  - {id: b, set: 1, needs: a}\n  - {id: c, set: 1, needs: b}\n"
        ),
        (
            "two cycles and what hangs on them",
            "name: w\nsteps:\n  - {id: a, set: 1, needs: [b]}\n  - {id: b, set: 1, needs: [a]}\n  - {id: c, set: 1, needs: [a, e]}\n  - {id: d, set: 1, needs: [e]}\n  - {id: e, set: 1, needs: [d]}\n",
        ),
        (
            "reads without need",
            "name: w\nsteps:\n  - {id: history, set: 1}\n  - {id: waste, set: 1, needs: history}\n  - {id: through, set: '${{ steps.history.output }}', needs: waste}\n  - {id: cost, set: '${{ steps.history.output.x + 1 }}'}\n  - {id: own, set: 1, if: steps.own.status == 'done'}\n",
        ),
    ]));
}

#[test]
fn mistakes_in_expressions() {
    let sets: Vec<String> = [
        "${{ }}",
        "${{ 1 + }}",
        "${{ inputs.n",
        "${{ 'open }}",
        "${{ inputs.m }}",
        "${{ has(inputs.m) }}",
        "${{ inputs.my-in }}",
        "${{ inputs['my-in'] }}",
        "${{ steps }}",
        "${{ steps.a }}",
        "${{ steps.b.output }}",
        "${{ steps[inputs.n].output }}",
        "${{ steps.a.outptu }}",
        "${{ has(steps.a.output) }}",
        "${{ item.x + index }}",
        "${{ run.name }}",
        "${{ run }}",
        "${{ n > 1 }}",
        "${{ input.n }}",
        "${{ foo(1) }}",
        "${{ siz('x') }}",
        "${{ [1].maps(x, x) }}",
        "${{ Foo{a: 1} }}",
        "${{ [1].map(a, [1].map(b, [1].map(c, c))) }}",
        "${{ [1].map(a, [1].map(b, a + b)).map(inputs, inputs) }}",
        "${{ ((((((((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))))))) }}",
    ]
    .iter()
    .map(|text| format!("set: {}", serde_json::json!(text)))
    .chain([
        "set: {'${{ run.id }}': 1}".to_owned(),
        format!("set: \"${{{{ 1{} }}}}\"", " + 1".repeat(300)),
        format!("set: \"${{{{ '{}' }}}}\"", "x".repeat(5000)),
    ])
    .collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    assert_shown!(steps(&sets));
    let hyphen = "name: w\nsteps:\n  - {id: time-waste, set: 1}\n  - {id: b, needs: time-waste, set: ['${{ steps.time-waste.output }}', \"${{ steps['time-waste'].output }}\"]}\n";
    assert_shown!(check(hyphen));
}

#[test]
fn mistakes_in_inputs() {
    assert_shown!(table(&[
        (
            "schemas",
            "name: w\nsteps: [{id: a, set: 1}]\ninputs:\n  a: string\n  b: {type: nope}\n  c: {type: string, defualt: x}\n  d: {type: number, minimum: 0, default: -1}\n  e: {required: true}\n  f: {pattern: '('}\n  g: {type: object, properties: {x: {minimum: low}}}\n  h: {$ref: 'https://example.com/x.json'}\n  1x: {}\n  i.j: {}\n  k: {description: 5}\n  l:\n"
        ),
        ("a list", "name: w\nsteps: [{id: a, set: 1}]\ninputs: [a]\n"),
    ]));
}

#[test]
fn limits_hold() {
    let many = lines(0..10_001, |n| format!("- {{id: s{n}, set: 1}}"));
    assert!(check(&format!("name: w\nsteps:\n{many}")).contains("there are 10001 steps; a workflow has 1 to 10000"));
    let wrong = lines(0..1_500, |n| format!("- {{id: s{n}, sett: 1}}"));
    let mistakes = Workflow::parse(&format!("name: w\nsteps:\n{wrong}")).unwrap_err();
    assert_eq!(mistakes.len(), 1_001);
    assert!(mistakes[1_000].message.contains("more than 1000 mistakes"));
}

#[test]
fn a_long_chain_is_checked_without_recursion() {
    let chain = lines(1..10_000, |n| format!("- {{id: s{n}, set: '${{{{ steps.s0.output }}}}', needs: s{}}}", n - 1));
    let workflow = parse(&format!("name: w\nsteps:\n- {{id: s0, set: 1}}\n{chain}"));
    assert_eq!(workflow.steps.len(), 10_000);
    let ring = format!("name: w\nsteps:\n- {{id: s0, set: 1, needs: s9999}}\n{chain}");
    assert!(check(&ring).contains("these steps need each other: "));
}

#[test]
fn deep_expressions_fit_small_stacks() {
    let sources: Vec<String> = [
        "-".repeat(499) + "1",
        "!".repeat(499) + "true",
        "(".repeat(400),
        "[".repeat(499),
        "{1:".repeat(160),
        "a?b:".repeat(124) + "c",
        "inputs.n".to_owned() + &".a".repeat(240),
        "inputs.n".to_owned() + &"[0]".repeat(160),
        "1".to_owned() + &"+1".repeat(249),
        "1".to_owned() + &"&&1".repeat(160),
        "f(".repeat(240),
        "1".to_owned() + &".f()".repeat(120),
    ]
    .iter()
    .map(|expression| step(&format!("set: {}", serde_json::json!(format!("${{{{ {expression} }}}}")))))
    .collect();
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    let done = thread.spawn(move || sources.iter().map(|source| check(source).len()).sum::<usize>()).unwrap().join();
    assert!(done.unwrap() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in ".{0,200}") {
        let _ = Workflow::parse(&text);
    }

    #[test]
    fn any_yaml_like_text_gets_an_answer(words in prop::collection::vec(
        prop::sample::select(vec![
            "name", "steps", "id", "set", "agent", "needs", "with", "inputs", "decide", "if", "retry", "for_each", "on", "output",
            ":", ": ", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "\"", "'", "&a ", "*a", "<<", "!!str ", "|\n", "~", "5",
            "-1", "0.5", "1e999", "a", "b", "${{", "}}", " steps.a.output ", "90s", "#", "?", "---\n", "é", "\t", "%",
        ]), 0..80,
    )) {
        let _ = Workflow::parse(&words.concat());
    }

    #[test]
    fn any_expression_gets_an_answer(words in prop::collection::vec(
        prop::sample::select(vec![
            "inputs", "steps", "item", "run", ".n", ".a", ".output", "[", "]", "(", ")", "{", "}", ",", ":", "?", "+", "-", "*", "/",
            "%", "!", "==", "<", "&&", "||", "in", " ", "1", "2u", "0x", "1.5", "1e", "'x'", "\"y\"", "r'", "b'z'", "'\\u12'",
            "has", "map", "filter", "all", "exists", "exists_one", "size", "string", ".map(x,", "x", "null", "true", "`", "@0", "\\", ".", "é",
        ]), 0..30,
    )) {
        let _ = Workflow::parse(&step(&format!("set: {}", serde_json::json!(format!("${{{{ {} }}}}", words.concat())))));
    }
}
