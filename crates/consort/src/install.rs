//! Where the programs are that a command starts: Python, the Rust workers, the Python workers, the plugins.

use std::path::{Path, PathBuf};

use consort_plugins::{MANIFEST, Manifest};

/// The agents of the audit and the programs that serve them.
pub(crate) const AUDIT_WORKERS: [(&str, Program); 6] = [
    ("historian", Program::Binary("consort-historian")),
    ("time-waste", Program::Python("plugins/time-waste/main.py")),
    ("friction", Program::Python("plugins/friction/main.py")),
    ("cost", Program::Binary("consort-cost")),
    ("scenario", Program::Binary("consort-scenario")),
    ("reporter", Program::Binary("consort-reporter")),
];

/// The plugins of the audit, by id.
pub(crate) const AUDIT_PLUGINS: [&str; 2] = ["git", "notify"];

/// The folder of a plugin of this project, whose program is there, too. An error says what to do.
pub(crate) fn plugin(id: &str) -> Result<PathBuf, String> {
    let manifest = format!("plugins/{id}/{MANIFEST}");
    let found = upwards(&manifest).and_then(|path| path.parent().map(Path::to_owned));
    let folder = found
        .ok_or_else(|| format!("run from a checkout of Consort: {manifest} was found in no folder above this one"))?;
    let program = Manifest::read(&folder).and_then(|manifest| manifest.program(&folder));
    program.map(|_| folder).map_err(|error| error.message)
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A binary of the workspace.
    Binary(&'static str),
    /// A script below the root of the checkout.
    Python(&'static str),
}

impl Program {
    /// Where it is; an error says what to do.
    pub(crate) fn find(self) -> Result<PathBuf, String> {
        match self {
            Program::Binary(name) => binary(name).ok_or_else(|| format!("build it with `cargo build --bin {name}`")),
            Program::Python(script) => upwards(script).ok_or_else(|| {
                format!("run from a checkout of Consort: {script} was found in no folder above this one")
            }),
        }
    }
}

/// The Python that workers run on: $CONSORT_PYTHON, else `.venv/bin/python` in a folder above the current one or this program's,
/// else `python3`.
pub(crate) fn python() -> PathBuf {
    match std::env::var_os("CONSORT_PYTHON").filter(|value| !value.is_empty()) {
        Some(given) => given.into(),
        None => upwards(".venv/bin/python").unwrap_or_else(|| PathBuf::from("python3")),
    }
}

/// A binary beside this program, or in a checkout's build folder.
fn binary(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|folder| folder.join(name)));
    beside
        .filter(|path| path.is_file())
        .or_else(|| upwards(&format!("target/debug/{name}")))
        .or_else(|| upwards(&format!("target/release/{name}")))
}

/// The path in the nearest folder, from the current one or this program's upwards, that has it.
fn upwards(path: &str) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts.into_iter().flatten().find_map(|start| above(&start, path))
}

/// The path in the nearest folder from `start` upwards that has it.
pub(crate) fn above(start: &Path, path: &str) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join(path)).find(|candidate| candidate.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_wins() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(root.path().join("x"), "").unwrap();
        assert_eq!(above(&deep, "x"), Some(root.path().join("x")));
        std::fs::write(root.path().join("a/x"), "").unwrap();
        assert_eq!(above(&deep, "x"), Some(root.path().join("a/x")));
        assert_eq!(above(&deep, "no-such-file-anywhere"), None);
    }

    #[test]
    fn a_missing_binary_says_how_to_build_it() {
        let error = Program::Binary("consort-no-such").find().unwrap_err();
        assert_eq!(error, "build it with `cargo build --bin consort-no-such`");
    }
}
