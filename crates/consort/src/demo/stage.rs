//! The processes of the demo: a server and six workers, and the folder with their data and logs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use consort_proto::agent::{AgentStatus, ListAgentsRequest};
use tokio::process::Command;

use crate::cli::Address;
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::install::{self, AUDIT_WORKERS, Program};
use crate::output::text;
use crate::process::{Process, Scratch, Server, stop_all};

/// How long the workers may take to connect.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);

/// What runs while the demo does.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Scratch,
    namespace: String,
    server: Option<Server>,
    workers: Vec<Process>,
    /// How often the server was killed.
    pub(super) crashes: u32,
}

impl Stage {
    /// An empty stage; without a given folder its data goes with it.
    pub(super) fn new(data: Option<&Path>, namespace: &str) -> Result<Stage> {
        let folder = match data {
            Some(path) => Scratch::given(path)?,
            None => Scratch::new("demo", None)?,
        };
        Ok(Stage { folder, namespace: namespace.to_owned(), server: None, workers: Vec::new(), crashes: 0 })
    }

    /// Where its data is.
    pub(super) fn data(&self) -> &Path {
        &self.folder.path
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path.join("logs").join(format!("{name}.log"))
    }

    /// Starts the server and the workers, and waits until every agent is there.
    pub(super) async fn start(&mut self) -> Result<Mesh> {
        // All that is missing is said at once, before anything runs.
        let programs = find_programs()?;
        let server = Server::start(self.data(), "127.0.0.1:0", self.log("server")).await?;
        let addr = server.addr.clone();
        self.server = Some(server);
        for (name, program, path) in programs {
            let mut command = match program {
                Program::Binary(_) => Command::new(path),
                Program::Python(_) => {
                    let mut python = Command::new(install::python());
                    python.arg(path).env("PYTHONUNBUFFERED", "1");
                    python
                }
            };
            command
                .env("CONSORT_ADDR", &addr)
                .env("CONSORT_NAMESPACE", &self.namespace)
                .env_remove("CONSORT_WORKER_ID");
            let worker = Process::start(&format!("the worker {name}"), &mut command, self.log(name))?;
            self.workers.push(worker);
        }
        let mesh = Mesh::new(&Address { addr, source: "--addr".to_owned() }, &self.namespace)?;
        self.wait_for_agents(&mesh).await?;
        Ok(mesh)
    }

    /// Kills the server as a power cut would, and starts it again on the same data and port.
    pub(super) async fn crash(&mut self) -> Result<()> {
        let mut server = self.server.take().expect("the stage was started");
        let addr = server.addr.clone();
        server.process.kill().await?;
        drop(server);
        self.server = Some(Server::start(self.data(), &addr, self.log("server")).await?);
        self.crashes += 1;
        Ok(())
    }

    /// An error if one of the processes has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(server) = &mut self.server {
            server.process.check()?;
        }
        self.workers.iter_mut().try_for_each(Process::check)
    }

    /// Ends everything: the workers, which give back what they hold, then the server.
    pub(super) async fn stop(&mut self) {
        stop_all(&mut self.workers).await;
        self.workers.clear();
        if let Some(mut server) = self.server.take() {
            server.process.stop().await;
        }
    }

    /// After a failure the logs stay, and the failure says where.
    pub(super) fn explain(&mut self, failure: Failure) -> Failure {
        self.folder.keep();
        let logs = self.folder.path.join("logs");
        if failure.hint.is_some() || !logs.is_dir() {
            return failure;
        }
        failure.hint(format!("the logs of all processes are in {}", logs.display()))
    }

    async fn wait_for_agents(&mut self, mesh: &Mesh) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let request = ListAgentsRequest { parent: mesh.client.parent(), page_size: 1_000, ..Default::default() };
            let agents = mesh.answer(mesh.client.agents().list_agents(request).await)?.agents;
            let here = |id: &str| {
                agents.iter().any(|agent| text::id(&agent.name) == id && agent.status() != AgentStatus::Offline)
            };
            let missing: Vec<&str> = AUDIT_WORKERS.iter().map(|(name, _)| *name).filter(|name| !here(name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > CONNECTED_WITHIN {
                let seconds = CONNECTED_WITHIN.as_secs();
                return Err(Failure::failed(format!("no worker offers {} after {seconds} s", missing.join(", "))));
            }
            // There is no call that waits for an agent; the workers take about half a second.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn find_programs() -> Result<Vec<(&'static str, Program, PathBuf)>> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for (name, program) in AUDIT_WORKERS {
        match program.find() {
            Ok(path) => found.push((name, program, path)),
            Err(todo) => missing.push(format!("{name}: {todo}")),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let what = if missing.len() == 1 { "a worker is missing" } else { "workers are missing" };
    Err(Failure::failed(what)
        .details(missing)
        .hint("`make demo` builds everything; `consort doctor` says what else is missing"))
}
