//! Starts programs in sandboxes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{Error, Mechanisms, Sandbox};

/// The variable that hands the policy to the helper. The program never sees it.
pub(crate) const POLICY: &str = "CONSORT_SANDBOX";

/// The argument with which the helper says what the machine offers.
pub(crate) const PROBE: &str = "--probe";

/// A variable can hold 128 KiB on Linux.
const MAX_POLICY: usize = 120 * 1024;

/// Everything that the helper must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) sandbox: Sandbox,
    pub(crate) mechanisms: Mechanisms,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Process whose end is the program's end.
    pub(crate) parent: u32,
}

impl Policy {
    /// Whether the program has a namespace of processes.
    #[cfg(target_os = "linux")]
    pub(crate) fn own_processes(&self) -> bool {
        self.mechanisms.namespaces && !self.sandbox.machine_processes
    }
}

/// Starts programs in sandboxes, by way of a helper process that runs [`crate::sandbox_main`].
#[derive(Debug, Clone)]
pub struct Launcher {
    helper: PathBuf,
    args: Vec<OsString>,
    mechanisms: Mechanisms,
}

impl Launcher {
    /// `helper` is a program that calls [`crate::sandbox_main`] when it is run with `args`. It is run once here, for some
    /// milliseconds, to see what the machine offers.
    pub fn new(helper: impl Into<PathBuf>, args: &[&str]) -> Result<Self, Error> {
        let helper = helper.into();
        let output = Command::new(&helper).args(args).arg(PROBE).env_clear().stdin(Stdio::null()).output();
        let problem = |problem: String| Error::Probe { program: helper.display().to_string(), problem };
        let output = output.map_err(|error| problem(error.to_string()))?;
        if !output.status.success() {
            return Err(problem(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
        }
        let mechanisms = serde_json::from_slice(&output.stdout).map_err(|error| problem(error.to_string()))?;
        Ok(Self { args: args.iter().map(OsString::from).collect(), helper, mechanisms })
    }

    /// The same with less than the machine offers; see [`Mechanisms::without_namespaces`].
    #[must_use]
    pub fn with_mechanisms(self, mechanisms: Mechanisms) -> Self {
        Self { mechanisms, ..self }
    }

    /// What the machine offers.
    pub fn mechanisms(&self) -> &Mechanisms {
        &self.mechanisms
    }

    /// The command that starts `program` with `args` as `sandbox` says. A program without a `/` is looked for on the sandbox's
    /// PATH, a relative one in its folder. Set standard input, output and error on it; do not touch its environment, arguments,
    /// folder or process group.
    ///
    /// The process that it starts lives as long as the program, passes on SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2,
    /// and ends as the program does, with its status or by its signal; killing it kills all that the program started. It ends when
    /// this process ends. [`crate::SETUP_FAILED`] is its status if the sandbox could not be made, with the reason on standard error.
    pub fn command(&self, sandbox: &Sandbox, program: &Path, args: &[String]) -> Result<Command, Error> {
        sandbox.check()?;
        let missing = self.mechanisms.missing(sandbox);
        if !missing.is_empty() && !sandbox.allow_missing {
            return Err(Error::Missing(missing));
        }
        let policy = Policy {
            sandbox: sandbox.clone(),
            mechanisms: self.mechanisms.clone(),
            program: program.to_owned(),
            args: args.to_vec(),
            parent: std::process::id(),
        };
        let text = serde_json::to_string(&policy).map_err(|_| Error::Path {
            field: "program",
            path: program.to_owned(),
            problem: "this path, or a granted one, is not UTF-8: rename it",
        })?;
        if text.len() > MAX_POLICY {
            return Err(Error::TooLarge { bytes: text.len(), limit: MAX_POLICY });
        }
        let mut command = Command::new(&self.helper);
        command.args(&self.args).env_clear().env(POLICY, text).current_dir("/").process_group(0);
        Ok(command)
    }

    /// The mechanisms that hold a process with `sandbox`, by name.
    pub fn on(&self, sandbox: &Sandbox) -> Vec<&'static str> {
        self.mechanisms.on(sandbox)
    }
}
