use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::*;

const RUN: &str = "namespaces/default/runs/01939d0e-6f6b-7c3a-8a52-0123456789ab";
const ID: &str = "01939d0e-6f6b-7c3a-8a52-0123456789ab";

/// Checks version 1 of a type; `expected` is what is said, field by field, or nothing if the payload passes.
fn said(event_type: &str, payload: Value, expected: &[&str]) {
    let found: Vec<String> = check(event_type, 1, &payload)
        .err()
        .into_iter()
        .flatten()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    assert_eq!(found, expected, "{event_type} {payload}");
}

fn good(event_type: &str, payload: Value) {
    assert!(CONTRACTS.iter().any(|contract| contract.event_type == event_type), "{event_type} has no contract");
    said(event_type, payload, &[]);
}

/// The payload must be refused, for this field alone.
fn bad(event_type: &str, field: &str, payload: Value) {
    let violations = check(event_type, 1, &payload).expect_err(event_type);
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, [field], "{event_type} {payload}: {violations:?}");
}

#[test]
fn every_schema_is_valid_and_says_what_it_is() {
    for contract in all() {
        let Contract { event_type, event_version, parsed, .. } = contract;
        jsonschema::meta::validate(parsed).unwrap_or_else(|error| panic!("{event_type}: {error}"));
        contract.check(&json!({}));
        assert_eq!(parsed["title"], *event_type);
        assert_eq!(parsed["$id"], format!("https://consort.dev/events/{event_type}.v{event_version}.json"));
        assert_eq!(parsed["$schema"], "https://json-schema.org/draft/2020-12/schema", "{event_type}");
        assert_eq!(parsed["type"], "object", "{event_type}");
        assert_eq!(parsed["additionalProperties"], true, "{event_type} may grow");
        assert!(contract.description.ends_with('.'), "{event_type} needs a sentence");
        assert!(parsed["required"].is_array(), "{event_type}");
        described(event_type, parsed);
    }
    let order: Vec<_> = all().iter().map(|contract| (contract.event_type, contract.event_version)).collect();
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
}

/// Every property has a description, and what is required is a property.
fn described(event_type: &str, schema: &Value) {
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            !schema["properties"][name.as_str().unwrap()].is_null(),
            "{event_type} requires {name} and does not say it"
        );
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        assert!(property["description"].as_str().is_some_and(|text| text.ends_with('.')), "{event_type}: {name}");
        described(event_type, property);
    }
    if schema["items"].is_object() {
        described(event_type, &schema["items"]);
    }
}

#[test]
fn the_folder_holds_what_is_embedded_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/events");
    let found: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md" && name != "envelope.v1.json")
        .collect();
    let embedded: BTreeSet<String> =
        all().iter().map(|contract| format!("{}.v{}.json", contract.event_type, contract.event_version)).collect();
    assert_eq!(found, embedded, "list every file of proto/events in `EMBEDDED`");
}

#[test]
fn a_type_without_contract_passes_and_an_unknown_version_does_not() {
    check("ORDER.PAID", 7, &json!([1])).unwrap();
    check("", 0, &json!(null)).unwrap();
    let violations = check("ORDER.VALIDATED", 3, &json!({"order_id": "17"})).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "event_version");
    assert_eq!(
        violations[0].description,
        "`3` is not a version of ORDER.VALIDATED that has a contract; give one of: 1"
    );
}

#[test]
fn what_is_wrong_is_said_with_the_value_the_rule_and_the_fix() {
    said(
        "ORDER.VALIDATED",
        json!({}),
        &[
            "payload.order_id: it is missing, but ORDER.VALIDATED needs it; give: Id of the order, such as `17`; the same in all events about it",
        ],
    );
    said(
        "ORDER.VALIDATED",
        json!({"order_id": 17}),
        &[
            "payload.order_id: `17` is not of type \"string\"; give: Id of the order, such as `17`; the same in all events about it",
        ],
    );
    said(
        "ORDER.VALIDATED",
        json!([1]),
        &["payload: `[1]` is not of type \"object\"; see the contract of ORDER.VALIDATED"],
    );
    said(
        "SIGNAL.CLASSIFIED",
        json!({"signal": format!("namespaces/a/signals/{ID}"), "type": "QUALITY_ISSUE", "urgency": "now", "impact": "low"}),
        &[
            "payload.urgency: `\"now\"` is not one of \"low\", \"normal\" or 2 other candidates; give: How soon somebody must act: `low`, `normal`, `high` or `critical`",
        ],
    );
    said(
        "PROJECT.COMPLETED",
        json!({"project": "x"}),
        &[
            "payload.project: `\"x\"` does not match \"^namespaces/[A-Za-z0-9][A-Za-z0-9._-]{0,62}/projects/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$\"; give: Name of the project, `namespaces/{namespace}/projects/{id}`",
        ],
    );
    let violations = check("PROJECT.COMPLETED", 1, &json!({"project": "x".repeat(1_000_000)})).unwrap_err();
    assert!(violations[0].description.len() < 500, "a long value is shortened");
    let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("m{n}"), json!("x"))).collect();
    assert_eq!(check("CLIENT.STATUS_UPDATE", 1, &json!({"metrics": many})).unwrap_err().len(), VIOLATION_LIMIT);
}

#[test]
fn what_the_mesh_says_of_projects_and_their_work_passes() {
    let project = "namespaces/default/projects/site";
    let item = format!("{RUN}/steps/cost[2]");
    let decision = format!("namespaces/default/decisions/{ID}");
    let work = |more: Value| {
        let mut all = json!({"project": project, "work_item": item, "run": RUN, "step": "cost[2]", "attempt": 1});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    good(
        "PROJECT.INITIAL_REQUEST_RECEIVED",
        json!({"project": project, "title": "A site", "request": {"pages": 3}, "created_by": "ada"}),
    );
    good("PROJECT.INITIAL_REQUEST_RECEIVED", json!({"project": project, "title": "A site", "request": {}}));
    good("PROJECT.COMPLETED", json!({"project": project}));
    good("PROJECT.STOPPED", json!({"project": project, "reason": ""}));
    good("WORK.ITEM_DISPATCHED", work(json!({"agent": "cost"})));
    good("WORK.ITEM_STARTED", work(json!({"agent": "cost", "worker": "w-1"})));
    good("WORK.ITEM_COMPLETED", work(json!({"attempt": 0})));
    good("WORK.ITEM_FAILED", work(json!({"code": "UNAVAILABLE", "message": "", "will_retry": true})));
    good("CLARIFICATION.NEEDED", work(json!({"question": decision, "title": "What?"})));
    let asked = json!({"question": decision, "title": "Publish?", "options": ["yes"], "kind": "choice", "run": RUN, "step": "ask"});
    good("QUESTION.CREATED", asked);
    good(
        "QUESTION.ANSWER_RECORDED",
        json!({"question": decision, "option": "yes", "answered_by": "ada", "project": project}),
    );

    bad("PROJECT.STOPPED", "payload.project", json!({"project": "namespaces/default/runs/site"}));
    bad("WORK.ITEM_DISPATCHED", "payload.attempt", work(json!({"agent": "cost", "attempt": 0})));
    bad("WORK.ITEM_STARTED", "payload.worker", work(json!({"agent": "cost"})));
    bad("WORK.ITEM_COMPLETED", "payload.attempt", work(json!({"attempt": -1})));
    bad("WORK.ITEM_COMPLETED", "payload.run", work(json!({"run": ID})));
    bad("WORK.ITEM_FAILED", "payload.code", work(json!({"code": 14, "message": "", "will_retry": true})));
    bad(
        "QUESTION.CREATED",
        "payload.options[1]",
        json!({"question": decision, "title": "?", "options": ["a", 2], "kind": "choice"}),
    );
}

#[test]
fn what_others_publish_needs_no_project_and_no_run() {
    good("WORK.ITEM_DISPATCHED", json!({"work_item": "T-1", "agent": "dev", "attempt": 1}));
    good("WORK.ITEM_REVIEWED", json!({"work_item": "T-1", "verdict": "approved", "reviewer": "ada", "score": 0.5}));
    good("DELIVERABLE.PUBLISHED", json!({"deliverable": "report", "content": {"blob": {"sha256": "…"}}}));
    good("CLARIFICATION.NEEDED", json!({"work_item": "T-1", "question": "Q-1", "title": "What?"}));
    good("QUESTION.CREATED", json!({"question": "Q-1", "title": "What?", "options": [], "kind": "clarification"}));
    good("USER.ANSWER_SUBMITTED", json!({"question": "Q-1", "option": "yes", "form": {"why": "so"}}));
    good(
        "ORDER.INBOX_RECEIVED",
        json!({"order_id": "17", "amount": 120.5, "files": [{"name": "order.pdf"}], "mine": 1}),
    );
    good("ORDER.DRAFT_CREATED", json!({"order_id": "17", "draft": {"lines": []}, "confidence": 0.9}));
    good("ORDER.VALIDATION_REQUIRED", json!({"order_id": "17", "reasons": ["amount"]}));
    good("ORDER.VALIDATED", json!({"order_id": "17", "validated_by": "ada"}));
    good("ORDER.EXPORT_READY", json!({"order_id": "17", "format": "csv", "content": "a,b"}));
    good("CLIENT.REQUIREMENT_SUBMITTED", json!({"requirement": "a site"}));
    good("CLIENT.TASK_COMPLETED", json!({"task": "T-1", "output": null}));
    good("CLIENT.DECISION_NEEDED", json!({"question": "Q-1", "title": "Publish?", "options": ["yes", "no"]}));
    good("CLIENT.STATUS_UPDATE", json!({"metrics": {"progress": 0.5}, "status": "healthy"}));

    bad("WORK.ITEM_REVIEWED", "payload.verdict", json!({"work_item": "T-1", "verdict": "good", "reviewer": "ada"}));
    bad(
        "WORK.ITEM_REVIEWED",
        "payload.score",
        json!({"work_item": "T-1", "verdict": "approved", "reviewer": "a", "score": 2}),
    );
    bad("ORDER.INBOX_RECEIVED", "payload.files[0].name", json!({"order_id": "17", "files": [{}]}));
    bad("ORDER.DRAFT_CREATED", "payload.draft", json!({"order_id": "17"}));
    bad("CLIENT.STATUS_UPDATE", "payload.metrics.a/b", json!({"metrics": {"a/b": "fast"}}));
    bad("DELIVERABLE.PUBLISHED", "payload.deliverable", json!({"content": 1}));
    bad("USER.ANSWER_SUBMITTED", "payload.question", json!({"question": "", "option": "yes"}));
}

#[test]
fn what_the_mesh_says_of_signals_passes() {
    let signal = format!("namespaces/default/signals/{ID}");
    good("SIGNAL.DETECTED", json!({"signal": signal, "type": "QUALITY_ISSUE", "title": "Red", "source": "ci"}));
    good(
        "SIGNAL.CLASSIFIED",
        json!({"signal": signal, "type": "REQUIREMENT", "urgency": "normal", "impact": "medium"}),
    );
    good("SIGNAL.ROUTED", json!({"signal": signal, "route": "person", "targets": []}));
    good("SIGNAL.ACTED", json!({"signal": signal, "runs": [RUN]}));
    bad("SIGNAL.DETECTED", "payload.type", json!({"signal": signal, "type": "red", "title": "Red", "source": "ci"}));
    bad("SIGNAL.ROUTED", "payload.route", json!({"signal": signal, "route": "nowhere", "targets": []}));
    bad("SIGNAL.ACTED", "payload.runs[0]", json!({"signal": signal, "runs": ["x"]}));
    bad("SIGNAL.ACTED", "payload.signal", json!({"signal": "x", "runs": []}));
}

#[test]
fn what_runs_say_of_loops_signals_clarifications_and_compensation_passes() {
    let step = |more: Value| {
        let mut all = json!({"run": ID, "sequence": 7, "step": "build"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let error = json!({"code": 14, "message": "down"});
    let question = json!({"decision": ID, "title": "What?", "options": [], "form": {"blob": {}}});
    good("STEP.ITERATED", step(json!({"iteration": 0})));
    good("STEP.SIGNAL_AWAITED", step(json!({"signal": "go", "until": 5})));
    good("STEP.SIGNAL_AWAITED", step(json!({"signal": "go"})));
    good("STEP.EVENT_EMITTED", step(json!({"event_id": ID, "event_type": "ORDER.VALIDATED"})));
    good("RUN.COMPENSATING", json!({"run": ID, "sequence": 7, "step": "a[1]", "error": error, "goto": "undo"}));
    good("DECISION.CLARIFICATION_REQUESTED", step(json!({"question": question, "attempt": 0})));
    good("DECISION.CLARIFICATION_ANSWERED", step(json!({"decision": ID, "option": "", "form": 1, "by": "ada"})));
    let started =
        json!({"namespace": "default", "workflow": "w", "revision": 1, "inputs": {}, "run": ID, "sequence": 1});
    good("RUN.STARTED", started.clone());
    let mut planned = started;
    let cause = json!({"trigger": {"event": {"event_id": ID, "event_type": "ORDER.VALIDATED"}}, "depth": 1});
    for (name, value) in [("project", json!({"id": "site", "uid": ID})), ("cause", cause), ("plan", json!({}))] {
        planned[name] = value;
    }
    good("RUN.STARTED", planned.clone());
    planned["cause"] = json!({"trigger": {}, "depth": 1});
    bad("RUN.STARTED", "payload.cause.trigger", planned.clone());
    planned["cause"] = json!({"trigger": {"schedule": {"at": 5}}});
    bad("RUN.STARTED", "payload.cause.depth", planned);

    bad("STEP.ITERATED", "payload.iteration", step(json!({"iteration": -1})));
    bad("STEP.EVENT_EMITTED", "payload.event_type", step(json!({"event_id": ID, "event_type": "order"})));
    bad("RUN.COMPENSATING", "payload.goto", json!({"run": ID, "sequence": 7, "step": "a", "error": error}));
    bad(
        "DECISION.CLARIFICATION_REQUESTED",
        "payload.question.title",
        step(json!({"question": {"decision": ID}, "attempt": 1})),
    );
}

/// The envelope of some event, with one field replaced, or removed by `null`.
fn envelope(field: &str, value: Value) -> bool {
    let mut event = json!({
        "event_id": ID, "event_type": "ORDER.VALIDATED", "event_version": 1, "timestamp": "2026-01-15T10:30:00.25Z",
        "source": "orchestrator", "instance": "orchestrator-1", "correlation_id": ID, "causation_id": "",
        "payload": {"order_id": "17"}, "namespace": "namespaces/default", "subject": "orders/17"
    });
    if value.is_null() {
        event.as_object_mut().unwrap().remove(field).unwrap();
    } else {
        event[field] = value;
    }
    let schema: Value = serde_json::from_str(ENVELOPE).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    described("envelope", &schema);
    jsonschema::validator_for(&schema).unwrap().is_valid(&event)
}

#[test]
fn an_envelope_is_what_its_schema_says() {
    for (field, value) in [
        ("causation_id", json!(ID)),
        ("causation_id", json!(null)),
        ("subject", json!(null)),
        ("event_type", json!("STEP.LEASE_LOST")),
        ("timestamp", json!("2026-12-31T23:59:60+02:00")),
        ("payload", json!({})),
    ] {
        assert!(envelope(field, value.clone()), "{field} {value}");
    }
    for (field, value) in [
        ("event_id", json!("17")),
        ("event_id", json!(null)),
        ("event_type", json!("order.validated")),
        ("event_type", json!("ORDER.")),
        ("event_version", json!(0)),
        ("timestamp", json!("2026-13-15T10:30:00Z")),
        ("timestamp", json!("2026-01-15 10:30")),
        ("source", json!("")),
        ("correlation_id", json!(null)),
        ("causation_id", json!("none")),
        ("payload", json!([1])),
        ("payload", json!(null)),
        ("namespace", json!("default")),
    ] {
        assert!(!envelope(field, value.clone()), "{field} {value}");
    }
}
