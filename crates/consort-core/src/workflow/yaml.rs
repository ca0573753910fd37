//! YAML 1.2 (core schema) as a tree of values that know where they stand.
//!
//! The tree is built from parser events and not through serde, because every key and value keeps its line and column, and because
//! repeated keys are reported with all other mistakes.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Number;
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::parse::{Mistake, join};
use super::suggest::brief;

/// Longest definition, in bytes.
const SOURCE_LIMIT: usize = 1024 * 1024;
/// Deepest nesting.
const DEPTH_LIMIT: usize = 64;
/// What aliases may add, as a multiple of the source.
const ALIAS_FACTOR: usize = 10;

/// Line and column, both from 1; 0 if unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

impl From<&Marker> for Place {
    fn from(marker: &Marker) -> Place {
        Place { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(flag) => format!("`{flag}`"),
            Value::Number(number) => format!("the number {number}"),
            Value::Text(text) => format!("the text `{}`", brief(text, 60)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The value without places.
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::json).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.node.json())).collect(),
        }
    }

    /// Levels of lists and mappings in it.
    fn depth(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Values and bytes in it: what an alias to it costs.
    fn weight(&self) -> usize {
        8 + match &self.value {
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(Node::weight).sum(),
            Value::Map(entries) => entries.iter().map(|e| e.key.len() + e.node.weight()).sum(),
            _ => 0,
        }
    }
}

/// Reads one document. Mistakes that leave a tree (repeated keys, tags) are added to `mistakes`; the error is one that does not.
pub(super) fn read(source: &str, mistakes: &mut Vec<Mistake>) -> Result<Node, Mistake> {
    if source.len() > SOURCE_LIMIT {
        let message = format!("the definition has {} bytes; at most {SOURCE_LIMIT} are allowed", source.len());
        return Err(Mistake::at(Place::default(), "", message, "move large values into inputs or blobs"));
    }
    let budget = source.len().saturating_mul(ALIAS_FACTOR).max(4096);
    let mut builder = Builder { mistakes, anchors: HashMap::new(), budget, open: Vec::new(), root: None };
    for item in Parser::new_from_str(source) {
        let (event, span) = item.map_err(|error| {
            let message = format!("the definition is not YAML: {}", error.info());
            Mistake::at(error.marker().into(), "", message, "check indentation, quotes and brackets here")
        })?;
        builder.event(event, (&span.start).into())?;
    }
    let empty = || {
        let message = "the definition is empty".to_owned();
        Mistake::at(Place { line: 1, column: 1 }, "", message, "begin with `name:` and `steps:`")
    };
    builder.root.ok_or_else(empty)
}

/// A list or mapping whose end has not come.
struct Open {
    anchor: usize,
    node: Node,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
    keys: HashSet<String>,
}

struct Builder<'a> {
    mistakes: &'a mut Vec<Mistake>,
    anchors: HashMap<usize, Node>,
    /// What aliases may still cost.
    budget: usize,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_> {
    /// The path of the value that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match (&open.node.value, &open.key) {
                (Value::List(items), _) => {
                    let _ = write!(path, "[{}]", items.len());
                }
                (_, Some((key, _))) => path = join(&path, &brief(key, 60)),
                _ => {}
            }
        }
        path
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Mistake> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), place);
                self.add(Node { place, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(Value::List(Vec::new()), anchor, tag.as_deref(), place),
            Event::MappingStart(_, anchor, tag) => self.begin(Value::Map(Vec::new()), anchor, tag.as_deref(), place),
            Event::SequenceEnd | Event::MappingEnd => {
                let done = self.open.pop().expect("the parser balances starts and ends");
                self.add(done.node, done.anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    let message = "this alias stands inside the value it names".to_owned();
                    return Err(Mistake::at(place, self.path(), message, "write the value out"));
                };
                let node = Node { place, ..node.clone() };
                self.check_depth(node.depth(), place)?;
                self.spend(&node)?;
                self.add(node, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "a second document begins here".to_owned();
                Err(Mistake::at(place, "", message, "keep one definition per file"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, place: Place) -> Result<(), Mistake> {
        self.check_depth(1, place)?;
        self.check_tag(tag, &["map", "seq"], place);
        self.open.push(Open { anchor, node: Node { place, value }, key: None, keys: HashSet::new() });
        Ok(())
    }

    fn check_depth(&self, more: usize, place: Place) -> Result<(), Mistake> {
        if self.open.len() + more > DEPTH_LIMIT {
            let message = format!("the definition is nested more than {DEPTH_LIMIT} deep");
            return Err(Mistake::at(place, self.path(), message, "make it flatter"));
        }
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        if anchor > 0 {
            self.spend(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => {
                if let Some((key, place)) = parent.key.take() {
                    entries.push(Entry { key, place, node });
                } else {
                    let (key, place) = (key_text(&node)?, node.place);
                    let repeated = !parent.keys.insert(key.clone());
                    parent.key = Some((key.clone(), place));
                    if repeated {
                        let message = format!("the key `{}` is there twice", brief(&key, 60));
                        let path = self.path();
                        self.mistakes.push(Mistake::at(place, path, message, "keep one of them"));
                    }
                }
            }
            _ => unreachable!("only lists and mappings are open"),
        }
        Ok(())
    }

    fn spend(&mut self, node: &Node) -> Result<(), Mistake> {
        let too_much = || {
            let message = format!("aliases make the definition more than {ALIAS_FACTOR} times larger");
            Mistake::at(node.place, self.path(), message, "use fewer aliases")
        };
        self.budget = self.budget.checked_sub(node.weight()).ok_or_else(too_much)?;
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Value {
        self.check_tag(tag, &["str", "int", "float", "bool", "null"], place);
        let forced = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        if style != ScalarStyle::Plain || forced { Value::Text(text.to_owned()) } else { plain(text) }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, known: &[&str], place: Place) {
        let Some(tag) = tag else { return };
        if !known.iter().any(|name| tag.is_yaml_core_schema_tag(name)) {
            let message = format!("the tag `{}` is not supported", brief(&tag.original(), 60));
            let path = self.path();
            self.mistakes.push(Mistake::at(place, path, message, "remove it"));
        }
    }
}

fn key_text(node: &Node) -> Result<String, Mistake> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => {
            let message = format!("a key must be text, but this is {}", node.kind());
            Err(Mistake::at(
                node.place,
                "",
                message,
                "put text before the colon; quote a value that begins with `{` or `[`",
            ))
        }
    }
}

/// A plain scalar by the core schema of YAML 1.2, section 10.3. A number too large for 64 bits becomes a float, as in JSON; one that
/// no float can hold stays text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+')).map(Number::from);
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !unsigned.chars().all(numeric) {
        return None;
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(n) = text.parse::<i64>() {
            return Some(n.into());
        }
        if let Ok(n) = text.parse::<u64>() {
            return Some(n.into());
        }
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(source: &str) -> serde_json::Value {
        let mut mistakes = Vec::new();
        let node = read(source, &mut mistakes).unwrap();
        assert_eq!(mistakes, []);
        node.json()
    }

    fn failure(source: &str) -> String {
        let mistake = read(source, &mut Vec::new()).unwrap_err();
        format!("{}:{} {}", mistake.line, mistake.column, mistake.message)
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let source = "[1, -2, +3, 0x1F, 0o17, 1.5, 1e3, .5, 18446744073709551615, yes, on, 1.2.3, 2026-11-21, 1-2, '5', !!str 5, ~, null, true]";
        let expected = serde_json::json!([
            1,
            -2,
            3,
            31,
            15,
            1.5,
            1000.0,
            0.5,
            18_446_744_073_709_551_615_u64,
            "yes",
            "on",
            "1.2.3",
            "2026-11-21",
            "1-2",
            "5",
            "5",
            null,
            null,
            true
        ]);
        assert_eq!(json(source), expected);
    }

    #[test]
    fn json_is_yaml() {
        let source = "{\"a\": [1, 2.5, true, null, \"x\\ny\\u00e9\\ud83d\\ude00\\/\"],\n\t\"b\": {}}";
        assert_eq!(json(source), serde_json::json!({"a": [1, 2.5, true, null, "x\nyé😀/"], "b": {}}));
    }

    #[test]
    fn aliases_are_copies() {
        assert_eq!(json("a: &x {k: 1}\nb: *x\n"), serde_json::json!({"a": {"k": 1}, "b": {"k": 1}}));
    }

    #[test]
    fn places_are_those_of_keys_and_values() {
        let node = read("a: 1\nb:\n  - x\n  - c: y\n", &mut Vec::new()).unwrap();
        let Value::Map(entries) = &node.value else { panic!() };
        assert_eq!(entries[1].place, Place { line: 2, column: 1 });
        let Value::List(items) = &entries[1].node.value else { panic!() };
        assert_eq!(items[0].place, Place { line: 3, column: 5 });
        let Value::Map(inner) = &items[1].value else { panic!() };
        assert_eq!(inner[0].place, Place { line: 4, column: 5 });
        assert_eq!(inner[0].node.place, Place { line: 4, column: 8 });
    }

    #[test]
    fn hostile_definitions_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            writeln!(bomb, "a{n}: &a{n} [{aliases}]").unwrap();
        }
        assert!(failure(&bomb).contains("aliases make"), "{}", failure(&bomb));
        assert!(failure(&("[".repeat(70) + &"]".repeat(70))).contains("nested more than 64 deep"));
        assert!(failure(&"- ".repeat(500_000)).contains("nested"));
        assert!(failure(&" ".repeat(SOURCE_LIMIT + 1)).contains("at most 1048576"));
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(40), "]".repeat(40));
        assert!(failure(&format!("a: &x {}\nb: {}", deep("1"), deep("*x"))).contains("nested more than 64 deep"));
        assert!(failure("a: &x [*x]").contains("inside the value"));
        assert_eq!(failure("a: 1\n---\nb: 2\n"), "2:1 a second document begins here");
        assert!(failure("a: [1\nb: 2").starts_with("2:"), "{}", failure("a: [1\nb: 2"));
        assert!(failure("{{x}}: 1").contains("a key must be text"));
    }
}
