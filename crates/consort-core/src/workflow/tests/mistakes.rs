//! What is said about mistakes in loops, errors, questions, events and triggers.

use super::definitions::{step, steps, table};
use super::{assert_shown, check};

#[test]
fn mistakes_in_loops() {
    assert_shown!(steps(&[
        "agent: x\nwhile: true",
        "agent: x\nmax: 3",
        "agent: x\nwhile: true\nmax: 0",
        "agent: x\nwhile: true\nmax: 1001",
        "agent: x\nwhile: true\nmax: many",
        "agent: x\nwhile: 5\nmax: 2",
        "agent: x\nwhile: '${{ last }} > 1'\nmax: 2",
        "agent: x\nwhile: '${{ item }}'\nmax: 2",
        "agent: x\nwhile: '${{ steps.a.output }}'\nmax: 2",
        "agent: x\nwhile: '${{ index < 2 }}'\nmax: 2\nfor_each: [1]",
        "agent: x\nwhile: '${{ index < 2 }}'\nmax: 2\nmax_parallel: 2",
        "agent: x\nwith: {l: '${{ last }}'}",
        "agent: x\nif: '${{ index == 0 }}'\nwhile: true\nmax: 1",
    ]));
}

#[test]
fn mistakes_in_infer() {
    assert_shown!(steps(&[
        "infer: hello",
        "infer: {}",
        "infer: {promt: x}",
        "infer: {prompt: x, messages: []}",
        "infer: {prompt: x, schema: 5}",
        "infer: {prompt: x, schema: {type: objekt}}",
        "infer: {prompt: x, schema: {type: object}, grammar: y}",
        "infer: {prompt: x, budget: {tokens: 0, usd: much, time: soon, days: 1}}",
        "infer: {prompt: x, timeout: 5}",
        "infer: {prompt: '${{ steps.a.output }}'}",
        "infer: {prompt: x}\nwith: {a: 1}",
        "infer: {prompt: '${{ inputs.n }}', schema: {type: object}}\nretry: {max: 2}\noutput: {type: object}",
    ]));
    assert_shown!(table(&[("a budget of nothing", "name: w\nbudget: {tokens: -1}\nsteps: [{id: a, set: 1}]")]));
}

#[test]
fn mistakes_in_calls() {
    assert_shown!(steps(&[
        "call: git",
        "call: plugins/git/operations/log",
        "call: '${{ inputs.n }}'",
        "call: git.log\nwith: 3",
        "call: git.log\nwith: text",
        "call: git.log\nwith: {path: '${{ steps.z.output }}'}",
        "call: git.log\nwith: '${{ inputs.n }}'",
        "call: git.log\nwith: {a: '${{ inputs.n }}'}\nretry: {max: 2}\noutput: {type: array}",
        "call: git.log\nplan: true",
    ]));
}

#[test]
fn mistakes_in_timeouts() {
    assert_shown!(steps(&[
        "agent: x\ntimeout: {}",
        "agent: x\ntimeout: 5",
        "agent: x\ntimeout: [1s]",
        "agent: x\ntimeout: {attempt: 1m, step: 10s}",
        "agent: x\ntimeout: {attempt: 0s, step: soon}",
        "agent: x\ntimeout: {attemp: 1s}",
    ]));
}

#[test]
fn mistakes_in_on_error() {
    let with_undo = |rest: &str| format!("name: w\nsteps:\n  - {{id: a, agent: x, on_error: {{goto: undo}}}}\n{rest}");
    assert_shown!(steps(&[
        "agent: x\non_error: ignore",
        "agent: x\non_error: 5",
        "agent: x\non_error: {}",
        "agent: x\non_error: {goto: undoo}",
        "agent: x\non_error: {goto: 5}",
        "agent: x\non_error: {got: a}",
        "agent: x\non_error: {goto: a}",
    ]));
    assert_shown!(table(&[
        ("a name that is nearly right", &with_undo("  - {id: undos, agent: x}\n")),
        ("a compensation that needs something", &with_undo("  - {id: undo, agent: x, needs: a}\n")),
        (
            "a step of a compensation that needs a step outside it",
            &with_undo("  - {id: b, agent: x}\n  - {id: undo, agent: x}\n  - {id: tell, agent: x, needs: [undo, b]}\n"),
        ),
        (
            "a goto in a compensation",
            &with_undo("  - {id: undo, agent: x}\n  - {id: tell, agent: x, needs: undo, on_error: {goto: undo}}\n")
        ),
        (
            "two compensations that meet",
            &with_undo(
                "  - {id: b, agent: x, on_error: {goto: other}}\n  - {id: undo, agent: x}\n  - {id: other, agent: x}\n  - {id: both, agent: x, needs: [undo, other]}\n"
            ),
        ),
        (
            "a compensation reads everything but its own steps that it does not need",
            &with_undo(
                "  - {id: undo, agent: x, with: {a: '${{ steps.a.error }}', t: '${{ steps.tell.output }}'}}\n  - {id: tell, agent: x, needs: undo}\n"
            ),
        ),
        (
            "others do not read a compensation",
            &with_undo("  - {id: undo, agent: x}\n  - {id: b, set: '${{ steps.undo.output }}'}\n")
        ),
    ]));
}

#[test]
fn mistakes_in_agents() {
    assert_shown!(steps(&[
        "agent: x\noutput: 5",
        "agent: x\noutput: {type: nope}",
        "set: 1\noutput: {type: integer}",
        "agent: x\nplan: maybe",
        "workflow: x\nplan: true",
        "set: 1\nclarify: {title: What?}",
        "agent: x\nclarify: What?",
        "agent: x\nclarify: {}",
        "agent: x\nclarify: {if: 5, title: What?}",
        "agent: x\nclarify: {title: What?, auto: x, deadline: 1h, default: y, options: [z], form: {type: nope}}",
        "agent: x\nclarify: {title: '${{ clarification }}'}",
        "agent: x\nwith: {c: '${{ clarification.option }}'}",
        "decide: {title: Go?, options: [go], auto: 5}",
        "decide: {title: Go?, options: [go], auto: 'a ${{ run.id }}'}",
        "decide: {title: Go?, options: [go], auto: '${{ inputs.m }}'}",
    ]));
}

#[test]
fn mistakes_in_waits_and_events() {
    assert_shown!(steps(&[
        "wait: {}",
        "wait: {signal: 5}",
        "wait: {signal: a b}",
        "wait: {signal: go, timeout: 5s}",
        "wait: [1s]",
        "emit: SOME.EVENT",
        "emit: {type: A.B, signal: C}",
        "emit: {type: some.event}",
        "emit: {type: RUN.STARTED}",
        "emit: {type: A.B, version: 0, subject: 5, payload: text, title: x}",
        "emit: {type: A.B, payload: 'x ${{ run.id }}'}",
        "emit: {signal: QUALITY_ISSUE}",
        "emit: {signal: quality issue, title: x, urgency: soon, impact: 5, agent: a b, subject: y}",
        "emit: {signal: QUALITY_ISSUE, title: '${{ item }}', payload: [1]}",
        "emit: {type: A.B}\nretry: {max: 2}\nwith: {}",
    ]));
}

#[test]
fn mistakes_in_triggers() {
    let on = |triggers: &str| {
        let inputs = "inputs: {order: {type: object}, size: {default: 1}}";
        check(&format!("name: w\n{inputs}\nsteps: [{{id: a, set: 1}}]\non:\n  {triggers}\n"))
    };
    let cases = [
        "schedule: {timezone: UTC, inputs: {order: {}}}",
        "schedule: {cron: '61 7 * * MON', inputs: {order: {}}}",
        "schedule: {cron: '0 7 * *', inputs: {order: {}}}",
        "schedule: {cron: '0 7 31 2 *', inputs: {order: {}}}",
        "schedule: {cron: '0 7 * * *', timezone: Europe/Pariss, inputs: {order: {}}}",
        "schedule: {cron: '0 7 * * *', overlap: wait, catch_up: 5, zone: UTC, inputs: {order: {}}}",
        "schedule: {cron: '0 7 * * *'}",
        "schedule: {cron: '0 7 * * *', inputs: {order: '${{ event.payload }}', sise: 2}}",
        "schedule: daily",
        "event: {if: true, inputs: {order: {}}}",
        "event: {type: order.new, inputs: {order: '${{ event.payload }}'}}",
        "event: {type: ORDER.*, if: '${{ inputs.size > 1 }}', inputs: {order: '${{ event.payload }}'}}",
        "event: {type: ORDER.*, if: 'steps.a.output', inputs: '${{ event.payload }}'}",
        "event: [{type: A.B, inputs: {order: {}}}, {type: C.D}]",
        "signal: {inputs: {order: {}}}",
        "signal: {type: quality, urgency: [high, soon], impact: huge, inputs: {order: '${{ signal.payload }}'}}",
        "signal: {type: QUALITY_ISSUE, if: '${{ event.id }}', inputs: {order: '${{ schedule.time }}'}}",
        "manual: true",
        "events: {}",
    ];
    let text = cases.iter().fold(String::new(), |text, case| text + &format!("{case}\n{}\n", on(case)));
    assert_shown!(text);
}

#[test]
fn triggers_are_understood() {
    let source = "name: w\ninputs: {order: {}}\nsteps: [{id: a, set: 1}]\non:
  manual: {}
  schedule: [{cron: '0 7 * * MON', timezone: Europe/Paris, overlap: queue, catch_up: all, inputs: {order: '${{ schedule.time }}'}}]
  event: {type: 'ORDER.*', if: 'event.payload.amount > 100', inputs: {order: '${{ event.payload }}'}}
  signal: {type: QUALITY_ISSUE, urgency: [high, critical], impact: low, inputs: {order: '${{ signal.payload }}'}}\n";
    let triggers = super::parse(source).triggers;
    assert!(!triggers.is_empty());
    assert!(triggers.events[0].wants("ORDER.INBOX_RECEIVED") && !triggers.events[0].wants("ORDERS.NEW"));
    assert_eq!(triggers.signals[0].urgency.len(), 2);
    assert!(check(&step("agent: x\nwhile: 'last.again'\nmax: 3")).contains("no mistake"));
}
