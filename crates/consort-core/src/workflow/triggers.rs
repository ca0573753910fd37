//! What starts a workflow, beside clients: `on`.

use std::collections::HashMap;
use std::sync::Arc;

use super::cron::{Cron, CronError};
use super::expression::{Local, Names};
use super::parse::{Reader, get, join};
use super::suggest::{brief, list, nearest};
use super::yaml::{Entry, Node, Value};
use super::{Inputs, Template, inputs};
use crate::signal::{self, Impact, Urgency};

/// Kinds of triggers.
pub(super) const KINDS: [&str; 4] = ["manual", "schedule", "event", "signal"];
/// All keys of a schedule.
pub(super) const SCHEDULE: [&str; 5] = ["cron", "timezone", "overlap", "catch_up", "inputs"];
/// All keys of a trigger by events.
pub(super) const EVENT: [&str; 3] = ["type", "if", "inputs"];
/// All keys of a trigger by signals.
pub(super) const SIGNAL: [&str; 5] = ["type", "urgency", "impact", "if", "inputs"];
/// Triggers of one kind.
const TRIGGER_LIMIT: usize = 100;

/// What starts a workflow, beside clients.
#[derive(Debug, Default)]
pub struct Triggers {
    /// Times.
    pub schedules: Vec<ScheduleTrigger>,
    /// Events.
    pub events: Vec<EventTrigger>,
    /// Signals to the mesh.
    pub signals: Vec<SignalTrigger>,
}

impl Triggers {
    /// Whether only clients start it.
    pub fn is_empty(&self) -> bool {
        self.schedules.is_empty() && self.events.is_empty() && self.signals.is_empty()
    }
}

/// Starts a run at certain times.
#[derive(Debug)]
pub struct ScheduleTrigger {
    /// When.
    pub cron: Cron,
    /// What happens when it fires while its last run is live.
    pub overlap: Overlap,
    /// What happens to times that passed while no server ran.
    pub catch_up: CatchUp,
    /// The run's inputs; reads `schedule`.
    pub inputs: Template,
}

/// What happens when a schedule fires while its last run is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing is started.
    #[default]
    Skip,
    /// Another run is started.
    Allow,
    /// The last run is cancelled, and another started.
    Cancel,
    /// Another run is started when the last one is over; one waits at most.
    Queue,
}

impl Overlap {
    /// All.
    pub const ALL: [Overlap; 4] = [Overlap::Skip, Overlap::Allow, Overlap::Cancel, Overlap::Queue];

    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Allow => "allow",
            Overlap::Cancel => "cancel",
            Overlap::Queue => "queue",
        }
    }
}

/// What happens to times that passed while no server ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are forgotten.
    None,
    /// One run is started for all of them.
    #[default]
    Last,
    /// A run is started for each of the last 100.
    All,
}

impl CatchUp {
    /// All.
    pub const ALL: [CatchUp; 3] = [CatchUp::None, CatchUp::Last, CatchUp::All];

    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            CatchUp::None => "none",
            CatchUp::Last => "last",
            CatchUp::All => "all",
        }
    }
}

/// Starts a run for each event that matches.
#[derive(Debug)]
pub struct EventTrigger {
    /// Exact, or a prefix that ends in `*`.
    pub event_type: String,
    /// Reads `event`; must give a bool.
    pub condition: Option<Template>,
    /// The run's inputs; reads `event`.
    pub inputs: Template,
}

impl EventTrigger {
    /// Whether it wants events of this type.
    pub fn wants(&self, event_type: &str) -> bool {
        match self.event_type.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => self.event_type == event_type,
        }
    }
}

/// Starts a run for each signal that matches.
#[derive(Debug)]
pub struct SignalTrigger {
    /// The signal's type.
    pub kind: String,
    /// Only these; empty means any.
    pub urgency: Vec<Urgency>,
    /// Only these; empty means any.
    pub impact: Vec<Impact>,
    /// Reads `signal`; must give a bool.
    pub condition: Option<Template>,
    /// The run's inputs; reads `signal`.
    pub inputs: Template,
}

impl SignalTrigger {
    /// Whether it wants a signal, as far as can be told without its condition.
    pub fn wants(&self, signal: &signal::Signal) -> bool {
        self.kind == signal.kind
            && (self.urgency.is_empty() || self.urgency.contains(&signal.urgency))
            && (self.impact.is_empty() || self.impact.contains(&signal.impact))
    }
}

/// Why a text cannot be the type of an event that a workflow publishes.
pub(super) fn check_event_type(text: &str) -> Result<(), String> {
    if !crate::event::is_type(text) {
        return Err(format!("`{}` cannot be the type of an event", brief(text, 60)));
    }
    match crate::event::RESERVED.iter().find(|reserved| text.starts_with(**reserved)) {
        Some(reserved) => Err(format!("types that begin with `{reserved}` belong to the mesh")),
        None => Ok(()),
    }
}

/// Reads `on`.
pub(super) fn read(reader: &mut Reader, node: &Node, inputs: &Inputs) -> Triggers {
    let mut triggers = Triggers::default();
    for entry in reader.map(node, "on", "write for example `on: {manual: {}}`").unwrap_or_default() {
        let path = join("on", &entry.key);
        match entry.key.as_str() {
            "manual" => manual(reader, entry, &path),
            "schedule" => {
                for (node, path) in each(reader, &entry.node, path) {
                    triggers.schedules.extend(schedule(reader, node, &path, inputs));
                }
            }
            "event" => {
                for (node, path) in each(reader, &entry.node, path) {
                    triggers.events.extend(event(reader, node, &path, inputs));
                }
            }
            "signal" => {
                for (node, path) in each(reader, &entry.node, path) {
                    triggers.signals.extend(signal(reader, node, &path, inputs));
                }
            }
            key => {
                let key = brief(key, 60);
                let hint = match nearest(&key, KINDS) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are {}", list(KINDS)),
                };
                reader.mistake(entry.place, &path, format!("there is no trigger `{key}`"), hint);
            }
        }
    }
    triggers
}

fn manual(reader: &mut Reader, entry: &Entry, path: &str) {
    let settings = match &entry.node.value {
        Value::Null => false,
        Value::Map(settings) => !settings.is_empty(),
        _ => true,
    };
    if settings {
        let message = format!("`manual` has no settings, but here is {}", entry.node.kind());
        reader.mistake(entry.node.place, path, message, "write `manual: {}`");
    }
}

/// One trigger, or a list of them.
fn each<'n>(reader: &mut Reader, node: &'n Node, path: String) -> Vec<(&'n Node, String)> {
    let Value::List(items) = &node.value else { return vec![(node, path)] };
    if items.len() > TRIGGER_LIMIT {
        let message = format!("there are {} triggers; at most {TRIGGER_LIMIT} are allowed", items.len());
        reader.mistake(node.place, &path, message, "write several workflows");
        return Vec::new();
    }
    items.iter().enumerate().map(|(n, item)| (item, format!("{path}[{n}]"))).collect()
}

fn schedule(reader: &mut Reader, node: &Node, path: &str, inputs: &Inputs) -> Option<ScheduleTrigger> {
    let entries =
        reader.map(node, path, "write for example `schedule: {cron: \"0 7 * * MON\", timezone: Europe/Paris}`")?;
    reader.check_keys(entries, path, &SCHEDULE, &[]);
    let overlap = one_of(reader, entries, "overlap", path, &Overlap::ALL.map(Overlap::name));
    let catch_up = one_of(reader, entries, "catch_up", path, &CatchUp::ALL.map(CatchUp::name));
    let timezone = get(entries, "timezone").map(|e| (e, reader.text(&e.node, &join(path, "timezone"))));
    let zone = match timezone {
        Some((_, text)) => text?,
        None => "UTC",
    };
    let given = given_inputs(reader, node, entries, path, inputs, Local::Schedule);
    let Some(entry) = get(entries, "cron") else {
        reader.mistake(node.place, path, "`cron` is missing", "add when it fires, for example `cron: \"0 7 * * MON\"`");
        return None;
    };
    let expression = reader.text(&entry.node, &join(path, "cron"))?;
    match Cron::parse(expression, zone) {
        Ok(cron) => Some(ScheduleTrigger {
            cron,
            overlap: overlap.map_or_else(Overlap::default, |n| Overlap::ALL[n]),
            catch_up: catch_up.map_or_else(CatchUp::default, |n| CatchUp::ALL[n]),
            inputs: given,
        }),
        Err(error) => {
            let (key, place) = match (&error, timezone) {
                (CronError::Timezone { .. }, Some((zone, _))) => ("timezone", zone.node.place),
                _ => ("cron", entry.node.place),
            };
            reader.mistake(place, &join(path, key), error.to_string(), error.hint());
            // A bad time zone behind a bad expression is told at once, too.
            if let (CronError::Expression { .. }, Some((entry, _))) = (&error, timezone)
                && let Err(error) = Cron::parse("@daily", zone)
            {
                reader.mistake(entry.node.place, &join(path, "timezone"), error.to_string(), error.hint());
            }
            None
        }
    }
}

fn event(reader: &mut Reader, node: &Node, path: &str, inputs: &Inputs) -> Option<EventTrigger> {
    let entries = reader.map(node, path, "write for example `event: {type: ORDER.INBOX_RECEIVED}`")?;
    reader.check_keys(entries, path, &EVENT, &[]);
    let condition = condition(reader, entries, path, Local::Event);
    let given = given_inputs(reader, node, entries, path, inputs, Local::Event);
    let Some(entry) = get(entries, "type") else {
        reader.mistake(node.place, path, "`type` is missing", "add which events start it, for example `type: ORDER.*`");
        return None;
    };
    let event_type = reader.text(&entry.node, &join(path, "type"))?;
    let exact = event_type.strip_suffix('*').map_or(event_type, |prefix| prefix.trim_end_matches(['.', '_']));
    if !exact.is_empty() && !crate::event::is_type(exact) {
        let message = format!("`{}` cannot be the type of an event", brief(event_type, 60));
        let hint = "write upper-case words joined by `.` and `_`, or a prefix that ends in `*`";
        reader.mistake(entry.node.place, &join(path, "type"), message, hint);
    }
    Some(EventTrigger { event_type: event_type.to_owned(), condition, inputs: given })
}

fn signal(reader: &mut Reader, node: &Node, path: &str, inputs: &Inputs) -> Option<SignalTrigger> {
    let entries = reader.map(node, path, "write for example `signal: {type: QUALITY_ISSUE}`")?;
    reader.check_keys(entries, path, &SIGNAL, &[]);
    let urgency = some_of(reader, entries, "urgency", path, &Urgency::ALL.map(Urgency::name));
    let impact = some_of(reader, entries, "impact", path, &Impact::ALL.map(Impact::name));
    let condition = condition(reader, entries, path, Local::Signal);
    let given = given_inputs(reader, node, entries, path, inputs, Local::Signal);
    let Some(entry) = get(entries, "type") else {
        reader.mistake(
            node.place,
            path,
            "`type` is missing",
            "add which signals start it, for example `type: QUALITY_ISSUE`",
        );
        return None;
    };
    let kind = reader.text(&entry.node, &join(path, "type"))?;
    if !signal::is_type(kind) {
        let message = format!("`{}` cannot be the type of a signal", brief(kind, 60));
        let hint = "write upper-case words joined by `_`, for example `QUALITY_ISSUE`";
        reader.mistake(entry.node.place, &join(path, "type"), message, hint);
    }
    Some(SignalTrigger {
        kind: kind.to_owned(),
        urgency: urgency.into_iter().map(|n| Urgency::ALL[n]).collect(),
        impact: impact.into_iter().map(|n| Impact::ALL[n]).collect(),
        condition,
        inputs: given,
    })
}

fn condition(reader: &mut Reader, entries: &[Entry], path: &str, local: Local) -> Option<Template> {
    let entry = get(entries, "if")?;
    let steps = HashMap::new();
    let names = Names { inputs: &[], steps: &steps, locals: &[local], trigger: true };
    reader.boolean(&entry.node, &join(path, "if"), &names)
}

/// The inputs that a trigger gives: every one that is required, none that is not declared.
fn given_inputs(
    reader: &mut Reader,
    node: &Node,
    entries: &[Entry],
    path: &str,
    declared: &Inputs,
    local: Local,
) -> Template {
    let path = join(path, "inputs");
    let names: Vec<String> = inputs::names(declared);
    let (entry, given): (_, &[Entry]) = match get(entries, "inputs") {
        None => (None, &[]),
        Some(entry) => match reader.map(&entry.node, &path, "write `inputs: {name: value}`") {
            Some(given) => (Some(entry), given),
            None => return Template::constant(&serde_json::json!({})),
        },
    };
    for name in given.iter().filter(|e| !names.contains(&e.key)) {
        let key = brief(&name.key, 60);
        let hint = match nearest(&key, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("declared are {}", list(names.iter().map(String::as_str))),
        };
        reader.mistake(name.place, &join(&path, &key), format!("there is no input `{key}`"), hint);
    }
    for field in declared.fields.iter().filter(|f| f.default.is_none() && get(given, &f.name).is_none()) {
        let place = entry.map_or(node.place, |entry| entry.place);
        let message = format!("the trigger does not give the input `{}`, which has no default", field.name);
        reader.mistake(place, &path, message, format!("add `{}:` here, or give it a default", field.name));
    }
    let Some(entry) = entry else { return Template::constant(&serde_json::json!({})) };
    let steps: HashMap<Arc<str>, usize> = HashMap::new();
    reader.template(&entry.node, &path, &Names { inputs: &[], steps: &steps, locals: &[local], trigger: true })
}

/// The number of a word in a list of words.
fn one_of(reader: &mut Reader, entries: &[Entry], key: &str, path: &str, words: &[&str]) -> Option<usize> {
    let entry = get(entries, key)?;
    word(reader, &entry.node, key, &join(path, key), words)
}

/// The numbers of one or several words in a list of words.
fn some_of(reader: &mut Reader, entries: &[Entry], key: &str, path: &str, words: &[&str]) -> Vec<usize> {
    let Some(entry) = get(entries, key) else { return Vec::new() };
    let path = join(path, key);
    match &entry.node.value {
        Value::List(items) => {
            let items = items.iter().enumerate();
            items.filter_map(|(n, item)| word(reader, item, key, &format!("{path}[{n}]"), words)).collect()
        }
        _ => word(reader, &entry.node, key, &path, words).into_iter().collect(),
    }
}

pub(super) fn word(reader: &mut Reader, node: &Node, key: &str, path: &str, words: &[&str]) -> Option<usize> {
    let text = reader.text(node, path)?;
    let found = words.iter().position(|word| *word == text);
    if found.is_none() {
        let message = format!("`{key}` cannot be `{}`", brief(text, 60));
        reader.mistake(node.place, path, message, format!("it is one of {}", list(words.iter().copied())));
    }
    found
}
