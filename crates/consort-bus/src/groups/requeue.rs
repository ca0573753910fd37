//! Dead letters of groups, tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use consort_core::Error;
use consort_core::ports::{DeadLetter, Store, StoreError};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::mark::Name;
use super::member::Shared;
use super::state::Requeue;
use super::{Groups, closing, store_error};
use crate::wanted::{breach, events};
use crate::{Place, Wanted};

/// Requeued events that may wait in one group: its mark holds them all.
const WAITING: usize = 10_000;

impl Groups {
    /// Hands dead letters to the groups that could not handle them, and removes the letters; one transaction for each group. The
    /// answer says for each letter, in order, why it stays, or nothing if it was accepted.
    pub async fn requeue(&self, letters: &[DeadLetter]) -> Result<Vec<Option<String>>, Error> {
        let mut answers: Vec<Option<String>> = vec![None; letters.len()];
        let mut groups: BTreeMap<Name, Vec<(usize, Uuid, Place)>> = BTreeMap::new();
        for (index, letter) in letters.iter().enumerate() {
            match self.check(letter).await? {
                Ok((id, place)) => {
                    let name = Name { namespace: letter.namespace.clone(), id };
                    groups.entry(name).or_default().push((index, letter.id, place));
                }
                Err(why) => answers[index] = Some(why),
            }
        }
        for (name, asked) in groups {
            let letters = asked.iter().map(|(_, id, place)| (*id, *place)).collect();
            let handed_over = self.hand_over(&name, letters).await;
            // What other groups have accepted stays so: this one's error is told for its own letters.
            if let Some(why) = handed_over.unwrap_or_else(|error| Some(error.message)) {
                for (index, ..) in asked {
                    answers[index] = Some(why.clone());
                }
            }
        }
        Ok(answers)
    }

    /// The group and the place of a letter, or why it cannot be tried again.
    async fn check(&self, letter: &DeadLetter) -> Result<Result<(Arc<str>, Place), String>, Error> {
        let (Some(group), Some(place)) = (letter.group.clone(), letter.place) else {
            return Ok(Err("it is no letter of a group".to_owned()));
        };
        let (store, instance) = (&*self.inner.store, &self.inner.instance);
        let found = find(store, &letter.namespace, instance, place).await.map_err(|error| store_error(&error))?;
        Ok(match found.map(|found| found.breach) {
            None => Err(format!("the log has no event {} at position {}", place.1, place.0)),
            Some(Some(breach)) => Err(breach),
            Some(None) => Ok((group, place)),
        })
    }

    async fn hand_over(&self, name: &Name, letters: Vec<(Uuid, Place)>) -> Result<Option<String>, Error> {
        let Some(shared) = self.wake(name).await? else {
            let gone = format!("there is no group `{}` any more; subscribe with this name to begin it again", name.id);
            return Ok(Some(gone));
        };
        let (reply, answer) = oneshot::channel();
        if !ask(&shared, Requeue { letters, reply })? {
            return Ok(Some(format!(
                "{WAITING} requeued events wait in the group `{}`; try again when it has handled some",
                name.id
            )));
        }
        // A coordinator that ends drops what it was asked.
        answer.await.unwrap_or_else(|_| Err(closing()))?;
        Ok(None)
    }
}

/// Asks a live group; false if too many wait already.
fn ask(shared: &Shared, requeue: Requeue) -> Result<bool, Error> {
    let mut state = shared.state();
    if let Some(why) = &state.ended {
        return Err(why.clone());
    }
    let asked: usize = state.requests.iter().map(|request| request.letters.len()).sum();
    if state.requeued_places().count() + asked + requeue.letters.len() > WAITING {
        return Ok(false);
    }
    state.requests.push_back(requeue);
    shared.wake.notify_one();
    Ok(true)
}

/// The event at a place of the log.
pub(super) async fn find(
    store: &dyn Store,
    namespace: &str,
    instance: &str,
    place: Place,
) -> Result<Option<Wanted>, StoreError> {
    let rows = store.log_after(place.0.saturating_sub(1), namespace, 1).await?;
    let Some((position, row)) = rows.into_iter().next().filter(|(position, _)| *position == place.0) else {
        return Ok(None);
    };
    let event = events(position, row, instance)?.into_iter().find(|(found, _)| *found == place);
    Ok(event.map(|(place, event)| Wanted { place, cursor: position, breach: breach(&event), event }))
}
