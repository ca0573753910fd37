//! Asking an agent from a client.

use std::time::Duration;

use consort_proto::agent::AskAgentRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Request;

use crate::client::{Client, out_of_patience};
use crate::error::Error;

impl Client {
    /// Asks an agent and waits for its answer, at most for `timeout`, which is at most 10 minutes. Needs a worker that answers for it
    /// ([`Worker::answers`](crate::Worker::answers)).
    ///
    /// The call is tried once: a request is delivered at most once. An error has the code of the handler, or UNAVAILABLE
    /// (AGENT_OFFLINE, ANSWERER_LOST), RESOURCE_EXHAUSTED (BUSY), DEADLINE_EXCEEDED with the reason in its details. Dropping the
    /// future tells the handler.
    pub async fn ask_agent<T: DeserializeOwned>(
        &self,
        agent: &str,
        payload: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Error> {
        let json = serde_json::to_string(payload).map_err(|source| Error::Json { what: "what is asked", source })?;
        let payload = Some(self.pack(json).await?);
        let mut request = Request::new(AskAgentRequest { name: self.name("agents", agent), payload });
        request.set_timeout(timeout);
        let answer = self.agents().ask_agent(request).await.map_err(|status| out_of_patience(status, timeout))?;
        let answer = answer.into_inner().answer;
        let value = self.payload_value(answer.as_ref()).await?;
        serde_json::from_value(value).map_err(|source| Error::Json { what: "the agent's answer", source })
    }
}
