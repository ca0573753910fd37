//! The operations of a process: checked when it says hello, and held against every input and output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consort_core::plugin::{Operation, is_name};
use consort_core::{Error, Violation};
use consort_proto::plugin as wire;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::convert;
use crate::manifest::{Manifest, is_version};

/// Operations that a plugin may have.
const MOST: usize = 1_000;
/// How long a call may take if nobody says.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a plugin may say itself.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Mistakes that are told of one value.
const TOLD: usize = 20;

/// What a process says it is.
#[derive(Debug)]
pub(crate) struct Hello {
    pub description: String,
    pub version: Arc<str>,
    pub operations: BTreeMap<Arc<str>, Arc<Contract>>,
    pub config: Option<Validator>,
}

/// An operation with its compiled schemas.
#[derive(Debug)]
pub(crate) struct Contract {
    pub operation: Arc<Operation>,
    input: Validator,
    output: Option<Validator>,
}

impl Hello {
    /// Takes what a process says, if it keeps to the protocol and to its manifest.
    pub(crate) fn take(said: wire::HelloResponse, manifest: &Manifest) -> Result<Hello, Error> {
        let lie = |why: String| Error::precondition("PLUGIN_HELLO", format!("plugin `{}` {why}", manifest.id));
        if said.name != manifest.id {
            return Err(lie(format!("says that it is `{}`; its manifest says `{}`", said.name, manifest.id)));
        }
        if !is_version(&said.version) || said.version != manifest.version {
            let (found, wanted) = (&said.version, &manifest.version);
            return Err(lie(format!("says that its version is `{found}`; its manifest says `{wanted}`")));
        }
        if said.operations.is_empty() || said.operations.len() > MOST {
            return Err(lie(format!("has {} operations; a plugin has 1 to {MOST}", said.operations.len())));
        }
        let mut operations = BTreeMap::new();
        for operation in said.operations {
            let name: Arc<str> = operation.name.as_str().into();
            let contract = Contract::of(operation).map_err(|why| lie(format!("operation `{name}`: {why}")))?;
            if operations.insert(name.clone(), Arc::new(contract)).is_some() {
                return Err(lie(format!("has two operations `{name}`")));
            }
        }
        let config = said.config_schema.map(|schema| compile(&convert::json(schema)));
        let config = config.transpose().map_err(|why| lie(format!("the schema of its configuration: {why}")))?;
        Ok(Hello { description: said.description, version: said.version.into(), operations, config })
    }
}

impl Contract {
    fn of(said: wire::Operation) -> Result<Contract, String> {
        if !is_name(&said.name) {
            return Err("its name must be a letter, then letters, digits, `_` and `-`, at most 63".to_owned());
        }
        let input = convert::json(said.input_schema.unwrap_or_default());
        if input["type"] != "object" {
            return Err("its input's schema must have `type: object`".to_owned());
        }
        let output = said.output_schema.map(convert::json);
        let timeout = match said.timeout {
            None => TIMEOUT,
            Some(timeout) => {
                Duration::try_from(timeout).map_err(|_| "its timeout is negative".to_owned())?.min(LONGEST)
            }
        };
        Ok(Contract {
            input: compile(&input).map_err(|why| format!("the schema of its input: {why}"))?,
            output: output
                .as_ref()
                .map(compile)
                .transpose()
                .map_err(|why| format!("the schema of its output: {why}"))?,
            operation: Arc::new(Operation {
                name: said.name.into(),
                description: said.description,
                input_schema: consort_core::Json::of(&input),
                output_schema: output.as_ref().map(consort_core::Json::of),
                effect: convert::effect(said.effect),
                timeout,
                dry_run: said.dry_run,
            }),
        })
    }

    /// Whether an input may reach the plugin.
    pub(crate) fn check_input(&self, input: &Value) -> Result<(), Error> {
        let wrong = mistakes(&self.input, input, "input");
        if wrong.is_empty() { Ok(()) } else { Err(Error::bad_fields(wrong)) }
    }

    /// Whether an output may reach a caller; what is wrong with it.
    pub(crate) fn check_output(&self, output: &Value) -> Result<(), String> {
        let Some(schema) = &self.output else { return Ok(()) };
        let wrong = mistakes(schema, output, "output");
        let said: Vec<String> = wrong.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect();
        if said.is_empty() { Ok(()) } else { Err(said.join("; ")) }
    }
}

/// A schema that may come from anybody: nothing is fetched, patterns are linear.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::draft202012::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string().chars().take(500).collect())
}

/// What breaks a schema, by field.
pub(crate) fn mistakes(schema: &Validator, value: &Value, root: &str) -> Vec<Violation> {
    let field = |path: &str| {
        path.split('/').skip(1).fold(root.to_owned(), |field, part| match part.parse::<usize>() {
            Ok(index) => format!("{field}[{index}]"),
            Err(_) => format!("{field}.{}", part.replace("~1", "/").replace("~0", "~")),
        })
    };
    schema
        .iter_errors(value)
        .take(TOLD)
        .map(|error| Violation {
            field: field(error.instance_path().as_str()),
            description: error.to_string().chars().take(300).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_core::plugin::Effect;
    use serde_json::json;

    fn manifest() -> Manifest {
        toml::from_str("id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1").unwrap()
    }

    fn hello(change: impl FnOnce(&mut wire::HelloResponse)) -> Result<Hello, Error> {
        let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
        let operation = wire::Operation {
            name: "log".into(),
            input_schema: Some(convert::object(&schema)),
            output_schema: Some(convert::object(&json!({"type": "array"}))),
            ..wire::Operation::default()
        };
        let mut said = wire::HelloResponse {
            name: "g".into(),
            version: "1.0.0".into(),
            operations: vec![operation],
            ..wire::HelloResponse::default()
        };
        change(&mut said);
        Hello::take(said, &manifest())
    }

    #[test]
    fn inputs_and_outputs_are_held_against_their_schemas() {
        let hello = hello(|_| {}).unwrap();
        let contract = &hello.operations["log"];
        assert_eq!((contract.operation.effect, contract.operation.timeout), (Effect::Write, TIMEOUT));
        contract.check_input(&json!({"n": 1})).unwrap();
        let error = contract.check_input(&json!({"n": "x"})).unwrap_err();
        assert_eq!(error.violations[0].field, "input.n");
        assert!(contract.check_output(&json!({})).unwrap_err().contains("output"));
    }

    #[test]
    fn a_plugin_that_lies_is_refused() {
        type Change = fn(&mut wire::HelloResponse);
        let cases: [(Change, &str); 7] = [
            (|said| said.name = "h".into(), "says that it is `h`"),
            (|said| said.version = "2.0.0".into(), "its version is `2.0.0`"),
            (|said| said.operations.clear(), "has 0 operations"),
            (|said| said.operations.push(said.operations[0].clone()), "two operations `log`"),
            (|said| said.operations[0].name = "a b".into(), "its name must be"),
            (|said| said.operations[0].input_schema = None, "must have `type: object`"),
            (
                |said| said.operations[0].output_schema = Some(convert::object(&json!({"type": "objct"}))),
                "the schema of its output",
            ),
        ];
        for (change, part) in cases {
            let said = hello(change).unwrap_err().message;
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
