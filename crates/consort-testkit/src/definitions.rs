//! Workflows that tests share, and the function their workers compute.

/// What the agent `next` makes of a number: a step of a linear congruential generator (Numerical Recipes' constants, modulo
/// 2^32), so that a lost, repeated or mixed-up step shows in the result.
pub fn next(n: u64) -> u64 {
    (n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % (1 << 32)
}

/// Three steps, one after the other; the last one's number.
pub const CHAIN: &str = r#"
name: chain
inputs: {n: {type: integer}}
steps:
  - {id: one, agent: next, with: {n: "${{ inputs.n }}"}}
  - {id: two, agent: next, needs: [one], with: {n: "${{ steps.one.output.n }}"}}
  - {id: three, agent: next, needs: [two], with: {n: "${{ steps.two.output.n }}"}}
output: "${{ steps.three.output.n }}"
"#;

/// One step an item, three at a time; a list of `{n}`.
pub const FAN: &str = r#"
name: fan
inputs: {list: {type: array}}
steps:
  - {id: each, agent: next, for_each: "${{ inputs.list }}", max_parallel: 3, with: {n: "${{ item }}"}}
output: "${{ steps.each.output }}"
"#;

/// A step, a question to a person, and a step if the answer is yes; `{option, n}`.
pub const ASK: &str = r#"
name: ask
inputs: {n: {type: integer}}
steps:
  - {id: first, agent: next, with: {n: "${{ inputs.n }}"}}
  - {id: approve, needs: [first], decide: {title: "Go on from ${{ steps.first.output.n }}?", options: ["yes", "no"]}}
  - {id: last, agent: next, needs: [first, approve], with: {n: "${{ steps.first.output.n }}"}}
output: {option: "${{ steps.approve.output.option }}", n: "${{ steps.last.output.n }}"}
"#;

/// A step whose first attempt fails; its number.
pub const FLAKY: &str = r#"
name: flaky
inputs: {n: {type: integer}}
steps:
  - {id: only, agent: flaky, with: {n: "${{ inputs.n }}"}, retry: {max: 5, backoff: 10ms}}
output: "${{ steps.only.output.n }}"
"#;

/// What [`PARENT`] starts.
pub const CHILD: &str = r#"
name: child
inputs: {n: {type: integer}}
steps:
  - {id: only, agent: next, with: {n: "${{ inputs.n }}"}}
output: "${{ steps.only.output.n }}"
"#;

/// A child run and a step on its result; the step's number.
pub const PARENT: &str = r#"
name: parent
inputs: {n: {type: integer}}
steps:
  - {id: below, workflow: child, with: {n: "${{ inputs.n }}"}}
  - {id: after, agent: next, needs: [below], with: {n: "${{ steps.below.output }}"}}
output: "${{ steps.after.output.n }}"
"#;
