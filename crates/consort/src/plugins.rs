//! The plugins of a server: the operator's file, and the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use consort_core::event::Published;
use consort_core::ports::BlobStore;
use consort_core::{Data, Error, Json};
use consort_engine::Engine;
use consort_plugins::{Config, Events, HostParts, Options, Plugins, Sandboxes};
use consort_sandbox::{Launcher, Mechanisms};
use uuid::Uuid;

/// The file in the data folder that is read when none is named.
const FILE: &str = "plugins.yaml";

/// Where plugins are named.
#[derive(Clone, Debug)]
pub(crate) enum PluginsFrom {
    /// The file in the data folder, if there is one.
    Data,
    /// This file.
    File(PathBuf),
    /// No plugins at all.
    Nowhere,
}

/// The plugins, and what of them and of the mesh MCP clients may see.
pub(crate) struct Opened {
    /// The host.
    pub plugins: Plugins,
    /// How the MCP server is set; `None` if there shall be none.
    pub mcp: Option<consort_mcp::server::Options>,
}

/// Reads the configuration and starts what it names. `None` if there shall be no plugins.
pub(crate) fn open(
    from: &PluginsFrom,
    data: &Path,
    blobs: Arc<dyn BlobStore>,
    engine: &Engine,
) -> anyhow::Result<Option<Opened>> {
    let path = match from {
        PluginsFrom::Nowhere => return Ok(None),
        PluginsFrom::File(path) => Some(path.clone()),
        PluginsFrom::Data => Some(data.join(FILE)).filter(|path| path.exists()),
    };
    let path = path.map(std::path::absolute).transpose()?;
    let config = match &path {
        Some(path) => Config::read_with(path, |config| crate::mcp::options(&config.mcp).1)?,
        None => Config::default(),
    };
    let mcp = config.mcp.enabled.then(|| crate::mcp::options(&config.mcp).0);
    let exe = std::env::current_exe()?.to_string_lossy().into_owned();
    let events: Arc<dyn Events> = Arc::new(Publisher(engine.clone()));
    let folder = std::path::absolute(data.join("plugins"))?;
    let plugins = Plugins::open(Options {
        config,
        file: path,
        folder,
        blobs,
        host: HostParts { events: Some(events) },
        sandboxes: Arc::new(sandboxes()?),
        mcp: vec![exe, MCP.to_owned()],
    })?;
    Ok(Some(Opened { plugins, mcp }))
}

/// Sandboxes that this very program makes, when it is run as its own helper.
pub(crate) fn sandboxes() -> std::io::Result<Sandboxes> {
    Ok(Sandboxes::new(std::env::current_exe()?, &[SANDBOX]))
}

/// What this machine offers to hold plugins with; nothing, and the reason, if nobody can say.
pub(crate) fn mechanisms() -> Mechanisms {
    let found = std::env::current_exe().map_err(|error| error.to_string());
    match found.and_then(|exe| Launcher::new(exe, &[SANDBOX]).map_err(|error| error.to_string())) {
        Ok(launcher) => launcher.mechanisms().clone(),
        Err(reason) => Mechanisms { reason, ..Mechanisms::default() },
    }
}

/// The hidden command that serves an MCP server as a plugin.
pub(crate) const MCP: &str = "mcp-plugin";

/// The hidden command that makes a sandbox.
pub(crate) const SANDBOX: &str = "sandbox-init";

/// Publishes what plugins have to say, in the default namespace.
struct Publisher(Engine);

#[async_trait]
impl Events for Publisher {
    async fn publish(&self, event_type: String, subject: String, data: Json) -> Result<String, Error> {
        let event_id = Uuid::now_v7();
        let event = Published {
            event_id,
            event_type,
            event_version: 1,
            timestamp: jiff::Timestamp::now().as_millisecond(),
            source: "plugin".to_owned(),
            instance: subject.clone(),
            correlation_id: event_id,
            causation_id: None,
            namespace: "default".into(),
            subject,
            payload: Data::Inline(data),
            depth: 0,
        };
        self.0.publish(vec![event]).await?;
        Ok(event_id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/plugins.example.yaml");
        let config = Config::read(&path).unwrap();
        let manifest = consort_plugins::Manifest::read(&config.plugins["notify"].path).unwrap();
        assert_eq!(manifest.id, "notify");
        assert!(!config.plugins["experiments"].enabled && config.plugins["sql"].agents.is_some());
        // What the comments call the defaults are the defaults.
        let (options, wrong) = crate::mcp::options(&config.mcp);
        let default = consort_mcp::server::Options::default();
        assert_eq!((options.workflows, options.hosts, wrong.len()), (default.workflows, default.hosts, 0));
        assert_eq!(default.allow, ["read:*", "workflow_status"]);
    }
}
