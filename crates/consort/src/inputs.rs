//! The inputs of a run as they are typed: `-i key=text`, `-i key:=json`, `--inputs FILE`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::{Failure, Result};

/// Joins a file and single inputs; a single input wins over the file's, a later one over an earlier.
pub(crate) fn collect(file: Option<&Path>, pairs: &[String]) -> Result<Value> {
    let mut inputs = match file {
        Some(path) => from_file(path)?,
        None => Map::new(),
    };
    for pair in pairs {
        let (key, value) = parse_pair(pair)?;
        inputs.insert(key, value);
    }
    Ok(Value::Object(inputs))
}

/// Reads texts as the definition's types want them: `-i rate=85` is a number where the input is one. What cannot be read stays a
/// text, and the server says what is wrong with it.
pub(crate) fn convert(inputs: &mut Value, definition: &str) {
    let Ok(definition) = serde_saphyr::from_str::<Value>(definition) else { return };
    let Value::Object(given) = inputs else { return };
    for (name, value) in given {
        let Value::String(text) = &*value else { continue };
        let kind = definition["inputs"][name]["type"].as_str().unwrap_or("string");
        if !matches!(kind, "integer" | "number" | "boolean" | "array" | "object" | "null") {
            continue;
        }
        if let Ok(read) = serde_json::from_str(text) {
            *value = read;
        }
    }
}

/// A JSON value given as text, or `@FILE` with it.
pub(crate) fn json(what: &str, text: &str) -> Result<Value> {
    let parse = |source: &str| {
        serde_json::from_str(source).map_err(|error| {
            Failure::usage(format!("{what} is not JSON: {error}"))
                .hint("quote it for the shell: '{\"key\": \"value\"}'")
        })
    };
    match text.strip_prefix('@') {
        Some(path) => parse(&read(Path::new(path))?),
        None => parse(text),
    }
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<String> {
    let read =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

fn from_file(path: &Path) -> Result<Map<String, Value>> {
    let source = read(path)?;
    let value: Value = serde_saphyr::from_str(&source)
        .map_err(|error| Failure::usage(format!("{} is neither JSON nor YAML: {error}", path.display())))?;
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        _ => Err(Failure::usage(format!("{} must hold an object of inputs by name", path.display()))),
    }
}

fn parse_pair(pair: &str) -> Result<(String, Value)> {
    let usage = || {
        Failure::usage(format!("`-i {pair}` is not an input"))
            .hint("write -i key=text, or -i key:=json for numbers, lists and objects")
    };
    let (key, value) = pair.split_once('=').ok_or_else(usage)?;
    match key.strip_suffix(':') {
        Some("") => Err(usage()),
        Some(key) => Ok((key.to_owned(), json(&format!("the value of `{key}`"), value)?)),
        None if key.is_empty() => Err(usage()),
        None => Ok((key.to_owned(), Value::String(value.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pairs_are_text_or_json() {
        let pairs = ["repo=a=b:=c", "rate:=85.5", "list:=[1, 2]", "empty="].map(str::to_owned);
        let inputs = collect(None, &pairs).unwrap();
        assert_eq!(inputs, json!({"repo": "a=b:=c", "rate": 85.5, "list": [1, 2], "empty": ""}));
        for bad in ["repo", "=x", ":=1", "rate:=x"] {
            assert_eq!(collect(None, &[bad.to_owned()]).unwrap_err().exit, crate::failure::Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn texts_become_what_the_definition_wants() {
        let definition = "inputs: {n: {type: integer}, s: {type: string}, b: {type: boolean}, any: {}}";
        let mut inputs = json!({"n": "4", "s": "4", "b": "yes", "any": "4", "other": "4"});
        convert(&mut inputs, definition);
        assert_eq!(inputs, json!({"n": 4, "s": "4", "b": "yes", "any": "4", "other": "4"}));
    }

    #[test]
    fn pairs_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "repo: here\nrate: 90\n").unwrap();
        let inputs = collect(Some(file.path()), &["rate:=85".to_owned()]).unwrap();
        assert_eq!(inputs, json!({"repo": "here", "rate": 85}));
        std::fs::write(file.path(), "[1]").unwrap();
        assert!(collect(Some(file.path()), &[]).is_err());
    }
}
