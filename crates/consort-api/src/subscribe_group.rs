//! `EventService.Subscribe` with a group: what the group hands to this member, and what becomes of it.

use consort_bus::groups::{Delivery, Member, Refused, Settlement};
use consort_core::Error;
use consort_proto::event as wire;
use tonic::Streaming;
use wire::subscribe_request::Kind as Said;

use crate::stream::Reader;
use crate::subscribe::{grant, started_again};
use crate::{convert, request};

/// A subscriber's place in its group. When its stream ends, what it holds is handed to others.
pub(crate) struct Membership(pub(crate) Member);

impl Membership {
    /// Delivers until the subscriber closes its side, because it can settle nothing after that.
    pub(crate) async fn deliver(
        self,
        reader: Reader<wire::SubscribeResponse>,
        incoming: Streaming<wire::SubscribeRequest>,
    ) -> Result<(), Error> {
        let deliveries = async {
            loop {
                reader.give(delivered(&self.0.next().await?)).await?;
            }
        };
        tokio::select! {
            ended = deliveries => ended,
            ended = listen(&self.0, incoming) => ended,
        }
    }
}

fn delivered(delivery: &Delivery) -> wire::SubscribeResponse {
    wire::SubscribeResponse {
        event: Some(convert::event(&delivery.event)),
        cursor: delivery.cursor as i64,
        delivery_id: delivery.id as i64,
        attempt: delivery.attempt as i32,
    }
}

async fn listen(member: &Member, mut incoming: Streaming<wire::SubscribeRequest>) -> Result<(), Error> {
    loop {
        // A stream that broke settles nothing more; whoever would hear of it is gone with it.
        let Ok(Some(message)) = incoming.message().await else { return Ok(()) };
        match message.kind {
            Some(Said::Credit(given)) => member.grant(grant("credit", given)?)?,
            Some(Said::Settle(settle)) => member.settle(settlement(settle)?),
            Some(Said::Start(_)) => return Err(started_again()),
            None => return Err(Error::bad_field("kind", "is absent; give `settle` or `credit`")),
        }
    }
}

fn settlement(settle: wire::Settle) -> Result<Settlement, Error> {
    let mut refused = Vec::with_capacity(settle.refused.len());
    for (index, refusal) in settle.refused.into_iter().enumerate() {
        request::text(&format!("settle.refused[{index}].reason"), &refusal.reason, 1_000)?;
        let wire::Refusal { delivery_id, reason, r#final: last } = refusal;
        let reason = if reason.is_empty() { "a member refused it and gave no reason".to_owned() } else { reason };
        refused.push(Refused { delivery: delivery_id as u64, reason, last });
    }
    // Ids that never were, negative ones among them, count as ones that count no longer.
    Ok(Settlement { done: settle.done.into_iter().map(|id| id as u64).collect(), refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_reason_of_some_length() {
        let settle = |reason: String| {
            let refused = vec![wire::Refusal { delivery_id: 4, reason, r#final: true }];
            settlement(wire::Settle { done: vec![3], refused })
        };
        let read = settle("é".repeat(1_000)).unwrap();
        assert_eq!((read.done, read.refused[0].delivery, read.refused[0].last), (vec![3], 4, true));
        assert!(settle(String::new()).unwrap().refused[0].reason.contains("no reason"));
        let error = settle("x".repeat(1_001)).unwrap_err();
        assert_eq!(error.violations[0].field, "settle.refused[0].reason");
    }
}
