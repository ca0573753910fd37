//! Which tools a client sees: the operations that are allowed, and the mesh's own tools.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use consort_core::glob;
use consort_core::plugin::{Effect, Operation, OperationName, PluginState, PluginView};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::Value;

use crate::server::tools::Own;

/// Tools that are shown at most.
const MOST: usize = 5_000;

/// What a tool's name stands for.
#[derive(Clone)]
pub(crate) enum Target {
    /// An operation, and whether its plugin is an MCP server itself.
    Operation(OperationName, Arc<Operation>, bool),
    /// A tool of the mesh itself.
    Own(Own),
}

/// All tools that are exposed now, by name.
pub(crate) fn all(plugins: Vec<PluginView>, has_workflows: bool, allow: &[String]) -> BTreeMap<String, Target> {
    let own = Own::ALL.into_iter().filter(|own| has_workflows && glob::any(allow, own.name()));
    let mut tools: BTreeMap<String, Target> = own.map(|own| (own.name().to_owned(), Target::Own(own))).collect();
    let reserved: HashSet<&str> = Own::ALL.iter().map(|own| own.name()).collect();
    for plugin in plugins {
        // One that starts or was restarted is waited for; the others have no operations that could be called.
        if matches!(plugin.state, PluginState::Refused | PluginState::Disabled | PluginState::Crashing) {
            continue;
        }
        let is_mcp = plugin.language == "mcp";
        for operation in plugin.operations {
            let name = OperationName { plugin: plugin.id.clone(), operation: operation.name.clone() };
            if !is_allowed(allow, &name, operation.effect) || tools.len() >= MOST {
                continue;
            }
            // `a_b` of `c` and `b_c` of `a` are written alike: the later one, by plugin and operation, is numbered.
            let plain = format!("{}_{}", name.plugin, name.operation);
            let mut tool = plain.clone();
            let mut number = 1;
            while tools.contains_key(&tool) || reserved.contains(tool.as_str()) {
                number += 1;
                tool = format!("{plain}_{number}");
            }
            tools.insert(tool, Target::Operation(name, operation, is_mcp));
        }
    }
    tools
}

fn is_allowed(allow: &[String], name: &OperationName, effect: Effect) -> bool {
    let name = name.to_string();
    allow.iter().any(|pattern| match pattern.strip_prefix("read:") {
        Some(pattern) => effect == Effect::Read && glob::matches(pattern, &name),
        None => glob::matches(pattern, &name),
    })
}

/// A tool as it is listed.
pub(crate) fn tool(name: &str, target: &Target) -> Tool {
    match target {
        Target::Own(own) => own.tool(),
        Target::Operation(_, operation, _) => {
            let mut tool =
                Tool::new(name.to_owned(), operation.description.clone(), object(&operation.input_schema.value()));
            // Older versions know outputs that are objects only.
            let output = operation.output_schema.as_ref().map(consort_core::Json::value);
            tool.output_schema =
                output.filter(|schema| schema["type"] == "object").map(|schema| Arc::new(object(&schema)));
            let reads = operation.effect == Effect::Read;
            let mut notes = ToolAnnotations::new().read_only(reads);
            if !reads {
                notes = notes.idempotent(operation.effect == Effect::IdempotentWrite);
            }
            tool.annotations = Some(notes);
            tool
        }
    }
}

pub(crate) fn object(value: &Value) -> JsonObject {
    value.as_object().cloned().unwrap_or_default()
}
