//! The connection to a plugin: HTTP/2 on its socket, and nothing between a call and the connection. A channel of tonic has a queue and a
//! task of its own in front of it, and a client of hyper a channel to its task and another task for a request's body; together they cost
//! a tenth of the host's own work for a call. What they offer in return, connecting again and bodies of any length, means nothing
//! here: a plugin whose connection breaks is started again, and a request is one message.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt as _;
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
pub struct Wire(SendRequest<Bytes>);

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
        let made = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS)
            .handshake(stream)
            .await;
        let (wire, connection) = made.map_err(|error| error.to_string())?;
        // Its calls tell what broke.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Wire(wire))
    }
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Answer>;
    type Error = tonic::Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, tonic::Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        self.0.poll_ready(cx).map_err(broken)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut wire = self.0.clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            // One message, which is there already.
            let mut message = Bytes::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    if !message.is_empty() {
                        return Err(tonic::Status::internal("a request to a plugin is one message"));
                    }
                    message = data;
                }
            }
            let (answer, mut stream) = wire.send_request(Request::from_parts(head, ()), false).map_err(broken)?;
            stream.send_data(message, true).map_err(broken)?;
            Ok(answer.await.map_err(broken)?.map(Answer))
        })
    }
}

/// Why a call came to nothing; it has a source, which a plugin's own word has not.
fn broken(error: h2::Error) -> tonic::Status {
    tonic::Status::from_error(error.into())
}

/// An answer's messages and its status.
#[derive(Debug)]
pub struct Answer(RecvStream);

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            // What was taken is paid for at once: a reader that takes nothing more gets no more than the window.
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
