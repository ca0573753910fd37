//! The plugins of a mesh: the port's implementation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use consort_core::plugin::{Invocation, Invoke, Operation, OperationName, PluginAction, PluginState, PluginView};
use consort_core::ports::BlobStore;
use consort_core::{Error, Kind};
use consort_sandbox::{Usage, usage};
use tokio::sync::oneshot;
use tokio::time::Instant as Deadline;

use crate::audit::Audit;
use crate::call::{self, Caller};
use crate::config::{All, Config, Grant, PluginConfig};
use crate::grants::{Grants, Kept};
use crate::hold::Sandboxes;
use crate::host::{Host, HostParts};
use crate::manifest::Manifest;
use crate::stats::memory;
use crate::supervise::{Around, Order, Phase, Plugin, Spec, supervise};

/// Plugins that a mesh may have.
const MOST: usize = 1_000;
/// How long a reload waits for the new process.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a registry is made of.
pub struct Options {
    /// The operator's file, read.
    pub config: Config,
    /// Where it is: a plugin that is reloaded is started as it says then.
    pub file: Option<PathBuf>,
    /// Where grants, the audit log and the plugins' own folders are.
    pub folder: PathBuf,
    /// Where large results go.
    pub blobs: Arc<dyn BlobStore>,
    /// What plugins may ask of the mesh.
    pub host: HostParts,
    /// What holds them.
    pub sandboxes: Arc<Sandboxes>,
    /// Program and arguments of the adapter for MCP servers.
    pub mcp: Vec<String>,
}

/// The plugins of a mesh. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    /// What the operator says of each plugin; as of the server's start, or the plugin's last reload.
    config: RwLock<BTreeMap<String, Arc<PluginConfig>>>,
    file: Option<PathBuf>,
    folder: PathBuf,
    blobs: Arc<dyn BlobStore>,
    around: Around,
    grants: Grants,
    audit: Arc<Audit>,
    plugins: RwLock<BTreeMap<Arc<str>, Arc<Entry>>>,
}

struct Entry {
    plugin: Plugin,
    folder: PathBuf,
}

impl Plugins {
    /// Starts all plugins that the file names and that were installed. They come up by themselves; a call waits for its own.
    pub fn open(options: Options) -> Result<Plugins, Error> {
        let Options { config, file, folder, blobs, host, sandboxes, mcp } = options;
        let told =
            |error: std::io::Error| Error::precondition("PLUGINS_FOLDER", format!("`{}`: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(told)?;
        let inner = Inner {
            around: Around { host: Arc::new(Host::open(host, blobs.clone()).map_err(told)?), sandboxes, mcp },
            grants: Grants::open(&folder)?,
            audit: Arc::new(Audit::open(&folder).map_err(told)?),
            plugins: RwLock::default(),
            blobs,
            folder,
            config: RwLock::new(config.plugins.into_iter().map(|(id, plugin)| (id, Arc::new(plugin))).collect()),
            file,
        };
        let audit = Arc::downgrade(&inner.audit);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                let Some(audit) = audit.upgrade() else { return };
                audit.flush();
            }
        });
        let plugins = Plugins(Arc::new(inner));
        let config = plugins.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<(String, PathBuf)> =
            config.iter().map(|(id, plugin)| (id.clone(), plugin.path.clone())).collect();
        all.extend(plugins.0.grants.installed().into_iter().filter(|(id, _)| !config.contains_key(id)));
        for (id, folder) in all {
            plugins.add(&id, &folder);
        }
        Ok(plugins)
    }

    /// Drains and ends all of them, at once.
    pub async fn close(&self) {
        let all: Vec<Arc<Entry>> = std::mem::take(&mut *self.0.plugins.write().unwrap_or_else(PoisonError::into_inner))
            .into_values()
            .collect();
        let mut waits = Vec::new();
        for entry in &all {
            let (reply, stopped) = oneshot::channel();
            if entry.plugin.orders.send(Order::Stop(reply)).await.is_ok() {
                waits.push(stopped);
            }
        }
        for stopped in waits {
            let _ = stopped.await;
        }
        self.0.audit.flush();
    }

    fn configured(&self, id: &str) -> Option<Arc<PluginConfig>> {
        self.0.config.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn spec(&self, id: &str, folder: &Path) -> Spec {
        self.spec_of(id, folder, self.configured(id).as_deref())
    }

    fn spec_of(&self, id: &str, folder: &Path, configured: Option<&PluginConfig>) -> Spec {
        let kept = self.0.grants.of(id).granted;
        let granted = match configured.map(|plugin| &plugin.grant) {
            Some(Grant::Word(All::All)) => None,
            Some(Grant::These(these)) => Some(these.joined(&kept)),
            None => Some(kept),
        };
        let data = self.0.folder.join("data").join(id);
        let folder = match configured.and_then(|plugin| plugin.mcp.as_ref()) {
            // An MCP server is started where it keeps what it keeps.
            Some(_) => data.clone(),
            None => folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        };
        Spec {
            id: id.into(),
            data,
            granted,
            config: configured.map(|plugin| plugin.config.clone()).unwrap_or_default(),
            secrets: configured.map(|plugin| plugin.secrets.clone().into_iter().collect()).unwrap_or_default(),
            sandbox: configured.map(|plugin| plugin.sandbox).unwrap_or_default(),
            mcp: configured.and_then(|plugin| plugin.mcp.clone()),
            folder,
        }
    }

    /// What the operator's file says of a plugin now; nothing if it was installed.
    fn read_again(&self, id: &str) -> Result<Option<Arc<PluginConfig>>, Error> {
        let (Some(old), Some(file)) = (self.configured(id), &self.0.file) else { return Ok(self.configured(id)) };
        let refused = |why: &str| Error::precondition("PLUGIN_REFUSED", format!("plugin `{id}` {why}"));
        let new = Config::read(file)?.plugins.remove(id);
        let new =
            new.ok_or_else(|| refused("is not in plugins.yaml any more; start the server again to be rid of it"))?;
        if !new.enabled {
            return Err(refused(
                "is disabled in plugins.yaml; set `enabled: true`, or start the server again to end it",
            ));
        }
        if new.path != old.path || new.mcp.is_some() != old.mcp.is_some() {
            return Err(refused("comes from another place in plugins.yaml now; start the server again"));
        }
        Ok(Some(Arc::new(new)))
    }

    /// Whether an agent may call an operation. Steps of workflows, which are the mesh's own (`call@mesh`), are not asked.
    fn permit(&self, name: &OperationName, agent: Option<&str>) -> Result<(), Error> {
        let Some(agent) = agent.filter(|agent| !agent.contains('@')) else { return Ok(()) };
        let configured = self.configured(&name.plugin);
        match configured.as_ref().and_then(|plugin| plugin.agents.as_ref()) {
            Some(agents) => agents.permit(agent, name),
            None => Ok(()),
        }
    }

    fn add(&self, id: &str, folder: &Path) -> Arc<Entry> {
        let spec = self.spec(id, folder);
        if spec.mcp.is_some()
            && let Err(error) = std::fs::create_dir_all(&spec.data)
        {
            tracing::error!(plugin = id, %error, "it gets no folder");
        }
        let enabled = self.configured(id).is_none_or(|plugin| plugin.enabled);
        let folder = spec.folder.clone();
        let entry = Arc::new(Entry { plugin: supervise(spec, enabled, self.0.around.clone()), folder });
        let mut plugins = self.0.plugins.write().unwrap_or_else(PoisonError::into_inner);
        plugins.insert(id.into(), entry.clone());
        entry
    }

    fn get(&self, id: &str) -> Result<Arc<Entry>, Error> {
        let plugins = self.0.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(id).cloned().ok_or_else(|| {
            let near = consort_core::workflow::nearest(id, plugins.keys().map(|id| &**id));
            let hint = match near {
                Some(near) => format!("; did you mean `{near}`?"),
                None if plugins.is_empty() => {
                    "; this server has none: name some in plugins.yaml, or use `consort plugins install`".to_owned()
                }
                None => format!("; there are {}", plugins.keys().map(|id| &**id).collect::<Vec<_>>().join(", ")),
            };
            Error::new(Kind::NotFound, "NOT_FOUND", format!("there is no plugin `{id}`{hint}"))
        })
    }

    /// Waits until a plugin that was started has come up, or has not.
    async fn settled(&self, entry: &Entry) -> Result<(), Error> {
        let mut phase = entry.plugin.phase.clone();
        let waited = phase.wait_for(|phase| !matches!(phase, Phase::Starting));
        let now = tokio::time::timeout(PATIENCE, waited).await;
        match now {
            Ok(Ok(phase)) => match &*phase {
                Phase::Refused(error) => Err(Error::clone(error)),
                Phase::BackingOff(why) | Phase::Crashing(why) => Err(Error::precondition("PLUGIN_START", why.clone())),
                _ => Ok(()),
            },
            _ => Err(Error::unavailable("the plugin is still starting", Duration::from_secs(1))),
        }
    }

    fn view(&self, id: &Arc<str>, entry: &Entry) -> PluginView {
        let phase = entry.plugin.phase.borrow().clone();
        let live = match &phase {
            Phase::Running(live) => Some(live.clone()),
            _ => None,
        };
        let stats = &entry.plugin.stats;
        // In a sandbox the program is a child of its keeper.
        let seen = live.as_ref().map(|live| {
            let pid = live.running.pid;
            if live.sandbox.is_empty() {
                Usage { program: pid, processes: 1, resident_bytes: memory(pid) }
            } else {
                usage(pid)
            }
        });
        let spec = self.spec(id, &entry.folder);
        let manifest = live.as_ref().map(|live| live.manifest.clone()).or_else(|| Manifest::read(&entry.folder).ok());
        let wanted = manifest.as_ref().map(|manifest| manifest.wanted(&entry.folder, &spec.data)).unwrap_or_default();
        let operations = live.iter().flat_map(|live| live.hello.operations.values());
        let order = std::sync::atomic::Ordering::Relaxed;
        PluginView {
            id: id.clone(),
            description: live
                .as_ref()
                .map(|live| live.hello.description.clone())
                .filter(|said| !said.is_empty())
                .or_else(|| manifest.as_ref().map(|manifest| manifest.description.clone()))
                .unwrap_or_default(),
            version: manifest.as_ref().map(|manifest| manifest.version.as_str().into()).unwrap_or_default(),
            state: phase.state(),
            reason: phase.reason(),
            operations: operations.map(|contract| contract.operation.clone()).collect(),
            granted: live.as_ref().map(|live| live.granted.clone()).or(spec.granted).unwrap_or_else(|| wanted.clone()),
            wanted,
            restarts: stats.restarts.load(order),
            calls: stats.calls.load(order),
            failures: stats.failures.load(order),
            in_flight: stats.in_flight.load(order),
            latency: stats.latency(),
            memory: seen.map(|seen| seen.resident_bytes).unwrap_or_default(),
            pid: seen.map(|seen| seen.program),
            started_at: live.as_ref().map(|live| live.started_at),
            source: entry.folder.display().to_string(),
            language: manifest.map(|manifest| manifest.language).unwrap_or_default(),
            digest: live.as_ref().map(|live| live.digest.clone()).unwrap_or_default(),
            sandbox: live.map(|live| live.sandbox.clone()).unwrap_or_default(),
        }
    }
}

#[async_trait]
impl consort_core::plugin::Plugins for Plugins {
    async fn describe(&self, name: &OperationName, agent: Option<&str>) -> Result<Arc<Operation>, Error> {
        let entry = self.get(&name.plugin)?;
        self.permit(name, agent)?;
        let until = Deadline::now() + Duration::from_secs(30);
        let live = call::live(&mut entry.plugin.phase.clone(), &name.plugin, until).await?;
        call::contract(&live, &name.operation).map(|contract| contract.operation.clone())
    }

    async fn invoke(&self, call: Invoke) -> Result<Box<dyn Invocation>, Error> {
        let entry = self.get(&call.operation.plugin)?;
        self.permit(&call.operation, call.origin.agent.as_deref())?;
        let caller = Caller {
            blobs: self.0.blobs.clone(),
            audit: self.0.audit.clone(),
            stats: entry.plugin.stats.clone(),
            phase: entry.plugin.phase.clone(),
        };
        Ok(Box::new(call::begin(caller, call).await?))
    }

    fn list(&self) -> Vec<PluginView> {
        let all = self.0.plugins.read().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().map(|(id, entry)| self.view(id, entry)).collect()
    }

    async fn install(&self, folder: &Path, grant: bool, only_check: bool) -> Result<PluginView, Error> {
        if !folder.is_absolute() {
            return Err(Error::bad_field("folder", format!("`{}` is no absolute path", folder.display())));
        }
        let folder = folder
            .canonicalize()
            .map_err(|error| Error::bad_field("folder", format!("`{}`: {error}", folder.display())))?;
        let manifest = Manifest::read(&folder)?;
        let id = manifest.id.clone();
        if let Some(configured) = self.configured(&id) {
            let said =
                format!("plugin `{id}` is in plugins.yaml, from `{}`; change it there", configured.path.display());
            return Err(Error::new(Kind::AlreadyExists, "PLUGIN_EXISTS", said));
        }
        let old = self.get(&id).ok();
        if let Some(old) = old.as_ref().filter(|old| old.folder != folder) {
            let said = format!("there is a plugin `{id}` from `{}`; uninstall it first", old.folder.display());
            return Err(Error::new(Kind::AlreadyExists, "PLUGIN_EXISTS", said));
        }
        let count = self.0.plugins.read().unwrap_or_else(PoisonError::into_inner).len();
        if old.is_none() && count >= MOST {
            let said = format!("the mesh has {MOST} plugins, the most it may have");
            return Err(Error::new(Kind::ResourceExhausted, "TOO_MANY_PLUGINS", said));
        }
        let spec = self.spec(&id, &folder);
        let wanted = manifest.wanted(&folder, &spec.data);
        let mut kept = Kept { folder: Some(folder.clone()), granted: spec.granted.unwrap_or_default() };
        let beyond = manifest.required(&folder, &spec.data).beyond(&kept.granted);
        if !grant && !beyond.is_empty() {
            let said = format!("plugin `{id}` wants {}; install it with `--grant` to allow that", beyond.join(", "));
            return Err(Error::precondition("PERMISSIONS_WANTED", said));
        }
        if only_check {
            return Ok(PluginView {
                id: id.as_str().into(),
                description: manifest.description.clone(),
                version: manifest.version.as_str().into(),
                state: PluginState::Disabled,
                reason: "only checked".to_owned(),
                operations: Vec::new(),
                granted: kept.granted,
                wanted,
                restarts: 0,
                calls: 0,
                failures: 0,
                in_flight: 0,
                latency: None,
                memory: 0,
                pid: None,
                started_at: None,
                source: folder.display().to_string(),
                language: manifest.language,
                digest: String::new(),
                sandbox: Vec::new(),
            });
        }
        if grant {
            kept.granted = kept.granted.joined(&wanted);
        }
        self.0.grants.set(&id, Some(kept))?;
        if old.is_some() {
            return consort_core::plugin::Plugins::reload(self, &id, false).await;
        }
        let entry = self.add(&id, &folder);
        self.settled(&entry).await?;
        Ok(self.view(&id.as_str().into(), &entry))
    }

    async fn uninstall(&self, id: &str) -> Result<(), Error> {
        let entry = self.get(id)?;
        if self.configured(id).is_some() {
            let said = format!("plugin `{id}` is in plugins.yaml; take it out there, or set `enabled: false`");
            return Err(Error::precondition("PLUGIN_CONFIGURED", said));
        }
        self.0.grants.set(id, None)?;
        self.0.plugins.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        let (reply, stopped) = oneshot::channel();
        if entry.plugin.orders.send(Order::Stop(reply)).await.is_ok() {
            let _ = stopped.await;
        }
        Ok(())
    }

    async fn reload(&self, id: &str, grant: bool) -> Result<PluginView, Error> {
        let entry = self.get(id)?;
        let configured = self.read_again(id)?;
        let is_mcp = configured.as_ref().is_some_and(|plugin| plugin.mcp.is_some());
        if grant && !is_mcp {
            let manifest = Manifest::read(&entry.folder)?;
            let wanted = manifest.wanted(&entry.folder, &self.0.folder.join("data").join(id));
            let kept = self.0.grants.of(id);
            self.0.grants.set(id, Some(Kept { granted: kept.granted.joined(&wanted), ..kept }))?;
        }
        let (reply, done) = oneshot::channel();
        let spec = self.spec_of(id, &entry.folder, configured.as_deref());
        let order = Order::Reload(Box::new(spec), reply);
        let gone = || Error::unavailable(format!("plugin `{id}` is stopping"), Duration::from_secs(1));
        entry.plugin.orders.send(order).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())??;
        if let Some(configured) = configured {
            let mut config = self.0.config.write().unwrap_or_else(PoisonError::into_inner);
            config.insert(id.to_owned(), configured);
        }
        self.settled(&entry).await?;
        Ok(self.view(&entry.plugin.id, &entry))
    }

    fn actions(&self, plugin: Option<&str>, below: Option<u64>, most: usize) -> Vec<PluginAction> {
        self.0.audit.list(plugin, below, most)
    }
}
