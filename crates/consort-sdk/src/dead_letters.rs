//! Events that could not be accepted or delivered.

use consort_proto::event::{DeadLetter, ListDeadLettersRequest, RequeueDeadLettersRequest, Requeued};

use crate::client::{Client, fresh_id};
use crate::error::Error;

impl Client {
    /// The newest dead letters, at most `limit` of them, each with its reason.
    pub async fn list_dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        self.pages(limit, |client, page_size, page_token| {
            let request = ListDeadLettersRequest { parent: client.parent(), page_size, page_token };
            async move {
                let page = client
                    .call(request, |client, request| async move { client.events().list_dead_letters(request).await })
                    .await?;
                Ok((page.dead_letters, page.next_page_token))
            }
        })
        .await
    }

    /// Tries 1 to 1,000 dead letters again, by their ids: what a group could not handle is delivered to it again, what was not
    /// accepted is published if it meets its contract now. The answers, in the order of the ids, say what became of each; one
    /// with an error stays a dead letter.
    pub async fn requeue_dead_letters<I: Into<String>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Requeued>, Error> {
        let request = RequeueDeadLettersRequest {
            parent: self.parent(),
            ids: ids.into_iter().map(Into::into).collect(),
            request_id: fresh_id(),
        };
        let answer = self
            .call(request, |client, request| async move { client.events().requeue_dead_letters(request).await })
            .await?;
        Ok(answer.results)
    }
}
