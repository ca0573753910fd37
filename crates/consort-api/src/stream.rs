//! Streams of news: a task produces, a bounded channel holds what the reader has not taken, and a reader that takes nothing is
//! cut off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use consort_core::Error;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::{Context, status};

/// Items that may wait for a reader.
const WAITING: usize = 64;

/// Ends a task when it is dropped.
pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives items to the reader of a stream.
pub(crate) struct Reader<T> {
    items: mpsc::Sender<T>,
    stall: Duration,
}

impl<T> Reader<T> {
    /// Gives an item; waits while [`WAITING`] others are not taken, but no longer than a reader may stall.
    pub(crate) async fn give(&self, item: T) -> Result<(), Error> {
        use mpsc::error::SendTimeoutError::{Closed, Timeout};
        match self.items.send_timeout(item, self.stall).await {
            Ok(()) => Ok(()),
            // The stream is gone and nobody hears this.
            Err(Closed(_)) => Err(status::stopping()),
            Err(Timeout(_)) => Err(status::exhausted(
                "READER_STALLED",
                format!("nothing was taken for {} s; call again and read on from where you are", self.stall.as_secs()),
                None,
            )),
        }
    }

    /// Gives an item that may be left out when the reader is slow.
    pub(crate) fn offer(&self, item: T) {
        // Full or gone: leaving it out is what an offer allows.
        let _ = self.items.try_send(item);
    }
}

/// A stream of what a task gives.
pub(crate) struct News<T> {
    items: mpsc::Receiver<T>,
    end: Option<oneshot::Receiver<Result<(), Status>>>,
    _task: AbortOnDrop,
}

/// Runs `produce` as long as the stream is read. The stream ends as `produce` does: well, or with its error; when the server stops,
/// with UNAVAILABLE.
pub(crate) fn news<T, F>(context: &Arc<Context>, produce: F) -> News<T>
where
    T: Send + 'static,
    F: FnOnce(Reader<T>) -> BoxFuture<'static, Result<(), Error>>,
{
    said(context, |reader| produce(reader).map(|end| end.map_err(status::of)).boxed())
}

/// The same for a producer whose errors are statuses already.
pub(crate) fn said<T, F>(context: &Arc<Context>, produce: F) -> News<T>
where
    T: Send + 'static,
    F: FnOnce(Reader<T>) -> BoxFuture<'static, Result<(), Status>>,
{
    follow(context.options.limits.reader_stall, context.stop.clone(), produce)
}

fn follow<T, F>(stall: Duration, stop: tokio_util::sync::CancellationToken, produce: F) -> News<T>
where
    T: Send + 'static,
    F: FnOnce(Reader<T>) -> BoxFuture<'static, Result<(), Status>>,
{
    let (sender, items) = mpsc::channel(WAITING);
    let (ended, end) = oneshot::channel();
    let producing = produce(Reader { items: sender, stall });
    let task = tokio::spawn(async move {
        let result = stop.run_until_cancelled(producing).await.unwrap_or_else(|| Err(status::of(status::stopping())));
        // The reader may be gone.
        let _ = ended.send(result);
    });
    News { items, end: Some(end), _task: AbortOnDrop(task) }
}

impl<T> Stream for News<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.items.poll_recv(cx));
        if let Some(item) = item {
            return Poll::Ready(Some(Ok(item)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let end = std::task::ready!(Pin::new(end).poll(cx));
        self.end = None;
        // A task that ended without a word panicked.
        let panicked = || status::of(Error::internal("the producer of a stream panicked"));
        let end = end.unwrap_or_else(|_| Err(panicked()));
        Poll::Ready(end.err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    const STALL: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_is_given_arrives_in_order_and_then_the_end() {
        let stream = follow(STALL, CancellationToken::new(), |reader: Reader<i32>| {
            async move {
                for n in 0..200 {
                    reader.give(n).await.map_err(status::of)?;
                }
                Ok(())
            }
            .boxed()
        });
        let items: Vec<_> = stream.map(|item| item.unwrap()).collect().await;
        assert_eq!(items, (0..200).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_cut_off() {
        let (done, cut) = oneshot::channel();
        let mut stream = follow(STALL, CancellationToken::new(), |reader: Reader<i32>| {
            async move {
                let mut given = 0;
                let error = loop {
                    match reader.give(given).await {
                        Ok(()) => given += 1,
                        Err(error) => break error,
                    }
                };
                done.send(given).unwrap();
                Err(status::of(error))
            }
            .boxed()
        });
        let begun = tokio::time::Instant::now();
        assert_eq!(cut.await.unwrap(), 64, "no more than the channel holds");
        assert_eq!(begun.elapsed(), STALL);
        for n in 0..64 {
            assert_eq!(stream.next().await.unwrap().unwrap(), n);
        }
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn streams_end_when_the_server_stops() {
        let stop = CancellationToken::new();
        let mut stream = follow(STALL, stop.clone(), |reader: Reader<i32>| {
            async move {
                reader.give(1).await.map_err(status::of)?;
                std::future::pending().await
            }
            .boxed()
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        stop.cancel();
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(stream.next().await.is_none());
    }
}
