//! Reading `call`: an operation of a plugin.

use std::sync::Arc;

use super::StepReader;
use crate::plugin::OperationName;
use crate::workflow::expression::Names;
use crate::workflow::parse::get;
use crate::workflow::yaml::{Entry, Node, Value};
use crate::workflow::{Action, Template};

/// The agent under which the mesh does `call` steps itself. No worker can offer it: `@` is in no id.
pub const CALL: &str = "call@mesh";

impl StepReader<'_> {
    /// The task's input is `{call: plugin.operation, with: …}`.
    pub(super) fn call(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Action> {
        let hint = "write `call: PLUGIN.OPERATION`, for example `call: git.log`, and its input under `with`";
        let Value::Text(text) = &node.value else {
            let message = format!("`call` must be the name of an operation, but it is {}", node.kind());
            self.reader.mistake(node.place, path, message, hint);
            return None;
        };
        if OperationName::parse(text).is_err() || text.contains('/') {
            self.reader.mistake(node.place, path, format!("`{text}` is not the name of an operation"), hint);
            return None;
        }
        let with = get(self.entries, "with").map(|entry| entry.node.clone());
        let with = with.unwrap_or_else(|| Node { place: node.place, value: Value::Map(Vec::new()) });
        // What is wrong inside is reported with the whole.
        let alone = Template::compile(&with, names, &mut |_, _, _| {});
        self.must_be_mapping(&with, &self.path("with"), &alone, "with");
        let member = |key: &str, node: Node| Entry { key: key.to_owned(), place: node.place, node };
        let whole = vec![member("call", node.clone()), member("with", with)];
        let whole = Node { place: node.place, value: Value::Map(whole) };
        let template = self.template(&whole, &self.here.clone(), names);
        Some(Action::Agent { agent: Arc::from(CALL), with: template })
    }
}
