//! Decisions: answer.

use consort_core::Error;
use consort_core::ports::DecisionRow;
use consort_core::run::Command;

use super::requests::check;
use crate::ledger::Outcome;
use crate::types::AnswerDecision;
use crate::{Engine, store_error};

impl Engine {
    /// Records an answer; the run goes on. The same answer again gets the recorded decision.
    pub async fn answer(&self, answer: AnswerDecision) -> Result<DecisionRow, Error> {
        let AnswerDecision { namespace, id, option, mut form, by, request } = answer;
        let row = self.decision(&namespace, id).await?;
        if let Some(form) = &mut form {
            self.spill(form).await?;
        }
        let mine = request.map(|request| self.stored(&namespace, "AnswerDecision", &request, id.as_bytes().to_vec()));
        if self.answered_before(mine.as_ref()).await?.is_some() {
            return Ok(row);
        }
        let command = Command::Answer { step: row.step, decision: id, option, form, by };
        if let Outcome::Repeated(theirs) = self.change(&namespace, row.run, command, mine.clone()).await?
            && let Some(mine) = &mine
        {
            check(mine, &theirs)?;
        }
        self.decision(&namespace, id).await
    }

    /// A decision of a namespace.
    pub async fn decision(&self, namespace: &str, id: uuid::Uuid) -> Result<DecisionRow, Error> {
        let row = self.inner.store.decision(id).await.map_err(|e| store_error(&e))?;
        row.filter(|row| &*row.namespace == namespace).ok_or_else(|| Error::not_found("decision", id))
    }
}
