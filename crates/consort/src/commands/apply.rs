//! `consort apply` and `consort workflows`.

use std::path::PathBuf;

use clap::Args;
use consort_proto::orchestrator::{ApplyWorkflowRequest, ListWorkflowsRequest};
use tonic_types::StatusExt as _;

use crate::context::{Context, request_id};
use crate::failure::{Failure, Result};
use crate::inputs;
use crate::mistakes::{self, Mistake};
use crate::output::{Table, error_colours, text};

/// Longest definition that a server takes.
const LONGEST: usize = 1024 * 1024;

/// Check a workflow definition and store it as a new revision.
///
/// Every mistake is shown at once, with its place in the file. Applying what is already stored changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort apply workflow.yaml
  consort apply --check workflow.yaml
  generate | consort apply -")]
pub(crate) struct Apply {
    /// The definition, YAML or JSON; `-` reads standard input.
    pub file: PathBuf,
    /// Only check it; store nothing.
    #[arg(long)]
    pub check: bool,
    /// Who applies it, for the record.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "")]
    pub by: String,
}

impl Apply {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let source = inputs::read(&self.file)?;
        if source.len() > LONGEST {
            let (file, found) = (self.file.display(), source.len());
            return Err(Failure::usage(format!("{file} has {found} bytes; a definition has at most {LONGEST}"))
                .hint("give large values as inputs, and parts of the graph as workflows of their own"));
        }
        let request = ApplyWorkflowRequest {
            parent: context.parent.clone(),
            source: source.clone(),
            validate_only: self.check,
            created_by: self.by,
            request_id: request_id(),
        };
        let answer = context.mesh.client.orchestrator().apply_workflow(request).await;
        if let Err(status) = &answer
            && let Some(bad) = status.get_details_bad_request()
        {
            let found: Vec<Mistake> =
                bad.field_violations.iter().map(|v| Mistake::parse(&v.field, &v.description)).collect();
            let file = self.file.display().to_string();
            eprint!("{}", mistakes::render(&file, &source, &found, error_colours()));
            let count = if found.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", found.len()) };
            return Err(Failure::usage(format!("{file} has {count}; nothing was stored")));
        }
        let workflow = context.mesh.answer(answer)?;
        context.format.print(&workflow, || match workflow.revision {
            0 => format!("{} is good\n", self.file.display()),
            revision => format!("{} is revision {revision}\n", text::id(&workflow.name)),
        })
    }
}

/// List workflows.
#[derive(Debug, Args)]
pub(crate) struct Workflows {
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

impl Workflows {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request =
            ListWorkflowsRequest { parent: context.parent.clone(), page_size: self.limit, page_token: String::new() };
        let page = context.mesh.answer(context.mesh.client.orchestrator().list_workflows(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["WORKFLOW", "REVISION", "STEPS", "APPLIED", "DESCRIPTION"]);
            for workflow in &page.workflows {
                table.row([
                    text::id(&workflow.name).to_owned(),
                    workflow.revision.to_string(),
                    workflow.steps.len().to_string(),
                    text::ago(workflow.create_time.as_ref()),
                    text::one_line(&workflow.description, 80),
                ]);
            }
            table.render_or("no workflows; `consort apply FILE` stores one")
        })
    }
}
