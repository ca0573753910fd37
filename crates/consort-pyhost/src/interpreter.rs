//! CPython within this process: the right library, the right standard library, the plugin's packages.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pyo3::ffi;

use crate::environment::{Environment, environment};
use crate::options::Options;

/// What the build found.
const VERSION: &str = env!("PYHOST_VERSION");
const PREFIX: &str = env!("PYHOST_PREFIX");
const LIBRARY: &str = env!("PYHOST_LIBRARY");

/// Ends the process at once: a thread in Python code cannot be stopped, and would be waited for.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Starts Python in this thread, which is to run its event loop, and lets go of its lock. The error says what does not fit.
pub(crate) fn start(options: &Options) -> Result<Option<Environment>, String> {
    let loaded = loaded();
    check_library(&loaded, library().as_deref())?;
    let folder = options.script.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| format!("`{}`: {error}", folder.display()))?;
    let found = environment(&folder, &loaded)?;
    let minor = crate::environment::minor(&loaded);
    let standard = Path::new(PREFIX).join(format!("lib/python{minor}/os.py"));
    if !standard.is_file() {
        let wanted = standard.display();
        return Err(format!(
            "the standard library of Python {loaded} is not at `{wanted}`, where it was when consort-pyhost was built"
        ));
    }
    let base = Path::new(PREFIX).join(format!("bin/python{minor}"));
    let executable = found.as_ref().map_or(base, |found| found.python.clone());
    let mut argv = vec![options.script.as_os_str().as_bytes().to_vec()];
    argv.extend(options.arguments.iter().map(|argument| argument.clone().into_bytes()));
    initialize(&executable, argv)?;
    Ok(found)
}

/// What must be readable: the library, the standard library and the folder's virtual environment; a line each. The error says what does
/// not fit.
pub(crate) fn paths(folder: &Path) -> Result<String, String> {
    check_library(&loaded(), library().as_deref())?;
    let folder = folder.canonicalize().map_err(|error| format!("`{}`: {error}", folder.display()))?;
    let venv = environment(&folder, VERSION)?;
    let mut found = vec![PathBuf::from(LIBRARY), Path::new(PREFIX).join("lib")];
    found.extend(venv.as_ref().and_then(|venv| venv.python.ancestors().nth(2)).map(Path::to_owned));
    found.dedup();
    Ok(found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n"))
}

/// The version of the library that was loaded.
fn loaded() -> String {
    // SAFETY: the one function of Python that may be called before it is started; its text lives as long as the library.
    let said = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy().into_owned();
    said.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The library that was loaded, if the system tells.
fn library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("/libpython3"))?;
    Some(PathBuf::from(&line[line.find('/')?..]))
}

/// A library beside the one that the build found is taken for it if it has the same version to the last number.
fn check_library(loaded: &str, from: Option<&Path>) -> Result<(), String> {
    let built = fs::canonicalize(LIBRARY).unwrap_or_default();
    let theirs = from.and_then(Path::parent).and_then(|folder| folder.canonicalize().ok());
    let same_place = theirs.is_some_and(|folder| folder == built);
    let same_minor = crate::environment::minor(loaded) == crate::environment::minor(VERSION);
    if loaded == VERSION || (same_place && same_minor) {
        return Ok(());
    }
    let at = from.map_or_else(|| "an unknown place".to_owned(), |path| format!("`{}`", path.display()));
    Err(format!(
        "the library of Python {loaded} was loaded from {at}, and consort-pyhost was built with Python {VERSION} of `{LIBRARY}`. Unset \
         LD_LIBRARY_PATH, let the plugin read what `consort-pyhost --paths` prints, or build consort-pyhost for this Python: \
         `PYO3_PYTHON=/path/to/python3 cargo build --workspace`"
    ))
}

/// A `PyConfig` that is cleared when it goes.
struct Config(Box<ffi::PyConfig>);

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: it was initialised by `PyConfig_InitPythonConfig`.
        unsafe { ffi::PyConfig_Clear(&raw mut *self.0) }
    }
}

fn initialize(executable: &Path, argv: Vec<Vec<u8>>) -> Result<(), String> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a path or an argument has a zero byte in it".to_owned());
    let (home, executable) = (text(PREFIX.as_bytes())?, text(executable.as_os_str().as_bytes())?);
    let argv = argv.iter().map(|argument| text(argument)).collect::<Result<Vec<_>, _>>()?;
    let pointers: Vec<_> = argv.iter().map(|argument| argument.as_ptr()).collect();
    // SAFETY: this thread is the process's only one that speaks to Python; the texts outlive the calls, which copy them; the configuration
    // is initialised before it is used.
    unsafe {
        let mut config = Config(Box::new(std::mem::zeroed()));
        let raw = &raw mut *config.0;
        ffi::PyConfig_InitPythonConfig(raw);
        (*raw).parse_argv = 0;
        (*raw).install_signal_handlers = 0;
        (*raw).user_site_directory = 0;
        (*raw).write_bytecode = 0;
        checked(ffi::PyConfig_SetBytesString(raw, &raw mut (*raw).home, home.as_ptr()))?;
        checked(ffi::PyConfig_SetBytesString(raw, &raw mut (*raw).executable, executable.as_ptr()))?;
        checked(ffi::PyConfig_SetBytesString(raw, &raw mut (*raw).program_name, executable.as_ptr()))?;
        let (count, first) = (pointers.len() as ffi::Py_ssize_t, pointers.as_ptr());
        checked(ffi::PyConfig_SetBytesArgv(raw, count, first.cast_mut()))?;
        checked(ffi::Py_InitializeFromConfig(raw))?;
        ffi::PyEval_SaveThread();
    }
    Ok(())
}

fn checked(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: a status is plain data; its texts are constants of the library.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        let why = if status.err_msg.is_null() {
            "no reason".into()
        } else {
            CStr::from_ptr(status.err_msg).to_string_lossy()
        };
        Err(format!("Python does not start: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_library_is_told_with_both_names() {
        assert!(check_library(VERSION, None).is_ok());
        assert!(check_library(VERSION, Some(Path::new("/elsewhere/libpython3.so"))).is_ok());
        let said = check_library("3.99.1", Some(Path::new("/elsewhere/libpython3.99.so"))).unwrap_err();
        for part in ["3.99.1", "/elsewhere/libpython3.99.so", VERSION, LIBRARY] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
