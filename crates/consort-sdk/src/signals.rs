//! Signals to the mesh: things that were noticed. A signal to one run is [`Client::signal`].

use consort_proto::signal::{GetSignalRequest, Impact, ListSignalsRequest, RaiseSignalRequest, Signal, Urgency};
use serde::Serialize;

use crate::client::{Client, fresh_id};
use crate::error::Error;

/// What may be said of a signal beside its type, title and payload.
#[derive(Clone, Debug, Default)]
pub struct SignalOptions {
    /// How soon somebody must act; `Unspecified` lets the mesh choose by the type.
    pub urgency: Urgency,
    /// How much depends on it; `Unspecified` lets the mesh choose by the type.
    pub impact: Impact,
    /// More about it, in Markdown; at most 64 KiB.
    pub description: String,
    /// Who noticed it, at most 200 characters; empty means `client`.
    pub source: String,
    /// The project it is about.
    pub project: Option<String>,
    /// The agent to hand it to if no workflow matches; empty means that a person is asked.
    pub agent: String,
    /// Makes the call idempotent for 24 hours; absent means a fresh one.
    pub request_id: Option<String>,
}

/// Which signals are listed; every set field must match.
#[derive(Clone, Debug, Default)]
pub struct SignalFilter {
    /// Only signals of this type.
    pub r#type: Option<String>,
    /// Only signals about this project.
    pub project: Option<String>,
}

impl Client {
    /// Raises a signal: its type, such as `QUALITY_ISSUE` or another upper-case name of at most 63 characters, a title of 1 to 200
    /// characters, and what goes with it, any value that serialises to a JSON object. When it returns, the signal and the start of the
    /// runs that act on it are on disk.
    pub async fn raise_signal(
        &self,
        r#type: &str,
        title: &str,
        payload: &impl Serialize,
        options: SignalOptions,
    ) -> Result<Signal, Error> {
        let payload = serde_json::to_string(payload)
            .map_err(|source| Error::Json { what: "the payload of the signal", source })?;
        let request = RaiseSignalRequest {
            parent: self.parent(),
            r#type: r#type.to_owned(),
            urgency: options.urgency.into(),
            impact: options.impact.into(),
            title: title.to_owned(),
            description: options.description,
            payload: Some(self.pack(payload).await?),
            source: options.source,
            project: options.project.map(|project| self.name("projects", &project)).unwrap_or_default(),
            agent: options.agent,
            request_id: options.request_id.unwrap_or_else(fresh_id),
        };
        self.call(request, |client, request| async move { client.signals().raise_signal(request).await }).await
    }

    /// A signal as it stands. NOT_FOUND if there is none.
    pub async fn get_signal(&self, signal: &str) -> Result<Signal, Error> {
        let request = GetSignalRequest { name: self.name("signals", signal) };
        self.call(request, |client, request| async move { client.signals().get_signal(request).await }).await
    }

    /// The newest signals that match, at most `limit` of them.
    pub async fn list_signals(&self, filter: SignalFilter, limit: usize) -> Result<Vec<Signal>, Error> {
        let r#type = filter.r#type.unwrap_or_default();
        let project = filter.project.map(|project| self.name("projects", &project)).unwrap_or_default();
        self.pages(limit, |client, page_size, page_token| {
            let (r#type, project) = (r#type.clone(), project.clone());
            let request = ListSignalsRequest { parent: client.parent(), page_size, page_token, r#type, project };
            async move {
                let page = client
                    .call(request, |client, request| async move { client.signals().list_signals(request).await })
                    .await?;
                Ok((page.signals, page.next_page_token))
            }
        })
        .await
    }
}
