//! `EventService.Subscribe`: the log from a cursor on, as fast as the subscriber grants credit.

use std::sync::Arc;
use std::time::Duration;

use consort_bus::groups::{ACK_TIMEOUT, Joining, MAX_ATTEMPTS, Origin};
use consort_bus::{Feed, Filter, wanted};
use consort_core::{Error, Kind};
use consort_proto::event as wire;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use wire::subscribe_request::Kind as Said;
use wire::subscribe_start::From;

use crate::stream::{self, Reader};
use crate::subscribe_group::Membership;
use crate::{Context, convert, names, request, status};

/// Credit of one grant, and all that may be outstanding.
const GRANT: i32 = 10_000;
const OUTSTANDING: usize = 1_000_000;
const FIRST_GRANT: usize = 256;
/// Types of one filter.
const TYPES: usize = 100;

/// Delivers events after the cursor of the first message, or those of a group.
pub(crate) async fn subscribe(
    context: &Arc<Context>,
    mut incoming: Streaming<wire::SubscribeRequest>,
) -> Result<stream::News<wire::SubscribeResponse>, Status> {
    let limit = context.options.limits.first_request;
    let Ok(first) = tokio::time::timeout(limit, incoming.message()).await else {
        let said = format!("nothing came for {} s; the first message must carry `start`", limit.as_secs());
        return Err(status::of(Error::new(Kind::DeadlineExceeded, "NO_START", said)));
    };
    let Some(Said::Start(start)) = first.map_err(status::of_stream)?.and_then(|first| first.kind) else {
        return Err(status::of(Error::bad_field("start", "is absent; the first message must carry it")));
    };
    if start.group.is_empty() {
        let subscription = begin(context, start).map_err(status::of)?;
        return Ok(stream::news(context, |reader| subscription.deliver(reader, incoming).boxed()));
    }
    let membership = join(context, start).await.map_err(status::of)?;
    Ok(stream::news(context, |reader| membership.deliver(reader, incoming).boxed()))
}

fn begin(context: &Arc<Context>, start: wire::SubscribeStart) -> Result<Subscription, Error> {
    let namespace = names::parent("start.parent", &start.parent)?;
    let given = [("ack_timeout", start.ack_timeout.is_some()), ("max_attempts", start.max_attempts != 0)];
    if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(Error::bad_field(format!("start.{field}"), "is for groups; give `group` too, or leave it out"));
    }
    let end = context.bus.end();
    let after = match origin(start.from, end)? {
        None | Some(Origin::Latest) => end,
        Some(Origin::After(cursor)) => cursor,
    };
    Ok(Subscription {
        feed: context.bus.feed(after, namespace),
        filter: filter(start.filter.unwrap_or_default())?,
        credit: Semaphore::new(first_credit(start.credit)?),
        last_grant: CancellationToken::new(),
        instance: context.options.server.clone(),
    })
}

async fn join(context: &Arc<Context>, start: wire::SubscribeStart) -> Result<Membership, Error> {
    let namespace = names::parent("start.parent", &start.parent)?;
    let id = names::group_id("start.group", &start.group)?;
    let joining = Joining {
        from: origin(start.from, context.bus.end())?,
        filter: start.filter.map(filter).transpose()?,
        ack_timeout: ack_timeout(start.ack_timeout.as_ref())?,
        max_attempts: max_attempts(start.max_attempts)?,
        credit: first_credit(start.credit)?,
    };
    context.groups.join(&namespace, &id, &joining).await.map(Membership)
}

fn origin(from: Option<From>, end: u64) -> Result<Option<Origin>, Error> {
    match from {
        None => Ok(None),
        Some(From::Latest(true)) => Ok(Some(Origin::Latest)),
        Some(From::Latest(false)) => {
            Err(Error::bad_field("start.latest", "is false; give true, or a `cursor` to begin elsewhere"))
        }
        Some(From::Cursor(cursor)) => {
            let cursor = u64::try_from(cursor).map_err(|_| {
                Error::bad_field("start.cursor", format!("`{cursor}` is negative; give 0 for the beginning"))
            })?;
            if cursor > end {
                let said = format!("`start.cursor` is {cursor} and the log ends at {end}; give at most {end}");
                return Err(Error::new(Kind::OutOfRange, "BEYOND_THE_END", said));
            }
            Ok(Some(Origin::After(cursor)))
        }
    }
}

fn ack_timeout(given: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let field = "start.ack_timeout";
    match request::duration(field, given)? {
        Some(timeout) if !ACK_TIMEOUT.contains(&timeout) => {
            Err(Error::bad_field(field, format!("{timeout:?} is out of range; give 1 s to 1 h, or nothing for 30 s")))
        }
        // Whole milliseconds: that is how a group keeps it.
        timeout => Ok(timeout.map(|timeout| Duration::from_millis(timeout.as_millis() as u64))),
    }
}

fn max_attempts(given: i32) -> Result<Option<u32>, Error> {
    match u32::try_from(given) {
        Ok(0) => Ok(None),
        Ok(most) if MAX_ATTEMPTS.contains(&most) => Ok(Some(most)),
        _ => {
            Err(Error::bad_field("start.max_attempts", format!("`{given}` is out of range; give 1 to 100, or 0 for 5")))
        }
    }
}

fn first_credit(given: i32) -> Result<usize, Error> {
    if given == 0 { Ok(FIRST_GRANT) } else { grant("start.credit", given) }
}

/// Reads a grant: 1 to 10,000.
pub(crate) fn grant(field: &str, given: i32) -> Result<usize, Error> {
    if (1..=GRANT).contains(&given) {
        return Ok(given as usize);
    }
    Err(Error::bad_field(field, format!("`{given}` is out of range; give 1 to {GRANT}")))
}

/// `start` came a second time.
pub(crate) fn started_again() -> Error {
    Error::bad_field("start", "came again; only the first message carries it")
}

struct Subscription {
    feed: Feed,
    filter: Filter,
    /// Events that may still be sent.
    credit: Semaphore,
    /// Cancelled when no more credit can come, because the subscriber has closed its side.
    last_grant: CancellationToken,
    instance: String,
}

impl Subscription {
    async fn deliver(
        mut self,
        reader: Reader<wire::SubscribeResponse>,
        incoming: Streaming<wire::SubscribeRequest>,
    ) -> Result<(), Error> {
        let grants = read_grants(&self.credit, &self.last_grant, incoming);
        let (feed, filter, instance) = (&mut self.feed, &self.filter, &self.instance);
        let (credit, last_grant) = (&self.credit, &self.last_grant);
        let events = async {
            loop {
                let rows = tokio::select! {
                    rows = feed.next() => rows.map_err(status::store)?,
                    () = last_grant.cancelled(), if credit.available_permits() == 0 => {
                        if credit.available_permits() == 0 {
                            return Ok(());
                        }
                        // The last grant came just before the end.
                        continue;
                    }
                };
                for (position, row) in rows {
                    for wanted in wanted(position, row, filter, instance).map_err(status::store)? {
                        if let Some(breach) = &wanted.breach {
                            tracing::warn!(event = %wanted.event.event_id, "an event is not delivered: {breach}");
                            continue;
                        }
                        let place = tokio::select! {
                            // Credit that is there is used up before the end counts.
                            biased;
                            place = credit.acquire() => place.expect("the semaphore is never closed"),
                            () = last_grant.cancelled() => return Ok(()),
                        };
                        place.forget();
                        let (event, cursor) = (Some(convert::event(&wanted.event)), wanted.cursor as i64);
                        reader.give(wire::SubscribeResponse { event, cursor, ..Default::default() }).await?;
                    }
                }
            }
        };
        tokio::select! {
            ended = events => ended,
            Err(wrong) = grants => Err(wrong),
        }
    }
}

/// Reads what the subscriber grants until it closes its side.
async fn read_grants(
    credit: &Semaphore,
    last: &CancellationToken,
    mut incoming: Streaming<wire::SubscribeRequest>,
) -> Result<(), Error> {
    loop {
        // A stream that broke grants nothing more; whoever would hear of it is gone with it.
        let Ok(Some(message)) = incoming.message().await else {
            last.cancel();
            return Ok(());
        };
        match message.kind {
            Some(Said::Credit(given)) => {
                let given = grant("credit", given)?;
                if credit.available_permits() + given > OUTSTANDING {
                    let said =
                        format!("more than {OUTSTANDING} would be outstanding; grant more when events have come");
                    return Err(Error::bad_field("credit", said));
                }
                credit.add_permits(given);
            }
            Some(Said::Settle(_)) => {
                let said = "is for members of a group; name one in `start.group`, or give `credit`";
                return Err(Error::bad_field("settle", said));
            }
            Some(Said::Start(_)) => return Err(started_again()),
            None => return Err(Error::bad_field("kind", "is absent; give `credit`")),
        }
    }
}

/// Reads which events are wanted.
fn filter(filter: wire::EventFilter) -> Result<Filter, Error> {
    if filter.event_types.len() > TYPES {
        let found = filter.event_types.len();
        return Err(Error::bad_field("start.filter.event_types", format!("there are {found}; give at most {TYPES}")));
    }
    for (index, pattern) in filter.event_types.iter().enumerate() {
        let field = format!("start.filter.event_types[{index}]");
        request::text(&field, pattern, 200)?;
        let stars = pattern.matches('*').count();
        if pattern.is_empty() || stars > 1 || (stars == 1 && !pattern.ends_with('*')) {
            let shown = names::shown(pattern);
            return Err(Error::bad_field(
                field,
                format!("`{shown}` is not a type; give one such as `ORDER.VALIDATED`, or a prefix such as `STEP.*`"),
            ));
        }
    }
    // Groups keep it.
    request::text("start.filter.subject", &filter.subject, 500)?;
    let correlation_id = match filter.correlation_id.as_str() {
        "" => None,
        text => Some(names::uuid(text).ok_or_else(|| {
            let shown = names::shown(text);
            Error::bad_field(
                "start.filter.correlation_id",
                format!("`{shown}` is not a UUID; give the one of the events you want"),
            )
        })?),
    };
    Ok(Filter::new(filter.event_types, correlation_id, filter.subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_filters_and_grants_are_refused() {
        let of = |types: &[&str]| {
            let event_types = types.iter().map(ToString::to_string).collect();
            filter(wire::EventFilter { event_types, ..Default::default() })
        };
        for bad in ["", "*STEP", "ST*EP.*", "**"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(of(&["STEP.*", "A"]).unwrap().types(), ["A", "STEP.*"]);
        assert!(filter(wire::EventFilter { correlation_id: "x".into(), ..Default::default() }).is_err());
        assert_eq!(grant("credit", 10_000).unwrap(), 10_000);
        assert!(grant("credit", 0).is_err() && grant("credit", 10_001).is_err() && grant("credit", -1).is_err());
        assert_eq!(first_credit(0).unwrap(), 256);
    }

    #[test]
    fn a_beginning_is_not_beyond_the_end() {
        assert_eq!(origin(None, 7).unwrap(), None);
        assert_eq!(origin(Some(From::Cursor(7)), 7).unwrap(), Some(Origin::After(7)));
        assert_eq!(origin(Some(From::Cursor(8)), 7).unwrap_err().kind, Kind::OutOfRange);
        assert!(origin(Some(From::Cursor(-1)), 7).is_err() && origin(Some(From::Latest(false)), 7).is_err());
    }

    #[test]
    fn how_a_group_works_has_bounds() {
        let timeout = |seconds| ack_timeout(Some(&prost_types::Duration { seconds, nanos: 0 }));
        assert_eq!(ack_timeout(None).unwrap(), None);
        assert_eq!(timeout(3_600).unwrap(), Some(Duration::from_secs(3_600)));
        assert!(timeout(0).is_err() && timeout(3_601).is_err() && timeout(-1).is_err());
        assert_eq!((max_attempts(0).unwrap(), max_attempts(100).unwrap()), (None, Some(100)));
        assert!(max_attempts(-1).is_err() && max_attempts(101).is_err());
    }
}
