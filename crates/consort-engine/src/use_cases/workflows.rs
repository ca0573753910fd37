//! Workflows: apply, get, delete.

use std::sync::Arc;

use consort_core::data::BlobRef;
use consort_core::ports::WorkflowRow;
use consort_core::workflow::{Mistake, Workflow};
use consort_core::{Error, Violation};

use crate::environment::beside;
use crate::ledger::Message;
use crate::types::RequestId;
use crate::{Engine, store_error};

impl Engine {
    /// Checks a definition and stores it as a new revision, unless it is what the newest revision already is. With `validate_only` nothing is stored and
    /// the revision is 0. Every mistake is a violation whose field is the place in the definition and whose description begins with
    /// `line L, column C: `.
    pub async fn apply_workflow(
        &self,
        namespace: &str,
        source: &str,
        created_by: &str,
        validate_only: bool,
        request: Option<RequestId>,
    ) -> Result<(WorkflowRow, Arc<Workflow>), Error> {
        let text = source.to_owned();
        // A large definition takes a while to check: not on a thread that others need.
        let parsed = beside(self.environment(), move || Workflow::parse(&text)).await;
        let workflow = parsed
            .map_err(|_| Error::internal("the definition could not be checked"))?
            .map_err(|mistakes| Error::bad_fields(mistakes.into_iter().map(violation).collect()))?;
        let workflow = Arc::new(workflow);
        let namespace: Arc<str> = namespace.into();
        let mut row = WorkflowRow {
            namespace: namespace.clone(),
            id: workflow.name.clone(),
            revision: 0,
            source: source.to_owned(),
            digest: BlobRef::of(source.as_bytes(), "application/yaml").sha256.to_string(),
            created_at: self.now(),
            created_by: created_by.to_owned(),
            triggers: !workflow.triggers.is_empty(),
        };
        if validate_only {
            return Ok((row, workflow));
        }
        let mine = request.map(|request| self.stored(&namespace, "ApplyWorkflow", &request, Vec::new()));
        if let Some(answer) = self.answered_before(mine.as_ref()).await? {
            let revision = answer
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| Error::internal("a stored request is damaged"))?;
            return self.workflow(&namespace, &workflow.name, Some(revision)).await;
        }
        row = self.inner.store.apply(&row).await.map_err(|e| store_error(&e))?;
        self.inner.definitions.applied(&row, &workflow);
        self.inner.registry.applied(&row, &workflow);
        self.tell(Message::NewestChanged { namespace, workflow: workflow.name.clone() }).await?;
        let answer = row.revision.to_be_bytes().to_vec();
        self.claim(mine.map(|mine| consort_core::ports::StoredRequest { answer, ..mine })).await?;
        Ok((row, workflow))
    }

    /// A revision of a workflow, the newest by default.
    pub async fn workflow(
        &self,
        namespace: &str,
        id: &str,
        revision: Option<u64>,
    ) -> Result<(WorkflowRow, Arc<Workflow>), Error> {
        let found = self.inner.definitions.get(&namespace.into(), &id.into(), revision).await;
        let found = found.map_err(|e| store_error(&e))?;
        let (row, workflow) = found.ok_or_else(|| match revision {
            None => Error::not_found("workflow", id),
            Some(n) => Error::not_found("workflow revision", format!("{id}, revision {n}")),
        })?;
        Ok(((*row).clone(), workflow))
    }

    /// Makes a workflow unavailable for new runs.
    pub async fn delete_workflow(&self, namespace: &str, id: &str, request: Option<RequestId>) -> Result<(), Error> {
        let mine = request.map(|request| self.stored(namespace, "DeleteWorkflow", &request, Vec::new()));
        if self.answered_before(mine.as_ref()).await?.is_some() {
            return Ok(());
        }
        if !self.inner.store.delete(namespace, id).await.map_err(|e| store_error(&e))? {
            return Err(Error::not_found("workflow", id));
        }
        let (namespace, workflow): (Arc<str>, Arc<str>) = (namespace.into(), id.into());
        self.inner.definitions.deleted(&namespace, &workflow);
        self.inner.registry.deleted(&namespace, &workflow);
        self.tell(Message::NewestChanged { namespace, workflow }).await?;
        self.claim(mine).await
    }
}

fn violation(mistake: Mistake) -> Violation {
    let Mistake { path, line, column, message, hint } = mistake;
    let place = if line > 0 { format!("line {line}, column {column}: ") } else { String::new() };
    let hint = if hint.is_empty() { hint } else { format!("; {hint}") };
    let field = if path.is_empty() { "source".to_owned() } else { path };
    Violation { field, description: format!("{place}{message}{hint}") }
}
