//! `consort run`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use consort_proto::orchestrator::{GetWorkflowRequest, RunState, watch_run_response::Kind};
use consort_sdk::StartOptions;
use futures::StreamExt as _;

use super::events;
use crate::context::{Context, request_id};
use crate::failure::{Failure, Result};
use crate::output::text;
use crate::view::View;
use crate::{follow, inputs, names};

/// Start a run of a workflow.
///
/// Without --wait or --follow it returns as soon as the start is on disk, and prints the run's name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort run audit -i repo=. -i hourly_rate:=85
  consort run audit --inputs inputs.yaml --wait -o json | jq .output.json
  consort run audit --follow")]
pub(crate) struct Run {
    /// The workflow.
    pub name: String,
    /// An input: key=text, or key:=json for numbers, lists and objects. May be repeated.
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    pub input: Vec<String>,
    /// A JSON or YAML file with inputs by name; single inputs win over it. `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Revision of the workflow; the newest by default.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub revision: i64,
    /// A label, key=value. May be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Wait for the run's end with live progress, print it, and exit 1 if it did not succeed.
    #[arg(long)]
    pub wait: bool,
    /// Print the run's events as they come until its end, and exit 1 if it did not succeed.
    #[arg(long, conflicts_with = "wait")]
    pub follow: bool,
    /// The project the run belongs to.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Makes a repeated call start nothing new; a fresh one by default.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

impl Run {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let mesh = &context.mesh;
        let mut given = inputs::collect(self.inputs.as_deref(), &self.input)?;
        let workflow = names::named(context, "workflows", &self.name)?;
        if !self.input.is_empty() {
            let request = GetWorkflowRequest { name: workflow.clone(), revision: self.revision };
            let found = mesh.answer(mesh.client.orchestrator().get_workflow(request).await)?;
            inputs::convert(&mut given, &found.source);
        }
        let options = StartOptions {
            revision: self.revision,
            labels: labels(&self.label)?,
            request_id: Some(self.request_id.unwrap_or_else(request_id)),
            wait: None,
            project: self.project,
        };
        let run = mesh.check(mesh.client.start(&workflow, &given, options).await)?;
        if self.follow {
            let mut news = pin!(mesh.patient.watch(&run.name, 0));
            while let Some(next) = news.next().await {
                if let Some(Kind::Event(event)) = mesh.check(next)?.kind {
                    context.format.print_next(&event, || events::line(&event))?;
                }
            }
            return follow::verdict(&mesh.check(mesh.patient.get(&run.name).await)?);
        }
        if self.wait {
            let view = View::for_people();
            view.say(&format!("run {}", text::id(&run.name)));
            let run = follow::to_the_end(mesh, &run.name, view).await?;
            let value = mesh.value(run.output.as_ref()).await?;
            context.format.print(&run, || match run.state() {
                RunState::Succeeded => format!("{value:#}\n"),
                _ => String::new(),
            })?;
            return follow::verdict(&run);
        }
        context.format.print(&run, || format!("{}\n", run.name))
    }
}

fn labels(given: &[String]) -> Result<HashMap<String, String>> {
    let parse = |label: &String| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("`-l {label}` is not a label")).hint("write -l key=value")),
    };
    given.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        assert_eq!(labels(&["a=b=c".to_owned()]).unwrap()["a"], "b=c");
        assert!(labels(&["a".to_owned()]).is_err());
        assert!(labels(&["=a".to_owned()]).is_err());
    }
}
