//! What the operator sets.

use std::path::PathBuf;

use consort_sdk::plugin::Fault;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use serde::Deserialize;

/// The configuration of the plugin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The workspace, an absolute path that is granted with `fs_write`, or with `fs_read` to be read only; the plugin's data folder if absent.
    pub(crate) root: Option<PathBuf>,
    /// Names of files and folders that are never changed, wherever they are.
    pub(crate) protected: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        // Who can write there can have programs run.
        Config { root: None, protected: vec![".git".to_owned()] }
    }
}

impl Config {
    /// Whether it can be used.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match self.root.as_ref().filter(|root| !root.is_absolute()) {
            Some(root) => {
                let why = format!("`{}` is relative; give an absolute path", root.display());
                Err(Fault::bad_input("config.root", why))
            }
            None => Ok(()),
        }
    }
}
