//! An operation: its name, its types, and what a repeated call does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Json};

/// Characters of a plugin's or an operation's name.
pub const MAX_NAME: usize = 63;

/// What a call changes, and so what may be done when nobody knows whether it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it is tried again.
    Read,
    /// Doing it twice is doing it once: it is tried again.
    IdempotentWrite,
    /// Doing it twice does it twice: somebody must say what happened.
    Write,
}

impl Effect {
    /// Whether a call whose outcome is not known may be made again.
    pub fn repeats(self) -> bool {
        self != Effect::Write
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::IdempotentWrite => "idempotent write",
            Effect::Write => "write",
        }
    }
}

/// A typed operation of a plugin.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Unique in its plugin.
    pub name: Arc<str>,
    /// What it does, for people and models.
    pub description: String,
    /// JSON Schema of the input, an object.
    pub input_schema: Json,
    /// JSON Schema of the output; `None` means anything.
    pub output_schema: Option<Json>,
    /// What a repeated call does.
    pub effect: Effect,
    /// How long a call may take if the caller says nothing.
    pub timeout: Duration,
    /// It can say what it would do.
    pub dry_run: bool,
}

/// An operation's full name, written `plugin.operation`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationName {
    /// Id of the plugin.
    pub plugin: Arc<str>,
    /// Name of the operation.
    pub operation: Arc<str>,
}

impl OperationName {
    /// Reads `plugin.operation` or `plugins/{plugin}/operations/{operation}`.
    pub fn parse(text: &str) -> Result<OperationName, Error> {
        let parts = match text.strip_prefix("plugins/") {
            Some(rest) => rest.split_once("/operations/"),
            None => text.split_once('.'),
        };
        match parts {
            Some((plugin, operation)) if is_name(plugin) && is_name(operation) => {
                Ok(OperationName { plugin: plugin.into(), operation: operation.into() })
            }
            _ => Err(Error::bad_field(
                "operation",
                format!("`{text}` is no operation; write `PLUGIN.OPERATION`, for example `git.log`"),
            )),
        }
    }
}

impl TryFrom<String> for OperationName {
    type Error = Error;

    fn try_from(text: String) -> Result<OperationName, Error> {
        OperationName::parse(&text)
    }
}

impl From<OperationName> for String {
    fn from(name: OperationName) -> String {
        name.to_string()
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plugin, self.operation)
    }
}

/// Whether this can name a plugin or an operation: a letter, then letters, digits, `_` and `-`, at most [`MAX_NAME`].
pub fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_forms() {
        let name = OperationName::parse("git.log").unwrap();
        assert_eq!(name, OperationName::parse("plugins/git/operations/log").unwrap());
        assert_eq!(name.to_string(), "git.log");
        for bad in ["git", "git.", ".log", "git.log.x", "plugins/git", "1git.log", "git log.x", ""] {
            assert!(OperationName::parse(bad).unwrap_err().message.contains("PLUGIN.OPERATION"), "{bad}");
        }
    }
}
