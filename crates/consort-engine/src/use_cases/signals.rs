//! Signals to the mesh: raise, get.

use std::time::Duration;

use consort_core::Error;
use consort_core::data::Data;
use consort_core::event::Published;
use consort_core::ports::SignalRow;
use consort_core::run::project_name;
use uuid::Uuid;

use super::requests::check;
use crate::ledger::{Act, Outcome};
use crate::loader::Loader;
use crate::triggers::{DETECTED, detected};
use crate::types::{RaiseSignal, ScheduleView, SignalView};
use crate::{Engine, store_error};

/// Largest payload of a signal, in bytes: every expression and agent that gets it reads it whole.
const PAYLOAD_LIMIT: u64 = 1024 * 1024;
/// How long a caller waits for the route of its signal.
const PATIENCE: Duration = Duration::from_secs(20);

impl Engine {
    /// Raises a signal. Answers when it is routed and the runs that act on it have begun.
    pub async fn raise_signal(&self, raise: RaiseSignal) -> Result<SignalView, Error> {
        let RaiseSignal { namespace, project, mut signal, request } = raise;
        let mut correlation = None;
        if let Some(id) = &project {
            correlation = Some(self.project_row(&namespace, id).await?.uid);
        }
        if let Data::Blob(blob) = &signal.payload {
            if blob.size > PAYLOAD_LIMIT {
                let text =
                    format!("has {} bytes; give at most {PAYLOAD_LIMIT}, or the name of a blob in it", blob.size);
                return Err(Error::bad_field("payload", text));
            }
            let json = Loader::of(self).text(blob).await.map_err(|e| store_error(&e))?;
            signal.payload = Data::Inline(json.map_err(|why| Error::bad_field("payload", why))?);
        }
        let mut id = self.environment().new_id();
        let mine = request.map(|request| self.stored(&namespace, "RaiseSignal", &request, id.as_bytes().to_vec()));
        if let Some(answer) = self.answered_before(mine.as_ref()).await? {
            return self.routed(first(&answer)?).await;
        }
        let mut payload = Data::of(&detected(&namespace, id, project.as_deref(), &signal));
        self.spill(&mut payload).await?;
        let event_id = Uuid::new_v5(&id, DETECTED.as_bytes());
        let event = Published {
            event_id,
            event_type: DETECTED.to_owned(),
            event_version: 1,
            timestamp: self.now(),
            source: "client".to_owned(),
            instance: signal.source.clone(),
            correlation_id: correlation.unwrap_or(event_id),
            causation_id: None,
            namespace: namespace.clone(),
            subject: project.as_ref().map_or_else(String::new, |id| project_name(&namespace, id)),
            payload,
            depth: 0,
        };
        // Before it is on disk, so that nothing is missed.
        let routed = self.inner.waiting.wait(id);
        if let Outcome::Repeated(theirs) =
            self.act(Act { events: vec![event], request: mine.clone(), ..Act::default() }).await?
        {
            if let Some(mine) = &mine {
                check(mine, &theirs)?;
            }
            id = first(&theirs.answer)?;
            return self.routed(id).await;
        }
        match tokio::time::timeout(PATIENCE, routed).await {
            Ok(Ok(row)) => Ok(SignalView { open: !row.runs.is_empty(), row }),
            _ => self.routed(id).await,
        }
    }

    /// A signal that was raised before; it may not be routed yet.
    async fn routed(&self, id: Uuid) -> Result<SignalView, Error> {
        let routed = self.inner.waiting.wait(id);
        let found = self.inner.store.signal(id).await.map_err(|e| store_error(&e))?;
        let row = if let Some(row) = found {
            row
        } else if let Ok(Ok(row)) = tokio::time::timeout(PATIENCE, routed).await {
            row
        } else {
            let text =
                "the signal is on disk and not routed yet; ask for it again, or repeat the call with its request_id";
            return Err(Error::unavailable(text, Duration::from_secs(1)));
        };
        Ok(SignalView { open: self.is_open(&row).await?, row })
    }

    /// A signal of a namespace.
    pub async fn signal(&self, namespace: &str, id: Uuid) -> Result<SignalView, Error> {
        let row = self.inner.store.signal(id).await.map_err(|e| store_error(&e))?;
        let row = row.filter(|row| &*row.namespace == namespace).ok_or_else(|| Error::not_found("signal", id))?;
        Ok(SignalView { open: self.is_open(&row).await?, row })
    }

    /// Whether one of the runs that act on a signal is live.
    pub async fn is_open(&self, row: &SignalRow) -> Result<bool, Error> {
        for run in &row.runs {
            let run = self.inner.store.run(*run).await.map_err(|e| store_error(&e))?;
            if run.is_some_and(|run| !run.state.is_over()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The schedules of a namespace's workflows, by workflow and number.
    pub fn schedules(&self, namespace: &str) -> Vec<ScheduleView> {
        let schedules = self.inner.schedules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        schedules.iter().filter(|schedule| &*schedule.namespace == namespace).cloned().collect()
    }
}

fn first(answer: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(answer).map_err(|_| Error::internal("a stored request is damaged"))
}
