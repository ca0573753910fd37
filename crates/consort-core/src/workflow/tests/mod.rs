//! The language as its users meet it.

mod definitions;
mod inputs;
mod mistakes;
mod schema;
mod templates;

use std::fmt::Write as _;

use super::{Mistake, Workflow};

/// The definition of DESIGN's example.
const AUDIT: &str = r#"
name: audit
description: Where a team's time goes, what it costs, and what fixing it would save.
on: {manual: {}}
inputs:
  repo: {type: string, description: path of a git repository}
  hourly_rate: {type: number, default: 85, minimum: 0}
steps:
  - id: history
    agent: historian
    with: {repo: "${{ inputs.repo }}"}
    timeout: 2m
  - id: waste
    agent: time-waste
    needs: [history]
    with: {entries: "${{ steps.history.output.entries }}"}
    retry: {max: 3, backoff: 2s, on: [UNAVAILABLE, DEADLINE_EXCEEDED]}
  - id: cost
    agent: cost
    needs: [history, waste]
    with: {entries: "${{ steps.history.output.entries }}", rate: "${{ inputs.hourly_rate }}"}
  - id: approve
    decide: {title: "Publish a saving of ${{ steps.cost.output.saving }}?", options: [publish, discard], deadline: 24h, default: discard}
    needs: [cost]
  - id: report
    agent: reporter
    needs: [approve]
    if: "${{ steps.approve.output.option == 'publish' }}"
    with: {cost: "${{ steps.cost.output }}", waste: "${{ steps.waste.output }}"}
output: "${{ steps.report.output }}"
"#;

/// A snapshot without the source of its expression, which the test shows already.
macro_rules! assert_shown {
    ($text:expr) => {
        insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!($text) })
    };
}
use assert_shown;

fn parse(source: &str) -> Workflow {
    Workflow::parse(source).unwrap_or_else(|mistakes| panic!("{}", show(&mistakes)))
}

/// The mistakes of a definition, one a line.
fn check(source: &str) -> String {
    match Workflow::parse(source) {
        Ok(workflow) => format!("no mistake in `{}`\n", workflow.name),
        Err(mistakes) => show(&mistakes),
    }
}

fn show(mistakes: &[Mistake]) -> String {
    let mut text = String::new();
    for Mistake { path, line, column, message, hint } in mistakes {
        writeln!(text, "{line}:{column} {path}: {message} [{hint}]").unwrap();
    }
    text
}
