//! `consort signals …` and `consort schedules`.

use clap::{Args, Subcommand};
use consort_proto::orchestrator::ListSchedulesRequest;
use consort_proto::signal::{Impact, ListSignalsRequest, RaiseSignalRequest, Route, Signal, SignalState, Urgency};

use crate::context::{Context, payload, request_id};
use crate::failure::Result;
use crate::output::{Table, text};
use crate::{inputs, names};

/// Signals to the mesh: what was noticed, and what was done about it. (`consort signal` sends a signal to one run.)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort signals raise QUALITY_ISSUE 'Tests are red' --urgency high --payload '{\"failed\": 3}'
  consort signals raise REQUIREMENT 'Add a search' --agent planner
  consort signals list --type QUALITY_ISSUE")]
pub(crate) struct Signals {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What can be done with signals.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Raise a signal: it starts the workflows that want it, or goes to an agent, or to a person.
    Raise(Raise),
    /// List signals, newest first.
    List(List),
}

/// Raises a signal.
#[derive(Debug, Args)]
pub(crate) struct Raise {
    /// REQUIREMENT, DECISION_NEEDED, INNOVATION_DETECTED, QUALITY_ISSUE, INTEGRATION_READY, or another upper-case name.
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// What was noticed, in a line.
    pub title: String,
    /// More about it.
    #[arg(long, default_value = "")]
    pub description: String,
    /// How soon somebody must act: low, normal, high or critical. By default the type decides.
    #[arg(long, value_parser = urgency)]
    pub urgency: Option<Urgency>,
    /// How much depends on it: low, medium or high. By default the type decides.
    #[arg(long, value_parser = impact)]
    pub impact: Option<Impact>,
    /// What goes with it: a JSON object, or @FILE with it.
    #[arg(long, value_name = "JSON")]
    pub payload: Option<String>,
    /// The project it is about.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// The agent that gets it if no workflow wants it; otherwise a person is asked.
    #[arg(long, value_name = "ID", default_value = "")]
    pub agent: String,
    /// Who noticed it.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "cli")]
    pub source: String,
}

/// Lists signals.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only signals of this type.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    pub kind: String,
    /// Only signals about this project.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

fn urgency(text: &str) -> std::result::Result<Urgency, String> {
    let found = Urgency::from_str_name(&format!("URGENCY_{}", text.to_ascii_uppercase()));
    found.filter(|u| *u != Urgency::Unspecified).ok_or_else(|| "use low, normal, high or critical".to_owned())
}

fn impact(text: &str) -> std::result::Result<Impact, String> {
    let found = Impact::from_str_name(&format!("IMPACT_{}", text.to_ascii_uppercase()));
    found.filter(|i| *i != Impact::Unspecified).ok_or_else(|| "use low, medium or high".to_owned())
}

/// A project's name; empty if none is given.
pub(crate) fn project(context: &Context, given: Option<&str>) -> Result<String> {
    given.map_or_else(|| Ok(String::new()), |id| names::named(context, "projects", id))
}

impl Signals {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self.what {
            What::Raise(raise) => raise.run(context).await,
            What::List(list) => list.run(context).await,
        }
    }
}

impl Raise {
    async fn run(self, context: &Context) -> Result<()> {
        let value = self.payload.as_deref().map(|json| inputs::json("the payload", json)).transpose()?;
        let request = RaiseSignalRequest {
            parent: context.parent.clone(),
            r#type: self.kind,
            urgency: self.urgency.unwrap_or_default() as i32,
            impact: self.impact.unwrap_or_default() as i32,
            title: self.title,
            description: self.description,
            payload: value.as_ref().map(payload),
            source: self.source,
            project: project(context, self.project.as_deref())?,
            agent: self.agent,
            request_id: request_id(),
        };
        let signal = context.mesh.answer(context.mesh.client.signals().raise_signal(request).await)?;
        context.format.print(&signal, || {
            let runs: Vec<&str> = signal.runs.iter().map(|run| text::id(run)).collect();
            format!("{}  went to {}: run {}\n", text::id(&signal.name), route(&signal), runs.join(", "))
        })
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<()> {
        let request = ListSignalsRequest {
            parent: context.parent.clone(),
            page_size: self.limit,
            page_token: String::new(),
            r#type: self.kind,
            project: project(context, self.project.as_deref())?,
        };
        let page = context.mesh.answer(context.mesh.client.signals().list_signals(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["SIGNAL", "TYPE", "URGENCY", "TITLE", "ROUTE", "STATE", "RAISED"]);
            for signal in &page.signals {
                table.row([
                    text::id(&signal.name).to_owned(),
                    signal.r#type.clone(),
                    signal.urgency().as_str_name().trim_start_matches("URGENCY_").to_owned(),
                    text::one_line(&signal.title, 50),
                    route(signal).to_owned(),
                    SignalState::try_from(signal.state)
                        .unwrap_or_default()
                        .as_str_name()
                        .trim_start_matches("SIGNAL_STATE_")
                        .to_owned(),
                    text::ago(signal.create_time.as_ref()),
                ]);
            }
            table.render_or("no signals")
        })
    }
}

fn route(signal: &Signal) -> &'static str {
    match signal.route() {
        Route::Workflow => "workflows",
        Route::Agent => "its agent",
        Route::Person => "a person",
        Route::Unspecified => "nobody",
    }
}

/// List the schedules of workflows and when they fire.
#[derive(Debug, Args)]
pub(crate) struct Schedules {
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

impl Schedules {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let request =
            ListSchedulesRequest { parent: context.parent.clone(), page_size: self.limit, page_token: String::new() };
        let page = context.mesh.answer(context.mesh.client.orchestrator().list_schedules(request).await)?;
        context.format.print(&page, || {
            let mut table =
                Table::new(&["WORKFLOW", "CRON", "TIMEZONE", "OVERLAP", "NEXT", "LAST", "LAST RUN", "SKIPPED"]);
            for schedule in &page.schedules {
                table.row([
                    format!("{} #{}", text::id(&schedule.workflow), schedule.index),
                    schedule.cron.clone(),
                    schedule.timezone.clone(),
                    schedule.overlap.clone(),
                    text::time(schedule.next_time.as_ref()),
                    text::time(schedule.last_time.as_ref()),
                    text::id(&schedule.last_run).to_owned(),
                    schedule.skipped.to_string(),
                ]);
            }
            table.render_or("no schedules; a workflow has them under `on: schedule`")
        })
    }
}
