//! Connecting to an MCP server: its version, and its tools.

use std::collections::HashSet;
use std::time::Duration;

use consort_core::Error;
use http::{HeaderName, HeaderValue};
use rmcp::RoleClient;
use rmcp::model::{PaginatedRequestParams, ProtocolVersion, Tool};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use crate::adapter::config::Config;
use crate::adapter::ears::Ears;
use crate::adapter::http::HttpClient;
use crate::adapter::stdio::{self, MESSAGE, Process};
use crate::adapter::words::cut;

/// Tools that are listed, with those that are not shown.
const LISTED: usize = 10_000;
/// Some servers add tools just after the start, and say so: how long is waited for that, and how often it is looked again.
const SETTLE: Duration = Duration::from_millis(150);
const LOOKS: usize = 3;
/// Calls whose answer over HTTP has not begun.
const POSTS: usize = 256;

/// A server that was reached.
pub(crate) struct Server {
    pub running: RunningService<RoleClient, Ears>,
    pub process: Option<Process>,
    pub ears: Ears,
}

/// Starts or reaches the server, and agrees on a version: the current one, or the newest that an older server knows.
pub(crate) async fn connect(config: &Config) -> Result<Server, Error> {
    let ears = Ears::default();
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    if config.command.is_empty() {
        let transport = over_http(config)?;
        let running = ears.clone().serve_with_lifecycle(transport, lifecycle).await;
        let running = running.map_err(|error| unreached(&format!("`{}`", config.url), &error, ""))?;
        return Ok(Server { running, process: None, ears });
    }
    let (process, transport) = stdio::start(config)?;
    match ears.clone().serve_with_lifecycle(transport, lifecycle).await {
        Ok(running) => Ok(Server { running, process: Some(process), ears }),
        Err(error) => {
            // Its last words may still be on their way.
            let how = tokio::time::timeout(Duration::from_millis(200), process.ended()).await;
            let how = how.map(|how| format!("; it ended: {how}")).unwrap_or_default();
            let last = process.words.last();
            let words = if last.is_empty() { how } else { format!("{how}; it said: {last}") };
            Err(unreached(&format!("`{}`", config.command.join(" ")), &error, &words))
        }
    }
}

fn unreached(what: &str, error: &ClientInitializeError, more: &str) -> Error {
    let shown = error.to_string();
    let said = format!("the MCP server {what} did not come up: {}{more}", cut(&shown, 1_000));
    Error::precondition("MCP_START", said)
}

fn over_http(config: &Config) -> Result<StreamableHttpClientTransport<HttpClient>, Error> {
    let mut settings = StreamableHttpClientTransportConfig::with_uri(config.url.clone()).max_concurrent_requests(POSTS);
    settings.max_sse_event_size = MESSAGE;
    for (name, value) in &config.headers {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        else {
            continue; // checked when the configuration was read
        };
        // Any of them may be a secret.
        value.set_sensitive(true);
        settings.custom_headers.insert(name, value);
    }
    Ok(StreamableHttpClientTransport::with_client(HttpClient::new()?, settings))
}

/// All tools, once the server has them.
pub(crate) async fn tools(server: &Server) -> Result<Vec<Tool>, Error> {
    let capability = server.running.peer_info().and_then(|info| info.capabilities.tools.clone());
    let may_change = capability.is_some_and(|tools| tools.list_changed == Some(true));
    let mut tools = Vec::new();
    for _ in 0..LOOKS {
        let seen = server.ears.changes();
        tools = pages(server).await?;
        if may_change {
            tokio::time::sleep(SETTLE).await;
        }
        if server.ears.changes() == seen {
            break;
        }
    }
    Ok(tools)
}

async fn pages(server: &Server) -> Result<Vec<Tool>, Error> {
    let (mut tools, mut cursor, mut seen) = (Vec::new(), None::<String>, HashSet::new());
    loop {
        let page = cursor.clone().map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        let page = server.running.list_tools(page).await;
        let page = page.map_err(|error| {
            let said = error.to_string();
            Error::precondition("MCP_START", format!("the MCP server does not list its tools: {}", cut(&said, 1_000)))
        })?;
        tools.extend(page.tools);
        if tools.len() > LISTED {
            let said = format!("the MCP server lists more than {LISTED} tools, which is the limit");
            return Err(Error::precondition("MCP_TOO_MUCH", said));
        }
        match page.next_cursor.filter(|next| !next.is_empty()) {
            Some(next) if seen.insert(next.clone()) => cursor = Some(next),
            // A cursor that comes again leads round in a circle.
            _ => return Ok(tools),
        }
    }
}
