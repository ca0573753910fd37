//! The command line: what can be asked, and where a command finds its server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use consort_engine::Policy;

use crate::commands::{
    agents, apply, ask, decisions, doctor, events, keep, letters, models, plugins, projects, replay, run, runs, signals,
};
use crate::models::ModelsFrom;
use crate::output::Format;
use crate::plugins::PluginsFrom;
use crate::{bench, demo};

/// Where a server listens when nothing else is said.
pub(crate) const DEFAULT_ADDR: &str = "127.0.0.1:7420";

/// A durable gRPC mesh in which agents, plugins and models finish long-running work together.
#[derive(Debug, Parser)]
#[command(name = "consort", version, max_term_width = 110, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Begin here:
  consort demo                         see the whole thing work on this directory's git history
  consort serve                        run a server; then, in another terminal:
  consort apply workflow.yaml          store a workflow
  consort run audit -i repo=. --wait   start a run and wait for its end

Exit codes: 0 done, 1 the run failed or was cancelled, 2 wrong usage or input, 3 the server cannot be reached,
4 not found, or not possible in its present state.";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Server to talk to, HOST:PORT. Otherwise $CONSORT_ADDR, then the `endpoint` file of the data folder, then 127.0.0.1:7420.
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = "Global options")]
    pub addr: Option<String>,
    /// Data folder of the server. Otherwise $CONSORT_DATA, then $XDG_DATA_HOME/consort, then ~/.local/share/consort.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
    /// Namespace to work in.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "CONSORT_NAMESPACE",
        default_value = "default",
        help_heading = "Global options"
    )]
    pub namespace: String,
    /// How to print: tables for people, JSON and YAML for programs.
    #[arg(short, long, global = true, value_enum, default_value = "table", help_heading = "Global options")]
    pub output: Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server.
    Serve(Serve),
    /// Check a workflow definition and store it as a new revision.
    Apply(apply::Apply),
    /// List workflows.
    Workflows(apply::Workflows),
    /// Start a run of a workflow.
    Run(run::Run),
    /// List runs, newest first.
    Runs(runs::Runs),
    /// Show a run with its steps.
    Get(runs::Get),
    /// Show a run's history, or follow all events with `events tail`.
    Events(events::Events),
    /// Stop a run.
    Cancel(runs::Cancel),
    /// Hold back everything of a run that has not begun.
    Pause(runs::Pause),
    /// Let a paused run go on.
    Resume(runs::Resume),
    /// Let a failed run go on from its failed steps.
    Retry(runs::Retry),
    /// Send a signal to a run.
    Signal(runs::Signal),
    /// List questions that wait for a person.
    Decisions(decisions::Decisions),
    /// Answer a question.
    Decide(decisions::Decide),
    /// List agents and how they are.
    Agents(agents::Agents),
    /// List the processes that serve agents.
    Workers(agents::Workers),
    /// Let a worker finish what it has and leave.
    Drain(agents::Drain),
    /// Ask an agent and print its answer.
    Ask(ask::Ask),
    /// Ask a model and print what it says.
    Generate(models::Generate),
    /// Print the vectors of texts.
    Embed(models::Embed),
    /// List models, load and unload them.
    Models(models::Models),
    /// Show what models have used and cost.
    Usage(models::Usage),
    /// Say how good a model's answer was.
    Rate(models::Rate),
    /// List plugins, install, reload and show them.
    #[command(visible_alias = "plugin")]
    Plugins(plugins::Plugins),
    /// Call an operation of a plugin.
    Call(plugins::Call),
    /// Replay a run from its record.
    Replay(replay::Replay),
    /// Compare two runs.
    Diff(replay::Diff),
    /// Work with projects: pieces of work that many runs belong to.
    Project(projects::Projects),
    /// Raise and list signals to the mesh.
    Signals(signals::Signals),
    /// List the schedules of workflows.
    Schedules(signals::Schedules),
    /// List events that could not be accepted or delivered.
    DeadLetters(letters::DeadLetters),
    /// Try dead letters again.
    Requeue(letters::Requeue),
    /// List consumer groups.
    Groups(letters::Groups),
    /// List event types that have a contract.
    EventTypes(letters::EventTypes),
    /// Write a backup of a running server.
    Backup(keep::Backup),
    /// Make a data folder of a backup.
    Restore(keep::Restore),
    /// Move finished runs to archives, and delete what nobody needs.
    Prune(keep::Prune),
    /// List archives, or download one.
    Archives(keep::Archives),
    /// Bring back what an archive holds.
    Import(keep::Import),
    /// Print the JSON Schema of the workflow language, for editors.
    Schema,
    /// Run the whole thing once on real input: agents and plugins in two languages audit a git history.
    Demo(demo::Demo),
    /// Measure this machine.
    Bench(bench::Bench),
    /// Say what is installed, what is missing and what to do.
    Doctor(doctor::Doctor),
    /// Print completions for a shell.
    Completions(Completions),
    /// Load a model's file and end: a file that ends the process over it ends this one.
    #[cfg(feature = "llama")]
    #[command(hide = true)]
    TrialLoad {
        /// The file.
        file: PathBuf,
    },
    /// Serve an agent that answers at once, for the bench.
    #[command(hide = true)]
    BenchWorker(bench::worker::BenchWorker),
    /// Ask an agent in a closed loop, for the bench.
    #[command(hide = true)]
    BenchAsker(bench::asker::BenchAsker),
}

/// Run a server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort serve
  consort serve --listen 127.0.0.1:0 --data /tmp/mesh   a free port, written to /tmp/mesh/endpoint
  consort serve --memory                                keep nothing
  consort serve --models models.yaml                    providers, keys, limits, local files
  consort serve --plugins plugins.yaml                  plugins and what they may
  consort serve --prune-older-than 30d --prune-keep-failed   archive finished runs by itself")]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes a free one. Without identity only loopback addresses are accepted.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDR)]
    pub listen: SocketAddr,
    /// Keep everything in memory: fast, and gone when the server ends.
    #[arg(long)]
    pub memory: bool,
    /// Listen on an address that others can reach although anybody who reaches it may do everything.
    #[arg(long)]
    pub insecure_no_auth: bool,
    /// Milliseconds that a worker may be silent before its tasks are handed out again.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(500..=600_000))]
    pub lease_ttl_ms: u64,
    /// Open connections at most; each worker and each client has at least one.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub max_connections: u32,
    /// Configuration of models; otherwise `models.yaml` in the data folder, if there is one. Without any, the model `tiny` is there.
    #[arg(long, value_name = "FILE", conflicts_with = "no_models")]
    pub models: Option<PathBuf>,
    /// Serve no models: calls are refused, and `infer` steps wait.
    #[arg(long)]
    pub no_models: bool,
    /// Which plugins to start, and what they may; otherwise `plugins.yaml` in the data folder, if there is one.
    #[arg(long, value_name = "FILE", conflicts_with = "no_plugins")]
    pub plugins: Option<PathBuf>,
    /// Serve no plugins: calls are refused, and `call` steps wait.
    #[arg(long)]
    pub no_plugins: bool,
    /// Archive runs that ended longer ago than this, every hour, and delete blobs that nothing refers to. Off unless given.
    #[arg(long, value_name = "AGE", value_parser = keep::age)]
    pub prune_older_than: Option<Duration>,
    /// Archive all but this many of the newest finished runs of each workflow. Off unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prune_keep_last: Option<u32>,
    /// Failed runs stay.
    #[arg(long)]
    pub prune_keep_failed: bool,
    /// Archive published events, signals, dead letters and closed projects older than this too. Off unless given.
    #[arg(long, value_name = "AGE", value_parser = keep::age)]
    pub prune_others_older_than: Option<Duration>,
    /// How often the policy is applied.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = keep::age)]
    pub prune_every: Duration,
}

impl Serve {
    /// Where the configuration of models is.
    pub(crate) fn models(&self) -> ModelsFrom {
        match (&self.models, self.no_models) {
            (_, true) => ModelsFrom::Nowhere,
            (Some(file), _) => ModelsFrom::File(file.clone()),
            (None, _) => ModelsFrom::Data,
        }
    }

    /// Where plugins are named.
    pub(crate) fn plugins(&self) -> PluginsFrom {
        match (&self.plugins, self.no_plugins) {
            (_, true) => PluginsFrom::Nowhere,
            (Some(file), _) => PluginsFrom::File(file.clone()),
            (None, _) => PluginsFrom::Data,
        }
    }

    /// What goes by itself; nothing unless a flag says so.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let wanted =
            self.prune_older_than.is_some() || self.prune_keep_last.is_some() || self.prune_others_older_than.is_some();
        wanted.then(|| Policy {
            namespace: None,
            older_than: self.prune_older_than,
            keep_last: self.prune_keep_last.unwrap_or(0),
            keep_failed: self.prune_keep_failed,
            others_older_than: self.prune_others_older_than,
            blobs: true,
        })
    }
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort completions bash > ~/.local/share/bash-completion/completions/consort
  consort completions zsh > ~/.zfunc/_consort")]
pub(crate) struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Where a server's address came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// HOST:PORT.
    pub addr: String,
    /// Who said so.
    pub source: String,
}

impl Global {
    /// The data folder, given or by default.
    pub(crate) fn data_folder(&self) -> PathBuf {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(given) = &self.data {
            return given.clone();
        }
        var("CONSORT_DATA")
            .or_else(|| var("XDG_DATA_HOME").map(|dir| dir.join("consort")))
            .or_else(|| var("HOME").map(|dir| dir.join(".local/share/consort")))
            .unwrap_or_else(|| PathBuf::from("consort-data"))
    }

    /// The server to talk to.
    pub(crate) fn address(&self) -> Address {
        let env = std::env::var("CONSORT_ADDR").ok();
        resolve(self.addr.as_deref(), env.as_deref(), &self.data_folder())
    }
}

fn resolve(flag: Option<&str>, env: Option<&str>, data: &Path) -> Address {
    let address = |addr: &str, source: &str| Address { addr: strip_scheme(addr).to_owned(), source: source.to_owned() };
    if let Some(addr) = flag {
        return address(addr, "--addr");
    }
    if let Some(addr) = env.filter(|addr| !addr.is_empty()) {
        return address(addr, "CONSORT_ADDR");
    }
    let file = data.join("endpoint");
    match std::fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => address(text.trim(), &file.display().to_string()),
        _ => address(DEFAULT_ADDR, "the default"),
    }
}

/// People paste `http://host:port`; the scheme says nothing here.
pub(crate) fn strip_scheme(addr: &str) -> &str {
    addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        for line in [
            "consort serve --listen 127.0.0.1:0 --data d",
            "consort apply w.yaml",
            "consort run audit -i a=b -i n:=3 --inputs f.json --wait",
            "consort runs --state failed -o json",
            "consort get 0192abcd",
            "consort events 0192abcd --follow --after 3",
            "consort events tail --type STEP.* --type RUN.*",
            "consort cancel 0192abcd",
            "consort signal 0192abcd go -d {}",
            "consort decide 0192abcd publish --by me",
            "consort drain w1",
            "consort dead-letters",
            "consort requeue 01939d0e-6f6b-7c3a-8a52-0123456789ab",
            "consort project create shop --title Shop --request {}",
            "consort project stop shop --reason enough",
            "consort signals raise QUALITY_ISSUE red --urgency high --project shop",
            "consort schedules",
            "consort groups",
            "consort event-types -o json",
            "consort schema",
            "consort run audit --project shop",
            "consort runs --project shop",
            "consort decisions --project shop",
            "consort demo --crash --post --answer publish --csv f.csv --out o",
            "consort bench engine --steps 10 --concurrency 64 --seconds 5 --worker python -o json",
            "consort bench plugins ./p --operation ping --concurrency 1 -o json",
            "consort doctor",
            "consort doctor --data d --repair",
            "consort serve --prune-older-than 30d --prune-keep-last 100 --prune-keep-failed --prune-others-older-than 90d",
            "consort backup mesh.tar",
            "consort backup -",
            "consort restore mesh.tar --data d",
            "consort prune --older-than 30d --keep-last 10 --keep-failed --others-older-than 90d --blobs --dry-run",
            "consort archives",
            "consort archives 1.jsonl.gz --to f",
            "consort import f",
            "consort import f --offline --data d",
            "consort completions zsh",
            "consort bench-worker --slots 8",
            "consort bench engine --payload 1024 --seed 7 --workers 10 --data d",
            "consort serve --max-connections 5000",
            "consort serve --models m.yaml",
            "consort serve --no-models",
            "consort serve --plugins p.yaml",
            "consort serve --no-plugins",
            "consort plugins",
            "consort plugins show git",
            "consort plugins install ./plugins/git --grant",
            "consort plugins reload git",
            "consort plugins actions git",
            "consort plugin test ./plugins/git",
            "consort plugin new words --lang python",
            "consort call git.log path=. limit=3 --dry-run",
            "consort bench ask --concurrency 16 --worker python",
            "consort bench-asker --lanes 4 --seconds 1 --warmup 0",
            "consort ask rates {} --timeout 5",
            "consort bench gateway --concurrency 1 --stream --rounds 3",
            "consort bench inference --model m.gguf --prefix 1000 --schema",
            "consort generate hello -m tiny --schema {} --temperature 0 --max-tokens 8 --seed 1 --no-cache",
            "consort embed a b",
            "consort models",
            "consort models load local/tiny",
            "consort usage --run 0192abcd --all",
            "consort rate r1 0.5 --comment fine",
            "consort replay 0192abcd --revision 2",
            "consort replay 0192abcd --agents",
            "consort diff 0192abcd 0192abce",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn tail_is_not_taken_for_a_run() {
        let Command::Events(events) = Cli::try_parse_from(["consort", "events", "tail"]).unwrap().command else {
            panic!("not events")
        };
        assert!(events.run.is_none() && events.tail.is_some());
        assert!(Cli::try_parse_from(["consort", "events"]).is_err());
        assert!(Cli::try_parse_from(["consort", "events", "0192abcd", "tail"]).is_err());
    }

    #[test]
    fn an_address_is_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let find = |flag, env| resolve(flag, env, folder.path());
        assert_eq!(find(None, None).addr, DEFAULT_ADDR);
        std::fs::write(folder.path().join("endpoint"), "127.0.0.1:4001\n").unwrap();
        assert_eq!(find(None, None).addr, "127.0.0.1:4001");
        assert_eq!(find(None, Some("http://h:1/")).addr, "h:1");
        assert_eq!(find(None, Some("")).addr, "127.0.0.1:4001");
        assert_eq!(find(Some("h:2"), Some("h:1")), Address { addr: "h:2".into(), source: "--addr".into() });
    }
}
