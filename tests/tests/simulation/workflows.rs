//! What is run, and what it must yield.

use consort_testkit::{ASK, CHAIN, CHILD, FAN, FLAKY, PARENT, next};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// A large value that an expression reads.
const BULK: &str = r#"
name: bulk
inputs: {length: {type: integer}}
steps:
  - {id: make, agent: bulk, with: {length: "${{ inputs.length }}"}, output: {type: string}, retry: {max: 9, backoff: 100ms}}
  - {id: measure, needs: [make], set: "${{ size(steps.make.output) }}"}
output: "${{ steps.measure.output }}"
"#;

/// Time passes, and every second time round a signal is awaited.
const SLOW: &str = r#"
name: slow
inputs: {n: {type: integer}}
steps:
  - {id: nap, wait: 3s}
  - {id: go, needs: [nap], wait: {signal: go}}
  - {id: on, needs: [go], agent: next, with: {n: "${{ inputs.n }}"}}
output: "${{ steps.on.output.n }}"
"#;

/// An attempt that never answers in time.
const HANG: &str = r#"
name: hang
inputs: {n: {type: integer}}
steps:
  - {id: only, agent: hang, with: {n: "${{ inputs.n }}"}, timeout: 3s, retry: {max: 8, backoff: 100ms, max_backoff: 1s}}
output: "${{ steps.only.output.n }}"
"#;

/// Fails for good until its client has it mended, and then goes on.
const BREAK: &str = r#"
name: break
inputs: {n: {type: integer}}
steps:
  - {id: sound, agent: next, with: {n: "${{ inputs.n }}"}}
  - {id: broken, needs: [sound], agent: broken, with: {n: "${{ steps.sound.output.n }}"}}
output: "${{ steps.broken.output.n }}"
"#;

/// Asks a person in the middle of its work.
const CURIOUS: &str = r#"
name: curious
inputs: {n: {type: integer}}
steps: [{id: only, agent: curious, with: {n: "${{ inputs.n }}"}}]
output: "${{ steps.only.output.n }}"
"#;

/// Answers with a plan.
const PLANNED: &str = r#"
name: planned
inputs: {n: {type: integer}}
steps: [{id: only, agent: planner, plan: true, with: {n: "${{ inputs.n }}"}}]
output: "${{ steps.only.output }}"
"#;

/// Goes round until a number is reached, and tells the world.
const ROUND: &str = r#"
name: round
inputs: {n: {type: integer}}
steps:
  - {id: loop, agent: next, while: "${{ index < 2 }}", max: 5, with: {n: "${{ last == null ? inputs.n : last.n }}"}}
  - {id: tell, needs: [loop], emit: {type: ROUND.DONE, payload: {n: "${{ inputs.n }}"}}}
output: "${{ steps.loop.output.n }}"
"#;

/// Lasts until it is cancelled, with a child and tasks in hand.
const ENDLESS: &str = r#"
name: endless
inputs: {n: {type: integer}}
steps:
  - {id: below, workflow: slow, with: {n: 1}}
  - {id: each, agent: next, for_each: [1, 2, 3, 4], with: {n: "${{ item }}"}}
  - {id: never, needs: [each], wait: {signal: never}}
"#;

/// What events start, those of clients and those of other runs.
const TRIGGERED: &str = r#"
name: triggered
on: {event: [{type: LOAD.EVENT, inputs: {n: "${{ event.payload.n }}"}}, {type: ROUND.DONE, inputs: {n: "${{ event.payload.n }}"}}]}
inputs: {n: {type: integer}}
steps: [{id: only, agent: next, with: {n: "${{ inputs.n }}"}}]
output: "${{ steps.only.output.n }}"
"#;

/// What the clock starts.
const SCHEDULED: &str = r#"
name: scheduled
on: {schedule: {cron: "* * * * *", overlap: allow, catch_up: all}}
steps: [{id: only, set: 1}]
"#;

/// What a signal to the mesh starts.
const ALARMED: &str = r#"
name: alarmed
on: {signal: {type: QUALITY_ISSUE, inputs: {n: "${{ signal.payload.n }}"}}}
inputs: {n: {type: integer}}
steps: [{id: only, agent: next, with: {n: "${{ inputs.n }}"}}]
output: "${{ steps.only.output.n }}"
"#;

/// All definitions.
pub(crate) const ALL: [&str; 17] = [
    ALARMED, ASK, BREAK, BULK, CHAIN, CHILD, CURIOUS, ENDLESS, FAN, FLAKY, HANG, PARENT, PLANNED, ROUND, SCHEDULED,
    SLOW, TRIGGERED,
];

/// What an agent answers with, if it answers in place of a person, as a plan.
pub(crate) fn plan(n: u64) -> String {
    format!(
        "name: made\nsteps: [{{id: one, agent: next, with: {{n: {n}}}}}, \
         {{id: two, needs: [one], agent: next, with: {{n: '${{{{ steps.one.output.n }}}}'}}}}]\n\
         output: '${{{{ steps.two.output.n }}}}'"
    )
}

/// A run to start, and what it must yield.
pub(crate) struct Job {
    pub workflow: &'static str,
    pub inputs: Value,
    pub expected: Value,
}

impl Job {
    /// One of all kinds.
    pub(crate) fn roll(dice: &mut StdRng) -> Job {
        let n: u64 = dice.random_range(0..1_000_000);
        let (one, two) = (next(n), next(next(n)));
        let three = next(two);
        let (workflow, inputs, expected) = match dice.random_range(0..14) {
            0 | 1 => ("chain", json!({"n": n}), json!(three)),
            2 => {
                let list: Vec<u64> = (n..n + 6).collect();
                let each: Vec<Value> = list.iter().map(|n| json!({"n": next(*n)})).collect();
                ("fan", json!({"list": list}), json!(each))
            }
            3 => ("ask", json!({"n": n}), json!({"option": "yes", "n": two})),
            4 => ("flaky", json!({"n": n}), json!(one)),
            5 => ("parent", json!({"n": n}), json!(two)),
            6 => ("bulk", json!({"length": 70_000 + n % 1_000}), json!(70_000 + n % 1_000)),
            7 => ("slow", json!({"n": n}), json!(one)),
            8 => ("hang", json!({"n": n}), json!(one)),
            9 => ("break", json!({"n": n}), json!(two)),
            10 => ("curious", json!({"n": n}), json!(one)),
            11 => ("planned", json!({"n": n}), json!(two)),
            12 => ("round", json!({"n": n}), json!(three)),
            _ => ("endless", json!({"n": n}), Value::Null),
        };
        Job { workflow, inputs, expected }
    }
}
