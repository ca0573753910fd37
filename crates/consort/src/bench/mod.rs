//! `consort bench`: what this machine can do.

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::failure::Result;

pub(crate) mod ask;
pub(crate) mod asker;
mod endpoint;
pub(crate) mod engine;
mod figures;
pub(crate) mod gateway;
pub(crate) mod inference;
mod load;
mod machine;
pub(crate) mod plugins;
mod work;
pub(crate) mod worker;

/// Measure this machine.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Durable runs of steps that do nothing: client, server and worker as three processes.
    Engine(engine::Engine),
    /// Requests between two workers that are answered at once: asking worker, server and answering worker as three processes.
    Ask(ask::Ask),
    /// Calls of a provider through the server, beside the same calls made directly.
    Gateway(gateway::Gateway),
    /// Calls of a plugin through the server, beside the same calls made directly.
    Plugins(plugins::Plugins),
    /// Tokens a second from a local model.
    Inference(inference::Inference),
}

impl Bench {
    /// Runs the command.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        match self.what {
            What::Engine(engine) => engine.run(global).await,
            What::Ask(ask) => ask.run(global).await,
            What::Gateway(gateway) => gateway.run(global).await,
            What::Plugins(plugins) => plugins.run(global).await,
            What::Inference(inference) => inference.run(global).await,
        }
    }
}
