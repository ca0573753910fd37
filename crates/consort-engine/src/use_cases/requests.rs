//! Idempotency: a request id is used up in the same commit as what it did.

use consort_core::ports::StoredRequest;
use consort_core::{Error, Kind};
use uuid::Uuid;

use crate::ledger::{Message, Outcome};
use crate::types::RequestId;
use crate::{Engine, store_error};

/// Times that a caller asks again because its batch failed on somebody else's account.
const MAX_ASKS: usize = 20;

/// Refuses a request id that was used with other content.
pub(super) fn check(mine: &StoredRequest, theirs: &StoredRequest) -> Result<(), Error> {
    if mine.fingerprint == theirs.fingerprint {
        return Ok(());
    }
    let text = "request_id: it was used within 24 hours for a request with other content; choose a new one";
    Err(Error::new(Kind::AlreadyExists, "REQUEST_ID_REUSED", text))
}

impl Engine {
    /// The stored form of a request id. `answer` is what the same request gets again.
    pub(super) fn stored(&self, namespace: &str, method: &str, request: &RequestId, answer: Vec<u8>) -> StoredRequest {
        let name = format!("{namespace}\0{method}\0{}", request.id);
        let key = *Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_bytes();
        StoredRequest { key, fingerprint: request.fingerprint, answer, at: self.now() }
    }

    /// Asks the ledger until the answer is its own.
    pub(crate) async fn ask_until_own(
        &self,
        mut message: impl FnMut(tokio::sync::oneshot::Sender<Result<Outcome, Error>>) -> Message,
    ) -> Result<Outcome, Error> {
        for _ in 0..MAX_ASKS {
            match self.ask(&mut message).await?? {
                Outcome::AskAgain => tokio::task::yield_now().await,
                outcome => return Ok(outcome),
            }
        }
        Err(Error::unavailable(
            "too many requests with the same request_id at once",
            std::time::Duration::from_millis(100),
        ))
    }

    /// What was answered to this request before, if it was.
    pub(super) async fn answered_before(&self, mine: Option<&StoredRequest>) -> Result<Option<Vec<u8>>, Error> {
        let Some(mine) = mine else { return Ok(None) };
        let found = self.inner.store.request(&mine.key).await.map_err(|e| store_error(&e))?;
        let Some(theirs) = found else { return Ok(None) };
        check(mine, &theirs)?;
        Ok(Some(theirs.answer))
    }

    /// Uses up a request id whose effect is on disk already and can be repeated.
    pub(super) async fn claim(&self, mine: Option<StoredRequest>) -> Result<(), Error> {
        let Some(mine) = mine else { return Ok(()) };
        let outcome = self.ask_until_own(|reply| Message::Claim { request: mine.clone(), reply }).await?;
        match outcome {
            Outcome::Repeated(theirs) => check(&mine, &theirs),
            _ => Ok(()),
        }
    }
}
