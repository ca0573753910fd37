//! The wiring of the server: one function, from settings to a clean end.
//!
//! Parse is done; here everything is built, then spawned, then waited for, then drained, in that order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use consort_api::{ApiOptions, Limits, bind, check_listen};
use consort_bus::{Bus, Groups};
use consort_core::keep::KeepStore;
use consort_core::model::UsageStore;
use consort_core::ports::Store;
use consort_engine::{Engine, Options, Policy};
use consort_store::{MemoryStore, SqliteStore};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::models::{self, ModelsFrom};
use crate::plugins::{self, PluginsFrom};

/// How a server runs.
#[derive(Clone, Debug)]
pub(crate) struct ServeOptions {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub data: PathBuf,
    /// Listen on an address that others can reach.
    pub insecure_no_auth: bool,
    /// Keep everything in memory.
    pub memory: bool,
    /// How long a lease lasts without renewal.
    pub lease_ttl: Duration,
    /// Open connections at most.
    pub max_connections: usize,
    /// Where the configuration of models is.
    pub models: ModelsFrom,
    /// Which plugins there are.
    pub plugins: PluginsFrom,
    /// What is pruned without anybody asking, and how often.
    pub policy: Option<(Policy, Duration)>,
}

/// One store behind three ports, and itself if it is on disk.
type Stores = (Arc<dyn Store>, Arc<dyn KeepStore>, Arc<dyn UsageStore>, Option<Arc<SqliteStore>>);

/// Serves until SIGTERM or SIGINT. A second signal ends at once.
pub(crate) async fn run(options: ServeOptions) -> anyhow::Result<()> {
    let began = Instant::now();
    check_listen(options.listen, options.insecure_no_auth)?;
    // Before anything can be served, so that no signal is lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let (store, keep, usage, disk): Stores = if options.memory {
        tracing::warn!("everything is kept in memory and lost when the server stops");
        let memory = Arc::new(MemoryStore::new());
        (memory.clone(), memory.clone(), memory, None)
    } else {
        let disk = Arc::new(SqliteStore::open(&options.data).await?);
        (disk.clone(), disk.clone(), disk.clone(), Some(disk))
    };
    // Before anybody writes: what a crash left half-way is finished.
    keep.settle().await?;
    let instance = format!("consort-{}", std::process::id());
    let bus = Bus::new(Arc::clone(&store) as Arc<_>).await?;
    #[cfg(debug_assertions)]
    let environment = crate::fail_point::environment()?;
    #[cfg(not(debug_assertions))]
    let environment = Arc::new(consort_engine::SystemEnvironment);
    let (lease_ttl, instance_name) = (options.lease_ttl, instance.clone());
    let engine_options = Options { instance: instance_name, lease_ttl, environment, ..Options::default() };
    let (stop_serving, stop_engine) = (CancellationToken::new(), CancellationToken::new());
    // What members hold when the front desk closes does not count as tried.
    let groups = Groups::new(bus.clone(), Arc::clone(&store), &instance, stop_serving.clone());
    let blobs = Arc::clone(&store);
    let (engine, service) = Engine::open(store, Arc::new(bus.clone()), engine_options).await?;
    engine.keep_in(keep);
    let models = models::open(&options.models, &options.data, usage).await?;
    if let Some(models) = &models {
        engine.use_models(Arc::new(models.router.clone()));
    }
    let (plugins, mcp) = match plugins::open(&options.plugins, &options.data, blobs, &engine)? {
        Some(opened) => (Some(opened.plugins), opened.mcp),
        None => (None, None),
    };
    if let Some(plugins) = &plugins {
        engine.use_plugins(Arc::new(plugins.clone()));
    }
    let listener = bind(options.listen).await?;
    let address = listener.address();

    let mut ledger = tokio::spawn(service.run(stop_engine.clone()));
    let pruning = options
        .policy
        .clone()
        .map(|(policy, every)| tokio::spawn(engine.clone().keep_pruned(policy, every, stop_serving.clone())));
    let any = models.is_some() || plugins.is_some();
    let own_steps = any.then(|| tokio::spawn(engine.clone().do_own_steps(stop_serving.clone())));
    let limits = Limits { connections: options.max_connections, ..Limits::default() };
    let openai = models.as_ref().map(|models| crate::http::openai(&models.router, &engine));
    let mcp = plugins
        .as_ref()
        .zip(mcp)
        .map(|(plugins, options)| crate::http::mcp(plugins, &engine, &bus, options, stop_serving.clone()));
    let http = crate::http::handler(openai, mcp);
    let api_options = ApiOptions { server: instance, limits, http };
    let mut api =
        tokio::spawn(consort_api::serve(listener, api_options, engine, bus, groups.clone(), stop_serving.clone()));

    let endpoint = Endpoint::write(&options, address)?;
    println!("consort {} ready on {address} in {} ms", env!("CARGO_PKG_VERSION"), began.elapsed().as_millis());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut api => bail!("the front desk ended by itself: {ended:?}"),
        ended = &mut ledger => bail!("the ledger ended by itself: {ended:?}"),
    }
    tracing::info!("stopping: no new calls; workers drain");
    drop(endpoint);
    stop_serving.cancel();
    let drained = async {
        api.await??;
        groups.stop().await;
        if let Some(pruning) = pruning {
            pruning.await?;
        }
        if let Some(own_steps) = own_steps {
            own_steps.await??;
        }
        if let Some(plugins) = plugins {
            plugins.close().await;
        }
        // Last, so that everything that was accepted is still decided and written.
        stop_engine.cancel();
        ledger.await?;
        if let Some(models) = models {
            models.close().await?;
        }
        // The last connection that closes moves the write-ahead log into the database.
        if let Some(disk) = disk {
            disk.close().await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        drained = drained => drained,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The file `endpoint` in the data folder: other commands find the server by it. It is removed when the server stops.
struct Endpoint(PathBuf);

impl Endpoint {
    fn write(options: &ServeOptions, address: SocketAddr) -> anyhow::Result<Endpoint> {
        let path = options.data.join("endpoint");
        let told = |path: &Path| format!("cannot write `{}`", path.display());
        std::fs::create_dir_all(&options.data).with_context(|| told(&options.data))?;
        // Whole or not at all: a reader never sees half an address.
        let draft = options.data.join("endpoint.new");
        std::fs::write(&draft, format!("{address}\n")).with_context(|| told(&draft))?;
        std::fs::rename(&draft, &path).with_context(|| told(&path))?;
        Ok(Endpoint(path))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // A file that is gone already is what we want.
        let _ = std::fs::remove_file(&self.0);
    }
}
