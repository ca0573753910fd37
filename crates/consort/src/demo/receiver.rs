//! The service that is told of the report: it takes signed webhooks on this machine, checks them, and tells repeats by their id.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::signature::Key;
use crate::failure::{Failure, Result};
use crate::output::text;

/// Where it takes webhooks.
const PATH: &str = "/audit";
/// Connections at once; others wait.
const CONNECTIONS: usize = 8;
/// How long one may take: to its headers, and as a whole.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(30);
/// Bytes of a body; the figures have about a thousand.
const BODY: usize = 64 << 10;
/// Different deliveries that are remembered.
const DELIVERIES: usize = 100;
/// How long an answer is held back at most.
const HELD: Duration = Duration::from_secs(20);

/// A receiver that listens until it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Where it listens.
    pub(super) addr: SocketAddr,
    state: Arc<State>,
    _end: DropGuard,
}

#[derive(Debug)]
struct State {
    key: Key,
    seen: Mutex<Seen>,
    /// Whether something was accepted.
    accepted: watch::Sender<bool>,
    /// Cancelled when answers may go.
    answers: CancellationToken,
}

/// What came.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What was accepted, by `webhook-id`: its bytes, and how often it came.
    accepted: BTreeMap<String, (usize, u32)>,
    /// Why others were refused; the last one.
    refused: Option<String>,
}

impl Receiver {
    /// Listens on a free port of this machine. With `hold` no answer goes before [`Receiver::let_answers_go`].
    pub(super) async fn start(key: Key, hold: bool) -> Result<Receiver> {
        let listening =
            TcpListener::bind(("127.0.0.1", 0)).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (addr, listener) = listening
            .map_err(|error| Failure::failed(format!("the receiver gets no port of this machine: {error}")))?;
        let state = Arc::new(State {
            key,
            seen: Mutex::default(),
            accepted: watch::Sender::new(false),
            answers: CancellationToken::new(),
        });
        if !hold {
            state.answers.cancel();
        }
        let end = CancellationToken::new();
        tokio::spawn(listen(listener, state.clone(), end.clone()));
        Ok(Receiver { addr, state, _end: end.drop_guard() })
    }

    /// The address of its webhook.
    pub(super) fn url(&self) -> String {
        format!("http://{}{PATH}", self.addr)
    }

    /// Ends when something was accepted.
    pub(super) async fn accepted(&self) {
        // The sender lives as long as we do.
        let _ = self.state.accepted.subscribe().wait_for(|accepted| *accepted).await;
    }

    /// Answers what was held back, and all that comes.
    pub(super) fn let_answers_go(&self) {
        self.state.answers.cancel();
    }

    /// What came so far.
    pub(super) fn seen(&self) -> Seen {
        self.state.seen().clone()
    }
}

impl Seen {
    /// How many different ones were accepted.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let each =
            |(id, (bytes, times)): (&String, &(usize, u32))| json!({"id": id, "bytes": bytes, "deliveries": times});
        json!({ "accepted": self.accepted.iter().map(each).collect::<Vec<_>>(), "refused": self.refused })
    }

    /// For people: what was posted.
    pub(super) fn sentence(&self) -> String {
        let bytes: usize = self.accepted.values().map(|(bytes, _)| bytes).sum();
        let times: u32 = self.accepted.values().map(|(_, times)| times).sum();
        let repeats = match times {
            0 | 1 => String::new(),
            times => format!("; it came {times} times with one id, and counts once"),
        };
        format!("the report's figures, through notify, signed: {} bytes{repeats}", text::thousands(bytes as f64))
    }

    /// What is wrong if this is all that came of one report.
    pub(super) fn problem(&self) -> Option<String> {
        match (self.accepted(), &self.refused) {
            (1, None) => None,
            (_, Some(why)) => Some(format!("the receiver refused a delivery: {why}")),
            (0, None) => Some("nothing reached the receiver".to_owned()),
            (n, None) => Some(format!("the receiver accepted {n} different deliveries of one report")),
        }
    }
}

impl State {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a delivery and counts it; how it is answered.
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, &'static str) {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (id, time, signatures) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        let mut seen = self.seen();
        if let Err(why) = self.key.check(id, time, signatures, body, jiff::Timestamp::now().as_second()) {
            seen.refused = Some(why);
            return (StatusCode::UNAUTHORIZED, "the signature does not fit\n");
        }
        if let Some((_, times)) = seen.accepted.get_mut(id) {
            *times += 1;
            return (StatusCode::OK, "it was here before\n");
        }
        if seen.accepted.len() == DELIVERIES {
            return (StatusCode::SERVICE_UNAVAILABLE, "there is no room\n");
        }
        seen.accepted.insert(id.to_owned(), (body.len(), 1));
        self.accepted.send_replace(true);
        (StatusCode::OK, "accepted\n")
    }
}

/// Takes connections until the end; those that are open then are closed.
async fn listen(listener: TcpListener, state: Arc<State>, end: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let next = async { (room.clone().acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = end.cancelled() => return,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let state = state.clone();
                open.spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION, serve(stream, state)).await;
                    drop(place);
                });
            }
            // No descriptors are left: that passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| answer(state.clone(), request));
    // A connection that breaks is the other side's to make again.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let (status, said) = if head.uri.path() != PATH {
        (StatusCode::NOT_FOUND, "there is nothing here\n")
    } else if head.method != Method::POST {
        (StatusCode::METHOD_NOT_ALLOWED, "post to it\n")
    } else {
        match Limited::new(body, BODY).collect().await {
            Ok(body) => state.take(&head.headers, &body.to_bytes()),
            Err(_) => (StatusCode::PAYLOAD_TOO_LARGE, "it is too large, or was cut off\n"),
        }
    };
    let _ = tokio::time::timeout(HELD, state.answers.cancelled()).await;
    let mut response = Response::new(Full::new(Bytes::from_static(said.as_bytes())));
    *response.status_mut() = status;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Sends a request as it stands; the answer's status.
    async fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn signed(key: &Key, id: &str, body: &str) -> String {
        let now = jiff::Timestamp::now().as_second();
        let signature = key.sign(id, &now.to_string(), body.as_bytes());
        format!("webhook-id: {id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n")
    }

    #[tokio::test]
    async fn repeats_count_once_and_what_is_not_signed_not_at_all() {
        let key = Key::new();
        let receiver = Receiver::start(key.clone(), false).await.unwrap();
        let addr = receiver.addr;
        assert_eq!(send(addr, "GET", PATH, "", "").await, 405);
        assert_eq!(send(addr, "POST", "/", "", "").await, 404);
        assert_eq!(send(addr, "POST", PATH, "", &"x".repeat(BODY + 1)).await, 413);
        assert_eq!(receiver.seen().problem().as_deref(), Some("nothing reached the receiver"));
        for _ in 0..2 {
            assert_eq!(send(addr, "POST", PATH, &signed(&key, "run/post", "{}"), "{}").await, 200);
        }
        receiver.accepted().await;
        let seen = receiver.seen();
        assert_eq!((seen.accepted(), seen.problem()), (1, None));
        assert_eq!(
            seen.sentence(),
            "the report's figures, through notify, signed: 2 bytes; it came 2 times with one id, and counts once"
        );
        assert_eq!(seen.to_json()["accepted"], json!([{"id": "run/post", "bytes": 2, "deliveries": 2}]));
        assert_eq!(send(addr, "POST", PATH, &signed(&Key::new(), "b", "{}"), "{}").await, 401);
        assert!(receiver.seen().problem().unwrap().contains("the signature does not fit"));
        assert_eq!(send(addr, "POST", PATH, &signed(&key, "b", "{}"), "{}").await, 200);
        assert_eq!(receiver.seen().accepted(), 2);
    }

    #[tokio::test]
    async fn an_answer_can_be_held_back() {
        let key = Key::new();
        let receiver = Receiver::start(key.clone(), true).await.unwrap();
        let headers = signed(&key, "a", "{}");
        let mut sending = Box::pin(send(receiver.addr, "POST", PATH, &headers, "{}"));
        tokio::select! {
            _ = &mut sending => panic!("it was answered"),
            () = receiver.accepted() => {}
        }
        receiver.let_answers_go();
        assert_eq!(sending.await, 200);
    }
}
