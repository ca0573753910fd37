//! What a plugin is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::plugin as wire;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::fault::Fault;
use super::handler::{Handler, erase};
use super::schema;
use super::settings::Settle;
use super::{Effect, Permissions};
use crate::error::Error;

/// Operations of a plugin, at most.
const MOST: usize = 1_000;
/// Calls at once if nothing is said.
const AT_ONCE: usize = 256;

/// A plugin: who it is and what it can do. Served with [`Plugin::serve`], tried with [`testing`](super::testing).
#[derive(Clone)]
pub struct Plugin {
    pub(super) name: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) description: String,
    pub(super) at_once: usize,
    pub(super) operations: BTreeMap<String, Arc<Registered>>,
    pub(super) config: Option<Arc<Config>>,
    /// Names that were given to two operations.
    twice: Vec<String>,
}

/// An operation with what does it.
pub(super) struct Registered {
    pub(super) operation: Operation,
    pub(super) input: Value,
    pub(super) output: Value,
    pub(super) handler: Handler,
}

/// How a configuration is read.
pub(super) struct Config {
    pub(super) schema: Value,
    pub(super) settle: Settle,
}

/// An operation: its name, what it does, and what a repeated call does.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) effect: Effect,
    pub(super) timeout: Option<Duration>,
    pub(super) dry_run: bool,
}

impl Operation {
    fn new(name: impl Into<String>, description: impl Into<String>, effect: Effect) -> Operation {
        let (name, description) = (name.into(), description.into());
        Operation { name, description, effect, timeout: None, dry_run: false }
    }

    /// One that changes nothing: a call whose outcome is unknown is made again. The name has 1 to 63 characters of a-z, 0-9, `_` and `-`,
    /// from a letter on; the description is for people and models that choose between operations.
    pub fn read(name: impl Into<String>, description: impl Into<String>) -> Operation {
        Operation::new(name, description, Effect::Read)
    }

    /// One that changes something, but doing it twice is doing it once, at least with equal idempotency keys: it is called again, too.
    pub fn idempotent_write(name: impl Into<String>, description: impl Into<String>) -> Operation {
        Operation::new(name, description, Effect::IdempotentWrite)
    }

    /// One that does it twice when it is called twice: if the outcome of a call is unknown, a person decides.
    pub fn write(name: impl Into<String>, description: impl Into<String>) -> Operation {
        Operation::new(name, description, Effect::Write)
    }

    /// How long a call may take if the caller says nothing; 60 s without this, 24 h at most.
    pub fn timeout(mut self, timeout: Duration) -> Operation {
        self.timeout = Some(timeout);
        self
    }

    /// It knows dry runs: when [`Call::dry_run`] is true it says with [`Call::would`] what it would do, and does nothing.
    pub fn dry_run(mut self) -> Operation {
        self.dry_run = true;
        self
    }
}

impl Plugin {
    /// A plugin of an id and a version, which must be those of its manifest.
    pub fn new(name: impl AsRef<str>, version: impl AsRef<str>) -> Plugin {
        Plugin {
            name: name.as_ref().into(),
            version: version.as_ref().into(),
            description: String::new(),
            at_once: AT_ONCE,
            operations: BTreeMap::new(),
            config: None,
            twice: Vec::new(),
        }
    }

    /// What it is for, in a sentence.
    pub fn description(mut self, description: impl Into<String>) -> Plugin {
        self.description = description.into();
        self
    }

    /// Calls that it takes at once, 256 without this; what is more is RESOURCE_EXHAUSTED.
    pub fn at_once(mut self, calls: usize) -> Plugin {
        self.at_once = calls;
        self
    }

    /// Takes a configuration of a type, which calls find with [`Call::config`]. Every field should have a default: an operator who sets
    /// nothing sends `{}`.
    pub fn config<C: DeserializeOwned + JsonSchema + Send + Sync + 'static>(self) -> Plugin {
        self.checked_config::<C>(|_, _| Ok(()))
    }

    /// As [`Plugin::config`], with a look at it and at what is granted; a [`Fault::bad_input`] ends the start and is shown to the operator.
    pub fn checked_config<C: DeserializeOwned + JsonSchema + Send + Sync + 'static>(
        mut self,
        check: impl Fn(&C, &Permissions) -> Result<(), Fault> + Send + Sync + 'static,
    ) -> Plugin {
        self.config = Some(Arc::new(Config {
            schema: schema::of_input::<C>(),
            settle: Box::new(move |text, granted| {
                let config: C = super::handler::read(text, "config")?;
                check(&config, granted)?;
                Ok(Arc::new(config))
            }),
        }));
        self
    }

    /// Adds an operation and what does it. The schemas come from the types; an input is an object, so `I` is a struct.
    ///
    /// The handler runs as a tokio task. One that computes for long without awaiting belongs in [`Call::blocking`]. When the call is
    /// cancelled or its time is up, [`Call::cancelled`] resolves, and a second later the future is dropped. A panic is INTERNAL and ends only
    /// its call.
    pub fn operation<I, O, F, R>(mut self, operation: Operation, handler: F) -> Plugin
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema + 'static,
        F: Fn(Call, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Fault>> + Send + 'static,
    {
        let name = operation.name.clone();
        let registered = Registered {
            operation,
            input: schema::of_input::<I>(),
            output: schema::of_output::<O>(),
            handler: erase(handler),
        };
        if self.operations.insert(name.clone(), Arc::new(registered)).is_some() {
            self.twice.push(name);
        }
        self
    }

    /// Whether the mesh would take it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |field, value: &str, rule| Err(Error::Setting { field, value: value.to_owned(), rule });
        if !is_name(&self.name) || self.name.contains('_') {
            return wrong("plugin name", &self.name, "use 1 to 63 characters of a-z, 0-9 and `-`, from a letter on");
        }
        if !is_version(&self.version) {
            return wrong("plugin version", &self.version, "write a semantic version, for example `1.4.0`");
        }
        if self.operations.is_empty() || self.operations.len() > MOST {
            return wrong("operations", &self.operations.len().to_string(), "a plugin has 1 to 1,000");
        }
        if let Some(name) = self.twice.first() {
            return wrong("operation", name, "there are two of this name; give them different ones");
        }
        for (name, registered) in &self.operations {
            if !is_name(name) {
                return wrong("operation", name, "use 1 to 63 characters of a-z, 0-9, `_` and `-`, from a letter on");
            }
            if registered.input["type"] != "object" {
                return wrong("input of operation", name, "must be a struct with named fields, or `Nothing`");
            }
        }
        Ok(())
    }

    pub(super) fn hello(&self) -> wire::HelloResponse {
        let operations = self.operations.values().map(|registered| {
            let Operation { name, description, effect, timeout, dry_run } = registered.operation.clone();
            wire::Operation {
                name,
                description,
                input_schema: schema::on_wire(&registered.input),
                output_schema: schema::on_wire(&registered.output),
                effect: effect as i32,
                timeout: timeout.and_then(|timeout| timeout.try_into().ok()),
                dry_run,
            }
        });
        wire::HelloResponse {
            name: self.name.to_string(),
            version: self.version.to_string(),
            description: self.description.clone(),
            operations: operations.collect(),
            config_schema: self.config.as_ref().and_then(|config| schema::on_wire(&config.schema)),
            sdk: concat!("rust ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations: Vec<_> = self.operations.keys().collect();
        f.debug_struct("Plugin").field("name", &self.name).field("operations", &operations).finish_non_exhaustive()
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

fn is_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    core.split('.').count() == 3 && core.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Nothing;

    fn with(name: &str, version: &str, operations: &[&str]) -> Result<(), Error> {
        let plugin = Plugin::new(name, version);
        let add = |plugin: Plugin, name: &&str| {
            plugin.operation(Operation::read(*name, ""), |_: Call, input: Nothing| async move { Ok(input) })
        };
        operations.iter().fold(plugin, add).check()
    }

    #[test]
    fn mistakes_of_the_author_are_told() {
        with("git", "1.0.0-rc.1", &["log", "create_branch"]).unwrap();
        for (name, version, operations, part) in [
            ("Git", "1.0.0", vec!["log"], "plugin name `Git`"),
            ("git", "1.0", vec!["log"], "plugin version `1.0`"),
            ("git", "1.0.0", vec![], "operations `0`"),
            ("git", "1.0.0", vec!["a", "a"], "there are two"),
            ("git", "1.0.0", vec!["a b"], "operation `a b`"),
        ] {
            let said = with(name, version, &operations).unwrap_err().to_string();
            assert!(said.contains(part), "{part}: {said}");
        }
        let text = Operation::read("a", "");
        let plugin = Plugin::new("git", "1.0.0").operation(text, |_: Call, input: String| async move { Ok(input) });
        assert!(plugin.check().unwrap_err().to_string().contains("must be a struct"));
    }
}
