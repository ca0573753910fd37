//! What a server says without being asked: progress and logs go to the calls they belong to.
#![expect(deprecated, reason = "2026-07-28 has no more logs, and older servers have no other way")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use consort_proto::plugin as wire;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ProgressToken, ProtocolVersion, SetLevelRequestParams,
};
use rmcp::service::NotificationContext;
use rmcp::{ClientHandler, RoleClient};
use tokio::sync::{Mutex, mpsc};
use tonic::Status;
use wire::invoke_response::Kind;

use crate::adapter::connect::Server;
use crate::adapter::words::cut;

/// Bytes of a progress or log line.
const LINE: usize = 8 * 1024;
/// How long a server may take to be told what logs are wanted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages of a call. What does not fit because its reader is slow is left out: only results must arrive.
pub(crate) type News = mpsc::Sender<Result<wire::InvokeResponse, Status>>;

/// Who listens.
#[derive(Clone, Default)]
pub(crate) struct Ears(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Locked while a call is sent, so that its progress cannot come before it is known.
    calls: Mutex<HashMap<ProgressToken, Call>>,
    changes: AtomicU64,
}

struct Call {
    news: News,
    /// How far it was: notifications may overtake each other.
    last: f64,
}

impl Ears {
    /// Sends a call, and listens for it.
    pub(crate) async fn listen<F, T, E>(&self, news: News, send: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        T: Sent,
    {
        let mut calls = self.0.calls.lock().await;
        let sent = send.await?;
        calls.insert(sent.token(), Call { news, last: f64::NEG_INFINITY });
        Ok(sent)
    }

    pub(crate) async fn forget(&self, token: &ProgressToken) {
        self.0.calls.lock().await.remove(token);
    }

    /// How often the server said that its tools changed.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

/// A call that was sent.
pub(crate) trait Sent {
    fn token(&self) -> ProgressToken;
}

impl Sent for rmcp::service::RequestHandle<RoleClient> {
    fn token(&self) -> ProgressToken {
        self.progress_token.clone()
    }
}

impl ClientHandler for Ears {
    fn get_info(&self) -> ClientConfig {
        // Nothing can be asked back of the mesh through a plugin: no sampling, no elicitation, no roots.
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("consort", env!("CARGO_PKG_VERSION")))
    }

    async fn on_progress(&self, said: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let mut calls = self.0.calls.lock().await;
        let Some(call) = calls.get_mut(&said.progress_token) else { return };
        if said.progress < call.last {
            return;
        }
        call.last = said.progress;
        let fraction = match said.total {
            Some(total) if total > 0.0 => (said.progress / total).clamp(0.0, 1.0),
            _ => -1.0,
        };
        let message = cut(said.message.as_deref().unwrap_or_default(), LINE).to_owned();
        // Left out if nobody reads.
        let _ = call.news.try_send(Ok(response(Kind::Progress(wire::Progress { fraction, message }))));
    }

    async fn on_logging_message(&self, said: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        let level = match said.level {
            LoggingLevel::Debug => "debug",
            LoggingLevel::Info | LoggingLevel::Notice => "info",
            LoggingLevel::Warning => "warn",
            _ => "error",
        };
        let text = match said.data {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let message = cut(&text, LINE).to_owned();
        let calls = self.0.calls.lock().await;
        // MCP does not say whose log it is. Of several calls in work it could be anyone's.
        match calls.values().next() {
            Some(call) if calls.len() == 1 => {
                let time = Some(prost_types::Timestamp::from(SystemTime::now()));
                let log = wire::Log { time, level: level.to_owned(), message };
                let _ = call.news.try_send(Ok(response(Kind::Log(log))));
            }
            _ => eprintln!("{level}: {}", message.replace(|c: char| c.is_control() && c != '\t', " ")),
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks an older server for its logs.
pub(crate) async fn want_logs(server: &Server) {
    let Some(info) = server.running.peer_info() else { return };
    if info.capabilities.logging.is_some() && info.protocol_version < ProtocolVersion::V_2026_07_28 {
        let set = server.running.set_level(SetLevelRequestParams::new(LoggingLevel::Info));
        // Logs are a courtesy.
        let _ = tokio::time::timeout(PATIENCE, set).await;
    }
}

/// A message of a call.
pub(crate) fn response(kind: Kind) -> wire::InvokeResponse {
    wire::InvokeResponse { kind: Some(kind) }
}
