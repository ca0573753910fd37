//! PluginService over a plugin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_server::PluginService;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::builder::Plugin;
use super::call::{Call, Inner, Lines};
use super::fault::Fault;
use super::host::Host;
use super::run::{self, Answers};
use super::settings::Settings;
use crate::payload::from_protobuf;

/// Messages that wait for a slow mesh; each has at most 1 MiB.
const NEWS: usize = 8;
/// Time that cancelled calls have to end when the plugin is drained.
const LAST: Duration = Duration::from_secs(2);

/// A plugin in work.
pub(super) struct Service {
    plugin: Plugin,
    host: Host,
    settings: Mutex<Option<Arc<Settings>>>,
    permits: Arc<Semaphore>,
    draining: AtomicBool,
    /// Cancels all calls.
    all: CancellationToken,
}

impl Service {
    pub(super) fn new(plugin: Plugin, host: Host) -> Service {
        Service {
            permits: Arc::new(Semaphore::new(plugin.at_once.clamp(1, Semaphore::MAX_PERMITS))),
            plugin,
            host,
            settings: Mutex::default(),
            draining: AtomicBool::new(false),
            all: CancellationToken::new(),
        }
    }

    /// Takes what the operator set: JSON text of the configuration, and what is granted.
    pub(super) fn settle(&self, config: Option<String>, granted: wire::Permissions) -> Result<(), Fault> {
        let config = match &self.plugin.config {
            Some(known) => Some((known.settle)(config.as_deref().unwrap_or("{}"), &granted)?),
            None => None,
        };
        let settings = Arc::new(Settings { config, granted });
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
        Ok(())
    }

    /// Begins a call.
    pub(super) fn begin(&self, request: wire::InvokeRequest, timeout: Option<Duration>) -> Result<Answers, Fault> {
        let wire::InvokeRequest { operation, input, call_id, idempotency_key, dry_run, origin } = request;
        let Some(registered) = self.plugin.operations.get(&operation) else {
            let known: Vec<_> = self.plugin.operations.keys().take(20).map(String::as_str).collect();
            let (name, known) = (&self.plugin.name, known.join(", "));
            return Err(Fault::not_found(format!("plugin `{name}` has no operation `{operation}`; it has {known}")));
        };
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let settings = settings.ok_or_else(|| Fault::precondition("the plugin waits for Configure"))?;
        if dry_run && !registered.operation.dry_run {
            return Err(Fault::precondition(format!(
                "`{operation}` cannot say what it would do; call it without dry_run"
            )));
        }
        let input = run::input(input)?;
        self.check_draining()?;
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let said =
                format!("plugin `{}` does {} calls already; try again later", self.plugin.name, self.plugin.at_once);
            return Err(Fault::new(Code::ResourceExhausted, said).retry_after(Duration::from_secs(1)));
        };
        // After the permit: Drain waits for all of them.
        self.check_draining()?;
        let (news, messages) = mpsc::channel(NEWS);
        let cancel = self.all.child_token();
        let answers = Answers::new(messages, cancel.clone().drop_guard());
        let call = Call {
            inner: Arc::new(Inner {
                operation,
                call_id,
                idempotency_key,
                dry_run,
                origin: origin.unwrap_or_default(),
                deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
                cancel,
                news,
                would: Lines::default(),
                did: Lines::default(),
                stage: Mutex::default(),
                settings,
                host: self.host.clone(),
                _permit: permit,
            }),
        };
        tokio::spawn(run::perform(call, registered.handler.clone(), input));
        Ok(answers)
    }

    fn check_draining(&self) -> Result<(), Fault> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Fault::new(Code::Unavailable, format!("plugin `{}` is stopping", self.plugin.name)));
        }
        Ok(())
    }

    /// Takes nothing new, waits for what is in work, and cancels what is left; how many that were.
    pub(super) async fn drain(&self, grace: Duration) -> usize {
        self.draining.store(true, Ordering::SeqCst);
        let most = self.plugin.at_once.clamp(1, Semaphore::MAX_PERMITS);
        let idle = || self.permits.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
        if tokio::time::timeout(grace, idle()).await.is_ok() {
            return 0;
        }
        let left = most - self.permits.available_permits();
        self.all.cancel();
        let _ = tokio::time::timeout(LAST, idle()).await;
        left
    }

    /// Cancels everything.
    pub(super) fn end(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.all.cancel();
    }
}

/// What serves, and what is told when the plugin is drained.
pub(super) struct Served {
    pub(super) service: Arc<Service>,
    pub(super) health: tonic_health::server::HealthReporter,
}

#[tonic::async_trait]
impl PluginService for Served {
    type InvokeStream = Answers;

    async fn hello(&self, _: Request<wire::HelloRequest>) -> Result<Response<wire::HelloResponse>, Status> {
        Ok(Response::new(self.service.plugin.hello()))
    }

    async fn configure(
        &self,
        request: Request<wire::ConfigureRequest>,
    ) -> Result<Response<wire::ConfigureResponse>, Status> {
        let wire::ConfigureRequest { config, permissions } = request.into_inner();
        let text = config.map(|config| {
            let kind = Some(prost_types::value::Kind::StructValue(config));
            from_protobuf(prost_types::Value { kind }).to_string()
        });
        self.service.settle(text, permissions.unwrap_or_default()).map_err(Fault::into_status)?;
        Ok(Response::new(wire::ConfigureResponse {}))
    }

    async fn invoke(&self, request: Request<wire::InvokeRequest>) -> Result<Response<Answers>, Status> {
        let timeout = run::timeout(request.metadata());
        self.service.begin(request.into_inner(), timeout).map(Response::new).map_err(Fault::into_status)
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        let mut grace = match request.get_ref().grace {
            Some(grace) => Duration::try_from(grace).unwrap_or_default(),
            None => Duration::from_secs(30),
        };
        if let Some(left) = run::timeout(request.metadata()) {
            grace = grace.min(left.saturating_sub(LAST));
        }
        let cancelled = self.service.drain(grace).await;
        Ok(Response::new(wire::DrainResponse { cancelled: i32::try_from(cancelled).unwrap_or(i32::MAX) }))
    }
}
