//! `consort ask`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{Format, print};
use crate::{inputs, names};

/// Ask an agent and print its answer.
///
/// A request goes to a worker that answers for the agent, now; it is on no record and is not tried again. What must happen is a
/// run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort ask rates '{\"from\": \"EUR\", \"to\": \"CHF\"}'
  consort ask librarian @question.json --timeout 120 -o json")]
pub(crate) struct Ask {
    /// The agent.
    pub agent: String,
    /// What is asked: JSON, or @FILE with it.
    #[arg(value_name = "JSON", default_value = "null")]
    pub payload: String,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

impl Ask {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let payload = inputs::json("what is asked", &self.payload)?;
        let agent = names::named(context, "agents", &self.agent)?;
        let asked = context.mesh.client.ask_agent::<Value>(&agent, &payload, Duration::from_secs(self.timeout));
        let answer = context.mesh.check(asked.await)?;
        match context.format {
            Format::Table => print(&format!("{answer:#}\n")),
            format => format.print_value(&answer),
        }
    }
}
