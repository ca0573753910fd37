//! The processes of the demo: a server with its plugins and six workers, a receiver of webhooks, and the folder with their data and logs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use consort_proto::agent::{AgentStatus, ListAgentsRequest};
use consort_proto::plugin::{ListPluginsRequest, Plugin, PluginState};
use tokio::process::Command;

use super::plugins::{Cast, Needs, SECRET};
use super::receiver::Receiver;
use super::signature::Key;
use crate::cli::Address;
use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::install::{self, AUDIT_WORKERS, Program};
use crate::output::text;
use crate::process::{Process, Scratch, Server, stop_all};

/// How long the workers may take to connect, and plugins to come up.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);

/// What runs while the demo does.
#[derive(Debug)]
pub(super) struct Stage {
    folder: Scratch,
    namespace: String,
    server: Option<Server>,
    workers: Vec<Process>,
    cast: Cast,
    receiver: Option<(Receiver, Key)>,
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
        Ok(Stage {
            folder,
            namespace: namespace.to_owned(),
            server: None,
            workers: Vec::new(),
            cast: Cast::default(),
            receiver: None,
            crashes: 0,
        })
    }

    /// Where its data is.
    pub(super) fn data(&self) -> &Path {
        &self.folder.path
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path.join("logs").join(format!("{name}.log"))
    }

    /// Starts a receiver of webhooks; with `hold` it does not answer before it is told to.
    pub(super) async fn receive(&mut self, hold: bool) -> Result<()> {
        let key = Key::new();
        self.receiver = Some((Receiver::start(key.clone(), hold).await?, key));
        Ok(())
    }

    /// The receiver of webhooks.
    pub(super) fn receiver(&self) -> Option<&Receiver> {
        self.receiver.as_ref().map(|(receiver, _)| receiver)
    }

    /// What plugins cannot be held with on this machine.
    pub(super) fn not_held(&self) -> Option<&str> {
        self.cast.not_held.as_deref()
    }

    /// Starts the server with its plugins and the workers, and waits until every agent is there. `repository` are the folders that the
    /// plugin `git` reads.
    pub(super) async fn start(&mut self, repository: Option<Vec<PathBuf>>) -> Result<Mesh> {
        // All that is missing is said at once, before anything runs.
        let programs = find_programs()?;
        let receiver = self.receiver().map(|receiver| (receiver.addr, receiver.url()));
        self.cast = Cast::write(&Needs { repository, receiver }, self.data())?;
        let server = self.serve("127.0.0.1:0").await?;
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
        self.server = Some(self.serve(&addr).await?);
        self.crashes += 1;
        Ok(())
    }

    async fn serve(&self, listen: &str) -> Result<Server> {
        let more = |command: &mut Command| {
            if let Some(file) = &self.cast.file {
                command.arg("--plugins").arg(file);
            }
            if let Some((_, key)) = &self.receiver {
                command.env(SECRET, key.secret());
            }
        };
        Server::start_with(self.data(), listen, self.log("server"), more).await
    }

    /// The plugins of the demo, when all of them take calls.
    pub(super) async fn plugins(&mut self, mesh: &Mesh) -> Result<Vec<Plugin>> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let request = ListPluginsRequest { page_size: 1_000, ..Default::default() };
            let mut plugins = mesh.answer(mesh.client.plugins().list_plugins(request).await)?.plugins;
            plugins.retain(|plugin| self.cast.ids.contains(&plugin.name.trim_start_matches("plugins/")));
            let late = begun.elapsed() > CONNECTED_WITHIN;
            let failed = |plugin: &&Plugin| match plugin.state() {
                PluginState::Running => false,
                PluginState::Starting | PluginState::BackingOff => late,
                _ => true,
            };
            if let Some(plugin) = plugins.iter().find(failed) {
                let id = plugin.name.trim_start_matches("plugins/");
                return Err(Failure::failed(format!("the plugin {id} does not run: {}", plugin.state_reason)));
            }
            if plugins.iter().all(|plugin| plugin.state() == PluginState::Running) {
                return Ok(plugins);
            }
            // There is no call that waits for a plugin; one in Python takes about a second.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
