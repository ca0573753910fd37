//! The virtual environment of a plugin, and whether it fits.

use std::fs;
use std::path::{Path, PathBuf};

/// A virtual environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Its interpreter, which `sys.executable` names.
    pub python: PathBuf,
    /// Where its packages are.
    pub packages: PathBuf,
}

/// The `.venv` of the folder, or the nearest one above it. An error says which Python it is of, and what to do.
///
/// `version` is that of the Python within this process, as `3.11.7`.
pub(crate) fn environment(folder: &Path, version: &str) -> Result<Option<Environment>, String> {
    let Some(place) =
        folder.ancestors().map(|above| above.join(".venv")).find(|venv| venv.join("pyvenv.cfg").is_file())
    else {
        return Ok(None);
    };
    let text = fs::read_to_string(place.join("pyvenv.cfg"))
        .map_err(|error| format!("`{}` cannot be read: {error}", place.join("pyvenv.cfg").display()))?;
    let theirs = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        matches!(name.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    });
    let ours = minor(version);
    if let Some(theirs) = theirs.filter(|theirs| minor(theirs) != ours) {
        return Err(format!(
            "the virtual environment `{}` is of Python {theirs}, and this consort-pyhost holds Python {version}. Make the environment anew \
             with `python{ours} -m venv --clear {0}`, or write `command = [\"python\", \"main.py\"]` into the manifest",
            place.display()
        ));
    }
    let packages = place.join(format!("lib/python{ours}/site-packages"));
    if !packages.is_dir() {
        return Err(format!(
            "the virtual environment `{}` has no `{}`; make it anew",
            place.display(),
            packages.display()
        ));
    }
    Ok(Some(Environment { python: place.join("bin/python"), packages }))
}

/// `3.11` of `3.11.7`.
pub(crate) fn minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_environment_is_taken_if_it_fits() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let venv = scratch.path().join(".venv");
        fs::create_dir_all(venv.join("lib/python3.11/site-packages")).unwrap();
        fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin\nversion_info = 3.11.2\n").unwrap();
        let found = environment(&folder, "3.11.7").unwrap().unwrap();
        assert_eq!(found.python, venv.join("bin/python"));
        fs::write(venv.join("pyvenv.cfg"), "home = /usr/bin\nversion = 3.12.1\n").unwrap();
        let said = environment(&folder, "3.11.7").unwrap_err();
        assert!(said.contains("is of Python 3.12.1") && said.contains("holds Python 3.11.7"), "{said}");
        fs::write(venv.join("pyvenv.cfg"), "version = 3.13.0\n").unwrap();
        let said = environment(&folder, "3.13.1").unwrap_err();
        assert!(said.contains("has no"), "{said}");
    }
}
