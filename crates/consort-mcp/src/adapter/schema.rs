//! Schemas of strangers, as the mesh takes them: JSON Schema 2020-12, of type `object`, patterns without look-around, nothing fetched.
//!
//! What is changed is only ever loosened, so that every input that the server would take still reaches it.

use jsonschema::PatternOptions;
use serde_json::{Map, Value, json};

/// Bytes of one schema.
const MOST: usize = 256 * 1024;

/// A tool's input schema, made acceptable, and what was lost if that is worth telling.
pub(crate) fn input(schema: Value) -> (Value, Option<String>) {
    let any = || json!({"type": "object"});
    let mut schema = match schema {
        Value::Object(members) => Value::Object(members),
        _ => any(),
    };
    modern(&mut schema);
    schema["type"] = "object".into();
    match acceptable(&schema) {
        Ok(()) => (schema, None),
        Err(first) => {
            strip(&mut schema, "pattern");
            strip(&mut schema, "format");
            if acceptable(&schema).is_ok() {
                return (schema, Some(format!("patterns of its input are not checked: {first}")));
            }
            (any(), Some(format!("its input is not checked: {first}")))
        }
    }
}

/// A tool's output schema; `None` if there is none that could be held.
pub(crate) fn output(mut schema: Value) -> (Option<Value>, Option<String>) {
    modern(&mut schema);
    match acceptable(&schema) {
        Ok(()) => (Some(schema), None),
        Err(why) => (None, Some(format!("its output is not checked: {why}"))),
    }
}

fn acceptable(schema: &Value) -> Result<(), String> {
    let size = schema.to_string().len();
    if size > MOST {
        return Err(format!("its schema has {size} bytes, the most is {MOST}"));
    }
    jsonschema::draft202012::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map(|_| ())
        .map_err(|error| error.to_string().chars().take(200).collect())
}

/// Words of older drafts become those of 2020-12.
fn modern(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(modern),
        Value::Object(members) => {
            members.remove("$schema");
            reword(members);
            for (name, value) in members.iter_mut() {
                // Values that are data, and no schemas.
                if !matches!(name.as_str(), "default" | "const" | "enum" | "examples") {
                    modern(value);
                }
            }
        }
        _ => {}
    }
}

fn reword(members: &mut Map<String, Value>) {
    // Draft 4: a flag beside the bound.
    for (bound, flag) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match members.get(flag) {
            Some(Value::Bool(true)) => match members.remove(bound) {
                Some(limit) => drop(members.insert(flag.to_owned(), limit)),
                None => drop(members.remove(flag)),
            },
            Some(Value::Bool(false)) => drop(members.remove(flag)),
            _ => {}
        }
    }
    // Up to draft 2019-09: a tuple is a list under `items`.
    if members.get("items").is_some_and(Value::is_array)
        && let Some(tuple) = members.remove("items")
    {
        if let Some(rest) = members.remove("additionalItems") {
            members.insert("items".to_owned(), rest);
        }
        members.insert("prefixItems".to_owned(), tuple);
    }
    // Draft 4 has `required` beside a property, too; it says nothing there any more.
    if members.get("required").is_some_and(Value::is_boolean) {
        members.remove("required");
    }
    if members.get("id").is_some_and(Value::is_string) && members.contains_key("type") {
        members.remove("id");
    }
}

fn strip(schema: &mut Value, word: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, word)),
        Value::Object(members) => {
            // A property may have the word's name: its value is a schema, the keyword's is text.
            if members.get(word).is_some_and(Value::is_string) {
                members.remove(word);
            }
            members.values_mut().for_each(|value| strip(value, word));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: Value, wanted: Value) {
        assert_eq!(input(given).0, wanted);
    }

    #[test]
    fn older_drafts_become_the_current_one() {
        check(json!(null), json!({"type": "object"}));
        check(json!({}), json!({"type": "object"}));
        check(
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": ["object", "null"], "properties": {"a": {"type": "string"}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        );
        check(
            json!({"type": "object", "properties": {
                "n": {"type": "integer", "minimum": 1, "exclusiveMinimum": true},
                "m": {"type": "integer", "maximum": 1, "exclusiveMaximum": false},
                "t": {"items": [{"type": "string"}], "additionalItems": false}}}),
            json!({"type": "object", "properties": {
                "n": {"type": "integer", "exclusiveMinimum": 1},
                "m": {"type": "integer", "maximum": 1},
                "t": {"items": false, "prefixItems": [{"type": "string"}]}}}),
        );
        let definitions = json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "string"}}});
        check(definitions.clone(), definitions);
    }

    #[test]
    fn what_cannot_be_held_is_loosened() {
        let (schema, told) =
            input(json!({"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^(?!x)"}}}));
        assert_eq!(schema, json!({"type": "object", "properties": {"pattern": {"type": "string"}}}));
        assert!(told.unwrap().contains("patterns"));
        for bad in [
            json!({"type": "object", "properties": {"a": {"type": "strng"}}}),
            json!({"$ref": "https://example.com/x"}),
        ] {
            let (schema, told) = input(bad);
            assert_eq!(schema, json!({"type": "object"}));
            assert!(told.unwrap().contains("not checked"));
        }
        assert_eq!(output(json!({"type": "strng"})).0, None);
    }
}
