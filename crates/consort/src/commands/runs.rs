//! `consort runs`, `get`, `cancel`, `pause`, `resume`, `retry` and `signal`.

use std::fmt::Write as _;

use clap::Args;
use consort_proto::orchestrator::{ListRunsRequest, Run, RunState};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Table, text};
use crate::{inputs, names};

/// How many characters of a value a table shows.
const SHOWN: usize = 60;

/// List runs, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort runs
  consort runs --workflow audit --state failed --state cancelled
  consort runs -o json | jq -r '.runs[].name'")]
pub(crate) struct Runs {
    /// Only runs of this workflow.
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Only runs in this state: pending, running, waiting, paused, succeeded, failed, cancelled. May be repeated.
    #[arg(long = "state", value_name = "STATE", value_parser = parse_state)]
    pub states: Vec<RunState>,
    /// Only runs of this project.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

fn parse_state(text: &str) -> std::result::Result<RunState, String> {
    let name = format!("RUN_STATE_{}", text.to_ascii_uppercase());
    RunState::from_str_name(&name)
        .filter(|state| *state != RunState::Unspecified)
        .ok_or_else(|| "use pending, running, waiting, paused, succeeded, failed or cancelled".to_owned())
}

impl Runs {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let workflow = match &self.workflow {
            Some(name) => names::named(context, "workflows", name)?,
            None => String::new(),
        };
        let request = ListRunsRequest {
            parent: context.parent.clone(),
            page_size: self.limit,
            page_token: String::new(),
            workflow,
            states: self.states.iter().map(|state| *state as i32).collect(),
            project: super::signals::project(context, self.project.as_deref())?,
        };
        let page = context.mesh.answer(context.mesh.client.orchestrator().list_runs(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["RUN", "WORKFLOW", "STATE", "EVENTS", "STARTED", "TOOK"]);
            for run in &page.runs {
                table.row([
                    text::id(&run.name).to_owned(),
                    format!("{} r{}", text::id(&run.workflow), run.revision),
                    text::run_state(run.state).to_owned(),
                    run.sequence.to_string(),
                    text::ago(run.create_time.as_ref()),
                    text::took(run.create_time.as_ref(), run.end_time.as_ref()),
                ]);
            }
            let mut shown = table.render_or("no runs; `consort run NAME` starts one");
            if !page.next_page_token.is_empty() {
                let _ = writeln!(shown, "there are more; --limit shows up to 1000");
            }
            shown
        })
    }
}

/// Show a run with its steps.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
}

impl Get {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::run(context, &self.run).await?;
        let run = context.mesh.check(context.mesh.client.get(&name).await)?;
        context.format.print(&run, || show(&run))
    }
}

/// A run for people.
pub(crate) fn show(run: &Run) -> String {
    let mut head = Table::plain();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            head.row([name.to_owned(), value]);
        }
    };
    fact("run", run.name.clone());
    fact("workflow", format!("{} revision {}", text::id(&run.workflow), run.revision));
    fact("state", text::run_state(run.state).to_owned());
    fact("events", run.sequence.to_string());
    fact("started", text::time(run.create_time.as_ref()));
    fact("ended", text::time(run.end_time.as_ref()));
    fact("took", text::took(run.create_time.as_ref(), run.end_time.as_ref()));
    fact("parent", run.parent.clone());
    let mut labels: Vec<String> = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    fact("labels", labels.join(" "));
    fact("inputs", text::payload(run.inputs.as_ref(), SHOWN));
    fact("output", text::payload(run.output.as_ref(), SHOWN));
    fact("error", run.error.as_ref().map_or_else(String::new, |error| error.message.clone()));

    let mut steps = Table::new(&["STEP", "STATE", "TRY", "WORKER", "TOOK", "OUTCOME"]);
    for step in &run.steps {
        let outcome = match (&step.error, &step.output) {
            (Some(error), None) => text::one_line(&error.message, SHOWN),
            (_, Some(_)) => text::payload(step.output.as_ref(), SHOWN),
            _ if step.items > 0 => format!("{} of {} items", step.items_over, step.items),
            _ => text::one_line(&step.progress_text, SHOWN),
        };
        steps.row([
            step.step.clone(),
            text::step_state(step.state).to_owned(),
            if step.attempt > 0 { step.attempt.to_string() } else { String::new() },
            step.worker.clone(),
            text::took(step.start_time.as_ref(), step.end_time.as_ref()),
            outcome,
        ]);
    }
    let steps = if steps.is_empty() { String::new() } else { format!("\n{}", steps.render()) };
    head.render() + &steps
}

/// Stop a run and its children.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

impl Cancel {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::run(context, &self.run).await?;
        changed(context, &context.mesh.check(context.mesh.client.cancel(&name, self.reason).await)?)
    }
}

/// Hold back everything of a run that has not begun.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

impl Pause {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::run(context, &self.run).await?;
        changed(context, &context.mesh.check(context.mesh.client.pause(&name, self.reason).await)?)
    }
}

/// Let a paused run go on.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
}

impl Resume {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::run(context, &self.run).await?;
        changed(context, &context.mesh.check(context.mesh.client.resume(&name).await)?)
    }
}

/// Let a failed run go on from its failed steps; what is done stays.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
}

impl Retry {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let name = names::run(context, &self.run).await?;
        changed(context, &context.mesh.check(context.mesh.client.retry(&name).await)?)
    }
}

/// Send a signal to a run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort signal 0192ab go
  consort signal 0192ab order -d '{\"id\": 7}'
  consort signal 0192ab order -d @order.json")]
pub(crate) struct Signal {
    /// Name of the run, its uuid, or the first digits of it.
    pub run: String,
    /// Name of the signal.
    pub name: String,
    /// What it carries: JSON, or @FILE with it.
    #[arg(short = 'd', long, value_name = "JSON", default_value = "null")]
    pub payload: String,
}

impl Signal {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let payload = inputs::json("the payload of the signal", &self.payload)?;
        if !consort_core::ids::is_id(&self.name) {
            return Err(Failure::usage(format!("`{}` is not the name of a signal", self.name))
                .hint("use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"));
        }
        let run = names::run(context, &self.run).await?;
        changed(context, &context.mesh.check(context.mesh.client.signal(&run, &self.name, &payload).await)?)
    }
}

fn changed(context: &Context, run: &Run) -> Result<()> {
    context.format.print(run, || format!("run {} is {}\n", text::id(&run.name), text::run_state(run.state)))
}

#[cfg(test)]
mod tests {
    use consort_proto::orchestrator::{StepState, StepStatus};

    use super::*;

    #[test]
    fn states_are_read_in_any_case() {
        assert_eq!(parse_state("failed"), Ok(RunState::Failed));
        assert_eq!(parse_state("WAITING"), Ok(RunState::Waiting));
        assert!(parse_state("unspecified").is_err());
        assert!(parse_state("done").is_err());
    }

    #[test]
    fn a_run_is_shown_with_its_steps() {
        let step = |name: &str, state: StepState| StepStatus {
            step: name.into(),
            state: state as i32,
            attempt: 1,
            output: Some(consort_sdk::payload::text("{\"a\":1}".into())),
            ..Default::default()
        };
        let run = Run {
            name: "namespaces/default/runs/7".into(),
            workflow: "namespaces/default/workflows/audit".into(),
            revision: 3,
            state: RunState::Running as i32,
            steps: vec![step("cost", StepState::Done), step("waste", StepState::InProgress)],
            ..Default::default()
        };
        let shown = show(&run);
        assert!(shown.contains("audit revision 3"), "{shown}");
        assert!(shown.lines().any(|line| line.contains("cost") && line.contains("DONE") && line.contains("{\"a\":1}")));
    }
}
