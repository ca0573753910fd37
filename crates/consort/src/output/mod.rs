//! How results are printed: tables for people, JSON and YAML for programs.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::{Failure, Result};

pub(crate) mod message;
pub(crate) mod table;
pub(crate) mod text;

pub(crate) use message::Named;
pub(crate) use table::Table;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The message in the canonical JSON of protobuf; one object a line where a command follows.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Format {
    /// Prints a message, or for people the text that `table` makes of it.
    pub(crate) fn print<M: Named>(self, message: &M, table: impl FnOnce() -> String) -> Result<()> {
        match self {
            Format::Table => print(&table()),
            Format::Json | Format::Yaml => self.print_value(&message::to_json(message)?),
        }
    }

    /// Prints a JSON value.
    pub(crate) fn print_value(self, value: &Value) -> Result<()> {
        match self {
            Format::Yaml => print(&yaml(value)?),
            Format::Table | Format::Json => print(&format!("{value:#}\n")),
        }
    }

    /// Prints one of many messages as they come: a JSON object a line, or a YAML document each.
    pub(crate) fn print_next<M: Named>(self, message: &M, line: impl FnOnce() -> String) -> Result<()> {
        match self {
            Format::Table => print(&line()),
            Format::Json => print(&format!("{}\n", message::to_json(message)?)),
            Format::Yaml => print(&format!("---\n{}", yaml(&message::to_json(message)?)?)),
        }
    }
}

/// A JSON value as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|error| Failure::failed(format!("cannot write YAML: {error}")))
}

/// Writes to standard output at once. A reader that left ends the command quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Whether standard output is a terminal that wants colours.
pub(crate) fn colours() -> bool {
    wants_colours(std::io::stdout().is_terminal())
}

/// Whether standard error is a terminal that wants colours.
pub(crate) fn error_colours() -> bool {
    wants_colours(std::io::stderr().is_terminal())
}

fn wants_colours(terminal: bool) -> bool {
    terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
