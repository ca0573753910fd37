//! `consort project …`.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use consort_proto::project::{
    CompleteProjectRequest, CreateProjectRequest, GetProjectRequest, ListProjectsRequest, Project, ProjectHealth,
    ProjectState, StopProjectRequest,
};

use crate::context::{Context, payload, request_id};
use crate::failure::Result;
use crate::output::{Table, text};
use crate::{inputs, names};

/// Projects: pieces of work that many runs belong to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort project create shop --title 'A web shop' --request '{\"users\": 100}'
  consort run build --project shop
  consort project get shop
  consort project stop shop --reason 'out of budget'")]
pub(crate) struct Projects {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Create a project.
    Create(Create),
    /// Show a project and how it goes.
    Get(Named),
    /// List projects, newest first.
    List(List),
    /// Close a project whose runs are all over.
    Complete(Named),
    /// Close a project and cancel its runs.
    Stop(Stop),
}

/// Names a project.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name or id of the project.
    pub project: String,
}

/// Creates a project.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its id; one is chosen if it is left out.
    pub id: Option<String>,
    /// What it is called.
    #[arg(long)]
    pub title: String,
    /// What is asked for: a JSON object, or @FILE with it.
    #[arg(long, value_name = "JSON")]
    pub request: Option<String>,
    /// Who creates it, for the record.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "cli")]
    pub by: String,
}

/// Lists projects.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that are closed too.
    #[arg(long)]
    pub all: bool,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

/// Stops a project.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Name or id of the project.
    pub project: String,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub reason: String,
}

impl Projects {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let mesh = &context.mesh;
        let mut client = mesh.client.projects();
        let name = |id: &str| names::named(context, "projects", id);
        let project = match self.what {
            What::List(list) => return list.run(context).await,
            What::Create(create) => {
                let request = create.request.as_deref().map(|json| inputs::json("the request", json)).transpose()?;
                let request = CreateProjectRequest {
                    parent: context.parent.clone(),
                    project_id: create.id.unwrap_or_default(),
                    title: create.title,
                    request: request.as_ref().map(payload),
                    labels: std::collections::HashMap::new(),
                    created_by: create.by,
                    request_id: request_id(),
                };
                mesh.answer(client.create_project(request).await)?
            }
            What::Get(of) => mesh.answer(client.get_project(GetProjectRequest { name: name(&of.project)? }).await)?,
            What::Complete(of) => {
                let request = CompleteProjectRequest { name: name(&of.project)?, request_id: request_id() };
                mesh.answer(client.complete_project(request).await)?
            }
            What::Stop(stop) => {
                let name = name(&stop.project)?;
                let request = StopProjectRequest { name, reason: stop.reason, request_id: request_id() };
                mesh.answer(client.stop_project(request).await)?
            }
        };
        context.format.print(&project, || show(&project))
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<()> {
        let state = if self.all { ProjectState::Unspecified } else { ProjectState::Active };
        let request = ListProjectsRequest {
            parent: context.parent.clone(),
            page_size: self.limit,
            page_token: String::new(),
            state: state as i32,
        };
        let page = context.mesh.answer(context.mesh.client.projects().list_projects(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["PROJECT", "STATE", "TITLE", "CREATED", "BY"]);
            for project in &page.projects {
                table.row([
                    text::id(&project.name).to_owned(),
                    state_name(project).to_owned(),
                    text::one_line(&project.title, 60),
                    text::ago(project.create_time.as_ref()),
                    project.created_by.clone(),
                ]);
            }
            table.render_or("no projects; `consort project create ID --title …` begins one")
        })
    }
}

fn state_name(project: &Project) -> &'static str {
    project.state().as_str_name().trim_start_matches("PROJECT_STATE_")
}

fn show(project: &Project) -> String {
    let mut shown = format!("{}  {}  {}\n", text::id(&project.name), state_name(project), project.title);
    let Some(figures) = &project.figures else { return shown };
    let health = ProjectHealth::try_from(figures.health).unwrap_or_default().as_str_name();
    let mut line = |name: &str, value: String| {
        // A String takes everything.
        let _ = writeln!(shown, "  {name:<10} {value}");
    };
    line("health", format!("{} {}", health.trim_start_matches("PROJECT_HEALTH_"), figures.health_reason));
    line("progress", format!("{:.0} %", figures.progress * 100.0));
    let runs = format!(
        "{} active, {} waiting, {} succeeded, {} failed, {} cancelled",
        figures.runs_active, figures.runs_waiting, figures.runs_succeeded, figures.runs_failed, figures.runs_cancelled
    );
    line("runs", runs);
    line("questions", format!("{} open", figures.decisions_open));
    line("signals", format!("{} open", figures.signals_open));
    shown
}
