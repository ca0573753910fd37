//! The `consort` command: server, client, demo and bench in one binary.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

mod bench;
mod board;
mod cli;
mod commands;
mod context;
mod demo;
#[cfg(debug_assertions)]
mod fail_point;
mod failure;
mod follow;
mod http;
mod inputs;
mod install;
mod mcp;
mod mistakes;
mod models;
mod names;
mod output;
mod plugins;
mod process;
mod serve;
mod tools;
mod view;

use cli::{Cli, Command};
use context::Context;
use failure::{Failure, Result};

fn main() -> ExitCode {
    // Before anything else is read or started: a sandbox is made by a process with one thread.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == plugins::SANDBOX) {
        return consort_sandbox::sandbox_main(words);
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == plugins::MCP) {
        // A plugin of its own: what it prints is the plugin protocol's.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.map_or(ExitCode::FAILURE, |runtime| runtime.block_on(consort_mcp::serve_adapter()));
    }
    let cli = Cli::parse();
    #[cfg(feature = "llama")]
    if let Command::TrialLoad { file } = &cli.command {
        // No threads of ours: what may happen here ends the process.
        return ExitCode::from(consort_llama::trial_main(file) as u8);
    }
    log_to_stderr(matches!(cli.command, Command::Serve(_)));
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(execute(cli));
            // A prompt that nobody answers must not hold us.
            runtime.shutdown_timeout(Duration::from_millis(200));
            outcome
        }
        Err(error) => Err(Failure::failed(format!("cannot start threads: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn execute(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    // These need no server, or bring their own.
    let command = match command {
        Command::Serve(serve) => return run_server(serve, &global).await,
        Command::Demo(demo) => return Box::pin(demo.run(&global)).await,
        Command::Bench(bench) => return bench.run(&global).await,
        Command::BenchWorker(worker) => return worker.run(&global).await,
        Command::BenchAsker(asker) => return asker.run(&global).await,
        Command::Doctor(doctor) => return doctor.run(&global).await,
        Command::Restore(restore) => return restore.run(&global).await,
        Command::Import(import) if import.offline => return import.run_offline(&global).await,
        Command::Completions(completions) => return complete(completions.shell),
        Command::Plugins(plugins) if plugins.is_local() => return plugins.run_local().await,
        Command::Schema => return schema(),
        other => other,
    };
    let context = Context::new(&global)?;
    match command {
        Command::Apply(apply) => apply.run(&context).await,
        Command::Workflows(workflows) => workflows.run(&context).await,
        Command::Run(run) => run.run(&context).await,
        Command::Runs(runs) => runs.run(&context).await,
        Command::Get(get) => get.run(&context).await,
        Command::Events(events) => events.run(&context).await,
        Command::Cancel(cancel) => cancel.run(&context).await,
        Command::Pause(pause) => pause.run(&context).await,
        Command::Resume(resume) => resume.run(&context).await,
        Command::Retry(retry) => retry.run(&context).await,
        Command::Signal(signal) => signal.run(&context).await,
        Command::Decisions(decisions) => decisions.run(&context).await,
        Command::Decide(decide) => decide.run(&context).await,
        Command::Agents(agents) => agents.run(&context).await,
        Command::Workers(workers) => workers.run(&context).await,
        Command::Drain(drain) => drain.run(&context).await,
        Command::Ask(ask) => ask.run(&context).await,
        Command::Generate(generate) => generate.run(&context).await,
        Command::Embed(embed) => embed.run(&context).await,
        Command::Models(models) => models.run(&context).await,
        Command::Plugins(plugins) => plugins.run(&context).await,
        Command::Call(call) => call.run(&context).await,
        Command::Usage(usage) => usage.run(&context).await,
        Command::Rate(rate) => rate.run(&context).await,
        Command::Replay(replay) => replay.run(&context).await,
        Command::Diff(diff) => diff.run(&context).await,
        Command::DeadLetters(letters) => letters.run(&context).await,
        Command::Requeue(requeue) => requeue.run(&context).await,
        Command::Groups(groups) => groups.run(&context).await,
        Command::EventTypes(types) => types.run(&context).await,
        Command::Project(projects) => projects.run(&context).await,
        Command::Signals(signals) => signals.run(&context).await,
        Command::Schedules(schedules) => schedules.run(&context).await,
        Command::Backup(backup) => backup.run(&context).await,
        Command::Prune(prune) => prune.run(&context).await,
        Command::Archives(archives) => archives.run(&context).await,
        Command::Import(import) => import.run(&context).await,
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Bench(_)
        | Command::BenchWorker(_)
        | Command::BenchAsker(_)
        | Command::Doctor(_)
        | Command::Restore(_)
        | Command::Schema
        | Command::Completions(_) => unreachable!("handled above"),
        #[cfg(feature = "llama")]
        Command::TrialLoad { .. } => unreachable!("handled above"),
    }
}

async fn run_server(serve: cli::Serve, global: &cli::Global) -> Result<()> {
    let policy = serve.policy().map(|policy| (policy, serve.prune_every.max(Duration::from_secs(1))));
    let options = serve::ServeOptions {
        policy,
        models: serve.models(),
        plugins: serve.plugins(),
        listen: serve.listen,
        data: global.data_folder(),
        insecure_no_auth: serve.insecure_no_auth,
        memory: serve.memory,
        lease_ttl: std::time::Duration::from_millis(serve.lease_ttl_ms),
        max_connections: serve.max_connections as usize,
    };
    serve::run(options).await.map_err(|error| Failure::failed(format!("{error:#}")))
}

fn complete(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "consort", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

fn schema() -> Result<()> {
    output::print(&format!("{:#}\n", consort_core::workflow::editor_schema()))
}

/// CONSORT_LOG takes the directives of `tracing`, for example `debug` or `consort_engine=trace`.
fn log_to_stderr(server: bool) -> bool {
    let default = if server { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("CONSORT_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::error_colours());
    subscriber.try_init().is_ok()
}

fn complain(failure: &Failure) {
    let text = failure.render();
    if output::error_colours() && std::io::stderr().is_terminal() {
        eprint!("{}", text.replacen("error:", "\u{1b}[1;31merror:\u{1b}[0m", 1));
    } else {
        eprint!("{text}");
    }
}
