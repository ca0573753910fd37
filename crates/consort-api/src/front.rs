//! The front door: gRPC goes to the layers and services, plain HTTP under `/v1/` to its handler, and the rest is told where it is.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use http::header::{CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tonic::body::Body;
use tower::Service;

use crate::layers::{Places, overloaded};
use crate::routes::Manner;
use crate::stream::AbortOnDrop;

/// The body of a plain HTTP answer.
pub type HttpBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers plain HTTP. Its future is dropped when the client goes, and so is the body of its answer; a client of HTTP/1 that takes
/// nothing for [`reader_stall`](crate::Limits::reader_stall) has gone, too.
pub type HttpHandler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<HttpBody>> + Send + Sync>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Pieces of an answer that may wait for a reader of HTTP/2.
const WAITING: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Front<S> {
    pub(crate) grpc: S,
    pub(crate) http: Option<HttpHandler>,
    pub(crate) places: Places,
    /// How long a reader of HTTP/2 may take nothing of a stream.
    pub(crate) stall: Duration,
}

/// The body of any answer.
pub(crate) enum Answer {
    /// Of gRPC.
    Grpc(Body),
    /// Of plain HTTP.
    Http(HttpBody),
}

type Mapped<F> =
    futures::future::Map<F, fn(Result<Response<Body>, Infallible>) -> Result<Response<Answer>, Infallible>>;

impl<S> Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Either<Mapped<S::Future>, BoxFuture<'static, Result<Response<Answer>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let kind = request.headers().get(CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if is_grpc && request.version() == Version::HTTP_2 {
            let answer = self.grpc.call(request.map(Body::new));
            return Either::Left(answer.map(of_grpc as fn(_) -> _));
        }
        let answer = match self.refusal(&request, is_grpc) {
            Some(refused) => async { Ok(refused.map(Answer::Http)) }.boxed(),
            None => self.plain(request),
        };
        Either::Right(answer)
    }
}

fn of_grpc(answer: Result<Response<Body>, Infallible>) -> Result<Response<Answer>, Infallible> {
    answer.map(|answer| answer.map(Answer::Grpc))
}

impl<S> Front<S> {
    /// Why a call that is no gRPC is not even tried.
    fn refusal(&self, request: &Request<Incoming>, is_grpc: bool) -> Option<Response<HttpBody>> {
        if is_grpc {
            let said = "gRPC needs HTTP/2, and this is HTTP/1; a proxy between may be why";
            return Some(refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http2_needed", said));
        }
        // A page of a stranger must not spend the models of whoever looks at it: browsers name the page's origin with each request
        // that can change something, also when the page has had its own name lead to this machine. There is no CORS, so no page of
        // another machine has business here.
        if let Some(origin) = request.headers().get(ORIGIN)
            && !is_local(origin)
        {
            let said = "pages of other machines may not call this server; call it from a programme, or from a page of this machine";
            return Some(refuse(StatusCode::FORBIDDEN, "foreign_origin", said));
        }
        let path = request.uri().path();
        if (path.starts_with("/v1/") || path == "/mcp") && self.http.is_some() {
            return None;
        }
        if path.starts_with("/consort.") || path.starts_with("/grpc.") {
            let said = "this is a method of gRPC: send `content-type: application/grpc`, over HTTP/2";
            return Some(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", said));
        }
        let said = match &self.http {
            Some(_) => "there is nothing here; gRPC answers on this port, OpenAI's methods under /v1/, and MCP at /mcp",
            None => "there is nothing here; gRPC answers on this port",
        };
        Some(refuse(StatusCode::NOT_FOUND, "no_such_path", said))
    }

    fn plain(&self, request: Request<Incoming>) -> BoxFuture<'static, Result<Response<Answer>, Infallible>> {
        let (handler, stall) = (self.http.clone(), self.stall);
        let Some(place) = self.places.take(Manner::Waits) else {
            let error = overloaded();
            let mut refused = refuse(StatusCode::SERVICE_UNAVAILABLE, "overloaded", &error.message);
            refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return async { Ok(refused.map(Answer::Http)) }.boxed();
        };
        async move {
            let by_stream = request.version() == Version::HTTP_2;
            // The whole handler, so that a panic costs one call.
            let answering = AssertUnwindSafe(async move {
                match handler {
                    Some(handler) => handler(request).await,
                    None => refuse(StatusCode::NOT_FOUND, "no_such_path", "there is nothing here"),
                }
            });
            let answer = answering.catch_unwind().await.unwrap_or_else(|cause| panicked(&*cause));
            drop(place);
            let endless = answer.body().size_hint().exact().is_none();
            Ok(answer.map(|body| Answer::Http(if by_stream && endless { watched(body, stall) } else { body })))
        }
        .boxed()
    }
}

/// Whether a page is one of this machine.
fn is_local(origin: &HeaderValue) -> bool {
    let Ok(uri) = origin.to_str().unwrap_or_default().parse::<http::Uri>() else { return false };
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    web && (host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback()))
}

/// A refusal in the shape that OpenAI's clients read.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response<HttpBody> {
    let error = serde_json::json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": code,
    }});
    let body = Full::new(Bytes::from(error.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *answer.headers_mut() = headers;
    answer
}

fn panicked(cause: &(dyn std::any::Any + Send)) -> Response<HttpBody> {
    let said = cause.downcast_ref::<&str>().copied();
    let said = said.or_else(|| cause.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
    let incident = uuid::Uuid::new_v4();
    tracing::error!(%incident, "a handler of plain HTTP panicked: {said}");
    let said = format!("an internal error; the server's log has it as incident {incident}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", &said)
}

/// A body that is ended, with an error, when its reader takes nothing for too long. A stream of HTTP/2 whose window is used up is not
/// asked for more, and cannot notice by itself.
fn watched(mut body: HttpBody, stall: Duration) -> HttpBody {
    let (pieces, taken) = mpsc::channel::<Option<Result<Frame<Bytes>, BoxError>>>(WAITING);
    let task = tokio::spawn(async move {
        while let Some(piece) = body.frame().await {
            if pieces.send_timeout(Some(piece), stall).await.is_err() {
                return;
            }
        }
        // Whoever does not take the end has it by the stream's own end.
        let _ = pieces.send_timeout(None, stall).await;
    });
    Watched { taken, over: false, _task: AbortOnDrop(task) }.boxed_unsync()
}

struct Watched {
    taken: mpsc::Receiver<Option<Result<Frame<Bytes>, BoxError>>>,
    over: bool,
    _task: AbortOnDrop,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.taken.poll_recv(cx));
        self.over = !matches!(piece, Some(Some(Ok(_))));
        // Without a word of its end, the task gave up.
        Poll::Ready(piece.unwrap_or_else(|| Some(Err("the reader of an answer stalled".into()))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Answer::Grpc(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Answer::Http(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Grpc(body) => body.is_end_stream(),
            Answer::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Grpc(body) => body.size_hint(),
            Answer::Http(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_are_known() {
        let local = |origin: &str| is_local(&origin.parse().unwrap());
        for good in [
            "http://localhost",
            "http://LOCALHOST:3000",
            "https://127.0.0.1:8443",
            "http://127.9.9.9",
            "http://[::1]:80",
        ] {
            assert!(local(good), "{good}");
        }
        for bad in [
            "http://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://192.0.2.7",
            "null",
            "file://",
            "",
            "localhost",
            "http://user@evil.example",
        ] {
            assert!(!local(bad), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_a_stream_that_takes_nothing_is_cut() {
        let endless = futures::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))));
        let fake_endless_body = http_body_util::StreamBody::new(endless).boxed_unsync();
        let mut body = watched(fake_endless_body, Duration::from_secs(10));
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_secs(11)).await;
        let mut taken = 0;
        while body.frame().await.unwrap().is_ok() {
            taken += 1;
        }
        assert!(taken <= WAITING + 1, "{taken}");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_ends_ends_well() {
        let body = Full::new(Bytes::from_static(b"abc")).map_err(|never| match never {}).boxed_unsync();
        let whole = watched(body, Duration::from_secs(10)).collect().await.unwrap().to_bytes();
        assert_eq!(whole, "abc");
    }
}
