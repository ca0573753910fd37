//! A handler per event.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Delivery, Group, GroupOptions};
use crate::client::Client;
use crate::error::Error;
use crate::task_error::TaskError;
use crate::worker::panicked;

/// How long a member that was asked to stop goes on with what it holds.
const GRACE: Duration = Duration::from_secs(30);

impl Client {
    /// Joins a group and calls the handler for each delivery, `in_hand` of them at once, until `shutdown` is ready; then takes
    /// nothing new, finishes what it holds within 30 s, and leaves.
    ///
    /// A handler that returns `Ok` has done its delivery, unless it has settled it itself. One that fails or panics has refused it,
    /// for good if the error is not retryable. The only error of this call is a refusal by the mesh.
    ///
    /// ```no_run
    /// # use consort_sdk::{Client, Delivery, Error, GroupOptions};
    /// # async fn bill(client: Client) -> Result<(), Error> {
    /// let options = GroupOptions { event_types: vec!["ORDER.*".into()], in_hand: 4, ..Default::default() };
    /// let handler = |delivery: Delivery| async move {
    ///     let order: serde_json::Value = delivery.payload().await?;
    ///     println!("{} {order}", delivery.event.event_type);
    ///     Ok(())
    /// };
    /// client.serve_group("billing", options, handler, std::future::pending()).await
    /// # }
    /// ```
    pub async fn serve_group<H, F>(
        &self,
        group: &str,
        options: GroupOptions,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let mut group = self.group(group, options);
        let in_hand = group.start.credit as usize;
        let handler = Arc::new(handler);
        // Dropping it ends whatever still runs.
        let mut running = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let end = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some(_) = running.join_next() => {}
                next = group.next(), if running.len() < in_hand => match next {
                    Ok(delivery) => { running.spawn(handle(handler.clone(), delivery)); }
                    Err(error) => break Err(error),
                },
            }
        };
        finish(group, running).await;
        end
    }
}

async fn finish(group: Group, mut running: JoinSet<()>) {
    if timeout(GRACE, async { while running.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(left = running.len(), "handlers are unfinished after 30 s; their events are given back");
        running.shutdown().await;
    }
    group.close().await;
}

async fn handle<H, F>(handler: Arc<H>, delivery: Delivery)
where
    H: Fn(Delivery) -> F,
    F: Future<Output = Result<(), TaskError>>,
{
    let receipt = delivery.receipt.clone();
    // The handler's state is not looked at after a panic, so it cannot be seen broken.
    let work = AssertUnwindSafe(async move { handler(delivery).await });
    match work.catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
        Ok(()) => receipt.done(),
        Err(error) => receipt.refuse(&error.to_string(), !error.retryable),
    }
}
