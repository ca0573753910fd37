//! What CONSORT_MCP says: where the MCP server is, and what of it is shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use consort_core::plugin::is_name;
use consort_core::{Error, Violation};
use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

/// The variable with the configuration.
pub const VARIABLE: &str = "CONSORT_MCP";
/// How long a server may take until its tools are known: its program may be fetched first.
const START: u64 = 60;
/// The longest start, and the longest time of one call.
const LONGEST: u64 = 24 * 60 * 60;

/// An MCP server as a plugin. It has no `Debug`: variables and headers may be secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Id of the plugin.
    pub id: String,
    /// What Hello says instead of the server's own version.
    #[serde(default)]
    pub version: Option<String>,
    /// What Hello says instead of the server's own title.
    #[serde(default)]
    pub description: Option<String>,
    /// The program and its arguments, for a server that speaks on standard input and output.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables of the program, beside those of the adapter.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where the program is started; the plugin's folder if absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// The server's address, for one that speaks streamable HTTP.
    #[serde(default)]
    pub url: String,
    /// Headers of every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Which tools are shown, `*` is anything; all if absent.
    #[serde(default)]
    pub tools: Option<Vec<String>>,
    /// What calls of a tool change, by its name, whatever the server says.
    #[serde(default)]
    pub effects: BTreeMap<String, EffectWord>,
    /// How long a call may take if its caller says nothing, in seconds.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// How long the start may take, in seconds.
    #[serde(default)]
    pub start_s: Option<u64>,
}

/// An effect class as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EffectWord {
    Read,
    IdempotentWrite,
    Write,
}

impl Config {
    /// Reads and checks the variable's text. All mistakes are told.
    pub(crate) fn parse(text: &str) -> Result<Config, Error> {
        let config: Config =
            serde_json::from_str(text).map_err(|error| Error::bad_field(VARIABLE, error.to_string()))?;
        let mut wrong = Vec::new();
        let mut say = |field: &str, description: String| {
            wrong.push(Violation { field: format!("{VARIABLE}.{field}"), description });
        };
        if !is_name(&config.id) {
            say("id", format!("`{}` is no id; use a letter, then letters, digits, `_` and `-`, at most 63", config.id));
        }
        match (config.command.first(), config.url.as_str()) {
            (None, "") => say("command", "is missing; say `command: [PROGRAM, ...]` or `url: http://...`".into()),
            (Some(_), url) if !url.is_empty() => say("url", "stands beside `command`; say one of them".into()),
            (Some(program), _) if program.is_empty() => say("command[0]", "is empty; name a program".into()),
            (Some(_), _) if !config.headers.is_empty() => say("headers", "belong to `url`; use `env`".into()),
            (None, url) => {
                let parsed = url.parse::<Uri>().ok();
                let web =
                    parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
                if web.is_none() {
                    say("url", format!("`{url}` is no address; write `https://HOST/PATH`"));
                }
                if !config.env.is_empty() {
                    say("env", "belongs to `command`; use `headers`".into());
                }
            }
            _ => {}
        }
        for (name, value) in &config.headers {
            // The value may be a secret.
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err() {
                say(
                    &format!("headers.{name}"),
                    "is no header; names are letters, digits and `-`, values one line".into(),
                );
            }
        }
        for (name, seconds) in [("timeout_s", config.timeout_s), ("start_s", config.start_s)] {
            if seconds.is_some_and(|seconds| seconds == 0 || seconds > LONGEST) {
                say(name, format!("must be 1 to {LONGEST} seconds"));
            }
        }
        if wrong.is_empty() { Ok(config) } else { Err(Error::bad_fields(wrong)) }
    }

    /// How long the start may take.
    pub(crate) fn start(&self) -> Duration {
        Duration::from_secs(self.start_s.unwrap_or(START))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_field() {
        for good in [
            r#"{"id": "x", "command": ["npx", "-y", "x"], "env": {"A": "b"}, "tools": ["list*"], "effects": {"a": "read"}}"#,
            r#"{"id": "x", "url": "https://example.com/mcp", "headers": {"authorization": "Bearer x"}, "start_s": 5}"#,
        ] {
            assert!(Config::parse(good).is_ok(), "{good}");
        }
        for (bad, part) in [
            ("[]", "CONSORT_MCP"),
            (r#"{"id": "x"}"#, "CONSORT_MCP.command: is missing"),
            (r#"{"id": "1x", "command": ["a"]}"#, "CONSORT_MCP.id"),
            (r#"{"id": "x", "command": ["a"], "url": "http://x"}"#, "one of them"),
            (r#"{"id": "x", "url": "ftp://x"}"#, "CONSORT_MCP.url"),
            (r#"{"id": "x", "url": "http://x/", "headers": {"a b": "c"}}"#, "headers.a b"),
            (r#"{"id": "x", "command": ["a"], "effects": {"t": "maybe"}}"#, "maybe"),
            (r#"{"id": "x", "command": ["a"], "start_s": 0}"#, "CONSORT_MCP.start_s"),
            (r#"{"id": "x", "command": ["a"], "tool": []}"#, "tool"),
        ] {
            let said = Config::parse(bad).err().map(|error| error.message).unwrap_or_default();
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
