//! `consort decisions` and `consort decide`.

use clap::Args;
use consort_proto::decision::{AnswerDecisionRequest, DecisionState, ListDecisionsRequest};

use crate::context::{Context, payload, request_id};
use crate::failure::Result;
use crate::output::{Table, text};
use crate::{inputs, names};

/// List questions that wait for a person.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort decisions
  consort decisions --all --run 0192ab")]
pub(crate) struct Decisions {
    /// Those that are closed too.
    #[arg(long)]
    pub all: bool,
    /// Only those of this run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only those of this project's runs.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub limit: i32,
}

impl Decisions {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let run = match &self.run {
            Some(run) => names::run(context, run).await?,
            None => String::new(),
        };
        let state = if self.all { DecisionState::Unspecified } else { DecisionState::Open };
        let request = ListDecisionsRequest {
            parent: context.parent.clone(),
            page_size: self.limit,
            page_token: String::new(),
            state: state as i32,
            run,
            kind: 0,
            project: super::signals::project(context, self.project.as_deref())?,
        };
        let page = context.mesh.answer(context.mesh.client.decisions().list_decisions(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["DECISION", "STATE", "QUESTION", "OPTIONS", "DEADLINE", "ANSWER"]);
            for decision in &page.decisions {
                let default = &decision.default_option;
                let options = decision
                    .options
                    .iter()
                    .map(|option| if option == default { format!("{option} (default)") } else { option.clone() });
                let answer = match (decision.option.as_str(), decision.answered_by.as_str()) {
                    ("", _) => String::new(),
                    (option, by) => format!("{option} by {by}"),
                };
                table.row([
                    text::id(&decision.name).to_owned(),
                    text::decision_state(decision.state).to_owned(),
                    text::one_line(&decision.title, 80),
                    options.collect::<Vec<_>>().join(", "),
                    text::until(decision.deadline.as_ref()),
                    answer,
                ]);
            }
            table.render_or("nothing waits for a person")
        })
    }
}

/// Answer a question.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort decide 3f2a publish
  consort decide 3f2a approve --form '{\"limit\": 500}' --by alice")]
pub(crate) struct Decide {
    /// Name of the decision, its uuid, or the first digits of it.
    pub id: String,
    /// One of its options.
    pub option: String,
    /// The filled form: JSON, or @FILE with it.
    #[arg(long, value_name = "JSON")]
    pub form: Option<String>,
    /// Who answers, for the record.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "cli")]
    pub by: String,
}

impl Decide {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let form = self.form.as_deref().map(|form| inputs::json("the form", form)).transpose()?;
        let request = AnswerDecisionRequest {
            name: names::decision(context, &self.id).await?,
            option: self.option,
            form: form.as_ref().map(payload),
            answered_by: self.by,
            request_id: request_id(),
        };
        let answer = context.mesh.client.decisions().answer_decision(request).await;
        let decision = context.mesh.answer(answer)?;
        context.format.print(&decision, || {
            format!(
                "{} is {} with `{}`\n",
                text::id(&decision.name),
                text::decision_state(decision.state),
                decision.option
            )
        })
    }
}
