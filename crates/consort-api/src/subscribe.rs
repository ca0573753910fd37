//! `EventService.Subscribe`: the log from a cursor on, as fast as the subscriber grants credit.

use std::sync::Arc;

use consort_bus::Feed;
use consort_bus::envelope::envelopes;
use consort_core::event::Published;
use consort_core::ports::LogRow;
use consort_core::{Error, Kind};
use consort_proto::event as wire;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use wire::subscribe_request::Kind as Said;
use wire::subscribe_start::From;

use crate::stream::{self, Reader};
use crate::{Context, convert, names, request, status};

/// Credit of one grant, and all that may be outstanding.
const GRANT: i32 = 10_000;
const OUTSTANDING: usize = 1_000_000;
const FIRST_GRANT: usize = 256;
/// Types of one filter.
const TYPES: usize = 100;

/// Delivers events after the cursor of the first message.
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
    let subscription = begin(context, start).map_err(status::of)?;
    Ok(stream::news(context, |reader| subscription.deliver(reader, incoming).boxed()))
}

fn begin(context: &Arc<Context>, start: wire::SubscribeStart) -> Result<Subscription, Error> {
    let namespace = names::parent("start.parent", &start.parent)?;
    let filter = Filter::read(start.filter.unwrap_or_default())?;
    let credit = match start.credit {
        0 => FIRST_GRANT,
        given => grant("start.credit", given)?,
    };
    let end = context.bus.end();
    let after = match start.from {
        None | Some(From::Latest(true)) => end,
        Some(From::Latest(false)) => {
            return Err(Error::bad_field("start.latest", "is false; give true, or a `cursor` to begin elsewhere"));
        }
        Some(From::Cursor(cursor)) => {
            let cursor = u64::try_from(cursor).map_err(|_| {
                Error::bad_field("start.cursor", format!("`{cursor}` is negative; give 0 for the beginning"))
            })?;
            if cursor > end {
                let said = format!("`start.cursor` is {cursor} and the log ends at {end}; give at most {end}");
                return Err(Error::new(Kind::OutOfRange, "BEYOND_THE_END", said));
            }
            cursor
        }
    };
    Ok(Subscription {
        feed: context.bus.feed(after, namespace),
        filter,
        credit: Semaphore::new(credit),
        last_grant: CancellationToken::new(),
        instance: context.options.server.clone(),
    })
}

fn grant(field: &str, given: i32) -> Result<usize, Error> {
    if (1..=GRANT).contains(&given) {
        return Ok(given as usize);
    }
    Err(Error::bad_field(field, format!("`{given}` is out of range; give 1 to {GRANT}")))
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
                    for response in wanted(position, row, filter, instance)? {
                        let place = tokio::select! {
                            // Credit that is there is used up before the end counts.
                            biased;
                            place = credit.acquire() => place.expect("the semaphore is never closed"),
                            () = last_grant.cancelled() => return Ok(()),
                        };
                        place.forget();
                        reader.give(response).await?;
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
            Some(Said::Start(_)) => {
                return Err(Error::bad_field("start", "came again; only the first message carries it"));
            }
            None => return Err(Error::bad_field("kind", "is absent; give `credit`")),
        }
    }
}

/// The events of a row that match, with their cursors. The last one's cursor leads behind the row; those before it lead before the
/// row, because a cursor cannot point into it, so a subscriber that begins again there gets some twice and misses none.
fn wanted(position: u64, row: LogRow, filter: &Filter, instance: &str) -> Result<Vec<wire::SubscribeResponse>, Error> {
    let events = match row {
        LogRow::Published(event) => vec![event],
        LogRow::Run(record) => envelopes(&record, instance)
            .map_err(|why| Error::internal(format!("row {position} of the log cannot be read: {why}")))?,
    };
    let before = position as i64 - 1;
    let matching = events.iter().filter(|event| filter.matches(event));
    let mut responses: Vec<_> =
        matching.map(|event| wire::SubscribeResponse { event: Some(convert::event(event)), cursor: before }).collect();
    if let Some(last) = responses.last_mut() {
        last.cursor = position as i64;
    }
    Ok(responses)
}

/// Which events are wanted.
#[derive(Default)]
struct Filter {
    types: Vec<String>,
    correlation_id: Option<uuid::Uuid>,
    subject: String,
}

impl Filter {
    fn read(filter: wire::EventFilter) -> Result<Filter, Error> {
        if filter.event_types.len() > TYPES {
            let found = filter.event_types.len();
            return Err(Error::bad_field(
                "start.filter.event_types",
                format!("there are {found}; give at most {TYPES}"),
            ));
        }
        for (index, pattern) in filter.event_types.iter().enumerate() {
            let field = format!("start.filter.event_types[{index}]");
            request::text(&field, pattern, 200)?;
            let stars = pattern.matches('*').count();
            if pattern.is_empty() || stars > 1 || (stars == 1 && !pattern.ends_with('*')) {
                let shown = names::shown(pattern);
                return Err(Error::bad_field(
                    field,
                    format!(
                        "`{shown}` is not a type; give one such as `ORDER.VALIDATED`, or a prefix such as `STEP.*`"
                    ),
                ));
            }
        }
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
        Ok(Filter { types: filter.event_types, correlation_id, subject: filter.subject })
    }

    fn matches(&self, event: &Published) -> bool {
        let of_type = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => event.event_type.starts_with(prefix),
            None => event.event_type == *pattern,
        };
        (self.types.is_empty() || self.types.iter().any(of_type))
            && self.correlation_id.is_none_or(|id| id == event.correlation_id)
            && (self.subject.is_empty() || self.subject == event.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::event::{Entry, Fact, LeaseLoss, Record};
    use consort_core::{RunId, StepKey};
    use uuid::Uuid;

    fn record() -> LogRow {
        let step = || Some(StepKey::step("cost"));
        let lost = Fact::StepLeaseLost { token: 9, reason: LeaseLoss::Expired };
        let skipped = Fact::StepSkipped { reason: "no".into() };
        let entries = [
            Entry { step: step(), fact: lost },
            Entry { step: step(), fact: skipped },
            Entry { step: None, fact: Fact::RunResumed },
        ];
        LogRow::Run(Record {
            run: RunId(Uuid::from_u128(7)),
            namespace: "acme".into(),
            root: RunId(Uuid::from_u128(8)),
            sequence: 5,
            count: 3,
            at: 0,
            body: serde_json::to_vec(&entries).unwrap(),
            hash: [0; 32],
        })
    }

    fn filter(types: &[&str]) -> Filter {
        let event_types = types.iter().map(ToString::to_string).collect();
        Filter::read(wire::EventFilter { event_types, ..Default::default() }).unwrap()
    }

    fn delivered(filter: &Filter) -> Vec<(String, i64)> {
        let responses = wanted(41, record(), filter, "test").unwrap();
        responses.into_iter().map(|r| (r.event.unwrap().event_type, r.cursor)).collect()
    }

    #[test]
    fn only_the_last_wanted_event_of_a_row_leads_behind_it() {
        assert_eq!(
            delivered(&filter(&[])),
            [("STEP.LEASE_LOST".into(), 40), ("STEP.SKIPPED".into(), 40), ("RUN.RESUMED".into(), 41)]
        );
        assert_eq!(delivered(&filter(&["STEP.*"])), [("STEP.LEASE_LOST".into(), 40), ("STEP.SKIPPED".into(), 41)]);
        assert_eq!(delivered(&filter(&["STEP.LEASE_LOST"])), [("STEP.LEASE_LOST".into(), 41)]);
        assert!(delivered(&filter(&["STEP", "ORDER.*"])).is_empty());
    }

    #[test]
    fn every_set_field_must_match() {
        let of = |correlation: u128, subject: &str| Filter {
            correlation_id: Some(Uuid::from_u128(correlation)),
            subject: subject.into(),
            ..Default::default()
        };
        let subject = "namespaces/acme/runs/00000000-0000-0000-0000-000000000007";
        assert_eq!(delivered(&of(8, subject)).len(), 3);
        assert!(delivered(&of(7, subject)).is_empty());
        assert!(delivered(&of(8, "else")).is_empty());
    }

    #[test]
    fn bad_filters_and_grants_are_refused() {
        for bad in ["", "*STEP", "ST*EP.*", "**"] {
            assert!(
                Filter::read(wire::EventFilter { event_types: vec![bad.into()], ..Default::default() }).is_err(),
                "{bad}"
            );
        }
        assert!(Filter::read(wire::EventFilter { correlation_id: "x".into(), ..Default::default() }).is_err());
        assert_eq!(grant("credit", 10_000).unwrap(), 10_000);
        assert!(grant("credit", 0).is_err() && grant("credit", 10_001).is_err() && grant("credit", -1).is_err());
    }
}
