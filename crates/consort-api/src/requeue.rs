//! `EventService.RequeueDeadLetters`: what a group could not handle goes to the group again, what was not accepted is published if it
//! meets its contract now.

use std::collections::BTreeMap;

use consort_core::Error;
use consort_core::event::Published;
use consort_core::ports::DeadLetter;
use consort_proto::event as wire;
use uuid::Uuid;

use crate::envelope::Defaults;
use crate::{Context, convert, event, names, request, status};

/// Letters of one call.
const LETTERS: usize = 1_000;

/// Why each letter stays, or nothing if it was accepted.
type Outcomes = BTreeMap<Uuid, Option<String>>;

/// Tries dead letters again. Nothing that goes wrong with one of them fails the call.
pub(crate) async fn requeue(
    context: &Context,
    request: wire::RequeueDeadLettersRequest,
) -> Result<wire::RequeueDeadLettersResponse, Error> {
    let namespace = names::parent("parent", &request.parent)?;
    request::check_id(&request.request_id)?;
    if request.ids.is_empty() || request.ids.len() > LETTERS {
        return Err(Error::bad_field("ids", format!("there are {}; give 1 to {LETTERS}", request.ids.len())));
    }
    let ids: Vec<Uuid> = request.ids.iter().filter_map(|id| names::uuid(id)).collect();
    let letters = context.store().dead_letters_of(&namespace, &ids).await.map_err(status::store)?;
    let (of_groups, refused): (Vec<DeadLetter>, Vec<DeadLetter>) =
        letters.into_iter().partition(|letter| letter.group.is_some());

    let defaults = Defaults { namespace, now: event::now(), peer: None };
    let mut outcomes = Outcomes::new();
    publish(context, &defaults, &refused, &mut outcomes).await?;
    let answers = context.groups.requeue(&of_groups).await?;
    outcomes.extend(of_groups.iter().map(|letter| letter.id).zip(answers));

    let results = request.ids.into_iter().map(|id| {
        let outcome = names::uuid(&id).and_then(|id| outcomes.get(&id));
        let unknown = || format!("there is no dead letter `{}`; give an id of ListDeadLetters", names::shown(&id));
        let error = outcome.map_or_else(unknown, |outcome| outcome.clone().unwrap_or_default());
        wire::Requeued { id, error }
    });
    Ok(wire::RequeueDeadLettersResponse { results: results.collect() })
}

/// Publishes what meets its contract now, and says of the rest why it does not.
async fn publish(
    context: &Context,
    defaults: &Defaults,
    letters: &[DeadLetter],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    let (namespace, store) = (&*defaults.namespace, context.store());
    let mut accepted: Vec<(Uuid, Published)> = Vec::new();
    let mut reasons: Vec<(Uuid, String)> = Vec::new();
    for letter in letters {
        match again(context, defaults, letter).await? {
            Ok(event) => accepted.push((letter.id, event)),
            Err(reason) => reasons.push((letter.id, reason)),
        }
    }
    store.restate(namespace, &reasons).await.map_err(status::store)?;
    outcomes.extend(reasons.into_iter().map(|(id, reason)| (id, Some(reason))));
    if accepted.is_empty() {
        return Ok(());
    }
    let (ids, events): (Vec<Uuid>, Vec<Published>) = accepted.into_iter().unzip();
    let outcome = match context.engine.publish(events).await {
        Err(error) => Some(error.message),
        // If this fails they are tried again, and an event is published once.
        Ok(_) => store.exhume(namespace, &ids, &[]).await.err().map(|error| status::store(error).message),
    };
    outcomes.extend(ids.into_iter().map(|id| (id, outcome.clone())));
    Ok(())
}

/// The event of a letter as it can be published now, or why it cannot.
async fn again(
    context: &Context,
    defaults: &Defaults,
    letter: &DeadLetter,
) -> Result<Result<Published, String>, Error> {
    let Some(mut event) = convert::buried_event(letter) else {
        return Ok(Err("it is kept in a form that cannot be published".to_owned()));
    };
    if event.event_id.is_empty() {
        // The same at every try, so that it is published once.
        event.event_id = letter.id.to_string();
    }
    let checked = defaults.complete(&context.values, context.store(), "event", event).await?;
    Ok(checked.map_err(|wrong| event::reason(&wrong)))
}
