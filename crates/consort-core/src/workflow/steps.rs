//! Reading one step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::expression::Names;
use super::parse::{Reader, get, join};
use super::suggest::{brief, list, nearest};
use super::yaml::{Entry, Node, Place, Value};
use super::{Action, ForEach, Step, Template, duration, scan};

mod decide;
mod retry;

const KINDS: [&str; 5] = ["agent", "set", "decide", "wait", "workflow"];
const KEYS: [&str; 13] = [
    "id",
    "agent",
    "set",
    "decide",
    "wait",
    "workflow",
    "with",
    "if",
    "needs",
    "for_each",
    "max_parallel",
    "retry",
    "timeout",
];
/// Keys of the language that are still to come.
const LATER: [&str; 9] = ["team", "call", "infer", "vote", "emit", "while", "max", "on_error", "output"];
/// Items of a `for_each`.
const ITEM_LIMIT: usize = 10_000;

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
        return Draft { id, place: node.place, step: None, needs: vec![], need_places: vec![], reads: vec![] };
    }
    reader.check_keys(entries, &here, &KEYS, &LATER);
    let mut step = StepReader { reader, here, entries, names, reads: Vec::new() };
    let (needs, need_places) = step.needs();
    let condition = step.condition();
    let for_each = step.for_each();
    let inner = Names { item: get(entries, "for_each").is_some(), ..*names };
    let action = step.action(node, &inner);
    let timeout =
        get(entries, "timeout").and_then(|e| step.reader.duration(&e.node, &join(&step.here, "timeout"), false));
    let retry = step.retry();
    let reads = step.reads;
    let step = action.map(|action| Step {
        id: id.clone(),
        action,
        needs: needs.clone(),
        dependents: Vec::new(),
        condition,
        for_each,
        retry,
        timeout,
    });
    Draft { id, place: node.place, step, needs, need_places, reads }
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
            if found.is_empty() && !self.entries.iter().any(|e| LATER[..5].contains(&e.key.as_str())) {
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
        if !matches!(kind.key.as_str(), "agent" | "workflow") {
            self.forbid("with", &format!("`with` belongs to `agent` and `workflow`, not to `{}`", kind.key));
        }
        match kind.key.as_str() {
            "agent" => {
                let agent = self.reader.id(&kind.node, &path, "an agent").map(Arc::from);
                let with = self.with(names);
                Some(Action::Agent { agent: agent?, with })
            }
            "workflow" => {
                let workflow = self.reader.id(&kind.node, &path, "a workflow").map(Arc::from);
                let with = self.with(names);
                Some(Action::Workflow { workflow: workflow?, with })
            }
            "set" => Some(Action::Set { value: self.template(&kind.node, &path, names) }),
            "wait" => self.wait(&kind.node, &path, names),
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
        let single = matches!(&entry.node.value, Value::Text(_))
            && !template.is_mixed_text()
            && template.as_constant().is_none();
        if !single && !matches!(entry.node.value, Value::Map(_)) && !is_broken(&entry.node) {
            let message = format!("`with` must be a mapping, but it is {}", entry.node.kind());
            self.reader.mistake(
                entry.node.place,
                &path,
                message,
                "write `with: {name: value}`, or one `${{ }}` that gives an object",
            );
        }
        template
    }

    fn wait(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Action> {
        match &node.value {
            Value::Text(text) if !text.contains("${{") => {
                if let Err(why) = duration::parse_duration(text) {
                    self.reader.mistake(node.place, path, why, "write for example `90s`, `2m` or `1h30m`");
                }
            }
            Value::Text(_) => {}
            Value::Map(entries) if get(entries, "signal").is_some() => {
                self.reader.mistake(
                    node.place,
                    path,
                    "`wait` for a `signal` is not supported by this version",
                    "write a duration",
                );
                return None;
            }
            _ => {
                let message = format!("`wait` must be a duration, but it is {}", node.kind());
                self.reader.mistake(node.place, path, message, "write for example `wait: 90s`");
                return None;
            }
        }
        Some(Action::Wait { duration: self.template(node, path, names) })
    }

    fn condition(&mut self) -> Option<Template> {
        let entry = get(self.entries, "if")?;
        let path = self.path("if");
        match &entry.node.value {
            Value::Bool(flag) => Some(Template::constant(&(*flag).into())),
            Value::Text(text) => self.one_expression(text.trim(), &entry.node, &path),
            _ => {
                let message = format!("`if` must be an expression, but it is {}", entry.node.kind());
                self.reader.mistake(entry.node.place, &path, message, "write for example `if: ${{ inputs.publish }}`");
                None
            }
        }
    }

    /// A text that is one expression, with or without `${{ }}`.
    fn one_expression(&mut self, text: &str, node: &Node, path: &str) -> Option<Template> {
        let parts = match scan::parts(text) {
            Ok(parts) => parts,
            Err(problem) => {
                self.reader.mistake(node.place, path, problem.message, problem.hint);
                return None;
            }
        };
        let source = match parts.as_slice() {
            [scan::Part::Expression(source)] => source.as_str(),
            [scan::Part::Literal(_)] => text,
            _ => {
                let message = format!("{} mixes text and expressions, so it would always be text", node.kind());
                self.reader.mistake(node.place, path, message, "write one expression: `${{ a && b }}`");
                return None;
            }
        };
        match Template::expression(source, self.names) {
            Ok(template) => {
                self.note(&template, path, node.place);
                Some(template)
            }
            Err(problems) => {
                for problem in problems {
                    self.reader.mistake(node.place, path, problem.message, problem.hint);
                }
                None
            }
        }
    }

    fn for_each(&mut self) -> Option<ForEach> {
        let max_parallel = get(self.entries, "max_parallel").and_then(|entry| {
            let path = self.path("max_parallel");
            if get(self.entries, "for_each").is_none() {
                self.reader.mistake(
                    entry.place,
                    &path,
                    "`max_parallel` needs `for_each`",
                    "add `for_each`, or remove `max_parallel`",
                );
            }
            self.whole(&entry.node, &path, 1, ITEM_LIMIT as u64)
        });
        let entry = get(self.entries, "for_each")?;
        let path = self.path("for_each");
        let hint = "write a list, or one `${{ }}` that gives a list";
        let list = match &entry.node.value {
            Value::List(items) => {
                if items.len() > ITEM_LIMIT {
                    let message = format!("there are {} items; at most {ITEM_LIMIT} are allowed", items.len());
                    self.reader.mistake(entry.node.place, &path, message, "split the list");
                }
                self.template(&entry.node, &path, &Names { item: false, ..*self.names })
            }
            Value::Text(text) if text.contains("${{") => self.one_expression(text.trim(), &entry.node, &path)?,
            _ => {
                self.reader.mistake(
                    entry.node.place,
                    &path,
                    format!("`for_each` must be a list, but it is {}", entry.node.kind()),
                    hint,
                );
                return None;
            }
        };
        Some(ForEach { list, max_parallel: max_parallel.and_then(|n| u32::try_from(n).ok()) })
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
