//! The deadline of a call: read from `grpc-timeout`, kept by the server, answered with DEADLINE_EXCEEDED. tonic's own timeout
//! answers CANCELLED and ends with the headers, so it is not used.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use consort_core::{Error, Kind};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::limits::Limits;
use crate::routes::{Manner, manner};
use crate::status;

/// When the caller stops waiting, in the extensions of a request; absent if it never does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

/// How long a call may wait for what it asks for, so that its answer still arrives in time: at most `wanted`, or `otherwise` when
/// it asks for no length, and a little less than its deadline leaves.
pub(crate) fn wait(
    extensions: &http::Extensions,
    wanted: Option<Duration>,
    otherwise: Duration,
    limits: &Limits,
) -> Duration {
    let left = extensions.get::<Deadline>().map(|deadline| {
        let left = deadline.0.saturating_duration_since(Instant::now());
        left.saturating_sub((left / 10).clamp(Duration::from_millis(5), Duration::from_millis(250)))
    });
    let longest = left.unwrap_or(limits.longest_wait).min(limits.longest_wait);
    wanted.unwrap_or(if left.is_some() { longest } else { otherwise }).min(longest)
}

/// The call took too long.
pub(crate) fn exceeded() -> Error {
    Error::new(
        Kind::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "the call's deadline passed; what it began may still happen",
    )
}

/// Keeps the deadline of every call.
#[derive(Clone)]
pub(crate) struct DeadlineLayer {
    /// Deadline of plain calls whose client gives none, and the longest they may give.
    pub(crate) unary: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner, unary: self.unary }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone)]
pub(crate) struct DeadlineService<S> {
    inner: S,
    unary: Duration,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let given = match request.headers().get("grpc-timeout").map(parse).transpose() {
            Ok(given) => given,
            Err(error) => return async { Ok(status::of(error).into_http()) }.boxed(),
        };
        let manner = manner(request.uri().path());
        let length = match manner {
            Manner::Unary => Some(given.map_or(self.unary, |given| given.min(self.unary))),
            Manner::Waits | Manner::Stream => given,
        };
        let Some(at) = length.and_then(|length| Instant::now().checked_add(length)) else {
            return self.inner.call(request).boxed();
        };
        request.extensions_mut().insert(Deadline(at));
        let answer = self.inner.call(request);
        async move {
            let Ok(answer) = timeout_at(at, answer).await else {
                return Ok(status::of(exceeded()).into_http());
            };
            match manner {
                // A stream's body is produced as long as it lasts, a plain answer's is there.
                Manner::Stream => answer.map(|answer| answer.map(|body| Body::new(EndingBody::new(body, at)))),
                Manner::Unary | Manner::Waits => answer,
            }
        }
        .boxed()
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit.
fn parse(value: &HeaderValue) -> Result<Duration, Error> {
    let read = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let legal = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = legal.then(|| digits.parse().ok())??;
        Some(match unit {
            "H" => Duration::from_secs(number * 3_600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    read().ok_or_else(|| {
        let shown = crate::names::shown(&String::from_utf8_lossy(value.as_bytes()));
        Error::bad_field(
            "grpc-timeout",
            format!("`{shown}` is not a timeout; give 1 to 8 digits and one of H, M, S, m, u, n"),
        )
    })
}

/// The body of a stream, which ends with DEADLINE_EXCEEDED when its time has come.
struct EndingBody {
    inner: Body,
    end: Pin<Box<Sleep>>,
    ended: bool,
}

impl EndingBody {
    fn new(inner: Body, at: Instant) -> EndingBody {
        EndingBody { inner, end: Box::pin(sleep_until(at)), ended: false }
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.inner).poll_frame(cx);
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        let written = status::of(exceeded()).add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    const UNARY: &str = "/consort.orchestrator.v1.OrchestratorService/GetRun";
    const WAITS: &str = "/consort.orchestrator.v1.OrchestratorService/WaitRun";
    const STREAM: &str = "/consort.orchestrator.v1.OrchestratorService/WatchRun";

    fn request(path: &str, timeout: Option<&str>) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }

    /// Never answers.
    fn fake_silent_service(
        _: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static {
        std::future::pending()
    }

    /// Answers with the milliseconds it may take.
    async fn fake_clock_service(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let left = request.extensions().get::<Deadline>().map(|at| at.0 - Instant::now());
        let left = left.map_or("none".to_owned(), |left| left.as_millis().to_string());
        Ok(Response::builder().header("left", left).body(Body::empty()).unwrap())
    }

    /// Answers with a body that never ends.
    async fn fake_endless_service(_: Request<Body>) -> Result<Response<Body>, Infallible> {
        struct Endless;
        impl http_body::Body for Endless {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                Poll::Pending
            }
        }
        Ok(Response::new(Body::new(Endless)))
    }

    fn layer() -> DeadlineLayer {
        DeadlineLayer { unary: Duration::from_secs(30) }
    }

    fn code(response: &Response<Body>) -> Code {
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_deadline_exceeded() {
        let begun = Instant::now();
        let answer =
            layer().layer(service_fn(fake_silent_service)).oneshot(request(UNARY, Some("200m"))).await.unwrap();
        assert_eq!((code(&answer), begun.elapsed().as_millis()), (Code::DeadlineExceeded, 200));
        let answer = layer().layer(service_fn(fake_silent_service)).oneshot(request(UNARY, None)).await.unwrap();
        assert_eq!((code(&answer), begun.elapsed().as_millis()), (Code::DeadlineExceeded, 30_200));
    }

    #[tokio::test(start_paused = true)]
    async fn handlers_see_what_is_left() {
        for (path, timeout, left) in [
            (UNARY, None, "30000"),
            (UNARY, Some("5S"), "5000"),
            (UNARY, Some("1H"), "30000"),
            (WAITS, Some("1H"), "3600000"),
            (WAITS, None, "none"),
            (STREAM, None, "none"),
        ] {
            let answer = layer().layer(service_fn(fake_clock_service)).oneshot(request(path, timeout)).await.unwrap();
            assert_eq!(answer.headers()["left"], left, "{path} {timeout:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_its_clients_deadline() {
        let answer =
            layer().layer(service_fn(fake_endless_service)).oneshot(request(STREAM, Some("7S"))).await.unwrap();
        let begun = Instant::now();
        let mut body = answer.into_body();
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(begun.elapsed().as_secs(), 7);
        let status = Status::from_header_map(frame.trailers_ref().unwrap()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_bad_timeout_is_an_invalid_argument() {
        for bad in ["", "5", "S", "-5S", "5s", "123456789S", "1.5S", "5 S"] {
            let answer =
                layer().layer(service_fn(fake_clock_service)).oneshot(request(UNARY, Some(bad))).await.unwrap();
            assert_eq!(code(&answer), Code::InvalidArgument, "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_leaves_time_for_the_answer() {
        let limits = Limits::default();
        let mut extensions = http::Extensions::new();
        let of = |extensions: &http::Extensions, wanted: Option<u64>| {
            wait(extensions, wanted.map(Duration::from_millis), Duration::from_secs(30), &limits).as_millis()
        };
        assert_eq!((of(&extensions, Some(500)), of(&extensions, None)), (500, 30_000));
        assert_eq!(of(&extensions, Some(u64::MAX / 2_000)), 3_600_000);
        extensions.insert(Deadline(Instant::now() + Duration::from_secs(60)));
        assert_eq!(
            (of(&extensions, Some(500)), of(&extensions, Some(90_000)), of(&extensions, None)),
            (500, 59_750, 59_750)
        );
        extensions.insert(Deadline(Instant::now() + Duration::from_millis(100)));
        assert_eq!(of(&extensions, None), 90);
        extensions.insert(Deadline(Instant::now()));
        assert_eq!(of(&extensions, None), 0);
    }
}
