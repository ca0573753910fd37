//! The operator's word: `plugins.yaml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use consort_core::plugin::{Permissions, is_name};
use consort_core::{Error, Violation};
use serde::Deserialize;

use crate::agents::Agents;
use crate::references;

/// Plugins that a server may have.
const MOST: usize = 1_000;

/// Which plugins a server has, and what they may.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// By id.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// What the mesh shows to MCP clients.
    pub mcp: McpConfig,
}

/// What the mesh shows at `/mcp`. What is absent is as the MCP server has it by default; what may stand in the lists is for it to check.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpConfig {
    /// Whether there is such a place at all.
    pub enabled: bool,
    /// Operations and tools that are shown.
    pub allow: Option<Vec<String>>,
    /// Workflows that may be started.
    pub workflows: Option<Vec<String>>,
    /// Names under which this machine may be called.
    pub hosts: Option<Vec<String>>,
}

impl Default for McpConfig {
    fn default() -> McpConfig {
        McpConfig { enabled: true, allow: None, workflows: None, hosts: None }
    }
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// Folder with its manifest; a relative one is taken from the file's folder.
    #[serde(default)]
    pub path: PathBuf,
    /// Instead of a folder an MCP server: `{command: [...]}` or `{url: ...}`, and what the adapter takes besides.
    #[serde(default)]
    pub mcp: Option<serde_json::Value>,
    /// What it may reach: `all` that its manifest wants, or a list. Nothing if absent.
    #[serde(default)]
    pub grant: Grant,
    /// Its configuration, as its `config_schema` has it.
    #[serde(default)]
    pub config: serde_json::Value,
    /// Secrets that it can be granted, by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretFrom>,
    /// Which agents may call which of its operations; all, if absent.
    #[serde(default)]
    pub agents: Option<Agents>,
    /// Whether it is started.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Starts it although a mechanism of the sandbox is missing here, or (`off`) without one.
    #[serde(default)]
    pub sandbox: SandboxMode,
}

fn yes() -> bool {
    true
}

/// How strictly a plugin is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// All mechanisms, or it is not started.
    #[default]
    Required,
    /// What this kernel has.
    BestEffort,
    /// None: it can do what the server's user can.
    Off,
}

/// What the operator grants.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Grant {
    /// `all`: what the manifest wants, now and after an upgrade.
    Word(All),
    /// These.
    These(Box<Permissions>),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// Everything that is wanted.
    All,
}

impl Default for Grant {
    fn default() -> Grant {
        Grant::These(Box::default())
    }
}

/// A secret by reference: `{env: NAME}` or `{file: PATH}`. It is read when it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFrom {
    /// A variable of the server's environment.
    #[serde(default)]
    pub env: Option<String>,
    /// A file, without its last line break.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl fmt::Display for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.env, &self.file) {
            (Some(name), _) => write!(f, "the environment variable {name}"),
            (None, Some(path)) => write!(f, "the file {}", path.display()),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

impl SecretFrom {
    /// The secret itself.
    pub(crate) fn read(&self) -> Result<String, Error> {
        let missing = || Error::precondition("SECRET_MISSING", format!("{self} has no secret; set it, and call again"));
        let text = match (&self.env, &self.file) {
            (Some(name), _) => std::env::var(name).map_err(|_| missing())?,
            (None, Some(path)) => std::fs::read_to_string(path).map_err(|_| missing())?,
            (None, None) => return Err(missing()),
        };
        let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() { Err(missing()) } else { Ok(text.to_owned()) }
    }
}

impl Config {
    /// Reads a file. Every mistake is told.
    pub fn read(path: &Path) -> Result<Config, Error> {
        Config::read_with(path, |_| Vec::new())
    }

    /// The same; `more` tells of mistakes that this room does not know, and they are told with its own.
    pub fn read_with(path: &Path, more: impl FnOnce(&Config) -> Vec<Violation>) -> Result<Config, Error> {
        let shown = path.display();
        let bad = |why: String| Error::bad_field("plugins", why);
        let text = std::fs::read_to_string(path).map_err(|error| bad(format!("`{shown}` cannot be read: {error}")))?;
        let mut config: Config = if text.trim().is_empty() {
            Config::default()
        } else {
            serde_saphyr::from_str(&text).map_err(|error| bad(format!("`{shown}`: {error}")))?
        };
        let mut wrong = Vec::new();
        let mut say = |field: String, description: String| wrong.push(Violation { field, description });
        if config.plugins.len() > MOST {
            say("plugins".into(), format!("has {} entries; the most is {MOST}", config.plugins.len()));
        }
        let base = path.parent().unwrap_or(Path::new("."));
        for (id, plugin) in &mut config.plugins {
            if !is_name(id) {
                say(format!("plugins.{id}"), "is no id; use a letter, then letters, digits, `_` and `-`".into());
            }
            let here = !plugin.path.as_os_str().is_empty();
            if here == plugin.mcp.is_some() {
                say(format!("plugins.{id}"), "needs either `path` or `mcp`".into());
            }
            if here && plugin.path.is_relative() {
                plugin.path = base.join(&plugin.path);
            }
            let entry = plugin.mcp.iter().flat_map(|entry| references::mistakes(id, entry, &plugin.secrets));
            let agents = plugin.agents.iter().flat_map(|agents| agents.mistakes(&format!("plugins.{id}.agents")));
            for Violation { field, description } in entry.chain(agents) {
                say(field, description);
            }
            for (name, secret) in &plugin.secrets {
                if secret.env.is_some() == secret.file.is_some() {
                    let hint = "name one place, `{env: NAME}` or `{file: PATH}`";
                    say(format!("plugins.{id}.secrets.{name}"), hint.into());
                }
            }
        }
        wrong.extend(more(&config));
        if wrong.is_empty() { Ok(config) } else { Err(Error::bad_fields(wrong)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_its_mistakes_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::read(&path)
        };
        let config = read(
            "plugins:\n  git: {path: ./git, grant: all}\n  files:\n    path: /files\n    grant: {fs_read: [/src]}\n    config: {root: /src}\n    secrets: {T: {env: HOME}}\n",
        )
        .unwrap();
        assert_eq!(config.plugins["git"].path, folder.path().join("./git"));
        assert!(matches!(config.plugins["git"].grant, Grant::Word(All::All)));
        let Grant::These(granted) = &config.plugins["files"].grant else { panic!("a list") };
        assert_eq!(granted.fs_read, ["/src"]);
        assert!(!config.plugins["files"].secrets["T"].read().unwrap().is_empty());
        assert!(read("").unwrap().plugins.is_empty() && read("").unwrap().mcp.enabled);
        let mcp = read("mcp: {allow: ['*'], hosts: []}").unwrap().mcp;
        assert_eq!((mcp.enabled, mcp.allow.unwrap().len(), mcp.workflows), (true, 1, None));
        let more = |_: &Config| vec![Violation { field: "mcp.allow[0]".into(), description: "names nothing".into() }];
        let said = Config::read_with(&path, more).unwrap_err().message;
        assert_eq!(said, "mcp.allow[0]: names nothing");
        for (text, part) in [
            ("plugins: {1x: {path: a}}", "plugins.1x"),
            ("plugins: {x: {path: a, secrets: {T: {}}}}", "name one place"),
            ("plugins: {x: {}}", "needs either `path` or `mcp`"),
            ("plugins: {x: {path: a, mcp: {url: u}}}", "needs either `path` or `mcp`"),
            ("plugins: {x: {path: a, grnt: all}}", "grnt"),
            ("plugins: {x: {path: a, agents: {coder: ['b c']}}}", "plugins.x.agents.coder[0]"),
            ("plugins: {x: {mcp: {url: u, headers: {a: '${secret:T}'}}}}", "add `secrets: {T: {env: VARIABLE}}`"),
            ("mcp: {alow: ['*']}", "alow"),
        ] {
            let said = read(text).unwrap_err().message;
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
