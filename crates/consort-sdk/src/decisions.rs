//! Questions to people: listing and answering them.

use consort_proto::blob::Payload;
use consort_proto::decision::{AnswerDecisionRequest, Decision, DecisionState, ListDecisionsRequest};
use serde::Serialize;

use crate::client::{Client, fresh_id};
use crate::error::Error;

impl Client {
    /// The newest decisions in a state (`Unspecified` means in any), at most `limit` of them (1 to 1,000).
    pub async fn list_decisions(&self, state: DecisionState, limit: i32) -> Result<Vec<Decision>, Error> {
        let request =
            ListDecisionsRequest { parent: self.parent(), page_size: limit, state: state.into(), ..Default::default() };
        let page = self
            .call(request, |client, request| async move { client.decisions().list_decisions(request).await })
            .await?;
        Ok(page.decisions)
    }

    /// Answers a decision with one of its options.
    pub async fn decide(&self, decision: &str, option: &str, answered_by: &str) -> Result<Decision, Error> {
        self.answer(decision, option, None, answered_by).await
    }

    /// Answers a decision with one of its options and its filled form, any value that matches the form's schema.
    pub async fn decide_with(
        &self,
        decision: &str,
        option: &str,
        form: &impl Serialize,
        answered_by: &str,
    ) -> Result<Decision, Error> {
        let form =
            serde_json::to_string(form).map_err(|source| Error::Json { what: "the form of the answer", source })?;
        let form = self.pack(form).await?;
        self.answer(decision, option, Some(form), answered_by).await
    }

    async fn answer(
        &self,
        decision: &str,
        option: &str,
        form: Option<Payload>,
        answered_by: &str,
    ) -> Result<Decision, Error> {
        let request = AnswerDecisionRequest {
            name: self.name("decisions", decision),
            option: option.to_owned(),
            form,
            answered_by: answered_by.to_owned(),
            request_id: fresh_id(),
        };
        self.call(request, |client, request| async move { client.decisions().answer_decision(request).await }).await
    }
}
