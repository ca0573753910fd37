//! Reading one step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::expression::{Local, Names};
use super::parse::{Reader, get, join};
use super::suggest::{brief, list, nearest};
use super::yaml::{Entry, Node, Place, Value};
use super::{Action, Schema, Step, Template, inputs};

pub(super) mod call;
pub(super) mod decide;
pub(super) mod emit;
pub(super) mod failing;
pub(super) mod infer;
mod repeat;
pub(super) mod retry;

/// What a step can be.
pub(super) const KINDS: [&str; 8] = ["agent", "call", "infer", "set", "decide", "wait", "emit", "workflow"];
/// All keys of a step.
pub(super) const KEYS: [&str; 22] = [
    "id",
    "agent",
    "call",
    "infer",
    "set",
    "decide",
    "wait",
    "emit",
    "workflow",
    "with",
    "if",
    "needs",
    "for_each",
    "max_parallel",
    "while",
    "max",
    "retry",
    "timeout",
    "on_error",
    "output",
    "plan",
    "clarify",
];
/// Kinds of the language whose service is still to come.
const SERVICES: [(&str, &str); 2] = [("team", "the team"), ("vote", "the team")];

/// A step as it was read, with what the checks of the graph need.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its id, or its place in the definition if it has none.
    pub id: Arc<str>,
    pub place: Place,
    /// The step without its links, if enough of it was right.
    pub step: Option<Step>,
    /// Numbers of the steps it needs.
    pub needs: Vec<usize>,
    /// Where these are written.
    pub need_places: Vec<(String, Place)>,
    /// Steps that expressions read, by number, with the place of the key.
    pub reads: Vec<(usize, String, Place)>,
    /// Where its failure leads.
    pub goto: Option<Goto>,
}

/// The target of a `goto`.
#[derive(Debug)]
pub(super) struct Goto {
    /// Number of the step.
    pub target: usize,
    pub path: String,
    pub place: Place,
}

/// The ids of all steps. Missing, bad and repeated ones are reported.
pub(super) fn ids(reader: &mut Reader, items: &[Node]) -> HashMap<Arc<str>, usize> {
    let mut index: HashMap<Arc<str>, usize> = HashMap::with_capacity(items.len());
    for (number, item) in items.iter().enumerate() {
        let here = format!("steps[{number}]");
        let Value::Map(entries) = &item.value else { continue };
        let Some(entry) = get(entries, "id") else {
            reader.mistake(
                item.place,
                &here,
                "`id` is missing",
                "add `id:`; other steps and expressions name the step by it",
            );
            continue;
        };
        let path = join(&here, "id");
        let Some(id) = reader.id(&entry.node, &path, "a step") else { continue };
        if id.contains('.') {
            let message = format!("the step id `{id}` has a `.`");
            reader.mistake(entry.node.place, &path, message, "use `-` or `_`; expressions read the dot as a member");
        } else if let Some(first) = index.get(id) {
            let message = format!("the step id `{id}` is taken by steps[{first}]");
            reader.mistake(entry.node.place, &path, message, "give each step an id of its own");
        } else {
            index.insert(id.into(), number);
        }
    }
    index
}

/// Reads one step.
pub(super) fn read(reader: &mut Reader, node: &Node, number: usize, names: &Names<'_>) -> Draft {
    let here = format!("steps[{number}]");
    let entries = reader.map(node, &here, "a step begins with `- id:`").unwrap_or_default();
    let id = match get(entries, "id").map(|entry| &entry.node.value) {
        Some(Value::Text(id)) => Arc::from(id.as_str()),
        _ => Arc::from(here.as_str()),
    };
    if entries.is_empty() {
        let (needs, need_places, reads) = (vec![], vec![], vec![]);
        return Draft { id, place: node.place, step: None, needs, need_places, reads, goto: None };
    }
    let later: Vec<&str> = SERVICES.iter().map(|(kind, _)| *kind).collect();
    reader.check_keys(entries, &here, &[&KEYS[..], &later].concat(), &[]);
    let mut step = StepReader { reader, here, entries, names, reads: Vec::new() };
    let (needs, need_places) = step.needs();
    let condition = step.condition();
    let for_each = step.for_each();
    let repeat = step.repeat();
    let mut locals: Vec<Local> = Vec::new();
    if get(entries, "for_each").is_some() {
        locals.extend(repeat::ITEM);
    } else if get(entries, "while").is_some() {
        locals.extend(repeat::ROUND);
    }
    let clarify = step.clarify(&Names { locals: &locals, ..*names });
    if get(entries, "clarify").is_some() {
        locals.push(Local::Clarification);
    }
    let action = step.action(node, &Names { locals: &locals, ..*names });
    let (timeout, mut limit) = step.timeout();
    if matches!(action, Some(Action::Wait { .. } | Action::Set { .. } | Action::Emit(_))) {
        // Nothing here is an attempt that could be timed: the time is the step's.
        limit = limit.or(timeout);
    }
    let retry = step.retry();
    let (on_error, goto) = step.on_error();
    let output = step.output();
    let plan = step.plan();
    let reads = step.reads;
    let step = action.map(|action| Step {
        id: id.clone(),
        action,
        needs: needs.clone(),
        dependents: Vec::new(),
        condition,
        for_each,
        repeat,
        retry,
        timeout,
        limit,
        on_error,
        output,
        plan,
        clarify,
        compensates: None,
    });
    Draft { id, place: node.place, step, needs, need_places, reads, goto }
}

struct StepReader<'a> {
    reader: &'a mut Reader,
    here: String,
    entries: &'a [Entry],
    names: &'a Names<'a>,
    reads: Vec<(usize, String, Place)>,
}

impl StepReader<'_> {
    fn path(&self, key: &str) -> String {
        join(&self.here, key)
    }

    /// Compiles a template and notes the steps it reads.
    fn template(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Template {
        let template = self.reader.template(node, path, names);
        self.note(&template, path, node.place);
        template
    }

    fn note(&mut self, template: &Template, path: &str, place: Place) {
        let numbers: HashSet<usize> = template.steps().filter_map(|id| self.names.steps.get(id).copied()).collect();
        self.reads.extend(numbers.into_iter().map(|number| (number, path.to_owned(), place)));
    }

    fn action(&mut self, node: &Node, names: &Names<'_>) -> Option<Action> {
        let found: Vec<&Entry> = KINDS.iter().filter_map(|kind| get(self.entries, kind)).collect();
        let [kind] = found.as_slice() else {
            let later = SERVICES.iter().find_map(|(kind, service)| get(self.entries, kind).zip(Some(service)));
            if let Some((entry, service)) = later {
                let message = format!("`{}` needs {service} service, which this mesh does not run", entry.key);
                let hint = format!("a step here is one of {}", list(KINDS));
                self.reader.mistake(entry.place, &self.path(&entry.key), message, hint);
            } else if found.is_empty() {
                let hint = format!("add one of {}", list(KINDS));
                self.reader.mistake(node.place, &self.here, "the step does not say what it does", hint);
            } else if let Some(second) = found.get(1) {
                let message =
                    format!("a step does one thing, but this one has {}", list(found.iter().map(|e| e.key.as_str())));
                self.reader.mistake(second.place, &self.path(&second.key), message, "make it two steps");
            }
            return None;
        };
        let path = self.path(&kind.key);
        if !matches!(kind.key.as_str(), "agent" | "call" | "workflow") {
            self.forbid("with", &format!("`with` belongs to `agent`, `call` and `workflow`, not to `{}`", kind.key));
        }
        match kind.key.as_str() {
            "agent" => {
                let agent = self.reader.id(&kind.node, &path, "an agent").map(Arc::from);
                let with = self.with(names);
                Some(Action::Agent { agent: agent?, with })
            }
            "call" => self.call(&kind.node, &path, names),
            "infer" => self.infer(&kind.node, &path, names),
            "workflow" => {
                let workflow = self.reader.id(&kind.node, &path, "a workflow").map(Arc::from);
                let with = self.with(names);
                Some(Action::Workflow { workflow: workflow?, with })
            }
            "set" => Some(Action::Set { value: self.template(&kind.node, &path, names) }),
            "wait" => self.wait(&kind.node, &path, names),
            "emit" => self.emit(&kind.node, &path, names).map(Action::Emit),
            _ => self.decide(&kind.node, &path, names).map(Action::Decide),
        }
    }

    fn forbid(&mut self, key: &str, message: &str) {
        if let Some(entry) = get(self.entries, key) {
            self.reader.mistake(entry.place, &self.path(key), message, format!("remove `{key}`"));
        }
    }

    fn with(&mut self, names: &Names<'_>) -> Template {
        let path = self.path("with");
        let Some(entry) = get(self.entries, "with") else {
            return Template::constant(&serde_json::json!({}));
        };
        let template = self.template(&entry.node, &path, names);
        self.must_be_mapping(&entry.node, &path, &template, "with");
        template
    }

    fn must_be_mapping(&mut self, node: &Node, path: &str, template: &Template, key: &str) {
        let single =
            matches!(&node.value, Value::Text(_)) && !template.is_mixed_text() && template.as_constant().is_none();
        if !single && !matches!(node.value, Value::Map(_)) && !is_broken(node) {
            let message = format!("`{key}` must be a mapping, but it is {}", node.kind());
            let hint = format!("write `{key}: {{name: value}}`, or one `${{{{ }}}}` that gives an object");
            self.reader.mistake(node.place, path, message, hint);
        }
    }

    fn condition(&mut self) -> Option<Template> {
        let entry = get(self.entries, "if")?;
        let path = self.path("if");
        let names = self.names;
        self.boolean(&entry.node, &path, names)
    }

    /// A constant or an expression that gives a bool.
    fn boolean(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Template> {
        let template = self.reader.boolean(node, path, names)?;
        self.note(&template, path, node.place);
        Some(template)
    }

    /// A text that is one expression, with or without `${{ }}`.
    fn one_expression(&mut self, text: &str, node: &Node, path: &str, names: &Names<'_>) -> Option<Template> {
        let template = self.reader.one_expression(text, node, path, names)?;
        self.note(&template, path, node.place);
        Some(template)
    }

    fn output(&mut self) -> Option<Schema> {
        let entry = get(self.entries, "output")?;
        let path = self.path("output");
        if !["agent", "call", "infer", "workflow"].iter().any(|kind| get(self.entries, kind).is_some()) {
            let message = "`output` belongs to `agent`, `call`, `infer` and `workflow` steps";
            self.reader.mistake(entry.place, &path, message, "remove `output`");
        }
        inputs::check_schema(self.reader, &entry.node, &path).map(|validator| Schema { validator })
    }

    fn plan(&mut self) -> bool {
        let Some(entry) = get(self.entries, "plan") else { return false };
        let path = self.path("plan");
        if get(self.entries, "agent").is_none() {
            self.reader.mistake(entry.place, &path, "`plan` belongs to `agent` steps", "remove `plan`");
        }
        if let Value::Bool(flag) = entry.node.value {
            return flag;
        }
        let message = format!("`plan` must be true or false, but it is {}", entry.node.kind());
        self.reader.mistake(entry.node.place, &path, message, "write `plan: true` if the agent may answer with a plan");
        false
    }

    fn needs(&mut self) -> (Vec<usize>, Vec<(String, Place)>) {
        let (mut needs, mut places) = (Vec::new(), Vec::new());
        let Some(entry) = get(self.entries, "needs") else { return (needs, places) };
        let path = self.path("needs");
        let own = get(self.entries, "id").map(|e| e.node.json());
        let items: Vec<(String, &Node)> = match &entry.node.value {
            Value::List(items) => items.iter().enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect(),
            _ => vec![(path, &entry.node)],
        };
        let mut seen = HashSet::new();
        for (path, item) in items {
            if self.reader.is_full() {
                break;
            }
            let Some(id) = self.reader.text(item, &path) else { continue };
            if own.as_ref().is_some_and(|own| own.as_str() == Some(id)) {
                self.reader.mistake(
                    item.place,
                    &path,
                    format!("step `{}` needs itself", brief(id, 60)),
                    "remove it from its needs",
                );
            } else if let Some(number) = self.names.steps.get(id) {
                if seen.insert(*number) {
                    needs.push(*number);
                    places.push((path, item.place));
                }
            } else {
                let hint = match nearest(id, self.names.steps.keys().map(|id| &**id)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "name the `id` of another step".to_owned(),
                };
                self.reader.mistake(item.place, &path, format!("there is no step `{}`", brief(id, 60)), hint);
            }
        }
        (needs, places)
    }

    fn whole(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<u64> {
        if let Value::Number(number) = &node.value
            && let Some(n) = number.as_u64().filter(|n| (least..=most).contains(n))
        {
            return Some(n);
        }
        let message = format!("this must be a whole number from {least} to {most}, but it is {}", node.kind());
        self.reader.mistake(node.place, path, message, format!("write a number from {least} to {most}"));
        None
    }

    fn fraction(&mut self, entries: &[Entry], key: &str, path: &str, least: f64, most: f64) -> Option<f64> {
        let node = &get(entries, key)?.node;
        if let Value::Number(number) = &node.value
            && let Some(n) = number.as_f64().filter(|n| (least..=most).contains(n))
        {
            return Some(n);
        }
        let message = format!("this must be a number from {least} to {most}, but it is {}", node.kind());
        self.reader.mistake(node.place, &join(path, key), message, format!("write a number from {least} to {most}"));
        None
    }
}

/// Whether a text opens an expression: if it does not compile, that is reported already.
fn is_broken(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if text.trim_start().starts_with("${{") && text.trim_end().ends_with("}}"))
}
