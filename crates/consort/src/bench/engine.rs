//! `consort bench engine`: runs and steps a second, and how long one run takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use consort_sdk::Client;
use serde_json::{Value, json};
use tokio::process::Command;

use super::figures::{Language, cores_used, round, table, wait_for_worker};
use super::load::{Load, Seen};
use super::machine;
use super::work::Work;
use super::worker::{AGENT, MAX_PAYLOAD};
use crate::cli::{Address, Global};
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::install;
use crate::output::{Format, print};
use crate::process::{Process, Scratch, Server, memory};

/// A connection carries at most 64 calls at once on a server with its usual limits.
const LANES_PER_CONNECTION: usize = 50;
/// Tasks that all workers together take at once.
const SLOTS: u32 = 4_096;

/// Durable runs of steps that do nothing: client, server and worker as three processes.
///
/// A closed loop of lanes, each starting a run and waiting for its end, against a server on a scratch store that syncs every commit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort bench engine
  consort bench engine --steps 10 --concurrency 64 --seconds 10 --worker python -o json
  consort bench engine --fan 1000 --concurrency 1      1,000 parallel steps in each run
  consort bench engine --payload 1048576               runs that hand 1 MiB from one step to the next
  consort bench engine --data DIR                      on a store that stays, to see what its size costs")]
pub(crate) struct Engine {
    /// Steps of each run, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub steps: u32,
    /// Runs at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// How long runs count.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// How long runs go on before they count.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,
    /// Language of the worker.
    #[arg(long, value_enum, default_value = "rust")]
    pub worker: Language,
    /// Instead of a chain, one step for each of N items, all at once.
    #[arg(long, value_name = "N", conflicts_with = "steps", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub fan: Option<u32>,
    /// Instead of a chain, two steps: one answers with this many bytes, never the same twice, and the other takes them.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["steps", "fan"], value_parser = clap::value_parser!(u64).range(1..=MAX_PAYLOAD))]
    pub payload: Option<u64>,
    /// Workers that share the load, each with a connection of its own, all in one process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// What payloads are drawn from; a new one by default.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Connections of the client; two, or more where lanes need them, by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: Option<u32>,
    /// Folder for the scratch store, to choose the disk; the system's folder for temporary files by default. With --data there is no
    /// scratch store: the server runs on that folder, which stays.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl Engine {
    /// Runs the command. A server named with --addr is used as it is; otherwise one is started.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        self.check()?;
        let seed = self.seed.unwrap_or_else(rand::random);
        let scratch = Scratch::new("bench", self.dir.as_deref())?;
        let log = |name: &str| scratch.path.join(format!("{name}.log"));
        let data = global.data.clone().unwrap_or_else(|| scratch.path.join("data"));
        let mut server = match global.addr {
            Some(_) => None,
            None => Some(Server::start(&data, "127.0.0.1:0", log("server")).await?),
        };
        let idle = server.as_ref().and_then(|server| server.process.pid()).and_then(memory);
        let addr = server.as_ref().map_or_else(|| global.address().addr, |server| server.addr.clone());
        let mesh = Mesh::new(&Address { addr: addr.clone(), source: "--addr".to_owned() }, &global.namespace)?;

        let mut worker = self.start_worker(&addr, &global.namespace, seed, log("worker"))?;
        wait_for_worker(&mesh, AGENT, &mut worker).await?;
        let workflow = mesh.check(mesh.client.apply(self.work().definition()).await)?;

        let pids = [server.as_ref().and_then(|server| server.process.pid()), worker.pid(), Some(std::process::id())];
        let from = Instant::now() + Duration::from_secs(self.warmup.into());
        let to = from + Duration::from_secs(self.seconds.into());
        let load = Load {
            workflow: workflow.name,
            clients: self.clients(&addr, &global.namespace)?,
            lanes: self.concurrency as usize,
            from,
            to,
        };
        let (seen, cores) = tokio::join!(load.run(), cores_used(pids, from, to));
        let seen = seen?;
        worker.check()?;
        if let Some(server) = &mut server {
            server.process.check()?;
        }
        let loaded = server.as_ref().and_then(|server| server.process.pid()).and_then(memory);
        let ready = server.as_ref().map(|server| server.ready);
        worker.stop().await;
        if let Some(mut server) = server {
            server.process.stop().await;
        }
        let mut figures = self.figures(&seen, ready, idle, loaded, cores);
        figures["seed"] = seed.into();
        figures["machine"] = machine::describe(self.dir.as_deref().unwrap_or(&scratch.path));
        match global.output {
            Format::Table => print(&table(&figures, &ORDER))?,
            format => format.print_value(&figures)?,
        }
        if seen.runs == 0 {
            return Err(Failure::failed("no run ended well within the time").details(seen.examples));
        }
        Ok(())
    }

    /// What cannot be said to the parser of the command line.
    fn check(&self) -> Result<()> {
        if self.worker == Language::Python && (self.payload.is_some() || self.workers > 1) {
            return Err(Failure::usage("--payload and --workers are for the Rust worker; leave out `--worker python`"));
        }
        Ok(())
    }

    fn start_worker(&self, addr: &str, namespace: &str, seed: u64, log: PathBuf) -> Result<Process> {
        let mut command = match self.worker {
            Language::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bench-worker", "--addr", addr, "--namespace", namespace]);
                // Together they take what one would take alone.
                command.args(["--slots", &(SLOTS / self.workers).max(1).to_string()]);
                command.args(["--workers", &self.workers.to_string(), "--seed", &seed.to_string()]);
                command.args(["--payload", &self.payload.unwrap_or(0).to_string()]);
                command
            }
            Language::Python => {
                let mut command = Command::new(install::python());
                command.args(["-m", "consort.noop", "--agent", AGENT, "--slots", "1024", "--namespace", namespace]);
                command
            }
        };
        command.env("CONSORT_ADDR", addr).env_remove("CONSORT_WORKER_ID");
        Process::start("the worker", &mut command, log)
    }

    fn work(&self) -> Work {
        match (self.fan, self.payload) {
            (Some(items), _) => Work::Fan(items),
            (None, Some(_)) => Work::Payload,
            (None, None) => Work::Chain(self.steps),
        }
    }

    fn connections(&self) -> usize {
        match self.connections {
            Some(connections) => connections as usize,
            None => (self.concurrency as usize).div_ceil(LANES_PER_CONNECTION).max(2),
        }
    }

    fn clients(&self, addr: &str, namespace: &str) -> Result<Vec<Client>> {
        let connect = |_| Client::connect(addr).map(|client| client.with_namespace(namespace));
        (0..self.connections())
            .map(connect)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Failure::usage(error.to_string()))
    }

    fn figures(
        &self,
        seen: &Seen,
        ready: Option<Duration>,
        idle: Option<(f64, f64)>,
        loaded: Option<(f64, f64)>,
        [server, worker, client]: [Option<f64>; 3],
    ) -> Value {
        let steps = self.work().steps();
        let runs_per_s = seen.runs as f64 / f64::from(self.seconds);
        let mib = |value: Option<f64>| value.map(|value| round(value, 1));
        json!({
            "steps": steps,
            "fan": self.fan.is_some(),
            "payload_bytes": self.payload,
            "concurrency": self.concurrency,
            "connections": self.connections(),
            "seconds": self.seconds,
            "warmup": self.warmup,
            "workers": self.workers,
            "worker": self.worker.name(),
            "runs": seen.runs,
            "runs_per_s": round(runs_per_s, 1),
            "steps_per_s": round(runs_per_s * f64::from(steps), 1),
            "mib_per_s": self.payload.map(|bytes| round(runs_per_s * bytes as f64 / f64::from(1 << 20), 1)),
            "p50_ms": round(seen.quantile_ms(0.5), 3),
            "p99_ms": round(seen.quantile_ms(0.99), 3),
            "errors": seen.errors,
            "error_examples": seen.examples,
            "server_rss_mib": mib(loaded.map(|(resident, _)| resident)),
            "server_hwm_mib": mib(loaded.map(|(_, peak)| peak)),
            "idle_rss_mib": mib(idle.map(|(resident, _)| resident)),
            "ready_ms": ready.map(|ready| round(ready.as_secs_f64() * 1e3, 1)),
            "server_cores": server.map(|cores| round(cores, 2)),
            "worker_cores": worker.map(|cores| round(cores, 2)),
            "client_cores": client.map(|cores| round(cores, 2)),
        })
    }
}

/// The figures in the order a person reads them; programs get them all by name.
const ORDER: [&str; 22] = [
    "worker",
    "workers",
    "steps",
    "payload_bytes",
    "concurrency",
    "connections",
    "seconds",
    "runs",
    "runs_per_s",
    "steps_per_s",
    "mib_per_s",
    "p50_ms",
    "p99_ms",
    "errors",
    "ready_ms",
    "idle_rss_mib",
    "server_rss_mib",
    "server_hwm_mib",
    "server_cores",
    "worker_cores",
    "client_cores",
    "seed",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(steps: u32, fan: Option<u32>, concurrency: u32) -> Engine {
        let worker = Language::Rust;
        let (payload, seed, connections, dir) = (None, None, None, None);
        Engine { steps, concurrency, seconds: 2, warmup: 0, worker, fan, payload, workers: 1, seed, connections, dir }
    }

    #[test]
    fn each_kind_of_work_knows_its_steps() {
        assert_eq!(engine(2, None, 1).work(), Work::Chain(2));
        assert_eq!(engine(1, Some(3), 1).work(), Work::Fan(3));
        assert_eq!(Engine { payload: Some(10), ..engine(1, None, 1) }.work().steps(), 2);
    }

    #[test]
    fn what_the_python_worker_cannot_do_is_refused() {
        let python = |engine: Engine| Engine { worker: Language::Python, ..engine }.check().is_err();
        assert!(!python(engine(1, None, 1)));
        assert!(python(Engine { payload: Some(1), ..engine(1, None, 1) }));
        assert!(python(Engine { workers: 2, ..engine(1, None, 1) }));
    }

    #[test]
    fn lanes_share_connections_within_the_servers_limit() {
        assert_eq!(engine(1, None, 1).connections(), 2);
        assert_eq!(engine(1, None, 64).connections(), 2);
        assert_eq!(engine(1, None, 256).connections(), 6);
    }

    #[tokio::test]
    async fn figures_are_rates_of_what_was_seen() {
        let from = Instant::now();
        let load = Load { workflow: String::new(), clients: Vec::new(), lanes: 0, from, to: from };
        let mut seen = load.run().await.unwrap();
        seen.runs = 30;
        let figures = engine(10, None, 1).figures(&seen, None, Some((7.04, 8.0)), None, [Some(0.5), None, None]);
        assert_eq!(figures["runs_per_s"], 15.0);
        assert_eq!(figures["steps_per_s"], 150.0);
        assert_eq!(figures["idle_rss_mib"], 7.0);
        assert_eq!(figures["server_rss_mib"], Value::Null);
        assert!(table(&figures, &ORDER).contains("steps_per_s"));
    }
}
