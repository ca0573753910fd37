//! `consort plugin new`: a plugin to begin with, in a language of your choice.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use consort_core::plugin::is_name;

use crate::failure::{Failure, Result};
use crate::output::print;

/// Make a new plugin in a folder of its name.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Its id: a letter, then letters, digits, `_` and `-`.
    pub name: String,
    /// What it is written in.
    #[arg(long, value_enum)]
    pub lang: Language,
    /// Where the folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    /// Folder of the language's SDK; without it, that of the checkout that this program was built from.
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

/// A language with an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Python 3.11 or newer.
    Python,
    /// TypeScript on Node 20 or newer.
    Typescript,
    /// Go.
    Go,
    /// Rust.
    Rust,
}

/// Files of a template: where they go, and what they are.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($folder:literal: $($name:literal $(=> $as:literal)?),* $(,)?) => {
        &[$((files!(@name $name $($as)?), include_str!(concat!("../../../../", $folder, "/", $name)))),*]
    };
    (@name $name:literal) => { $name };
    (@name $name:literal $as:literal) => { $as };
}

const PYTHON: Files = files!("python/template-plugin":
    "README.md", "consort-plugin.toml", "consort-plugin-test.yaml", "main.py", "test_main.py");
const TYPESCRIPT: Files = files!("plugins/sdk-typescript/template":
    ".gitignore", "README.md", "consort-plugin.toml", "package.json", "tsconfig.json", "src/main.ts", "src/plugin.ts",
    "test/plugin.test.ts");
const GO: Files = files!("plugins/sdk-go/template":
    ".gitignore", "README.md", "consort-plugin.toml", "go.mod.tmpl" => "go.mod", "go.sum.tmpl" => "go.sum",
    "main.go.tmpl" => "main.go", "main_test.go.tmpl" => "main_test.go");
const RUST: Files = files!("crates/consort-sdk/template-plugin":
    ".gitignore.tmpl" => ".gitignore", "README.md", "consort-plugin.toml", "consort-plugin-test.yaml",
    "Cargo.toml.tmpl" => "Cargo.toml", "src/main.rs.tmpl" => "src/main.rs");

impl Language {
    /// Its template, the folder of its SDK in a checkout, and what to do first.
    fn parts(self) -> (Files, &'static str, &'static str) {
        match self {
            Language::Python => (PYTHON, "python", "python -m venv .venv && .venv/bin/pip install {sdk} pytest"),
            Language::Typescript => (TYPESCRIPT, "plugins/sdk-typescript", "(cd {sdk} && npm ci) && npm install"),
            Language::Go => (GO, "plugins/sdk-go", "go build ."),
            Language::Rust => (RUST, "crates/consort-sdk", "cargo build --release"),
        }
    }
}

impl New {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        if !is_name(&self.name) {
            return Err(Failure::usage(format!("`{}` is no id for a plugin", self.name))
                .hint("use a letter, then up to 62 letters, digits, `_` and `-`"));
        }
        let (files, checkout, first) = self.lang.parts();
        let sdk = match &self.sdk {
            Some(sdk) => sdk.canonicalize(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(checkout).canonicalize(),
        };
        let sdk = sdk.map_err(|_| {
            Failure::usage("the folder of the SDK is not there")
                .hint("name it with `--sdk DIR`; it is a part of the source")
        })?;
        let sdk = sdk.to_string_lossy();
        let folder = self.into.join(&self.name);
        if folder.exists() {
            let said = format!("{} is there already", folder.display());
            return Err(Failure::usage(said).hint("choose another name, or another folder with `--into DIR`"));
        }
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, text.replace("{{name}}", &self.name).replace("{{sdk}}", &sdk))?;
        }
        let folder = folder.display();
        let first = first.replace("{sdk}", &sdk);
        print(&format!("{folder} is made. Next:\n  cd {folder} && {first}\n  consort plugin test .\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_plugins::Manifest;

    #[test]
    fn every_template_becomes_a_plugin_with_a_manifest() {
        for lang in [Language::Python, Language::Typescript, Language::Go, Language::Rust] {
            let into = tempfile::tempdir().unwrap();
            let new = |name: &str| New { name: name.into(), lang, into: into.path().to_owned(), sdk: None };
            new("my-plugin").run().unwrap();
            let folder = into.path().join("my-plugin");
            let manifest = Manifest::read(&folder).unwrap();
            assert_eq!((manifest.id.as_str(), manifest.protocol), ("my-plugin", Some(1)), "{lang:?}");
            let left: Vec<_> = walk(&folder).into_iter().filter(|text| text.contains("{{")).collect();
            assert!(left.iter().all(|text| !text.contains("{{name}}") && !text.contains("{{sdk}}")), "{lang:?}");
            assert!(new("my-plugin").run().is_err(), "nothing is written over");
            assert!(new("../x").run().is_err());
        }
    }

    fn walk(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![fs::read_to_string(path).unwrap()] })
            .collect()
    }
}
