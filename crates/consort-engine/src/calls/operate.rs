//! A `call` step: what it asks, what it yields, and what a person is asked when nobody knows whether a write was done.

use consort_core::event::{Failure, Report};
use consort_core::plugin::{InvokeNews, OperationName};
use consort_core::run::{Clarified, Question};
use consort_core::{Data, Error, Json, Kind};
use serde::Deserialize;
use serde_json::Value;

use super::operations::OperationAsked;
use super::worker::Told;
use crate::Engine;
use crate::types::{Assignment, Done, LiveReport, Progress};

/// The options of the question.
const DO_AGAIN: &str = "do it again";
const WAS_DONE: &str = "it was done";
const FAIL: &str = "fail the step";

/// An evaluated `call`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    call: OperationName,
    with: Value,
}

/// How a `call` step ended that did not fail in the mesh itself.
pub(super) enum Operated {
    Done(Done),
    Failed(Failure),
}

impl Engine {
    /// Does a `call` step.
    pub(super) async fn answer_call(&self, task: &Assignment, told: &Told) -> Result<Operated, Error> {
        let input = match &task.input {
            Data::Inline(json) => json.clone(),
            Data::Blob(blob) => self.json_of(blob).await?,
        };
        let Call { call, with } =
            serde_json::from_str(input.as_str()).map_err(|error| Error::bad_field("call", error.to_string()))?;
        let title = format!("Was `{call}` done?");
        let answers: Vec<&Clarified> = task.clarified.iter().filter(|answer| answer.title == title).collect();
        let mut asked = OperationAsked {
            operation: call.clone(),
            input: Data::Inline(Json::of(&with)),
            dry_run: false,
            timeout: None,
            idempotency_key: Some(format!("{}/{}", task.lease.run, task.lease.step)),
            again: false,
        };
        // Each answer is about the tries before it.
        let unknown = self.unknown_of(&task.lease, &asked).await?;
        if unknown > answers.len() {
            let why = "It was begun, and then the mesh or the plugin stopped";
            return Ok(Operated::Done(Done::Asked(question(title, why))));
        }
        if unknown > 0 {
            match decided(answers.last().copied()) {
                Decided::Again => asked.again = true,
                // What it yielded is lost.
                Decided::Done => return Ok(Operated::Done(Done::Output(Data::of(&Value::Null)))),
                Decided::Fail => {
                    let said =
                        format!("somebody said that `{call}` shall fail, because nobody knows whether it was done");
                    return Err(Error::new(Kind::Aborted, "OUTCOME_UNKNOWN", said));
                }
            }
        }
        let mut invocation = self.operate_for(task.lease.clone(), asked).await?;
        while let Some(news) = invocation.next().await {
            match news {
                Ok(InvokeNews::Progress(fraction, text)) => {
                    told.say(&task.lease, LiveReport::Progress(Progress { fraction: fraction.max(0.0), text })).await;
                }
                Ok(InvokeNews::Log(level, text)) => {
                    told.say(&task.lease, LiveReport::Kept(Report::Log { level, text })).await;
                }
                Ok(InvokeNews::Done(outcome)) => {
                    return Ok(match outcome.result {
                        Ok(output) => Operated::Done(Done::Output(output)),
                        Err(failure) => Operated::Failed(failure),
                    });
                }
                Err(error) if error.reason == "OUTCOME_UNKNOWN" => {
                    return Ok(Operated::Done(Done::Asked(question(title, &error.message))));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the call ended without an outcome", std::time::Duration::from_secs(1)))
    }
}

enum Decided {
    Again,
    Done,
    Fail,
}

/// What somebody said.
fn decided(answer: Option<&Clarified>) -> Decided {
    let Some(answer) = answer else { return Decided::Fail };
    match answer.option.as_str() {
        DO_AGAIN => Decided::Again,
        WAS_DONE => Decided::Done,
        _ => Decided::Fail,
    }
}

fn question(title: String, why: &str) -> Question {
    Question {
        title,
        description: format!("{why}. Look at the world before you answer. If it was done, the step yields null."),
        options: [DO_AGAIN, WAS_DONE, FAIL].map(str::to_owned).to_vec(),
        form: None,
        deadline: None,
        default: None,
    }
}
