//! Which agents may call which operations of a plugin, as the operator says.

use std::collections::BTreeMap;

use consort_core::ids::is_id;
use consort_core::plugin::{MAX_NAME, OperationName};
use consort_core::{Error, Kind, Violation, glob};
use serde::Deserialize;

/// The entry of all agents that have none of their own.
const OTHERS: &str = "*";
/// Agents, and patterns of one.
const MOST: usize = 1_000;

/// Patterns of operations by agent. Who has no entry, while there is none for `*`, may call nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Agents(BTreeMap<String, Vec<String>>);

impl Agents {
    /// What of it cannot be meant, with fields below `field`.
    pub(crate) fn mistakes(&self, field: &str) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut say = |field: String, description: String| wrong.push(Violation { field, description });
        if self.0.len() > MOST {
            say(field.to_owned(), format!("has {} agents; the most is {MOST}", self.0.len()));
        }
        for (agent, patterns) in self.0.iter().take(MOST) {
            if agent != OTHERS && !is_id(agent) {
                say(format!("{field}.{agent}"), "is no agent; write its id, or `\"*\"` for all others".into());
            }
            if patterns.len() > MOST {
                say(format!("{field}.{agent}"), format!("has {} patterns; the most is {MOST}", patterns.len()));
            }
            for (index, pattern) in patterns.iter().enumerate().take(MOST) {
                let known = pattern.chars().all(|c| c.is_ascii_alphanumeric() || "_-*".contains(c));
                if pattern.is_empty() || pattern.len() > MAX_NAME || !known {
                    let hint = "write its name without the plugin's, with `*` for anything, for example `read_*`";
                    say(format!("{field}.{agent}[{index}]"), format!("`{pattern}` is no operation; {hint}"));
                }
            }
        }
        wrong
    }

    /// PERMISSION_DENIED, with the line to write, if an agent may not call an operation.
    pub(crate) fn permit(&self, agent: &str, name: &OperationName) -> Result<(), Error> {
        let patterns = self.0.get(agent).or_else(|| self.0.get(OTHERS)).map(Vec::as_slice).unwrap_or_default();
        if glob::any(patterns, &name.operation) {
            return Ok(());
        }
        let (plugin, operation) = (&name.plugin, &name.operation);
        let line: Vec<String> =
            patterns.iter().map(String::as_str).chain([&**operation]).map(|one| format!("\"{one}\"")).collect();
        let said = format!(
            "agent `{agent}` may not call `{name}`; to allow it, write `{agent}: [{}]` under `plugins.{plugin}.agents` in plugins.yaml, \
             then `consort plugins reload {plugin}`",
            line.join(", ")
        );
        Err(Error::new(Kind::PermissionDenied, "AGENT_DENIED", said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(text: &str) -> Agents {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn an_agents_own_entry_counts_and_then_that_of_the_others() {
        let name = |operation: &str| OperationName::parse(&format!("files.{operation}")).unwrap();
        let some = agents("{coder: ['read_*', list], '*': [list]}");
        for (agent, operation, may) in [
            ("coder", "read_file", true),
            ("coder", "list", true),
            ("coder", "write", false),
            ("other", "list", true),
            ("other", "read_file", false),
        ] {
            assert_eq!(some.permit(agent, &name(operation)).is_ok(), may, "{agent} {operation}");
        }
        let said = some.permit("coder", &name("write")).unwrap_err();
        assert_eq!((said.kind, said.reason), (Kind::PermissionDenied, "AGENT_DENIED"));
        for part in
            ["agent `coder`", "`files.write`", "`coder: [\"read_*\", \"list\", \"write\"]`", "`plugins.files.agents`"]
        {
            assert!(said.message.contains(part), "{part}: {said}");
        }
        // Nobody else is named, so nobody else may.
        assert!(agents("{coder: ['*']}").permit("other", &name("list")).is_err());
        assert!(agents("{}").permit("coder", &name("list")).is_err());
    }

    #[test]
    fn mistakes_name_their_field() {
        assert!(agents("{coder: [], '*': ['*', 'a-*_b']}").mistakes("f").is_empty());
        let fields: Vec<String> = agents("{'a b': [], coder: [files.read, '', ok]}")
            .mistakes("plugins.files.agents")
            .into_iter()
            .map(|wrong| wrong.field)
            .collect();
        assert_eq!(
            fields,
            ["plugins.files.agents.a b", "plugins.files.agents.coder[0]", "plugins.files.agents.coder[1]"]
        );
    }
}
