//! What a handler can answer with.

use serde::Serialize;
use tonic::Code;

use crate::task_error::TaskError;

/// Longest plan: 1 MiB of text.
const PLAN_BYTES: usize = 1024 * 1024;

/// An answer that is a plan instead of a result: the text of a workflow, YAML or JSON, without required inputs and of at most
/// 1 MiB.
///
/// The mesh checks it like any other definition and runs it as a child; the child's output becomes the step's. The step must
/// say `plan: true`. If it does not, or if the plan has mistakes, the attempt fails with INVALID_ARGUMENT.
///
/// ```no_run
/// # use consort_sdk::{Plan, Task, Worker};
/// Worker::new("planner").agent("plan", |_: Task| async { Ok(Plan::new("name: two-steps\nsteps: [{id: a, set: 1}]")) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(String);

impl Plan {
    /// A plan by its text.
    pub fn new(text: impl Into<String>) -> Plan {
        Plan(text.into())
    }

    /// A plan by its definition, any value that serialises to a JSON object.
    pub fn from_value(definition: &impl Serialize) -> Result<Plan, TaskError> {
        serde_json::to_string(definition)
            .map(Plan)
            .map_err(|error| TaskError::new(Code::Internal, format!("the plan is not JSON: {error}")))
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// For handlers that answer now with a result and now with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// A result.
    Output(T),
    /// A plan.
    Plan(Plan),
}

/// What a handler can answer with: anything that serialises to JSON, a [`Plan`], or an [`Answer`] that is one of them.
pub trait IntoAnswer {
    /// The answer as text.
    #[doc(hidden)]
    fn into_answer(self) -> Result<AnswerText, TaskError>;
}

/// An answer as text.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerText {
    /// JSON.
    Output(String),
    /// A plan.
    Plan(String),
}

impl<T: Serialize> IntoAnswer for T {
    fn into_answer(self) -> Result<AnswerText, TaskError> {
        serde_json::to_string(&self)
            .map(AnswerText::Output)
            .map_err(|error| TaskError::new(Code::Internal, format!("the output is not JSON: {error}")))
    }
}

impl IntoAnswer for Plan {
    fn into_answer(self) -> Result<AnswerText, TaskError> {
        let bytes = self.0.len();
        if self.0.trim().is_empty() {
            // On the wire an empty plan is none.
            return Err(TaskError::bad_input("plan", "is empty; give the text of a workflow"));
        }
        if bytes > PLAN_BYTES {
            let why = format!("has {bytes} bytes; give at most {PLAN_BYTES}");
            return Err(TaskError::bad_input("plan", why));
        }
        Ok(AnswerText::Plan(self.0))
    }
}

impl<T: Serialize> IntoAnswer for Answer<T> {
    fn into_answer(self) -> Result<AnswerText, TaskError> {
        match self {
            Answer::Output(output) => output.into_answer(),
            Answer::Plan(plan) => plan.into_answer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_text_of_a_fitting_length() {
        assert_eq!(Plan::new("name: p").into_answer(), Ok(AnswerText::Plan("name: p".into())));
        let plan = Plan::from_value(&serde_json::json!({"name": "p"})).unwrap();
        assert_eq!(Answer::<()>::Plan(plan).into_answer(), Ok(AnswerText::Plan(r#"{"name":"p"}"#.into())));
        assert_eq!(Answer::Output(1).into_answer(), Ok(AnswerText::Output("1".into())));
        for (text, why) in [(" \n".to_owned(), "plan: is empty"), ("x".repeat(PLAN_BYTES + 1), "1048577 bytes")] {
            let error = Plan::new(text).into_answer().unwrap_err();
            assert!(error.message.contains(why), "{}", error.message);
            assert!(!error.retryable);
        }
    }
}
