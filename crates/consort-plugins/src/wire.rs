//! The connection to a plugin: HTTP/2 on its socket, and nothing between a call and the connection. A channel of tonic has a queue and a task
//! of its own in front of it, which cost a fifth of a call; what it offers in return, connecting again, means nothing here: a plugin
//! whose connection breaks is started again.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::body::Body;
use tower::Service;

/// Bytes in flight of one call, and of all: results may be large.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of the headers of an answer: a status with its details travels in them.
const HEADERS: u32 = 64 * 1024;

/// What requests are addressed to; a socket has no name.
pub(crate) fn origin() -> Uri {
    Uri::from_static("http://plugin")
}

/// A connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wire(SendRequest<Body>);

impl Wire {
    /// Connects, if the one who listens is this user.
    pub(crate) async fn connect(path: &Path) -> Result<Wire, String> {
        let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
        let theirs = stream.peer_cred().map_err(|error| error.to_string())?.uid();
        let ours = rustix::process::getuid().as_raw();
        // Whoever else could listen there is not the plugin.
        if theirs != ours {
            return Err(format!("user {theirs} listens there instead of user {ours}"));
        }
        let made = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS)
            .handshake(TokioIo::new(stream))
            .await;
        let (wire, connection) = made.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            // Its calls tell what broke.
            let _ = connection.await;
        });
        Ok(Wire(wire))
    }
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
