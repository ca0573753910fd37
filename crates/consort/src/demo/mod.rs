//! `consort demo`: the whole thing once, on real input, with every part in a process of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::Global;
use crate::failure::{Failure, Result};
use crate::install;

mod play;
mod plugins;
mod receiver;
mod report;
mod repository;
mod signature;
mod stage;
mod verify;

use stage::Stage;

/// The audit workflow.
const WORKFLOW: &str = include_str!("../../../../plugins/audit/workflow.yaml");
/// A time log for those who have no git history at hand.
const SAMPLE: &str = include_str!("../../../../plugins/audit/sample.csv");

/// Run the whole thing once on real input.
///
/// Starts a server and six workers in Rust and Python as processes of their own, applies the `audit` workflow, and runs it: where
/// does a team's time go, what does it cost, what would fixing it save? The repository is read by the plugin `git`, which may read
/// nothing else. Then asks for a decision and writes report.html and report.json. Nothing stays running.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort demo                        this directory's git history, or a bundled sample
  consort demo --repo ~/src/project --out /tmp/report
  consort demo --csv hours.csv --answer publish
  consort demo --post                 the report's figures go to a receiver on this machine, by the plugin notify
  consort demo --crash                kill the server twice in the middle and see the run complete")]
pub(crate) struct Demo {
    /// A git repository to audit. Otherwise the one around the current directory, else a bundled time log.
    #[arg(long, value_name = "PATH", conflicts_with = "csv")]
    pub repo: Option<PathBuf>,
    /// A time log to audit: CSV with the columns author, start, hours, task, category.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Where report.html and report.json go.
    #[arg(long, value_name = "DIR", default_value = "consort-report")]
    pub out: PathBuf,
    /// The answer to the question the run asks. Otherwise you are asked; without a terminal the default is taken.
    #[arg(long, value_parser = ["publish", "discard"])]
    pub answer: Option<String>,
    /// Kill the server with SIGKILL while a step is in progress and again while the question is open; then check the history.
    #[arg(long)]
    pub crash: bool,
    /// Post the figures of a published report, signed, by the plugin `notify` to a receiver that the demo starts on this machine. With
    /// --crash the server is killed once more, while the receiver has them and has not answered.
    #[arg(long)]
    pub post: bool,
    /// How long the whole demo may take, for example 90s or 10m.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Reads `90s`, `10m`, `1h30m`.
pub(crate) fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    match parsed {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a duration such as 90s, 10m or 1h30m".to_owned()),
    }
}

/// What is audited.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Repo(PathBuf),
    Csv(PathBuf),
    Sample,
}

impl Demo {
    /// Runs the command. Whatever happens, every process it started is ended before this returns.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let source = self.source(&std::env::current_dir()?)?;
        let mut stage = Stage::new(global.data.as_deref(), &global.namespace)?;
        let played = tokio::select! {
            played = tokio::time::timeout(self.timeout, self.play(&mut stage, &source, global.output)) => Ok(played),
            signal = interrupted() => Err(signal),
        };
        stage.stop().await;
        match played {
            Ok(Ok(outcome)) => outcome.map_err(|failure| stage.explain(failure)),
            Ok(Err(_)) => {
                let failure = Failure::failed(format!("the demo took longer than {:?}", self.timeout));
                Err(stage.explain(failure).hint("give it more with --timeout, for example --timeout 1h"))
            }
            // Nothing is wrong, so nothing is kept.
            Err(signal) => Err(Failure::failed(format!("stopped by {signal}"))),
        }
    }

    fn source(&self, current: &Path) -> Result<Source> {
        let absolute = |path: &Path| -> Result<PathBuf> {
            path.canonicalize().map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
        };
        match (&self.repo, &self.csv) {
            (Some(repo), _) => Ok(Source::Repo(absolute(repo)?)),
            (None, Some(csv)) => Ok(Source::Csv(absolute(csv)?)),
            (None, None) => {
                Ok(match install::above(current, ".git").and_then(|git| git.parent().map(Path::to_owned)) {
                    Some(repo) => Source::Repo(repo),
                    None => Source::Sample,
                })
            }
        }
    }
}

/// Ends when a person or a supervisor wants us to stop; the name of the signal.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without a handler the signal ends us, and the processes die with their handles.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => "Ctrl-C",
        () = wait(SignalKind::terminate()) => "SIGTERM",
        () = wait(SignalKind::hangup()) => "SIGHUP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(repo: Option<&Path>, csv: Option<&Path>) -> Demo {
        Demo {
            repo: repo.map(Path::to_owned),
            csv: csv.map(Path::to_owned),
            out: "out".into(),
            answer: None,
            crash: false,
            post: false,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_source_is_what_was_named_else_the_repository_around_us_else_the_sample() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let deep = root.join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(demo(None, None).source(&deep).unwrap(), Source::Sample);
        std::fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(demo(None, None).source(&deep).unwrap(), Source::Repo(root.clone()));
        assert_eq!(demo(Some(&deep), None).source(&root).unwrap(), Source::Repo(deep.clone()));
        let failure = demo(None, Some(&root.join("none.csv"))).source(&root).unwrap_err();
        assert!(failure.message.contains("none.csv"));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "10", "-5m", "0s", "soon"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
