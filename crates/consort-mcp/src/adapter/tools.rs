//! Tools as operations: names, effects, and the way back.

use std::collections::{BTreeMap, HashSet};

use consort_core::plugin::{MAX_NAME, is_name};
use consort_core::{Error, Violation, glob};
use consort_proto::plugin as wire;
use prost::Message as _;
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::Value;

use crate::adapter::config::{Config, EffectWord, VARIABLE};
use crate::adapter::{convert, schema, words};

/// Operations that a plugin may have.
pub(crate) const MOST: usize = 1_000;
/// Bytes of a description.
const DESCRIPTION: usize = 8 * 1024;
/// Bytes of all operations, as they are said in Hello.
const ALL: usize = 4 * 1024 * 1024;

/// An operation and its tool.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The tool's own name.
    pub tool: String,
    pub effect: wire::Effect,
}

/// What a server offers.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub operations: Vec<wire::Operation>,
    /// By operation.
    pub entries: BTreeMap<String, Entry>,
    /// What a person should know of how they were mapped.
    pub told: Vec<String>,
}

impl Tools {
    /// Maps what a server lists.
    pub(crate) fn of(listed: Vec<Tool>, config: &Config) -> Result<Tools, Error> {
        let known: HashSet<String> = listed.iter().map(|tool| tool.name.to_string()).collect();
        let unknown = config.effects.keys().filter(|name| !known.contains(*name));
        let mut tools = Tools::default();
        tools.told.extend(unknown.map(|name| format!("`effects` names a tool `{name}` that the server does not have")));
        let listed_count = listed.len();
        let mut seen = HashSet::new();
        for tool in listed {
            let name = tool.name.to_string();
            if let Some(patterns) = &config.tools
                && !glob::any(patterns, &name)
            {
                continue;
            }
            if !seen.insert(name.clone()) {
                tools.told.push(format!(
                    "the server lists `{}` twice; the first one counts",
                    words::shown(name.as_bytes(), 100)
                ));
                continue;
            }
            tools.add(name, tool, config);
        }
        if tools.operations.is_empty() {
            let mut names: Vec<String> = known.into_iter().collect();
            names.sort();
            names.truncate(20);
            let said = match &config.tools {
                Some(patterns) if listed_count > 0 => Error::bad_fields(vec![Violation {
                    field: format!("{VARIABLE}.tools"),
                    description: format!("{patterns:?} matches none; the server has {}", names.join(", ")),
                }]),
                _ => Error::precondition("MCP_NO_TOOLS", "the MCP server has no tools, so there is nothing to serve"),
            };
            return Err(said);
        }
        let count = tools.operations.len();
        if count > MOST {
            let said =
                format!("the MCP server has {count} tools, and a plugin has at most {MOST}; choose some with `tools`");
            return Err(Error::precondition("MCP_TOO_MUCH", said));
        }
        let size: usize = tools.operations.iter().map(wire::Operation::encoded_len).sum();
        if size > ALL {
            let said = format!("the tools' schemas have {size} bytes, the most is {ALL}; choose some with `tools`");
            return Err(Error::precondition("MCP_TOO_MUCH", said));
        }
        Ok(tools)
    }

    fn add(&mut self, name: String, tool: Tool, config: &Config) {
        let operation = operation_name(&name, |taken| self.entries.contains_key(taken));
        let (input, told) = schema::input(Value::Object((*tool.input_schema).clone()));
        self.told.extend(told.map(|told| format!("`{operation}`: {told}")));
        let (output, told) = match tool.output_schema {
            Some(schema) => schema::output(Value::Object((*schema).clone())),
            None => (None, None),
        };
        self.told.extend(told.map(|told| format!("`{operation}`: {told}")));
        let effect = effect(config.effects.get(&name).copied(), tool.annotations.as_ref());
        let title = tool.annotations.and_then(|notes| notes.title).or(tool.title).unwrap_or_default();
        let description = tool.description.filter(|text| !text.trim().is_empty()).map_or(title, String::from);
        self.operations.push(wire::Operation {
            name: operation.clone(),
            description: words::cut(&description, DESCRIPTION).to_owned(),
            input_schema: Some(convert::object(&input)),
            output_schema: output.as_ref().map(convert::object),
            effect: effect as i32,
            timeout: config.timeout_s.map(|seconds| prost_types::Duration { seconds: seconds as i64, nanos: 0 }),
            dry_run: false,
        });
        if operation != name {
            self.told.push(format!("the tool `{}` is the operation `{operation}`", words::shown(name.as_bytes(), 200)));
        }
        self.entries.insert(operation, Entry { tool: name, effect });
    }
}

/// The configuration's word, or the server's hints.
fn effect(word: Option<EffectWord>, hints: Option<&ToolAnnotations>) -> wire::Effect {
    match word {
        Some(EffectWord::Read) => wire::Effect::Read,
        Some(EffectWord::IdempotentWrite) => wire::Effect::IdempotentWrite,
        Some(EffectWord::Write) => wire::Effect::Write,
        None => match hints {
            Some(hints) if hints.read_only_hint == Some(true) => wire::Effect::Read,
            Some(hints) if hints.idempotent_hint == Some(true) => wire::Effect::IdempotentWrite,
            _ => wire::Effect::Write,
        },
    }
}

/// A name that an operation can have: what it must not have becomes `_`, it is cut, and numbered if it is taken.
fn operation_name(tool: &str, taken: impl Fn(&str) -> bool) -> String {
    if is_name(tool) && !taken(tool) {
        return tool.to_owned();
    }
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let mut name: String = tool.chars().map(fits).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "t_");
    }
    name.truncate(MAX_NAME);
    let mut number = 1;
    let mut numbered = name.clone();
    while taken(&numbered) {
        number += 1;
        let suffix = format!("_{number}");
        numbered = format!("{}{suffix}", &name[..name.len().min(MAX_NAME - suffix.len())]);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(text: &str) -> Config {
        let mut whole = json!({"id": "x", "command": ["x"]});
        let more: Value = serde_json::from_str(text).unwrap();
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Config::parse(&whole.to_string()).unwrap()
    }

    fn tool(name: &str, annotations: Value) -> Tool {
        serde_json::from_value(
            json!({"name": name, "description": name, "inputSchema": {}, "annotations": annotations}),
        )
        .unwrap()
    }

    #[test]
    fn names_are_mapped_and_the_way_back_is_kept() {
        let long = "x".repeat(100);
        let names = ["a.b/c", "a_b_c", "1st", "größe", "", &long, &format!("{long}y"), "ok-1"];
        let tools = Tools::of(names.iter().map(|name| tool(name, json!({}))).collect(), &config("{}")).unwrap();
        let mapped: Vec<&str> = tools.operations.iter().map(|operation| operation.name.as_str()).collect();
        assert_eq!(mapped[..5], ["a_b_c", "a_b_c_2", "t_1st", "gr__e", "t_"]);
        assert!(mapped.iter().all(|name| is_name(name)), "{mapped:?}");
        for (operation, name) in mapped.iter().zip(names) {
            assert_eq!(tools.entries[*operation].tool, name);
        }
    }

    #[test]
    fn effects_come_from_hints_unless_the_operator_says() {
        let listed = vec![
            tool("r", json!({"readOnlyHint": true})),
            tool("i", json!({"idempotentHint": true, "destructiveHint": true})),
            tool("w", json!({})),
            tool("liar", json!({"readOnlyHint": true})),
        ];
        let tools = Tools::of(listed, &config(r#"{"effects": {"liar": "write", "gone": "read"}}"#)).unwrap();
        let effects: Vec<i32> = tools.operations.iter().map(|operation| operation.effect).collect();
        assert_eq!(effects, [1, 2, 3, 3]);
        assert!(tools.told[0].contains("`gone`"));
    }

    #[test]
    fn tools_are_chosen_and_counted() {
        let many = |count: usize| (0..count).map(|n| tool(&format!("t{n}"), json!({}))).collect();
        assert_eq!(Tools::of(many(20), &config(r#"{"tools": ["t1*"]}"#)).unwrap().operations.len(), 11);
        for (count, more, part) in
            [(2, r#"{"tools": ["x"]}"#, "the server has t0, t1"), (0, "{}", "no tools"), (1_001, "{}", "1001 tools")]
        {
            let said = Tools::of(many(count), &config(more)).unwrap_err().message;
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
