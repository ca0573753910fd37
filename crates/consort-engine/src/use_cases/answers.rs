//! What a worker's answer needs before the ledger can take it.

use std::sync::Arc;

use consort_core::event::{Code, Failure};
use consort_core::workflow::Workflow;
use consort_core::{Data, Error};

use crate::Engine;
use crate::environment::{Environment, beside};
use crate::types::{Answer, Done, TaskFailure};

/// Longest plan, in bytes.
const PLAN_LIMIT: usize = 1024 * 1024;
/// Mistakes of a plan that its failure names.
const SHOWN: usize = 20;

impl Engine {
    /// Moves a large result to the blob store, and reads a plan: both beside the ledger.
    pub(crate) async fn prepare(&self, answer: &mut Answer) -> Result<(), Error> {
        match &mut answer.result {
            Ok(Done::Output(output)) => self.spill(output).await,
            Ok(Done::PlanText(text)) => {
                let text = std::mem::take(text);
                answer.result = match read(self.environment(), text).await {
                    Ok((source, plan)) => {
                        let mut source = Data::of(&source.into());
                        self.spill(&mut source).await?;
                        Ok(Done::Plan { source, plan })
                    }
                    Err(failure) => Err(TaskFailure { failure, retryable: true, retry_after: None }),
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

async fn read(environment: &Arc<dyn Environment>, source: String) -> Result<(String, Arc<Workflow>), Failure> {
    let bad = |text: String| Failure::new(Code::InvalidArgument, text);
    if source.len() > PLAN_LIMIT {
        return Err(bad(format!("the plan has {} bytes; at most {PLAN_LIMIT} are allowed", source.len())));
    }
    // A large plan takes a while to check: not on a thread that others need.
    let parsed = beside(environment, move || Workflow::parse(&source).map(|plan| (source, plan)));
    let parsed = parsed.await.map_err(|_| bad("the plan could not be checked".to_owned()))?;
    parsed.map(|(source, plan)| (source, Arc::new(plan))).map_err(|mistakes| {
        let more = mistakes.len().saturating_sub(SHOWN);
        let shown = mistakes.iter().take(SHOWN).map(|m| {
            let hint = if m.hint.is_empty() { String::new() } else { format!("; {}", m.hint) };
            format!("line {}, column {}: {}: {}{hint}", m.line, m.column, m.path, m.message)
        });
        let mut lines: Vec<String> = shown.collect();
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        bad(format!("the plan has mistakes: {}", lines.join("; ")))
    })
}
