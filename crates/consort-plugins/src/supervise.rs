//! The life of a plugin: brought up, watched, started again after a crash, reloaded, drained.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use consort_core::Error;
use consort_core::ids::Millis;
use consort_core::plugin::{Permissions, PluginState};
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_client::PluginServiceClient;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::config::{SandboxMode, SecretFrom};
use crate::contract::{Hello, mistakes};
use crate::convert;
use crate::hold::{Held, Hold, Sandboxes, hold};
use crate::host::{Guest, Host};
use crate::manifest::{Manifest, VERSION_OF_MCP};
use crate::process::{Program, Running, start};
use crate::references;
use crate::stats::Stats;
use crate::wire::Wire;

/// The first pause after a crash, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many crashes within this time are a loop; then it is tried once in that time.
const LOOP: usize = 5;
const LOOP_TIME: Duration = Duration::from_secs(60);
/// How often health is asked, how long it may take, and how often it may fail.
const HEALTH_EVERY: Duration = Duration::from_secs(5);
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const HEALTH_FAILURES: u32 = 3;
/// How long an old process may finish what it has.
const DRAIN: Duration = Duration::from_secs(30);

/// What a plugin is made from.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub id: Arc<str>,
    pub folder: PathBuf,
    /// Its own folder that stays.
    pub data: PathBuf,
    /// `None`: all that the manifest wants.
    pub granted: Option<Permissions>,
    pub config: serde_json::Value,
    pub secrets: Vec<(String, SecretFrom)>,
    pub sandbox: SandboxMode,
    /// Instead of a program an MCP server, as the adapter takes it.
    pub mcp: Option<serde_json::Value>,
}

/// Where a plugin stands.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Starting,
    Running(Arc<Live>),
    BackingOff(String),
    Crashing(String),
    Refused(Arc<Error>),
    Draining,
    Disabled,
}

impl Phase {
    pub(crate) fn state(&self) -> PluginState {
        match self {
            Phase::Starting => PluginState::Starting,
            Phase::Running(_) => PluginState::Running,
            Phase::BackingOff(_) => PluginState::BackingOff,
            Phase::Crashing(_) => PluginState::Crashing,
            Phase::Refused(_) => PluginState::Refused,
            Phase::Draining => PluginState::Draining,
            Phase::Disabled => PluginState::Disabled,
        }
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            Phase::BackingOff(why) | Phase::Crashing(why) => why.clone(),
            Phase::Refused(error) => error.message.clone(),
            _ => String::new(),
        }
    }
}

/// A process that takes calls.
#[derive(Debug)]
pub(crate) struct Live {
    pub manifest: Manifest,
    pub hello: Hello,
    pub client: PluginServiceClient<Wire>,
    pub running: Running,
    pub granted: Permissions,
    pub digest: String,
    /// Mechanisms that hold it.
    pub sandbox: Vec<String>,
    pub started_at: Millis,
    /// Calls that may be in work.
    pub permits: Arc<Semaphore>,
    /// Calls in work and waiting.
    pub queue: Arc<Semaphore>,
    host: Arc<Host>,
    token: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.host.dismiss(&self.token);
    }
}

/// Why a plugin did not come up.
pub(crate) enum Failed {
    /// Nothing changes until the operator acts.
    Refused(Error),
    /// It may be better next time.
    Crashed(Error),
}

/// What the supervisor is told to do.
pub(crate) enum Order {
    /// Start anew as this says.
    Reload(Box<Spec>, oneshot::Sender<Result<(), Error>>),
    /// Drain and end.
    Stop(oneshot::Sender<()>),
}

/// What all plugins share.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub host: Arc<Host>,
    pub sandboxes: Arc<Sandboxes>,
    /// Program and arguments of the adapter for MCP servers.
    pub mcp: Vec<String>,
}

/// A plugin of the registry.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub id: Arc<str>,
    pub stats: Arc<Stats>,
    pub phase: watch::Receiver<Phase>,
    pub orders: mpsc::Sender<Order>,
}

/// Starts a plugin and the task that keeps it.
pub(crate) fn supervise(spec: Spec, enabled: bool, around: Around) -> Plugin {
    let first = if enabled { Phase::Starting } else { Phase::Disabled };
    let (phase, seen) = watch::channel(first);
    let (orders, queue) = mpsc::channel(16);
    let (id, stats) = (spec.id.clone(), Arc::new(Stats::default()));
    let keeper = Keeper { spec, around, phase, orders: queue, stats: stats.clone(), crashes: Vec::new() };
    tokio::spawn(keeper.keep(enabled));
    Plugin { id, stats, phase: seen, orders }
}

struct Keeper {
    spec: Spec,
    around: Around,
    phase: watch::Sender<Phase>,
    orders: mpsc::Receiver<Order>,
    stats: Arc<Stats>,
    /// When it crashed lately.
    crashes: Vec<Instant>,
}

impl Keeper {
    async fn keep(mut self, enabled: bool) {
        if !enabled && !self.rest(None).await {
            return;
        }
        loop {
            self.phase.send_replace(Phase::Starting);
            let (id, began) = (self.spec.id.clone(), Instant::now());
            let why = match bring_up(&self.spec, &self.around).await {
                Ok(live) => {
                    tracing::info!(plugin = %id, version = %live.hello.version, pid = live.running.pid, ms = began.elapsed().as_millis() as u64, "a plugin runs");
                    match self.attend(Arc::new(live)).await {
                        Some(why) => why,
                        None => return,
                    }
                }
                Err(Failed::Refused(error)) => {
                    tracing::error!(plugin = %id, "not started: {}", error.message);
                    self.phase.send_replace(Phase::Refused(Arc::new(error)));
                    if self.rest(None).await {
                        continue;
                    }
                    return;
                }
                Err(Failed::Crashed(error)) => error.message,
            };
            let now = Instant::now();
            self.crashes.retain(|at| now - *at < LOOP_TIME);
            self.crashes.push(now);
            self.stats.restarts.fetch_add(1, Ordering::Relaxed);
            let many = self.crashes.len();
            let pause = if many >= LOOP {
                tracing::error!(plugin = %id, "crashes again and again: {why}");
                let said = format!(
                    "crashed {many} times within {} s; tried again once a minute, or with `consort plugins reload {id}`. {why}",
                    LOOP_TIME.as_secs()
                );
                self.phase.send_replace(Phase::Crashing(said));
                LOOP_TIME
            } else {
                tracing::warn!(plugin = %id, "{why}");
                self.phase.send_replace(Phase::BackingOff(why));
                let pause = (PAUSE * 4u32.pow(many as u32 - 1)).min(LONGEST_PAUSE);
                pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
            };
            if !self.rest(Some(pause)).await {
                return;
            }
        }
    }

    /// Waits for a time or an order to start; false when it shall end.
    async fn rest(&mut self, pause: Option<Duration>) -> bool {
        let order = match pause {
            Some(pause) => match tokio::time::timeout(pause, self.orders.recv()).await {
                Ok(order) => order,
                Err(_) => return true,
            },
            None => self.orders.recv().await,
        };
        match order {
            Some(Order::Reload(spec, reply)) => {
                self.spec = *spec;
                self.crashes.clear();
                // Whoever asked waits for the phase that follows; the one before must not be taken for it.
                self.phase.send_replace(Phase::Starting);
                let _ = reply.send(Ok(()));
                true
            }
            Some(Order::Stop(reply)) => {
                let _ = reply.send(());
                false
            }
            None => false,
        }
    }

    /// Watches over a process. Why it crashed, or nothing if it was stopped.
    async fn attend(&mut self, mut live: Arc<Live>) -> Option<String> {
        self.phase.send_replace(Phase::Running(live.clone()));
        let mut health = tokio::time::interval_at(tokio::time::Instant::now() + HEALTH_EVERY, HEALTH_EVERY);
        health.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            tokio::select! {
                how = live.running.ended() => {
                    let words = live.running.last_words();
                    let words = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
                    return Some(format!("plugin `{}` ended: {how}{words}", self.spec.id));
                }
                _ = health.tick() => {
                    match healthy(&live).await {
                        Ok(()) => failures = 0,
                        Err(why) => {
                            failures += 1;
                            tracing::warn!(plugin = %self.spec.id, failures, "{why}");
                            if failures >= HEALTH_FAILURES {
                                self.phase.send_replace(Phase::BackingOff(why.clone()));
                                live.running.stop().await;
                                return Some(format!("plugin `{}` hung: {why}", self.spec.id));
                            }
                        }
                    }
                }
                order = self.orders.recv() => match order {
                    Some(Order::Reload(spec, reply)) => match bring_up(&spec, &self.around).await {
                        Ok(new) => {
                            let new = Arc::new(new);
                            self.spec = *spec;
                            self.crashes.clear();
                            self.phase.send_replace(Phase::Running(new.clone()));
                            let old = std::mem::replace(&mut live, new);
                            tokio::spawn(async move { drain(&old).await });
                            let _ = reply.send(Ok(()));
                        }
                        // The old one stays.
                        Err(Failed::Refused(error) | Failed::Crashed(error)) => drop(reply.send(Err(error))),
                    },
                    Some(Order::Stop(reply)) => {
                        self.phase.send_replace(Phase::Draining);
                        drain(&live).await;
                        let _ = reply.send(());
                        return None;
                    }
                    None => {
                        self.phase.send_replace(Phase::Draining);
                        drain(&live).await;
                        return None;
                    }
                },
            }
        }
    }
}

async fn healthy(live: &Live) -> Result<(), String> {
    let mut client = live.running.health();
    let asked = client.check(HealthCheckRequest { service: String::new() });
    match tokio::time::timeout(HEALTH_PATIENCE, asked).await {
        Ok(Ok(said)) if said.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(Ok(said)) => Err(format!("its health is {}", said.get_ref().status().as_str_name())),
        Ok(Err(status)) => Err(format!("its health cannot be asked: {}", status.message())),
        Err(_) => Err(format!("it did not answer for its health within {} s", HEALTH_PATIENCE.as_secs())),
    }
}

/// Lets a process finish what it has, and ends it.
async fn drain(live: &Live) {
    let mut client = live.client.clone();
    let grace = prost_types::Duration { seconds: DRAIN.as_secs() as i64, nanos: 0 };
    let asked = client.drain(wire::DrainRequest { grace: Some(grace) });
    // A plugin that hangs here is ended all the same.
    let _ = tokio::time::timeout(DRAIN + Duration::from_secs(1), asked).await;
    live.running.stop().await;
}

async fn bring_up(spec: &Spec, around: &Around) -> Result<Live, Failed> {
    let (id, host) = (&spec.id, &around.host);
    let refused = |reason, why: String| Failed::Refused(Error::precondition(reason, format!("plugin `{id}` {why}")));
    let manifest = match &spec.mcp {
        Some(_) => Manifest::of_mcp(id, around.mcp.clone()),
        None => Manifest::read(&spec.folder).map_err(Failed::Refused)?,
    };
    if *manifest.id != **id {
        return Err(refused("PLUGIN_NAME", format!("has a manifest that says `{}`; use that id", manifest.id)));
    }
    if manifest.protocol.is_none() {
        let agents = manifest.agents.join(", ");
        return Err(refused(
            "PLUGIN_IS_WORKER",
            format!("is a worker for {agents}: start its command with CONSORT_ADDR"),
        ));
    }
    let granted = spec.granted.clone().unwrap_or_else(|| manifest.wanted(&spec.folder, &spec.data));
    let beyond = manifest.required(&spec.folder, &spec.data).beyond(&granted);
    if !beyond.is_empty() {
        let hint = format!("grant it in plugins.yaml, or with `consort plugins reload {id} --grant`");
        return Err(refused(
            "PERMISSIONS_WANTED",
            format!("wants more than is granted: {}; {hint}", beyond.join(", ")),
        ));
    }
    let path = manifest.program(&spec.folder).map_err(Failed::Refused)?;
    let file = path.clone();
    let digest = tokio::task::spawn_blocking(move || digest_of(&file)).await.unwrap_or_default();
    if let Some(pinned) = manifest.sha256.as_deref().filter(|pinned| !pinned.eq_ignore_ascii_case(&digest)) {
        let why = format!("has another program than its manifest says: sha256 {digest} instead of {pinned}");
        return Err(refused("DIGEST_CHANGED", why));
    }
    let server = match &spec.mcp {
        Some(entry) => Some(mcp(id, entry, &spec.secrets).map_err(Failed::Refused)?),
        None => None,
    };
    let (folder, data) = (spec.folder.as_path(), spec.data.as_path());
    let plugin = Held { manifest: &manifest, folder, data, program: &path, granted: &granted };
    let held = hold(&around.sandboxes, spec.sandbox, plugin).await;
    let held = held.map_err(|error| refused(error.reason, error.message))?;
    let sandbox = held.as_ref().map(Hold::mechanisms).unwrap_or_default();
    let secrets = spec.secrets.clone();
    let token = host.admit(Guest { id: id.clone(), granted: granted.clone(), secrets, data: spec.data.clone() });
    let program = Program {
        id: id.clone(),
        folder: spec.folder.clone(),
        path,
        arguments: manifest.command[1..].to_vec(),
        data: spec.data.clone(),
        environment: environment(&granted).into_iter().chain(server).collect(),
        host: Some((host.socket.clone(), token.clone())),
        hold: held,
        patience: manifest.limits.start(),
    };
    let crashed = |error: Error| {
        host.dismiss(&token);
        Failed::Crashed(error)
    };
    let running = match start(&program).await {
        Ok(running) => running,
        Err(error) if error.reason == "SANDBOX_MISSING" => {
            host.dismiss(&token);
            return Err(Failed::Refused(error));
        }
        Err(error) => return Err(crashed(error)),
    };
    let mut client = running.client();
    let patience = manifest.limits.start();
    let hello = async {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut request = Request::new(wire::HelloRequest { mesh_version: version, protocol: 1 });
        request.set_timeout(patience);
        let said = timed(patience, "Hello", client.hello(request)).await.map_err(|why| hangs(id, &running, why))?;
        let hello = Hello::take(said, &manifest).map_err(Failed::Refused)?;
        let config = match (&hello.config, &spec.config) {
            (None, serde_json::Value::Null) => None,
            (None, _) => {
                return Err(refused("PLUGIN_CONFIG", "takes no configuration; remove its `config`".to_owned()));
            }
            (Some(schema), config) => {
                let config = if config.is_null() { serde_json::json!({}) } else { config.clone() };
                let wrong = mistakes(schema, &config, "config");
                if !wrong.is_empty() {
                    return Err(Failed::Refused(Error { reason: "PLUGIN_CONFIG", ..Error::bad_fields(wrong) }));
                }
                Some(convert::object(&config))
            }
        };
        let permissions = Some(convert::permissions(&granted));
        let mut request = Request::new(wire::ConfigureRequest { config, permissions });
        request.set_timeout(patience);
        match timed(patience, "Configure", client.configure(request)).await {
            Ok(_) => Ok(hello),
            Err(Late::Said(status)) if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) => {
                Err(refused("PLUGIN_CONFIG", format!("refuses its configuration: {}", status.message())))
            }
            Err(why) => Err(hangs(id, &running, why)),
        }
    };
    match hello.await {
        Ok(hello) => Ok(Live {
            permits: Arc::new(Semaphore::new(manifest.limits.in_flight)),
            queue: Arc::new(Semaphore::new(manifest.limits.in_flight * 5)),
            client,
            hello,
            running,
            granted,
            digest,
            sandbox,
            started_at: jiff::Timestamp::now().as_millisecond(),
            manifest,
            host: host.clone(),
            token,
        }),
        Err(failed) => {
            host.dismiss(&token);
            running.stop().await;
            Err(failed)
        }
    }
}

/// Why a call to a starting plugin has no answer.
enum Late {
    Said(tonic::Status),
    Hung(String),
}

async fn timed<T>(
    patience: Duration,
    what: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Late> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(said)) => Ok(said.into_inner()),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
            Err(Late::Hung(format!("did not answer {what} within {} s", patience.as_secs())))
        }
        Ok(Err(status)) => Err(Late::Said(status)),
        Err(_) => Err(Late::Hung(format!("did not answer {what} within {} s", patience.as_secs()))),
    }
}

fn hangs(id: &str, running: &Running, why: Late) -> Failed {
    let why = match why {
        Late::Hung(why) => why,
        Late::Said(status) => format!("failed at its start: {}", status.message()),
    };
    let words = running.last_words();
    let words = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
    Failed::Crashed(Error::precondition("PLUGIN_START", format!("plugin `{id}` {why}{words}")))
}

/// What the adapter is told of its MCP server, with the secrets that it is given.
fn mcp(id: &str, entry: &serde_json::Value, secrets: &[(String, SecretFrom)]) -> Result<(String, String), Error> {
    let mut entry = references::resolved(id, entry, secrets)?;
    entry["id"] = id.into();
    entry["version"] = VERSION_OF_MCP.into();
    Ok(("CONSORT_MCP".to_owned(), entry.to_string()))
}

/// The variables that are granted, and those that no program can do without.
pub(crate) fn environment(granted: &Permissions) -> Vec<(String, String)> {
    let always = ["PATH", "LANG", "LC_ALL", "TZ"].map(str::to_owned);
    let mut names: Vec<String> = always.into_iter().chain(granted.env.iter().cloned()).collect();
    names.sort();
    names.dedup();
    let mut found: Vec<(String, String)> =
        names.into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))).collect();
    if let Some(display) = granted.display.first() {
        found.push(("DISPLAY".to_owned(), display.clone()));
    }
    found
}

fn digest_of(path: &std::path::Path) -> String {
    let mut hash = Sha256::new();
    let copied = std::fs::File::open(path).and_then(|mut file| {
        let mut part = vec![0; 1 << 16];
        loop {
            let read = std::io::Read::read(&mut file, &mut part)?;
            if read == 0 {
                return Ok(());
            }
            hash.update(&part[..read]);
        }
    });
    copied.map(|()| hex::encode(hash.finalize())).unwrap_or_default()
}
