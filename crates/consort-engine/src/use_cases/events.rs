//! Events: publish.

use consort_core::Error;
use consort_core::event::Published;

use crate::ledger::Message;
use crate::types::RequestId;
use crate::{Engine, store_error};

impl Engine {
    /// Appends events to the log and answers with the cursor behind the last of them. Events whose id was published within 24
    /// hours are left out.
    pub async fn publish(&self, events: Vec<Published>) -> Result<u64, Error> {
        loop {
            let mut requests = Vec::with_capacity(events.len());
            let mut fresh = Vec::with_capacity(events.len());
            for event in &events {
                let id = RequestId { id: event.event_id.to_string(), fingerprint: [0; 16] };
                let request = self.stored(&event.namespace, "Publish", &id, Vec::new());
                let known = self.inner.store.request(&request.key).await.map_err(|e| store_error(&e))?;
                if known.is_none() && !requests.contains(&request) {
                    requests.push(request);
                    fresh.push(event.clone());
                }
            }
            if fresh.is_empty() {
                return self.inner.store.last_position().await.map_err(|e| store_error(&e));
            }
            let answer = self.ask(|reply| Message::Publish { events: fresh, requests, reply }).await??;
            if let Some(cursor) = answer {
                return Ok(cursor);
            }
        }
    }
}
