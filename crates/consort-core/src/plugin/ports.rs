//! The port: what has plugins, and what a call of one is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Operation, OperationName};
use crate::event::Failure;
use crate::ids::{Millis, RunId, StepKey};
use crate::{Data, Error};

/// On whose behalf a call is made.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The tenant.
    pub namespace: Arc<str>,
    /// The step, if it is for one.
    pub step: Option<(RunId, StepKey)>,
    /// The agent, if one calls. The mesh's own (`call@mesh`) stands for a step of a workflow that somebody applied.
    pub agent: Option<Arc<str>>,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Invoke {
    /// What.
    pub operation: OperationName,
    /// Its input.
    pub input: Data,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Equal for all tries.
    pub idempotency_key: String,
    /// Its id.
    pub call_id: Uuid,
    /// On whose behalf.
    pub origin: Origin,
    /// How long it may take; `None` means the operation's own.
    pub timeout: Option<Duration>,
}

/// What comes from a call in work.
#[derive(Clone, Debug)]
pub enum InvokeNews {
    /// How far it is, 0 to 1 or negative if unknown, and what it does.
    Progress(f64, String),
    /// A line of its log: level and text.
    Log(String, String),
    /// The end.
    Done(Outcome),
}

/// How a call ended that reached its plugin.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The output, or how it failed.
    pub result: Result<Data, Failure>,
    /// What would be done; after a dry run.
    pub would: Vec<String>,
    /// What was done to the world, as the plugin says.
    pub actions: Vec<String>,
    /// How long the plugin took.
    pub took: Duration,
    /// The plugin's version.
    pub version: Arc<str>,
}

/// A call on its way. Dropping it cancels it.
#[async_trait]
pub trait Invocation: Send {
    /// What comes next; `None` after `Done` or an error. An error means that the call did not reach the plugin (UNAVAILABLE and the like),
    /// or that its outcome is not known (ABORTED, reason OUTCOME_UNKNOWN).
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>>;
}

/// The plugins of a mesh.
#[async_trait]
pub trait Plugins: Send + Sync + 'static {
    /// An operation, as an agent may call it if one is named. NOT_FOUND with the nearest names; PERMISSION_DENIED with the line to write if
    /// the operator has not given it to the agent. Waits for a plugin that is starting.
    async fn describe(&self, name: &OperationName, agent: Option<&str>) -> Result<Arc<Operation>, Error>;

    /// Checks whether the agent may, checks the input, and calls. The effect class decides whether a lost call is made again.
    async fn invoke(&self, call: Invoke) -> Result<Box<dyn Invocation>, Error>;

    /// All plugins, by id.
    fn list(&self) -> Vec<PluginView>;

    /// Adds a plugin from a folder, or a new version of one.
    async fn install(&self, folder: &std::path::Path, grant: bool, only_check: bool) -> Result<PluginView, Error>;

    /// Stops a plugin and forgets it.
    async fn uninstall(&self, id: &str) -> Result<(), Error>;

    /// Starts a plugin anew and moves its calls over.
    async fn reload(&self, id: &str, grant: bool) -> Result<PluginView, Error>;

    /// What plugins did, newest first: of one plugin if one is named, below a number if one is given, at most so many.
    fn actions(&self, plugin: Option<&str>, below: Option<u64>, most: usize) -> Vec<PluginAction>;
}

/// A call, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginAction {
    /// Number, from 1 at the start of the file's first life.
    pub number: u64,
    /// When it ended.
    pub time: Millis,
    /// `plugin.operation`.
    pub operation: String,
    /// Id of the call.
    pub call_id: String,
    /// The tenant.
    #[serde(default)]
    pub namespace: String,
    /// Run and step, if it was for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<(String, String)>,
    /// The agent, if one called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Number of a `google.rpc.Code`.
    pub code: i32,
    /// How long it took.
    pub took_ms: u64,
    /// What was done, or would be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Nothing was to be done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a plugin may reach. The fields are those of the message in `plugin_service.proto`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Permissions {
    pub fs_read: Vec<String>,
    pub fs_write: Vec<String>,
    pub net: Vec<String>,
    pub exec: Vec<String>,
    pub env: Vec<String>,
    pub secrets: Vec<String>,
    pub display: Vec<String>,
    pub capabilities: Vec<String>,
    pub mesh: Vec<String>,
}

impl Permissions {
    /// Each kind with its entries.
    pub fn kinds(&self) -> [(&'static str, &Vec<String>); 9] {
        [
            ("fs_read", &self.fs_read),
            ("fs_write", &self.fs_write),
            ("net", &self.net),
            ("exec", &self.exec),
            ("env", &self.env),
            ("secrets", &self.secrets),
            ("display", &self.display),
            ("capabilities", &self.capabilities),
            ("mesh", &self.mesh),
        ]
    }

    /// What is wanted here and not granted there, a line each: `net: example.com:443`.
    pub fn beyond(&self, granted: &Permissions) -> Vec<String> {
        let both = self.kinds().into_iter().zip(granted.kinds());
        both.flat_map(|((kind, wanted), (_, granted))| {
            let missing = wanted.iter().filter(move |entry| !covers(kind, granted, entry));
            missing.map(move |entry| format!("{kind}: {entry}"))
        })
        .collect()
    }

    /// Both together.
    #[must_use]
    pub fn joined(&self, other: &Permissions) -> Permissions {
        let both = |one: &[String], other: &[String]| -> Vec<String> {
            let mut all = one.to_vec();
            all.extend(other.iter().filter(|entry| !one.contains(entry)).cloned());
            all
        };
        Permissions {
            fs_read: both(&self.fs_read, &other.fs_read),
            fs_write: both(&self.fs_write, &other.fs_write),
            net: both(&self.net, &other.net),
            exec: both(&self.exec, &other.exec),
            env: both(&self.env, &other.env),
            secrets: both(&self.secrets, &other.secrets),
            display: both(&self.display, &other.display),
            capabilities: both(&self.capabilities, &other.capabilities),
            mesh: both(&self.mesh, &other.mesh),
        }
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.kinds().iter().all(|(_, entries)| entries.is_empty())
    }
}

/// Whether what is granted has an entry: itself, a folder around it, or `*`, where that means anything.
fn covers(kind: &str, granted: &[String], entry: &str) -> bool {
    granted.iter().any(|one| {
        one == entry
            || match kind {
                "exec" | "net" => one == "*",
                "fs_read" | "fs_write" => Path::new(entry).starts_with(one),
                _ => false,
            }
    })
}

/// How a plugin fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// Its process starts.
    Starting,
    /// It takes calls.
    Running,
    /// It died and is started again after a pause.
    BackingOff,
    /// It died again and again.
    Crashing,
    /// It is not started until the operator acts.
    Refused,
    /// It finishes what is in work.
    Draining,
    /// The configuration says that it shall not run.
    Disabled,
}

/// A plugin as it is now.
#[derive(Clone, Debug)]
pub struct PluginView {
    /// Its id.
    pub id: Arc<str>,
    /// What it is for.
    pub description: String,
    /// Version of the process that runs.
    pub version: Arc<str>,
    /// How it fares.
    pub state: PluginState,
    /// Why, if it does not run.
    pub reason: String,
    /// Its operations.
    pub operations: Vec<Arc<Operation>>,
    /// What its manifest wants.
    pub wanted: Permissions,
    /// What the operator granted.
    pub granted: Permissions,
    /// Starts after a crash.
    pub restarts: u32,
    /// Calls so far.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Calls in work.
    pub in_flight: u32,
    /// Median and 99th percentile of the last calls.
    pub latency: Option<(Duration, Duration)>,
    /// Resident bytes; 0 if it does not run.
    pub memory: u64,
    /// Process id.
    pub pid: Option<u32>,
    /// When it was started.
    pub started_at: Option<Millis>,
    /// Folder or command it comes from.
    pub source: String,
    /// Language or protocol.
    pub language: String,
    /// SHA-256 of the program.
    pub digest: String,
    /// Mechanisms that hold it.
    pub sandbox: Vec<String>,
}
