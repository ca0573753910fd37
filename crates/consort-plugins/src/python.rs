//! What a plugin in Python reads beside its folder and its program: folders that its virtual environment names, and, where
//! `consort-pyhost` holds it, the library of Python.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use consort_core::Error;
use tokio::process::Command;

/// The program that serves Python code.
const PYHOST: &str = "consort-pyhost";
/// How long it may take to say what it needs: it reads one file for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Folders that it may name, and characters of its words that are shown.
const FOLDERS: usize = 16;
const WORDS: usize = 1_000;

/// Folders that a plugin in Python must be able to read. `own` are those that the plugin may have written: an environment in one of them is
/// the plugin's word, and no word of the operator.
///
/// An error, PYTHON_MISSING, says which Python `consort-pyhost` lacks and what to install. It is asked, outside of the sandbox, only if it is
/// no program of the plugin's.
pub(crate) async fn reads(
    command: &[String],
    program: &Path,
    folder: &Path,
    own: &[PathBuf],
) -> Result<Vec<PathBuf>, Error> {
    let asked = command.first().is_some_and(|name| name == PYHOST)
        && program.file_name() == Some(OsStr::new(PYHOST))
        && !is_within(program, own);
    if !asked {
        let environment = program.parent().and_then(Path::parent);
        return Ok(environment.map(|environment| linked(environment, own)).unwrap_or_default());
    }
    let mut found = ask(program, folder).await?;
    let linked: Vec<_> = found.iter().flat_map(|folder| linked(folder, own)).collect();
    found.extend(linked);
    Ok(found)
}

/// Folders that `consort-pyhost` names.
async fn ask(program: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing = |why: String| {
        let said = format!("`{}` cannot hold its Python: {why}", program.display());
        Error::precondition("PYTHON_MISSING", said)
    };
    let mut command = Command::new(program);
    command.arg("--paths").arg(folder).env_clear().current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(PATIENCE, command.output()).await;
    let said = said.map_err(|_| missing(format!("it did not say what it needs within {} s", PATIENCE.as_secs())))?;
    let said = said.map_err(|error| missing(error.to_string()))?;
    if said.status.success() {
        let text = String::from_utf8_lossy(&said.stdout);
        return Ok(text.lines().filter(|line| line.starts_with('/')).take(FOLDERS).map(PathBuf::from).collect());
    }
    let words: String = String::from_utf8_lossy(&said.stderr).trim().chars().take(WORDS).collect();
    let hint = lacking(&words).map(|library| {
        let package = library.split(".so").next().unwrap_or_default();
        format!("; on Debian and Ubuntu install {package}, elsewhere put the Python back that consort-pyhost was built with, or build it again")
    });
    Err(missing(words + &hint.unwrap_or_default()))
}

/// The library that the loader did not find.
fn lacking(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("error while loading shared libraries: ")?;
    let path = rest.split(':').next()?;
    // With its folder where it was found and is damaged.
    Some(path.rsplit('/').next().unwrap_or(path)).filter(|name| name.starts_with("libpython"))
}

/// Folders that a virtual environment names in its `.pth` files: packages that are installed where they are written.
fn linked(environment: &Path, own: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if !environment.join("pyvenv.cfg").is_file() || is_within(environment, own) {
        return found;
    }
    let Ok(versions) = std::fs::read_dir(environment.join("lib")) else { return found };
    for version in versions.flatten() {
        let Ok(files) = std::fs::read_dir(version.path().join("site-packages")) else { continue };
        for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "pth")) {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let folders = text.lines().map(Path::new).filter(|line| line.is_absolute() && line.is_dir());
            found.extend(folders.map(Path::to_owned));
        }
    }
    found
}

/// Whether a path ends in one of the folders, whatever links lead to it. What cannot be followed is taken to.
fn is_within(path: &Path, folders: &[PathBuf]) -> bool {
    let Ok(path) = path.canonicalize() else { return true };
    folders.iter().any(|folder| folder.canonicalize().is_ok_and(|folder| path.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A virtual environment that names `/usr`.
    fn environment(at: &Path) {
        let packages = at.join("lib/python3.11/site-packages");
        fs::create_dir_all(&packages).unwrap();
        fs::create_dir_all(at.join("bin")).unwrap();
        fs::write(at.join("bin/python"), "").unwrap();
        fs::write(at.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        fs::write(packages.join("x.pth"), "import x\n/usr\n/no/such/folder\n").unwrap();
    }

    fn host(at: &Path, text: &str) -> PathBuf {
        fs::create_dir_all(at).unwrap();
        let program = at.join(PYHOST);
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    async fn of(name: &str, program: &Path, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let own = [folder.to_owned()];
        reads(&[name.to_owned(), "main.py".to_owned()], program, folder, &own).await.map_err(|error| error.message)
    }

    #[tokio::test]
    async fn an_environment_of_the_plugin_opens_no_folder() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, outside) = (scratch.path().join("plugin"), scratch.path().join("outside"));
        environment(&outside);
        environment(&folder.join(".venv"));
        assert_eq!(of("python", &outside.join("bin/python"), &folder).await.unwrap(), [Path::new("/usr")]);
        assert!(of("python", &folder.join(".venv/bin/python"), &folder).await.unwrap().is_empty());
        // By way of a link, too.
        symlink(folder.join(".venv"), scratch.path().join("link")).unwrap();
        assert!(of("python", &scratch.path().join("link/bin/python"), &folder).await.unwrap().is_empty());
        assert!(of("sh", Path::new("/bin/sh"), &folder).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_host_of_python_is_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, outside) = (scratch.path().join("plugin"), scratch.path().join("outside"));
        environment(&outside);
        let program = host(&scratch.path().join("bin"), &format!("echo /lib; echo {}; echo $1 $2", outside.display()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(
            of(PYHOST, &program, &folder).await.unwrap(),
            [Path::new("/lib"), outside.as_path(), Path::new("/usr")]
        );
        // One that came with the plugin is not started outside of the sandbox.
        let theirs = host(&folder, &format!("touch {}/ran", scratch.path().display()));
        assert!(of(PYHOST, &theirs, &folder).await.unwrap().is_empty());
        assert!(!scratch.path().join("ran").exists());
    }

    #[tokio::test]
    async fn what_it_lacks_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("plugin");
        fs::create_dir_all(&folder).unwrap();
        for (text, part) in [
            ("echo 'it has Python 3.12' >&2; exit 1", "cannot hold its Python: it has Python 3.12"),
            (
                "echo 'x: error while loading shared libraries: libpython3.11.so.1.0: cannot open' >&2; exit 127",
                "on Debian and Ubuntu install libpython3.11, ",
            ),
            (
                "echo 'x: error while loading shared libraries: /lib/libpython3.12.so.1.0: too short' >&2; exit 127",
                "on Debian and Ubuntu install libpython3.12, ",
            ),
        ] {
            let program = host(&scratch.path().join("bin"), text);
            let said = of(PYHOST, &program, &folder).await.unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }
}
