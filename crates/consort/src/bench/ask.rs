//! `consort bench ask`: requests between two workers a second, and how long one takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::process::Command;

use super::figures::{Language, cores_used, round, table, wait_for_worker};
use super::worker::ORACLE;
use crate::cli::{Address, Global};
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::install;
use crate::output::{Format, print};
use crate::process::{Process, Scratch, Server, memory};

/// How much longer than its work the asking worker may take.
const GRACE: Duration = Duration::from_secs(30);

/// Requests that are answered at once: asking worker, server and answering worker as three processes.
///
/// A closed loop of lanes in the asking worker, each asking as soon as it has its answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort bench ask
  consort bench ask --concurrency 1 --worker python -o json")]
pub(crate) struct Ask {
    /// Requests at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// How long requests count.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// How long they go on before they count.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,
    /// Language of both workers.
    #[arg(long, value_enum, default_value = "rust")]
    pub worker: Language,
}

impl Ask {
    /// Runs the command. A server named with --addr is used as it is; otherwise one is started.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let scratch = Scratch::new("bench", None)?;
        let log = |name: &str| scratch.path.join(format!("{name}.log"));
        let mut server = match global.addr {
            Some(_) => None,
            None => Some(Server::start(&scratch.path.join("data"), "127.0.0.1:0", log("server")).await?),
        };
        let addr = server.as_ref().map_or_else(|| global.address().addr, |server| server.addr.clone());
        let mesh = Mesh::new(&Address { addr: addr.clone(), source: "--addr".to_owned() }, &global.namespace)?;
        let mut answerer = self.start("the answering worker", &addr, &global.namespace, None, log("answerer"))?;
        wait_for_worker(&mesh, ORACLE, &mut answerer).await?;

        let seen = log("asker");
        let mut asker = self.start("the asking worker", &addr, &global.namespace, Some(()), seen.clone())?;
        let server_pid = server.as_ref().and_then(|server| server.process.pid());
        let pids = [server_pid, asker.pid(), answerer.pid()];
        let from = Instant::now() + Duration::from_secs(self.warmup.into());
        let to = from + Duration::from_secs(self.seconds.into());
        let cores = cores_used(pids, from, to).await;
        let loaded = server_pid.and_then(memory);
        let seen = outcome(&mut asker, &seen).await?;
        answerer.check()?;
        answerer.stop().await;
        if let Some(server) = &mut server {
            server.process.check()?;
            server.process.stop().await;
        }
        let figures = self.figures(&seen, loaded, cores);
        match global.output {
            Format::Table => print(&table(&figures, &ORDER))?,
            format => format.print_value(&figures)?,
        }
        if seen["requests"].as_u64().unwrap_or_default() == 0 {
            let example = seen["error_example"].as_str().map(str::to_owned);
            return Err(Failure::failed("no request was answered within the time").details(example));
        }
        Ok(())
    }

    /// Starts one of the workers: the answering one, or the asking one.
    fn start(&self, name: &str, addr: &str, namespace: &str, asking: Option<()>, log: PathBuf) -> Result<Process> {
        let [lanes, seconds, warmup] = [self.concurrency, self.seconds, self.warmup].map(|n| n.to_string());
        let load = ["--lanes", &lanes, "--seconds", &seconds, "--warmup", &warmup];
        let mut command = match self.worker {
            Language::Rust => Command::new(std::env::current_exe()?),
            Language::Python => Command::new(install::python()),
        };
        match (self.worker, asking) {
            (Language::Rust, None) => command.args(["bench-worker", "--slots", "10000"]),
            (Language::Rust, Some(())) => command.arg("bench-asker").args(load),
            (Language::Python, None) => command.args(["-m", "consort.noop", "--answer", ORACLE, "--slots", "1024"]),
            (Language::Python, Some(())) => command.args(["-m", "consort.noop", "--ask", ORACLE]).args(load),
        };
        if self.worker == Language::Rust {
            command.args(["--addr", addr]);
        }
        command.args(["--namespace", namespace]).env("CONSORT_ADDR", addr).env_remove("CONSORT_WORKER_ID");
        Process::start(name, &mut command, log)
    }

    fn figures(&self, seen: &Value, loaded: Option<(f64, f64)>, [server, asker, answerer]: [Option<f64>; 3]) -> Value {
        let requests = seen["requests"].as_u64().unwrap_or_default();
        let per_s = requests as f64 / f64::from(self.seconds);
        let ms = |name: &str| seen[name].as_f64().map(|value| round(value, 3));
        let cores = |cores: Option<f64>| cores.map(|cores| round(cores, 2));
        let all: Option<f64> = [server, asker, answerer].into_iter().sum();
        json!({
            "concurrency": self.concurrency,
            "seconds": self.seconds,
            "worker": self.worker.name(),
            "requests": requests,
            "per_s": round(per_s, 1),
            "p50_ms": ms("p50_ms"),
            "p99_ms": ms("p99_ms"),
            "errors": seen["errors"],
            "error_example": seen["error_example"],
            "cpu_us_per_request": all.filter(|_| requests > 0).map(|cores| round(cores * 1e6 / per_s, 1)),
            "server_rss_mib": loaded.map(|(resident, _)| round(resident, 1)),
            "server_cores": cores(server),
            "asker_cores": cores(asker),
            "answerer_cores": cores(answerer),
        })
    }
}

/// The figures in the order a person reads them.
const ORDER: [&str; 13] = [
    "worker",
    "concurrency",
    "seconds",
    "requests",
    "per_s",
    "p50_ms",
    "p99_ms",
    "errors",
    "cpu_us_per_request",
    "server_rss_mib",
    "server_cores",
    "asker_cores",
    "answerer_cores",
];

/// Waits for the asking worker's end and reads what it saw: the last line it wrote.
async fn outcome(asker: &mut Process, log: &std::path::Path) -> Result<Value> {
    asker.finish(GRACE).await?;
    let text = std::fs::read_to_string(log)?;
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| Failure::failed("the asking worker ended without figures").details(vec![text]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rates_of_what_was_seen() {
        let ask = Ask { concurrency: 16, seconds: 2, warmup: 0, worker: Language::Rust };
        let seen = json!({"requests": 3_000, "errors": 0, "p50_ms": 0.4, "p99_ms": 0.9});
        let figures = ask.figures(&seen, None, [Some(0.03), Some(0.03), Some(0.03)]);
        assert_eq!((figures["per_s"].clone(), figures["cpu_us_per_request"].clone()), (json!(1_500.0), json!(60.0)));
        assert!(table(&figures, &ORDER).contains("answerer_cores"));
    }
}
