//! Trying a plugin in process: no mesh, no socket, the same code.
//!
//! ```
//! # use consort_sdk::plugin::schemars::{self, JsonSchema};
//! # use consort_sdk::plugin::{Call, Operation, Plugin, testing};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Deserialize, Serialize, JsonSchema)]
//! # struct Text { text: String }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let plugin = Plugin::new("loud", "1.0.0").operation(
//!     Operation::read("shout", "In capitals."),
//!     |_: Call, input: Text| async move { Ok(Text { text: input.text.to_uppercase() }) },
//! );
//! let done = testing::invoke(&plugin, "shout", serde_json::json!({"text": "hello"})).await.unwrap();
//! assert_eq!(done.output, serde_json::json!({"text": "HELLO"}));
//! # }
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use consort_proto::blob::payload;
use consort_proto::plugin as wire;
use consort_proto::plugin::invoke_response::Kind;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Code;

use super::builder::Plugin;
use super::fault::Fault;
use super::host::{Host, Port};
use super::service::Service;
use super::{Level, Permissions};

/// Calls an operation of a plugin that has the configuration `{}` and no permissions.
pub async fn invoke(plugin: &Plugin, operation: &str, input: Value) -> Result<Done, Fault> {
    Bench::new(plugin).invoke(operation, input).await
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The output; null if there are `bytes`.
    pub output: Value,
    /// What was written with [`Call::writer`](super::Call::writer), and its media type.
    pub bytes: Option<(Bytes, String)>,
    /// Progress in order: fraction and message.
    pub progress: Vec<(f64, String)>,
    /// Log lines in order.
    pub logs: Vec<(Level, String)>,
    /// What a dry run would do.
    pub would: Vec<String>,
    /// What was done.
    pub actions: Vec<String>,
}

impl Done {
    /// The output as a type.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        super::handler::read(&self.output.to_string(), "output")
    }
}

/// A mesh of one plugin, for tests: configuration, permissions, secrets, and kept state and events to look at.
pub struct Bench {
    plugin: Plugin,
    config: Value,
    granted: Permissions,
    dry_run: bool,
    idempotency_key: String,
    timeout: Option<Duration>,
    host: Arc<FakeHost>,
}

impl Bench {
    /// A bench for a plugin.
    pub fn new(plugin: &Plugin) -> Bench {
        Bench {
            plugin: plugin.clone(),
            config: Value::Object(serde_json::Map::new()),
            granted: Permissions::default(),
            dry_run: false,
            idempotency_key: String::new(),
            timeout: None,
            host: Arc::default(),
        }
    }

    /// Sets the configuration.
    pub fn config(mut self, config: Value) -> Bench {
        self.config = config;
        self
    }

    /// Sets what is granted.
    pub fn granted(mut self, granted: Permissions) -> Bench {
        self.granted = granted;
        self
    }

    /// Makes the next calls dry runs.
    pub fn dry_run(mut self, dry_run: bool) -> Bench {
        self.dry_run = dry_run;
        self
    }

    /// Sets the idempotency key of the next calls.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Bench {
        self.idempotency_key = key.into();
        self
    }

    /// Sets how long the next calls may take.
    pub fn timeout(mut self, timeout: Duration) -> Bench {
        self.timeout = Some(timeout);
        self
    }

    /// Gives the plugin a secret.
    pub fn secret(self, name: impl Into<String>, value: impl Into<String>) -> Bench {
        self.host.lock().secrets.insert(name.into(), value.into());
        self
    }

    /// What the plugin keeps.
    pub fn state(&self) -> BTreeMap<String, Bytes> {
        self.host.lock().state.clone()
    }

    /// What the plugin published: name and data.
    pub fn events(&self) -> Vec<(String, Value)> {
        self.host.lock().events.clone()
    }

    /// Calls an operation. Fails as the call does, and if the plugin is built wrongly or refuses its configuration.
    pub async fn invoke(&self, operation: &str, input: Value) -> Result<Done, Fault> {
        self.plugin.check().map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        let service = Service::new(self.plugin.clone(), Host(self.host.clone()));
        service.settle(Some(self.config.to_string()), self.granted.clone())?;
        let request = wire::InvokeRequest {
            operation: operation.to_owned(),
            input: Some(crate::payload::text(input.to_string())),
            call_id: uuid::Uuid::new_v4().to_string(),
            idempotency_key: self.idempotency_key.clone(),
            dry_run: self.dry_run,
            origin: None,
        };
        let mut answers = service.begin(request, self.timeout)?;
        let (mut done, mut bytes) = (Done::default(), None::<Vec<u8>>);
        while let Some(message) = answers.next().await {
            match message?.kind {
                Some(Kind::Progress(progress)) => done.progress.push((progress.fraction, progress.message)),
                Some(Kind::Log(log)) => done.logs.push((level(&log.level), log.message)),
                Some(Kind::Chunk(chunk)) => bytes.get_or_insert_default().extend_from_slice(&chunk),
                Some(Kind::Result(result)) => {
                    if let Some(payload::Kind::Json(text)) = result.output.and_then(|output| output.kind) {
                        done.output = serde_json::from_str(&text)?;
                    }
                    match bytes.take() {
                        Some(bytes) if result.media_type == "application/json" => {
                            done.output = serde_json::from_slice(&bytes)?;
                        }
                        bytes => done.bytes = bytes.map(|bytes| (bytes.into(), result.media_type)),
                    }
                    (done.would, done.actions) = (result.would, result.actions);
                }
                None => {}
            }
        }
        Ok(done)
    }
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

fn level(name: &str) -> Level {
    let levels = [Level::Debug, Level::Info, Level::Warn];
    levels.into_iter().find(|level| level.as_str() == name).unwrap_or(Level::Error)
}

/// A mesh in memory.
#[derive(Default)]
struct FakeHost(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    secrets: BTreeMap<String, String>,
    state: BTreeMap<String, Bytes>,
    events: Vec<(String, Value)>,
}

impl FakeHost {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Port for FakeHost {
    async fn get_secret(&self, name: String) -> Result<String, Fault> {
        let value = self.lock().secrets.get(&name).cloned();
        value.ok_or_else(|| Fault::permission_denied(format!("`{name}` is not granted; add it with `Bench::secret`")))
    }

    async fn get_state(&self, key: String) -> Result<Option<Bytes>, Fault> {
        Ok(self.lock().state.get(&key).cloned())
    }

    async fn put_state(&self, key: String, value: Bytes) -> Result<(), Fault> {
        let mut kept = self.lock();
        if value.is_empty() {
            kept.state.remove(&key);
        } else {
            kept.state.insert(key, value);
        }
        Ok(())
    }

    async fn publish(&self, event: String, json: String) -> Result<String, Fault> {
        let data = serde_json::from_str(&json)?;
        self.lock().events.push((event, data));
        Ok(uuid::Uuid::new_v4().to_string())
    }
}
