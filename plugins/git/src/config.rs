//! What the operator sets.

use std::path::PathBuf;

use consort_sdk::plugin::Fault;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use serde::Deserialize;

/// The configuration of the plugin.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Folder against which relative paths of repositories are taken; without it they are refused.
    pub(crate) root: Option<PathBuf>,
    /// Who commits if neither the call nor the repository says.
    pub(crate) committer: Option<Person>,
    /// What to show to remotes.
    pub(crate) credentials: Vec<Credential>,
}

/// A person of a commit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    /// For example `Ana Lima`.
    pub(crate) name: String,
    /// For example `ana@example.org`.
    pub(crate) email: String,
}

/// What to show to remotes of an address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    /// Beginning of the addresses it is for: scheme, host and a slash, for example `https://git.example.org/`.
    pub(crate) url: String,
    /// Name of the user.
    #[serde(default = "user")]
    pub(crate) user: String,
    /// Name of the secret with the password or token; it must be granted.
    pub(crate) secret: String,
}

fn user() -> String {
    "git".to_owned()
}

impl Config {
    /// Whether it can be used.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if let Some(root) = self.root.as_ref().filter(|root| !root.is_absolute()) {
            let why = format!("`{}` is relative; give an absolute path", root.display());
            return Err(Fault::bad_input("config.root", why));
        }
        for (index, credential) in self.credentials.iter().enumerate() {
            let rest = credential.url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
            // A host without a slash after it would also stand for longer hosts.
            if rest.find('/').is_none_or(|at| at == 0) || rest.contains('@') {
                let why = format!("`{}` names no host; write it as `https://host/`", credential.url);
                return Err(Fault::bad_input(format!("config.credentials[{index}].url"), why));
            }
        }
        Ok(())
    }

    /// What to show at an address.
    pub(crate) fn credential(&self, url: &str) -> Option<&Credential> {
        self.credentials.iter().filter(|known| url.starts_with(&known.url)).max_by_key(|known| known.url.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_one_host() {
        let config = |url: &str| Config {
            credentials: vec![Credential { url: url.into(), user: user(), secret: "s".into() }],
            ..Config::default()
        };
        config("https://git.example.org/").check().unwrap();
        assert!(config("https://git.example.org/").credential("https://git.example.org.evil.org/x").is_none());
        assert!(config("https://git.example.org/").credential("https://git.example.org/x.git").is_some());
        for wrong in ["https://git.example.org", "git.example.org/", "https:///x", "https://a@b/"] {
            assert!(config(wrong).check().is_err(), "{wrong}");
        }
        assert!(Config { root: Some("x".into()), ..Config::default() }.check().is_err());
    }
}
