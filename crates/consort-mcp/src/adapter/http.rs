//! An MCP server at a URL: the HTTP below streamable HTTP, over the TLS that the rest of the mesh has. Redirects are not followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consort_core::Error;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};

use crate::adapter::stdio::MESSAGE;

/// Bytes of an error's body that are read.
const ERROR_BODY: usize = 64 * 1024;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
const SESSION: &str = "mcp-session-id";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// What went wrong below MCP.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(String);

type Fault = StreamableHttpError<HttpError>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// A client; cloning shares its connections.
#[derive(Clone)]
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient {
    /// Trusts what the system trusts.
    pub(crate) fn new() -> Result<HttpClient, Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector.wrap_connector(http));
        Ok(HttpClient(client))
    }

    async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::builder().method(call.method).uri(call.uri);
        let headers = request.headers_mut().ok_or_else(|| fault("the address is none"))?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let value =
            |text: &str| HeaderValue::try_from(text).map_err(|_| fault("a value of a header has control characters"));
        if let Some(token) = &call.token {
            headers.insert(AUTHORIZATION, value(&format!("Bearer {token}"))?);
        }
        headers.extend(call.headers);
        if let Some(session) = &call.session {
            headers.insert(SESSION, value(session)?);
        }
        if let Some(last) = &call.last_event {
            headers.insert("last-event-id", value(last)?);
        }
        let request =
            request.body(Full::new(call.body.unwrap_or_default())).map_err(|error| fault(error.to_string()))?;
        self.0.request(request).await.map_err(|error| {
            let mut said = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(deeper) = cause {
                said = format!("{said}: {deeper}");
                cause = deeper.source();
            }
            fault(said)
        })
    }
}

struct Call<'a> {
    method: Method,
    uri: &'a str,
    body: Option<Bytes>,
    session: Option<Arc<str>>,
    last_event: Option<String>,
    token: Option<String>,
    headers: HashMap<HeaderName, HeaderValue>,
}

fn fault(said: impl Into<String>) -> Fault {
    StreamableHttpError::Client(HttpError(said.into()))
}

impl StreamableHttpClient for HttpClient {
    type Error = HttpError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        self.post_message_with_max_sse_event_size(uri, message, session, token, headers, MESSAGE).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        most: usize,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        let body = Some(Bytes::from(serde_json::to_vec(&message)?));
        let in_session = session.is_some();
        let call = Call { method: Method::POST, uri: &uri, body, session, last_event: None, token, headers };
        let answer = self.send(call).await?;
        let status = answer.status();
        let answer = welcome(answer)?;
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && in_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return refused(answer, &message, in_session).await;
        }
        let is_request = matches!(message, ClientJsonRpcMessage::Request(_));
        let empty = answer.headers().get(CONTENT_LENGTH).is_some_and(|length| length == "0");
        if empty && !is_request {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = answer.headers().get(SESSION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let kind = kind_of(&answer);
        if kind.starts_with(EVENTS) {
            return Ok(StreamableHttpPostResponse::Sse(events(answer, most), session));
        }
        if !kind.starts_with(JSON) {
            return Err(StreamableHttpError::UnexpectedContentType(Some(kind)));
        }
        let body = read(answer, MESSAGE).await?;
        match serde_json::from_slice::<ServerJsonRpcMessage>(&body) {
            Ok(message) => Ok(StreamableHttpPostResponse::Json(message, session)),
            Err(_) if !is_request => Ok(StreamableHttpPostResponse::Accepted),
            Err(error) => Err(StreamableHttpError::Deserialize(error)),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Fault> {
        let session = Some(session);
        let call = Call { method: Method::DELETE, uri: &uri, body: None, session, last_event: None, token, headers };
        let answer = self.send(call).await?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportDeleteSession),
            status if status.is_success() => Ok(()),
            status => Err(fault(format!("HTTP {status}"))),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Fault> {
        self.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, MESSAGE).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        most: usize,
    ) -> Result<Events, Fault> {
        let call = Call { method: Method::GET, uri: &uri, body: None, session, last_event, token, headers };
        let answer = welcome(self.send(call).await?)?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED => return Err(StreamableHttpError::ServerDoesNotSupportSse),
            StatusCode::NOT_FOUND => return Err(StreamableHttpError::SessionExpired),
            status if !status.is_success() => return Err(fault(format!("HTTP {status}"))),
            _ => {}
        }
        let kind = kind_of(&answer);
        if !kind.starts_with(EVENTS) {
            return Err(StreamableHttpError::UnexpectedContentType(Some(kind)));
        }
        Ok(events(answer, most))
    }
}

/// Passes on what is not asked to show who it is.
fn welcome(answer: Response<Incoming>) -> Result<Response<Incoming>, Fault> {
    let challenge =
        answer.headers().get(WWW_AUTHENTICATE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match answer.status() {
        StatusCode::UNAUTHORIZED => {
            Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge.unwrap_or_default())))
        }
        StatusCode::FORBIDDEN => Err(fault(format!("HTTP 403 Forbidden {}", challenge.unwrap_or_default()))),
        _ => Ok(answer),
    }
}

/// An error's status. One that answers the probe of the current protocol says that the server is older.
async fn refused(
    answer: Response<Incoming>,
    message: &ClientJsonRpcMessage,
    in_session: bool,
) -> Result<StreamableHttpPostResponse, Fault> {
    let status = answer.status();
    let retry = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let is_json = kind_of(&answer).starts_with(JSON);
    let body = read(answer, ERROR_BODY).await.unwrap_or_default();
    let said = serde_json::from_slice::<ServerJsonRpcMessage>(&body).ok();
    if let ClientJsonRpcMessage::Request(request) = message {
        let told = match said {
            Some(ServerJsonRpcMessage::Error(error)) => Some(error.error),
            _ => None,
        };
        let is_probe =
            matches!(request.request, ClientRequest::DiscoverRequest(_)) && !in_session && status.is_client_error();
        let error = match told {
            Some(error) if is_probe || is_json => Some(error),
            None if is_probe => Some(ErrorData::invalid_request(format!("HTTP {status}"), None)),
            _ => None,
        };
        if let Some(error) = error {
            let answer = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
            return Ok(StreamableHttpPostResponse::Json(answer, None));
        }
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(StreamableHttpError::HttpStatus(HttpStatusError::new(status.as_u16(), retry)));
    }
    let shown = crate::adapter::words::shown(&body, 200);
    Err(fault(format!("HTTP {status}: {shown}")))
}

fn kind_of(answer: &Response<Incoming>) -> String {
    let kind =
        answer.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    kind.unwrap_or_default()
}

async fn read(answer: Response<Incoming>, most: usize) -> Result<Bytes, Fault> {
    match Limited::new(answer.into_body(), most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(StreamableHttpError::ResponseBodyTooLarge { max_size: most })
        }
        Err(error) => Err(fault(format!("the answer broke off: {error}"))),
    }
}

/// The events of a body, each with a limit.
fn events(answer: Response<Incoming>, most: usize) -> Events {
    SseStream::from_bytes_stream(limited(answer.into_body().into_data_stream(), most)).boxed()
}

fn limited<S, E>(pieces: S, most: usize) -> impl Stream<Item = Result<Bytes, HttpError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: std::fmt::Display,
{
    // Bytes since the last empty line, and whether a line has just begun.
    let state = (pieces, 0usize, true, false);
    futures::stream::unfold(state, move |(mut pieces, mut size, mut begun, over)| async move {
        if over {
            return None;
        }
        let piece = match pieces.next().await? {
            Ok(piece) => piece,
            Err(error) => return Some((Err(HttpError(error.to_string())), (pieces, size, begun, true))),
        };
        for byte in &piece {
            match byte {
                b'\r' => {}
                b'\n' if begun => size = 0,
                b'\n' => begun = true,
                _ => begun = false,
            }
            size += 1;
            if size > most {
                let said = format!("the server sent an event of more than {most} bytes, which is the limit");
                return Some((Err(HttpError(said)), (pieces, size, begun, true)));
            }
        }
        Some((Ok(piece), (pieces, size, begun, over)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_has_a_limit_and_a_stream_has_none() {
        let pieces = |texts: Vec<&'static str>| {
            futures::stream::iter(texts.into_iter().map(|text| Ok::<_, std::io::Error>(Bytes::from(text))))
        };
        let short = ["data: abc\r\n", "\r\n"].into_iter().cycle().take(400).collect();
        let many: Vec<_> = limited(pieces(short), 20).collect().await;
        assert!(many.len() == 400 && many.iter().all(Result::is_ok), "{many:?}");
        let long: Vec<_> = limited(pieces(vec!["data: abc\n"; 10]), 20).collect().await;
        assert!(long.last().unwrap().is_err() && long.len() == 3, "{long:?}");
    }
}
