//! Groups: subscribers that share events, each of which is handled by one of them.

use std::sync::Arc;
use std::time::Duration;

use consort_proto::event::{Event, EventFilter, SubscribeResponse, SubscribeStart, subscribe_start::From as Begin};
use futures::Stream;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::{Error, is_transient};
use crate::payload;
use crate::task_error::TaskError;

mod receipts;
mod serve;

use receipts::{Receipt, Receipts};

/// Deliveries a member holds at once when nothing else is said.
const IN_HAND: u32 = 16;
/// Most deliveries a member can hold at once.
const MOST_IN_HAND: u32 = 10_000;
/// How long a member that leaves waits for the mesh to hear its last words.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a group works, and what this member of it takes.
///
/// The first member of a new group decides on all but `in_hand`; whoever joins gives the same or leaves it out, otherwise the mesh
/// refuses with FAILED_PRECONDITION (reason GROUP_DIFFERS).
#[derive(Clone, Debug, Default)]
pub struct GroupOptions {
    /// Types of events, each exact or a prefix that ends in `*`, for example `ORDER.*`; empty means all.
    pub event_types: Vec<String>,
    /// Only events of this correlation id; empty means of all.
    pub correlation_id: String,
    /// Only events about this subject; empty means about all.
    pub subject: String,
    /// Where a new group begins: behind this position in the log, 0 for its beginning; absent means with what comes.
    pub after: Option<i64>,
    /// How long a member may hold a delivery, 1 s to 1 h; absent means 30 s. Then it is delivered again, to any member.
    pub ack_timeout: Option<Duration>,
    /// How often an event is tried, 1 to 100; 0 means 5. Then it becomes a dead letter.
    pub max_attempts: i32,
    /// Deliveries this member holds at once, 1 to 10,000; 0 means 16. Choose it so that all of them are settled within
    /// `ack_timeout`.
    pub in_hand: u32,
}

impl Client {
    /// Joins a group, by its id: 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`. Nothing is dialled before the first delivery
    /// is asked for.
    pub fn group(&self, group: &str, options: GroupOptions) -> Group {
        let in_hand = if options.in_hand == 0 { IN_HAND } else { options.in_hand.min(MOST_IN_HAND) };
        let filter = EventFilter {
            event_types: options.event_types,
            correlation_id: options.correlation_id,
            subject: options.subject,
        };
        let start = SubscribeStart {
            parent: self.parent(),
            filter: (filter != EventFilter::default()).then_some(filter),
            from: options.after.map(Begin::Cursor),
            credit: in_hand as i32,
            group: group.to_owned(),
            ack_timeout: options.ack_timeout.and_then(|limit| limit.try_into().ok()),
            max_attempts: options.max_attempts,
        };
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        Group { client: self.clone(), start, connection: None, retry_at: None, backoff }
    }
}

/// A member of a group.
///
/// While the mesh cannot be reached it tries again, after 0.1 to 5 s, for ever, as a worker does: only a refusal is an error.
/// What was not settled when a connection broke is delivered again, to any member; so an event can come more than once, and
/// settling a delivery of a broken connection has no effect.
pub struct Group {
    client: Client,
    start: SubscribeStart,
    connection: Option<Connection>,
    /// No new connection before this time.
    retry_at: Option<Instant>,
    backoff: Backoff,
}

struct Connection {
    news: Streaming<SubscribeResponse>,
    receipts: Arc<Receipts>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.receipts.break_off();
    }
}

impl Group {
    /// The next delivery. An error is a refusal by the mesh, and final. May be dropped and called again at any time: no delivery is
    /// lost.
    pub async fn next(&mut self) -> Result<Delivery, Error> {
        loop {
            let status = match self.step().await {
                Ok(delivery) => {
                    self.backoff.reset();
                    return Ok(delivery);
                }
                Err(status) => status,
            };
            self.connection = None;
            // A member that was too slow is cut off with RESOURCE_EXHAUSTED and may come back.
            if !is_transient(&status) && status.code() != Code::ResourceExhausted {
                return Err(status.into());
            }
            let (group, code) = (&self.start.group, status.code());
            tracing::warn!(group, ?code, "the subscription broke, trying again: {}", status.message());
            self.retry_at = Some(Instant::now() + self.backoff.delay());
        }
    }

    /// The deliveries as a stream that ends with a refusal. Dropping it leaves the group: what was settled in the last moment may
    /// not have left by then and is delivered again, to any member. [`Group::next`] and [`Group::close`] avoid that.
    pub fn into_stream(self) -> impl Stream<Item = Result<Delivery, Error>> + Send + 'static {
        futures::stream::try_unfold(self, |mut group| async move { Ok(Some((group.next().await?, group))) })
    }

    /// Says what was settled, and leaves the group. What is not settled by then is delivered again, to any member.
    pub async fn close(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.receipts.close();
        let end = async { while let Ok(Some(_)) = connection.news.message().await {} };
        if timeout(GOODBYE, end).await.is_err() {
            tracing::debug!("the mesh did not close the subscription in time; hanging up");
        }
    }

    async fn step(&mut self) -> Result<Delivery, Status> {
        if let Some(time) = self.retry_at {
            tokio::time::sleep_until(time).await;
            self.retry_at = None;
        }
        if self.connection.is_none() {
            let receipts = Arc::new(Receipts::default());
            let said = receipts::say(self.start.clone(), receipts.clone());
            let news = self.client.events().subscribe(said).await?.into_inner();
            self.connection = Some(Connection { news, receipts });
        }
        let connection = self.connection.as_mut().expect("it was opened above");
        let closed = || Status::unavailable("the mesh closed the subscription");
        let news = connection.news.message().await?.ok_or_else(closed)?;
        let receipt = Arc::new(Receipt::new(connection.receipts.clone(), news.delivery_id));
        Ok(Delivery {
            event: news.event.unwrap_or_default(),
            cursor: news.cursor,
            attempt: news.attempt,
            client: self.client.clone(),
            receipt,
        })
    }
}

/// An event in the hands of a member of a group. It is settled by [`Delivery::done`] or [`Delivery::refuse`]; one that is dropped
/// is refused.
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// Its place in the log.
    pub cursor: i64,
    /// How often it has been tried, this time included, from 1.
    pub attempt: i32,
    client: Client,
    receipt: Arc<Receipt>,
}

impl Delivery {
    /// The event's payload as a `T`; a blob is fetched. A misfit is INVALID_ARGUMENT, names the field, and is not retryable.
    pub async fn payload<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        let value = self.client.payload_value(self.event.payload.as_ref()).await?;
        payload::read(&serde_json::to_vec(&value)?).map_err(|misfit| TaskError::bad_input(misfit.field, misfit.why))
    }

    /// It was handled.
    pub fn done(self) {
        self.receipt.done();
    }

    /// It could not be handled; the reason, of at most 1,000 characters, is for the dead letter. It is delivered again, to any
    /// member, until it has been tried as often as the group allows; with `is_final` it becomes a dead letter at once.
    pub fn refuse(self, reason: impl AsRef<str>, is_final: bool) {
        self.receipt.refuse(reason.as_ref(), is_final);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Delivery { event, cursor, attempt, .. } = self;
        f.debug_struct("Delivery").field("event", event).field("cursor", cursor).field("attempt", attempt).finish()
    }
}
