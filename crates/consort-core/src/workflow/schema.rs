//! The JSON Schema of the language, for editors: it completes keys and explains them. What a schema cannot say (whether names exist,
//! what an expression gives) is left to [`Workflow::parse`](super::Workflow::parse).

use serde_json::{Map, Value, json};

use super::steps::{decide, emit, failing, infer, retry};
use super::triggers::{self, CatchUp, Overlap};
use super::{inputs, parse, steps};
use crate::signal::{Impact, Urgency};

const ID: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
const STEP_ID: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$";
const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
const EVENT_TYPE: &str = "^[A-Z][A-Z0-9]*([._][A-Z0-9]+)*$";
const SIGNAL_TYPE: &str = "^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$";

/// JSON Schema (2020-12) of a definition, with a description of every key. It is what `proto/workflow.schema.json` holds.
pub fn editor_schema() -> Value {
    let mut schema = object(&parse::KEYS, &["name", "steps"], top_key);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://consort.dev/workflow.schema.json",
        "title": "Consort workflow",
        "description": "A workflow: named steps, and what each of them needs.",
        "$defs": {
            "step": step(),
            "decide": object(&decide::DECIDE, &["title", "options"], question_key),
            "clarify": object(&decide::CLARIFY, &["title"], question_key),
            "retry": object(&retry::KEYS, &["max"], retry_key),
            "wait": object(&emit::WAIT, &["signal"], |_| text_of(ID, "Name of the signal to the run; one that came earlier counts.")),
            "emit_event": object(&emit::EVENT, &["type"], event_key),
            "emit_signal": object(&emit::SIGNAL, &["signal", "title"], signal_key),
            "timeout": timeout(),
            "on_error": object(&failing::ON_ERROR, &["goto"], |_| {
                text_of(STEP_ID, "First step of the compensation: it and the steps that need it run only after this failure.")
            }),
            "triggers": object(&triggers::KINDS, &[], trigger_kind),
            "schedule": object(&triggers::SCHEDULE, &["cron"], trigger_key),
            "event": object(&triggers::EVENT, &["type"], trigger_key),
            "signal": object(&triggers::SIGNAL, &["type"], trigger_key),
            "input": input(),
            "infer": object(&infer::KEYS, &[], infer_key),
            "budget": object(&infer::BUDGET, &[], budget_key),
            "expression": {
                "description": "An expression in CEL between `${{` and `}}`.",
                "type": "string",
                "pattern": "\\$\\{\\{",
            },
            "condition": {
                "description": "An expression that gives true or false, with or without `${{ }}`.",
                "type": ["string", "boolean"],
            },
            "duration": {
                "description": "A duration such as `90s`, `2m`, `1h30m`, `7d` or `250ms`.",
                "type": "string",
                "minLength": 2,
                "pattern": DURATION,
            },
        },
    });
    let all = schema.as_object_mut().expect("made as an object");
    let Value::Object(head) = head else { unreachable!("made as an object") };
    all.extend(head);
    // The file is the same whatever order the build's maps have.
    schema.sort_all_objects();
    schema
}

/// A mapping with these keys and no others.
fn object(keys: &[&str], required: &[&str], property: fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), property(key))).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A reference to a definition, with a description of its own.
fn definition(name: &str, description: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}"), "description": description})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn text_of(pattern: &str, description: &str) -> Value {
    json!({"type": "string", "pattern": pattern, "description": description})
}

fn whole(least: u32, most: u32, description: &str) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most, "description": description})
}

fn number(least: f64, most: f64, description: &str) -> Value {
    json!({"type": "number", "minimum": least, "maximum": most, "description": description})
}

/// A mapping, or an expression that gives one.
fn mapping(description: &str) -> Value {
    json!({"description": description, "anyOf": [{"type": "object"}, {"$ref": "#/$defs/expression"}]})
}

fn json_schema(description: &str) -> Value {
    json!({"type": "object", "description": description})
}

fn one_of(words: &[&str], description: &str) -> Value {
    json!({"enum": words, "description": description})
}

/// One word, or a list of them.
fn some_of(words: &[&str], description: &str) -> Value {
    json!({"description": description, "anyOf": [{"enum": words}, {"type": "array", "items": {"enum": words}}]})
}

fn top_key(key: &str) -> Value {
    match key {
        "name" => text_of(ID, "Id of the workflow."),
        "description" => text("What it is for."),
        "on" => definition("triggers", "What starts runs, beside clients."),
        "inputs" => json!({
            "type": "object",
            "description": "What a run is started with, by name: a JSON Schema each; one without `default` is required.",
            "maxProperties": 1000,
            "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]{0,62}$"},
            "additionalProperties": {"$ref": "#/$defs/input"},
        }),
        "steps" => json!({
            "type": "array",
            "description": "The steps.",
            "minItems": 1,
            "maxItems": 10_000,
            "items": {"$ref": "#/$defs/step"},
        }),
        "output" => {
            json!({"description": "What a run yields, with expressions; absent means the output of the last step."})
        }
        "timeout" => definition("duration", "How long a run may last."),
        "budget" => definition("budget", "What a run and all its child runs may spend on models."),
        _ => json!({}),
    }
}

fn step() -> Value {
    let mut step = object(&steps::KEYS, &["id"], step_key);
    step["description"] = json!("A step: an id, one thing that it does, and how.");
    step["oneOf"] = steps::KINDS.iter().map(|kind| json!({"required": [kind]})).collect();
    step["dependentRequired"] =
        json!({"max_parallel": ["for_each"], "max": ["while"], "while": ["max"], "plan": ["agent"]});
    step
}

fn step_key(key: &str) -> Value {
    match key {
        "id" => text_of(
            STEP_ID,
            "Its name: other steps need it, and expressions read `steps.ID.output`, `.status` and `.error`.",
        ),
        "agent" => text_of(ID, "Id of the agent that does it, with `with` as input."),
        "call" => text_of(
            "^[A-Za-z][A-Za-z0-9_-]{0,62}\\.[A-Za-z][A-Za-z0-9_-]{0,62}$",
            "Operation of a plugin, `PLUGIN.OPERATION`, with `with` as input; yields its output.",
        ),
        "infer" => {
            definition("infer", "Asks a model; yields `{text, json, model, finish, usage, cost_usd, response}`.")
        }
        "set" => json!({"description": "The value that the step yields, with expressions."}),
        "decide" => definition("decide", "Asks a person; yields `{option, form, answered_by}`."),
        "wait" => json!({
            "description": "Lets time pass, or waits for a signal to the run and yields what it carries.",
            "anyOf": [{"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/expression"}, {"$ref": "#/$defs/wait"}],
        }),
        "emit" => json!({
            "description": "Publishes an event, or raises a signal, in the commit of the step.",
            "anyOf": [{"$ref": "#/$defs/emit_event"}, {"$ref": "#/$defs/emit_signal"}],
        }),
        "workflow" => {
            text_of(ID, "Id of a workflow that does it as a child run, with `with` as inputs, at its newest revision.")
        }
        "with" => mapping("Input of the agent, the operation or the workflow, with expressions."),
        "if" => definition("condition", "The step is skipped if it is false."),
        "needs" => json!({
            "description": "Steps that must be over before it; expressions may read only these, and what these need.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }),
        "for_each" => json!({
            "description": "Does it once per item; `item` and `index` are there, and the output is the list of outputs.",
            "anyOf": [{"type": "array", "maxItems": 10_000}, {"$ref": "#/$defs/expression"}],
        }),
        "max_parallel" => whole(1, 10_000, "How many items at once."),
        "while" => definition(
            "condition",
            "Does it again while this is true after an iteration; `last` and `index` are there.",
        ),
        "max" => whole(1, 1_000, "How many iterations at most; then the step fails with RESOURCE_EXHAUSTED."),
        "retry" => definition("retry", "When and how a failed attempt is repeated."),
        "timeout" => json!({
            "description": "How long an attempt (agent) or the step (others) may last, or both.",
            "anyOf": [{"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/timeout"}],
        }),
        "on_error" => json!({
            "description": "What follows when it fails: the run fails, the run goes on, or a compensation runs and then the run fails.",
            "anyOf": [{"enum": ["fail", "continue"]}, {"$ref": "#/$defs/on_error"}],
        }),
        "output" => json_schema("JSON Schema that the output must match; an answer that does not is a failed attempt."),
        "plan" => {
            json!({"type": "boolean", "description": "Whether the agent may answer with a plan: a workflow that runs as a child."})
        }
        "clarify" => definition("clarify", "Asks a person before the step begins; `clarification` is the answer."),
        _ => json!({}),
    }
}

fn question_key(key: &str) -> Value {
    match key {
        "if" => definition("condition", "Whether it must be asked; absent means always."),
        "title" => text("The question, with expressions."),
        "description" => text("More about it: Markdown, with expressions."),
        "options" => json!({
            "type": "array",
            "description": "What can be chosen.",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": 100,
            "uniqueItems": true,
        }),
        "form" => json_schema("JSON Schema of a form that goes with an answer."),
        "deadline" => definition("duration", "How long to wait for an answer."),
        "default" => text("What the deadline chooses: one of the options. Without it the step fails then."),
        "auto" => text("An expression that gives one of the options, and then nobody is asked, or null."),
        _ => json!({}),
    }
}

fn infer_key(key: &str) -> Value {
    let anything = |description: &str| json!({"description": description});
    match key {
        "model" => text("`provider/model`, a local model or a configured name; absent: as configured."),
        "prompt" => text("What to ask, with expressions."),
        "system" => text("Instructions above the conversation, with expressions."),
        "messages" => anything("Instead of `prompt`: a list of `{role, content}`, with expressions."),
        "schema" => anything("JSON Schema that the answer always matches; the output has it as `json`."),
        "grammar" => text("GBNF grammar with the rule `root`; local models only."),
        "temperature" => anything("0 (always the likeliest token) to 2."),
        "top_p" => anything("Over 0 to 1."),
        "top_k" => anything("Only the k likeliest tokens."),
        "min_p" => anything("Local models only."),
        "seed" => anything("Equal seeds give equal answers on one local model."),
        "stop" => anything("A text, or a list of them, before which the answer ends."),
        "max_tokens" => anything("Tokens to generate at most."),
        "adapter" => text("A configured LoRA adapter of a local model."),
        "cache" => anything("`configured`, `off`, `exact`, `refresh`, or `{semantic: 0.95}`."),
        "policy" => one_of(&["ordered", "weighted", "latency", "best"], "How one of several models is chosen."),
        "fallbacks" => anything("Models to try in order when the first fails."),
        "task_type" => text("The kind of task, for the configuration and the tracker."),
        "budget" => definition("budget", "What this call may cost."),
        "timeout" => definition("duration", "How long the call may take."),
        _ => json!({}),
    }
}

fn budget_key(key: &str) -> Value {
    match key {
        "tokens" => anything_over_zero("Tokens, input and output together."),
        "usd" => anything_over_zero("US dollars."),
        "time" => definition("duration", "How long models may work."),
        _ => json!({}),
    }
}

fn anything_over_zero(description: &str) -> Value {
    json!({"type": "number", "exclusiveMinimum": 0, "description": description})
}

fn retry_key(key: &str) -> Value {
    match key {
        "max" => whole(1, 100, "Attempts in all."),
        "backoff" => definition("duration", "Delay before the second attempt; `1s` if absent."),
        "factor" => number(1.0, 100.0, "Growth of the delay; 2 if absent."),
        "max_backoff" => definition("duration", "Longest delay; `1m` if absent."),
        "jitter" => number(0.0, 1.0, "Spread of the delay: 0.2, if absent, means between 80 % and 120 %."),
        "on" => json!({
            "type": "array",
            "description": "Codes that are repeated; absent means those that can pass with time.",
            "items": {"enum": retry::CODES},
            "minItems": 1,
        }),
        _ => json!({}),
    }
}

fn event_key(key: &str) -> Value {
    match key {
        "type" => text_of(EVENT_TYPE, "Type of the event, for example `ORDER.VALIDATED`."),
        "version" => whole(1, 1_000, "Version of its contract; 1 if absent."),
        "subject" => text("What it is about, with expressions."),
        "payload" => {
            mapping("What happened, with expressions; it must keep the contract of the type, if there is one.")
        }
        _ => json!({}),
    }
}

fn signal_key(key: &str) -> Value {
    match key {
        "signal" => text_of(SIGNAL_TYPE, "Type of the signal, for example `QUALITY_ISSUE`."),
        "urgency" => one_of(&Urgency::ALL.map(Urgency::name), "How soon somebody must act."),
        "impact" => one_of(&Impact::ALL.map(Impact::name), "How much depends on it."),
        "title" => text("What was noticed, in a line, with expressions."),
        "description" => text("More about it: Markdown, with expressions."),
        "payload" => mapping("What goes with it, with expressions."),
        "agent" => text_of(ID, "The agent it is meant for, if no workflow takes it."),
        _ => json!({}),
    }
}

fn timeout() -> Value {
    let mut timeout = object(&failing::TIMEOUT, &[], |key| match key {
        "attempt" => definition("duration", "How long one attempt may last."),
        _ => {
            definition("duration", "How long the step may last from its beginning, with all attempts, waits and items.")
        }
    });
    timeout["minProperties"] = json!(1);
    timeout
}

fn trigger_kind(key: &str) -> Value {
    let each = |name: &str, description: &str| {
        let one = json!({"$ref": format!("#/$defs/{name}")});
        json!({"description": description, "anyOf": [one, {"type": "array", "items": one, "maxItems": 100}]})
    };
    match key {
        "manual" => {
            json!({"type": ["object", "null"], "maxProperties": 0, "description": "Clients start it; they can always."})
        }
        "schedule" => each("schedule", "Starts a run at certain times."),
        "event" => each("event", "Starts a run for each event that matches."),
        "signal" => each("signal", "Starts a run for each signal to the mesh that matches."),
        _ => json!({}),
    }
}

fn trigger_key(key: &str) -> Value {
    match key {
        "cron" => text("Minute, hour, day of month, month and day of week, for example `0 7 * * MON`."),
        "timezone" => text("IANA name, for example `Europe/Paris`; UTC if absent."),
        "overlap" => {
            one_of(&Overlap::ALL.map(Overlap::name), "What happens when the last run is still live; `skip` if absent.")
        }
        "catch_up" => one_of(
            &CatchUp::ALL.map(CatchUp::name),
            "What happens to times that passed while no server ran; `last` if absent.",
        ),
        "inputs" => json!({
            "type": "object",
            "description": "Inputs of the run, with expressions; they must give every required one. `schedule`, `event` or `signal` is there.",
        }),
        "type" => text("Which type starts it; of events also a prefix that ends in `*`."),
        "if" => definition("condition", "Only when this is true."),
        "urgency" => some_of(&Urgency::ALL.map(Urgency::name), "Only signals as urgent as this."),
        "impact" => some_of(&Impact::ALL.map(Impact::name), "Only signals of this impact."),
        _ => json!({}),
    }
}

/// An input: a JSON Schema. The keywords are those of the standard, which editors know; only the ones with a meaning here are told.
fn input() -> Value {
    object(&inputs::KEYWORDS, &[], |key| match key {
        "default" => json!({"description": "Its value when none is given; an input without default is required."}),
        "description" => text("What it is."),
        _ => json!(true),
    })
}
