//! What a plugin's process is held to: its permissions and limits as the sandbox knows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use consort_core::Error;
use consort_core::plugin::Permissions;
use consort_sandbox::{Exec, Launcher, Net, Sandbox};
use tokio::sync::OnceCell;

use crate::config::SandboxMode;
use crate::manifest::Manifest;
use crate::python;

/// The capability with which a plugin sees the machine's processes and may signal those of the server's user.
const MACHINE_PROCESSES: &str = "machine-processes";

/// Makes sandboxes, and looks at the machine when the first is wanted.
#[derive(Debug)]
pub struct Sandboxes {
    /// A program and its arguments that call [`consort_sandbox::sandbox_main`].
    helper: (PathBuf, Vec<String>),
    launcher: OnceCell<Arc<Launcher>>,
}

impl Sandboxes {
    /// `helper` is a program that calls [`consort_sandbox::sandbox_main`] when it is run with `arguments`.
    pub fn new(helper: PathBuf, arguments: &[&str]) -> Sandboxes {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Sandboxes { helper: (helper, arguments), launcher: OnceCell::new() }
    }

    async fn launcher(&self) -> Result<Arc<Launcher>, Error> {
        let (helper, arguments) = self.helper.clone();
        let make = || async {
            let made = tokio::task::spawn_blocking(move || {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                Launcher::new(helper, &arguments)
            });
            let missing =
                |why: String| Error::precondition("SANDBOX_MISSING", format!("there is no sandbox here: {why}"));
            match made.await {
                Ok(made) => made.map(Arc::new).map_err(|error| missing(error.to_string())),
                Err(error) => Err(missing(error.to_string())),
            }
        };
        self.launcher.get_or_try_init(make).await.cloned()
    }
}

/// A sandbox for one program.
#[derive(Clone, Debug)]
pub struct Hold {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) sandbox: Sandbox,
}

impl Hold {
    /// The mechanisms that hold it, by name.
    pub(crate) fn mechanisms(&self) -> Vec<String> {
        self.launcher.on(&self.sandbox).into_iter().map(str::to_owned).collect()
    }
}

/// A plugin that is to be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Its folder, and its own that stays.
    pub(crate) folder: &'a Path,
    pub(crate) data: &'a Path,
    /// What its command starts.
    pub(crate) program: &'a Path,
    pub(crate) granted: &'a Permissions,
}

/// The sandbox of a plugin; nothing if the operator wants none. An error says which mechanism is missing, or which Python.
pub(crate) async fn hold(sandboxes: &Sandboxes, mode: SandboxMode, plugin: Held<'_>) -> Result<Option<Hold>, Error> {
    let Held { manifest, folder, data, program, granted } = plugin;
    let limits = &manifest.limits;
    let own: Vec<_> = [folder, data].into_iter().map(Path::to_owned).chain(paths(&granted.fs_write)).collect();
    // Whatever holds it, a Python that is missing is told before it is started.
    let python = python::reads(&manifest.command, program, folder, &own).await?;
    if mode == SandboxMode::Off {
        return Ok(None);
    }
    let launcher = match sandboxes.launcher().await {
        Ok(launcher) => launcher,
        Err(error) if mode == SandboxMode::BestEffort => {
            tracing::warn!("a plugin is started without a sandbox: {}", error.message);
            return Ok(None);
        }
        Err(error) => {
            let hint = "set `sandbox: best_effort` or `sandbox: off` for this plugin if you trust it";
            return Err(Error::precondition("SANDBOX_MISSING", format!("{}; {hint}", error.message)));
        }
    };
    let mut read = paths(&granted.fs_read);
    read.extend(python);
    let mut sockets = Vec::new();
    for display in &granted.display {
        // `:0` and `:0.0` are served at `/tmp/.X11-unix/X0`.
        let number: String = display.trim_start_matches(':').chars().take_while(char::is_ascii_digit).collect();
        sockets.push(PathBuf::from(format!("/tmp/.X11-unix/X{number}")));
    }
    let sandbox = Sandbox {
        read,
        write: paths(&granted.fs_write),
        exec: match granted.exec.as_slice() {
            [] => Exec::None,
            all if all.iter().any(|entry| entry == "*") => Exec::All,
            some => Exec::Only(paths(some)),
        },
        net: net(&granted.net)?,
        machine_processes: granted.capabilities.iter().any(|name| name == MACHINE_PROCESSES),
        sockets,
        limits: consort_sandbox::Limits {
            memory_mib: limits.memory_mib,
            processes: limits.processes,
            open_files: limits.open_files,
            file_mib: limits.file_mib,
            ..consort_sandbox::Limits::default()
        },
        allow_missing: mode == SandboxMode::BestEffort,
        ..Sandbox::new(folder)
    };
    Ok(Some(Hold { launcher, sandbox }))
}

fn paths(entries: &[String]) -> Vec<PathBuf> {
    entries.iter().map(PathBuf::from).collect()
}

/// Ports that may be connected to. Names of hosts are the plugin's word: a kernel knows none.
fn net(granted: &[String]) -> Result<Net, Error> {
    let (mut connect, mut udp) = (Vec::new(), false);
    for entry in granted {
        if entry == "*" {
            return Ok(Net::All);
        }
        let bad = || {
            let said = format!("`{entry}` is no network; write `host:port`, `host:*` or `*`");
            Error::bad_field("permissions.net", said)
        };
        let (host, port) = entry.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(bad)?;
        if port == "*" {
            return Ok(Net::All);
        }
        connect.push(port.parse::<u16>().map_err(|_| bad())?);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        udp |= host != "localhost" && address.parse::<std::net::IpAddr>().is_err();
    }
    Ok(if connect.is_empty() { Net::None } else { Net::Ports { connect, bind: Vec::new(), udp } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read() {
        let of = |entries: &[&str]| net(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap(), Net::None);
        assert_eq!(of(&["127.0.0.1:80"]).unwrap(), Net::Ports { connect: vec![80], bind: vec![], udp: false });
        let both = of(&["[::1]:1", "example.com:443"]).unwrap();
        assert_eq!(both, Net::Ports { connect: vec![1, 443], bind: vec![], udp: true });
        assert_eq!(of(&["example.com:*"]).unwrap(), Net::All);
        for bad in ["example.com", ":80", "x:http", "x:70000"] {
            assert!(of(&[bad]).unwrap_err().message.contains("host:port"), "{bad}");
        }
    }
}
