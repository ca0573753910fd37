//! Plugins in Python, started in `consort-pyhost` as the mesh would start them. What they do is written in Python: `python/tests/`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// Runs a file of tests with every Python plugin in the host.
fn passes(file: &str) {
    let (root, python) = (root(), root().join(".venv/bin/python"));
    assert!(python.exists(), "`{}` is missing; run `make setup-dev`", python.display());
    let is = Command::new(&python).arg("--version").output().expect("the interpreter starts");
    let (is, has) = (String::from_utf8_lossy(&is.stdout).into_owned(), option_env!("PYHOST_VERSION").unwrap_or("?"));
    let minor = has.rsplit_once('.').map_or(has, |(minor, _)| minor);
    let same = is.starts_with(&format!("Python {minor}."));
    assert!(same, ".venv is of {}, consort-pyhost of {has}: build with PYO3_PYTHON={}", is.trim(), python.display());
    let tests = root.join("python/tests");
    let paths = std::env::join_paths([root.join("python/src"), tests.clone()]).expect("a path has no colon in it");
    let ran = Command::new(python)
        .args(["-m", "pytest", "-p", "under_pyhost", "-c", "python/pyproject.toml", "--rootdir", ".", "--tb=short"])
        .arg(tests.join(file))
        .current_dir(&root)
        .env("CONSORT_PYHOST", env!("CARGO_BIN_EXE_consort-pyhost"))
        .env("PYTHONPATH", paths)
        .output()
        .expect("the interpreter starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
#[cfg_attr(not(python), ignore = "there is no library of Python: run consort-pyhost, which says what to install")]
fn it_does_what_every_plugin_does() {
    passes("test_plugin_process.py");
}

#[test]
#[cfg_attr(not(python), ignore = "there is no library of Python: run consort-pyhost, which says what to install")]
fn classes_are_plugins() {
    passes("test_adapter.py");
}

#[test]
#[cfg_attr(not(python), ignore = "there is no library of Python: run consort-pyhost, which says what to install")]
fn it_does_what_no_other_host_does() {
    passes("pyhost_cases.py");
}
