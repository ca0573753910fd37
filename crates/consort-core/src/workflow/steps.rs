//! Reading one step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::expression::Names;
use super::parse::{Reader, get, join};
use super::suggest::{brief, list, nearest};
use super::yaml::{Entry, Node, Place, Value};
use super::{Action, Decide, ForEach, Retry, Step, Template, duration, inputs, scan};

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
const OPTION_LIMIT: usize = 100;
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

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

    fn decide(&mut self, node: &Node, path: &str, names: &Names<'_>) -> Option<Decide> {
        const KEYS: [&str; 6] = ["title", "description", "options", "form", "deadline", "default"];
        let entries = self.reader.map(node, path, "write `decide: {title: …, options: [yes, no]}`")?;
        self.reader.check_keys(entries, path, &KEYS, &["quorum"]);
        let title = self.question(entries, "title", path, names);
        if get(entries, "title").is_none() {
            self.reader.mistake(node.place, path, "`title` is missing", "add the question that a person reads");
        }
        let description = self.question(entries, "description", path, names);
        let options = match get(entries, "options") {
            Some(entry) => self.options(&entry.node, &join(path, "options")),
            None => {
                self.reader.mistake(
                    node.place,
                    path,
                    "`options` is missing",
                    "add what can be chosen, for example `options: [yes, no]`",
                );
                Vec::new()
            }
        };
        let form = get(entries, "form").map(|entry| {
            inputs::check_schema(self.reader, &entry.node, &join(path, "form"));
            crate::data::Json::of(&entry.node.json())
        });
        let deadline =
            get(entries, "deadline").and_then(|e| self.reader.duration(&e.node, &join(path, "deadline"), false));
        let default = get(entries, "default").and_then(|entry| {
            let path = join(path, "default");
            let text = self.reader.text(&entry.node, &path)?;
            if !options.is_empty() && !options.iter().any(|option| option == text) {
                let message = format!("`{}` is not one of the options", brief(text, 60));
                self.reader.mistake(
                    entry.node.place,
                    &path,
                    message,
                    format!("the options are {}", list(options.iter().map(String::as_str))),
                );
            }
            if get(entries, "deadline").is_none() {
                let message = "`default` is what the deadline chooses, but there is no `deadline`";
                self.reader.mistake(entry.place, &path, message, "add `deadline:`, or remove `default`");
            }
            Some(text.to_owned())
        });
        Some(Decide { title: title?, description, options, form, deadline, default })
    }

    fn question(&mut self, entries: &[Entry], key: &str, path: &str, names: &Names<'_>) -> Option<Template> {
        let entry = get(entries, key)?;
        let path = join(path, key);
        self.reader.text(&entry.node, &path)?;
        Some(self.template(&entry.node, &path, names))
    }

    fn options(&mut self, node: &Node, path: &str) -> Vec<String> {
        let Value::List(items) = &node.value else {
            let message = format!("`options` must be a list, but it is {}", node.kind());
            self.reader.mistake(node.place, path, message, "write for example `options: [yes, no]`");
            return Vec::new();
        };
        if items.is_empty() || items.len() > OPTION_LIMIT {
            let message = format!("there are {} options; a decision has 1 to {OPTION_LIMIT}", items.len());
            self.reader.mistake(node.place, path, message, "list what can be chosen");
        }
        let mut options: Vec<String> = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}[{number}]");
            let Some(text) = self.reader.text(item, &path) else { continue };
            if text.trim().is_empty() {
                self.reader.mistake(item.place, &path, "an option is empty", "name it");
            } else if options.iter().any(|known| known == text) {
                self.reader.mistake(
                    item.place,
                    &path,
                    format!("the option `{}` is there twice", brief(text, 60)),
                    "keep one of them",
                );
            } else {
                options.push(text.to_owned());
            }
        }
        options
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

    fn retry(&mut self) -> Retry {
        const KEYS: [&str; 6] = ["max", "backoff", "factor", "max_backoff", "jitter", "on"];
        let mut retry = Retry::default();
        let Some(entry) = get(self.entries, "retry") else { return retry };
        let path = self.path("retry");
        if get(self.entries, "agent").is_none() {
            self.reader.mistake(entry.place, &path, "`retry` belongs to `agent` steps", "remove `retry`");
        }
        let Some(entries) = self.reader.map(&entry.node, &path, "write for example `retry: {max: 3, backoff: 2s}`")
        else {
            return retry;
        };
        self.reader.check_keys(entries, &path, &KEYS, &[]);
        match get(entries, "max") {
            Some(e) => {
                let max = self.whole(&e.node, &join(&path, "max"), 1, 100);
                retry.max = max.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
            }
            None => self.reader.mistake(
                entry.place,
                &path,
                "`max` is missing",
                "add how many attempts there are in all, for example `max: 3`",
            ),
        }
        if let Some(e) = get(entries, "backoff") {
            retry.backoff = self.reader.duration(&e.node, &join(&path, "backoff"), true).unwrap_or(retry.backoff);
            retry.max_backoff = retry.max_backoff.max(retry.backoff);
        }
        if let Some(e) = get(entries, "max_backoff") {
            let path = join(&path, "max_backoff");
            if let Some(longest) = self.reader.duration(&e.node, &path, true) {
                if longest < retry.backoff {
                    let message = format!("{} is shorter than `backoff`", e.node.kind());
                    self.reader.mistake(e.node.place, &path, message, "make it at least as long as `backoff`");
                }
                retry.max_backoff = longest;
            }
        }
        retry.factor = self.fraction(entries, "factor", &path, 1.0, 100.0).unwrap_or(retry.factor);
        retry.jitter = self.fraction(entries, "jitter", &path, 0.0, 1.0).unwrap_or(retry.jitter);
        if let Some(e) = get(entries, "on") {
            retry.on = self.codes(&e.node, &join(&path, "on"));
        }
        retry
    }

    fn codes(&mut self, node: &Node, path: &str) -> Vec<i32> {
        let Value::List(items) = &node.value else {
            let message = format!("`on` must be a list of codes, but it is {}", node.kind());
            self.reader.mistake(node.place, path, message, "write for example `on: [UNAVAILABLE, DEADLINE_EXCEEDED]`");
            return Vec::new();
        };
        if items.is_empty() {
            self.reader.mistake(
                node.place,
                path,
                "no code is listed, so nothing would be repeated",
                "leave `on` out to repeat what can pass with time",
            );
        }
        let mut codes = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = format!("{path}[{number}]");
            let Some(name) = self.reader.text(item, &path) else { continue };
            if let Some(code) = CODES.iter().position(|known| *known == name) {
                let code = i32::try_from(code).expect("there are 16 codes") + 1;
                if !codes.contains(&code) {
                    codes.push(code);
                }
                continue;
            }
            let hint = match nearest(&name.to_uppercase(), CODES) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the codes are {}", list(CODES)),
            };
            self.reader.mistake(item.place, &path, format!("there is no code `{}`", brief(name, 60)), hint);
        }
        codes
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
