//! Questions to people, and their answers.

use std::time::Duration;

use consort_proto::agent;
use serde_json::Value;

use crate::client::Client;
use crate::error::Error;
use crate::task_error::TaskError;

/// Longest title, in characters.
const TITLE_CHARS: usize = 1_000;
/// Longest description, in bytes.
const DESCRIPTION_BYTES: usize = 64 * 1024;
/// Most options.
const OPTIONS: usize = 100;

/// A question to a person, for [`Task::ask`](crate::Task::ask).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    title: String,
    description: String,
    options: Vec<String>,
    form: Option<Value>,
    deadline: Option<Duration>,
    default: String,
}

impl Question {
    /// A question: 1 to 1,000 characters.
    pub fn new(title: impl Into<String>) -> Question {
        Question { title: title.into(), ..Question::default() }
    }

    /// More about it, in Markdown; at most 64 KiB.
    pub fn description(mut self, description: impl Into<String>) -> Question {
        self.description = description.into();
        self
    }

    /// What can be chosen, at most 100. None means the single option `answer`, which makes sense with a form.
    pub fn options<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Question {
        self.options = options.into_iter().map(Into::into).collect();
        self
    }

    /// The JSON Schema of a form that goes with the answer.
    pub fn form(mut self, schema: Value) -> Question {
        self.form = Some(schema);
        self
    }

    /// How long to wait; for ever if it is left out.
    pub fn deadline(mut self, deadline: Duration) -> Question {
        self.deadline = Some(deadline);
        self
    }

    /// The option that is taken when the deadline passes; without one the step then fails.
    pub fn default_option(mut self, option: impl Into<String>) -> Question {
        self.default = option.into();
        self
    }

    /// Its title.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Says what the mesh would refuse. The question comes from the handler's code, so trying again cannot help.
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let bad = |field: &str, why: String| Err(TaskError::bad_input(format!("question.{field}"), why));
        let chars = self.title.chars().count();
        if !(1..=TITLE_CHARS).contains(&chars) {
            return bad("title", format!("has {chars} characters; give 1 to 1,000"));
        }
        if self.description.len() > DESCRIPTION_BYTES {
            return bad("description", format!("has {} bytes; give at most 64 KiB", self.description.len()));
        }
        if self.options.len() > OPTIONS {
            return bad("options", format!("are {}; give at most 100", self.options.len()));
        }
        let known = |option: &String| self.options.contains(option) || self.options.is_empty() && option == "answer";
        if !self.default.is_empty() && !known(&self.default) {
            return bad("default_option", format!("`{}` is none of the options; name one of them", self.default));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return bad("deadline", "is zero; give a time to wait, or leave it out".to_owned());
        }
        Ok(())
    }

    /// The question as it is sent; a form of more than 64 KiB goes as a blob.
    pub(super) async fn pack(self, client: &Client) -> Result<agent::Question, Error> {
        let form = match self.form {
            Some(schema) => Some(client.pack(schema.to_string()).await?),
            None => None,
        };
        Ok(agent::Question {
            title: self.title,
            description: self.description,
            options: self.options,
            form,
            deadline: self.deadline.and_then(|deadline| deadline.try_into().ok()),
            default_option: self.default,
        })
    }
}

/// What somebody answered to a question about a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Clarification {
    /// The question.
    pub title: String,
    /// The chosen option.
    pub option: String,
    /// The filled form; null if the question had none.
    pub form: Value,
    /// Who answered: a name, or `deadline`.
    pub answered_by: String,
}

impl Clarification {
    pub(super) async fn fetch(wire: agent::Clarification, client: &Client) -> Result<Clarification, Error> {
        let form = client.payload_value(wire.form.as_ref()).await?;
        Ok(Clarification { title: wire.title, option: wire.option, form, answered_by: wire.answered_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_would_be_refused_names_its_field() {
        let of = || Question::new("Which?");
        of().check().unwrap();
        of().default_option("answer").check().unwrap();
        of().options(["a", "b"]).default_option("a").deadline(Duration::from_secs(1)).check().unwrap();
        for (question, field) in [
            (Question::new(""), "title: has 0"),
            (Question::new("x".repeat(1_001)), "title: has 1001"),
            (of().description("x".repeat(DESCRIPTION_BYTES + 1)), "description: has 65537"),
            (of().options((0..=OPTIONS).map(|n| n.to_string())), "options: are 101"),
            (of().options(["a"]).default_option("b"), "default_option: `b`"),
            (of().deadline(Duration::ZERO), "deadline: is zero"),
        ] {
            let error = question.check().unwrap_err();
            assert!(error.message.starts_with(&format!("question.{field}")), "{}", error.message);
            assert!(!error.retryable);
        }
    }
}
