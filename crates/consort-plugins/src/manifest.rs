//! A plugin's own word: `consort-plugin.toml` in its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use consort_core::plugin::{Permissions, is_name};
use consort_core::{Error, Violation};
use serde::Deserialize;

/// Name of the file.
pub const MANIFEST: &str = "consort-plugin.toml";
/// The version of a plugin that is an MCP server: what the server says of itself is in its description.
pub(crate) const VERSION_OF_MCP: &str = "0.0.0";
/// Bytes that it may have.
const SIZE: u64 = 64 * 1024;

/// What a manifest says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its id: a letter, then letters, digits, `_` and `-`.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// What it is written in.
    #[serde(default)]
    pub language: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Version of `consort.plugin.v1` that it serves; absent for workers, which dial out.
    #[serde(default)]
    pub protocol: Option<u32>,
    /// Agents that it serves, for workers.
    #[serde(default)]
    pub agents: Vec<String>,
    /// SHA-256 of the program's file, hexadecimal; another file is refused.
    #[serde(default)]
    pub sha256: Option<String>,
    /// What it wants to reach.
    #[serde(default)]
    pub permissions: Permissions,
    /// What it would use, and can do without: it starts with as much of this as the operator grants.
    #[serde(default)]
    pub optional: Permissions,
    /// What it may take.
    #[serde(default)]
    pub limits: Limits,
}

/// What a plugin may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Resident memory of all its processes in MiB, and private writable memory of each; what is reserved and not used does not count.
    pub memory_mib: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files.
    pub open_files: u64,
    /// MiB of a file that it writes.
    pub file_mib: u64,
    /// Calls at once; four times as many wait.
    pub in_flight: usize,
    /// Seconds from the start to the handshake, and again to being configured.
    pub start_s: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory_mib: 2_048, processes: 256, open_files: 1_024, file_mib: 1_024, in_flight: 64, start_s: 10 }
    }
}

impl Limits {
    /// Time for each part of a start.
    pub fn start(&self) -> Duration {
        Duration::from_secs(self.start_s)
    }
}

impl Manifest {
    /// Reads and checks the manifest of a folder.
    pub fn read(folder: &Path) -> Result<Manifest, Error> {
        let path = folder.join(MANIFEST);
        let shown = path.display();
        let bad = |why: String| Error::bad_field("folder", why);
        let size = fs::metadata(&path).map_err(|error| bad(format!("`{shown}` cannot be read: {error}")))?.len();
        if size > SIZE {
            return Err(bad(format!("`{shown}` has {size} bytes; a manifest has at most {SIZE}")));
        }
        let text = fs::read_to_string(&path).map_err(|error| bad(format!("`{shown}` cannot be read: {error}")))?;
        let manifest: Manifest =
            toml::from_str(&text).map_err(|error| bad(format!("`{shown}`: {}", error.to_string().trim())))?;
        manifest.check(&shown.to_string())?;
        Ok(manifest)
    }

    /// What an MCP server has instead of a manifest: it wants nothing, and gets what the operator lists.
    pub(crate) fn of_mcp(id: &str, command: Vec<String>) -> Manifest {
        Manifest {
            id: id.to_owned(),
            version: VERSION_OF_MCP.to_owned(),
            language: "mcp".to_owned(),
            description: String::new(),
            command,
            protocol: Some(1),
            agents: Vec::new(),
            sha256: None,
            permissions: Permissions::default(),
            optional: Permissions::default(),
            // Its package may have to be fetched first.
            limits: Limits { start_s: 90, ..Limits::default() },
        }
    }

    fn check(&self, at: &str) -> Result<(), Error> {
        let mut wrong = Vec::new();
        let mut say = |field: &str, description: String| {
            wrong.push(Violation { field: format!("{at}: {field}"), description });
        };
        if !is_name(&self.id) {
            say("id", format!("`{}` is no id; use a letter, then up to 62 letters, digits, `_` or `-`", self.id));
        }
        if !is_version(&self.version) {
            say("version", format!("`{}` is no semantic version; write for example `1.0.0`", self.version));
        }
        if self.command.first().is_none_or(String::is_empty) {
            say(
                "command",
                "is empty; name the program and its arguments, for example `[\"python\", \"main.py\"]`".into(),
            );
        }
        match self.protocol {
            Some(1) => {}
            Some(other) => say("protocol", format!("`{other}` is not known; this mesh speaks 1")),
            None if self.agents.is_empty() => {
                say("protocol", "is missing; write `protocol = 1` for a plugin with operations".into());
            }
            None => {}
        }
        let hexadecimal = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(digest) = self.sha256.as_deref().filter(|digest| !hexadecimal(digest)) {
            say("sha256", format!("`{digest}` is no SHA-256; it has 64 hexadecimal digits"));
        }
        let Limits { in_flight, start_s, processes, open_files, memory_mib, .. } = self.limits;
        for (field, value, most) in [
            ("limits.in_flight", in_flight as u64, 10_000),
            ("limits.start_s", start_s, 600),
            ("limits.memory_mib", memory_mib, 1 << 24),
            ("limits.processes", processes, 100_000),
            ("limits.open_files", open_files, 1_000_000),
        ] {
            if value == 0 || value > most {
                say(field, format!("is {value}; give 1 to {most}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::bad_fields(wrong)) }
    }

    /// All that it can use, with `${folder}`, `${data}` and `~` filled in.
    pub(crate) fn wanted(&self, folder: &Path, data: &Path) -> Permissions {
        filled(&self.permissions.joined(&self.optional), folder, data)
    }

    /// What it does not start without.
    pub(crate) fn required(&self, folder: &Path, data: &Path) -> Permissions {
        filled(&self.permissions, folder, data)
    }

    /// Where the program is: in the folder, beside this program, or on the PATH; Python in the nearest `.venv` of the folder and those above.
    pub fn program(&self, folder: &Path) -> Result<PathBuf, Error> {
        let name = self.command.first().map(String::as_str).unwrap_or_default();
        let mut places: Vec<PathBuf> = Vec::new();
        if name == "python" || name == "python3" {
            // The environment of the folder, or of one above it.
            places.extend(folder.ancestors().map(|above| above.join(".venv/bin/python")));
            places.extend(std::env::var_os("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("bin/python")));
        }
        places.push(folder.join(name));
        if !name.contains('/') {
            let beside = std::env::current_exe().ok();
            places.extend(beside.as_deref().and_then(Path::parent).map(|folder| folder.join(name)));
            let path = std::env::var_os("PATH").unwrap_or_default();
            places.extend(std::env::split_paths(&path).map(|folder| folder.join(name)));
        }
        let found = places.into_iter().find(|place| place.is_file());
        found.ok_or_else(|| {
            Error::precondition(
                "PROGRAM_MISSING",
                format!(
                    "plugin `{}`: the program `{name}` is neither in `{}`, nor beside consort, nor on the PATH; build or install it",
                    self.id,
                    folder.display()
                ),
            )
        })
    }
}

/// Whether this is `MAJOR.MINOR.PATCH`, with or without what may follow.
pub(crate) fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 100 && parts.len() == 3 && parts.iter().all(number)
}

fn filled(wanted: &Permissions, folder: &Path, data: &Path) -> Permissions {
    let home = std::env::var("HOME").unwrap_or_default();
    let fill = |entries: &[String]| -> Vec<String> {
        let one = |entry: &String| {
            let entry = match entry.strip_prefix('~') {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
                _ => entry.clone(),
            };
            entry.replace("${folder}", &folder.to_string_lossy()).replace("${data}", &data.to_string_lossy())
        };
        entries.iter().map(one).collect()
    };
    let write = fill(&wanted.fs_write);
    Permissions {
        fs_read: fill(&wanted.fs_read),
        // Its own folder is granted to every plugin.
        fs_write: write.into_iter().filter(|path| Path::new(path) != data).collect(),
        exec: fill(&wanted.exec),
        ..wanted.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, Error> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        Manifest::read(folder.path())
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest = read(
            "id = \"git\"\nversion = \"1.2.3-rc.1\"\ncommand = [\"consort-git\"]\nprotocol = 1\n\
             [permissions]\nfs_read = [\"~/src\", \"${folder}\"]\n[limits]\nin_flight = 2\n",
        )
        .unwrap();
        assert_eq!((manifest.limits.in_flight, manifest.limits.processes), (2, 256));
        let wanted = manifest.wanted(Path::new("/p"), Path::new("/d"));
        assert!(wanted.fs_read[0].ends_with("/src") && !wanted.fs_read[0].contains('~'));
        assert_eq!(wanted.fs_read[1], "/p");
        let optional = "id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1\n\
                        [permissions]\nexec = [\"/bin/sh\"]\n[optional]\nnet = [\"a:1\", \"b:1\"]\n";
        let manifest = read(optional).unwrap();
        let (folder, data) = (Path::new("/p"), Path::new("/d"));
        assert_eq!((manifest.wanted(folder, data).net.len(), manifest.required(folder, data).net.len()), (2, 0));
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (text, part) in [
            ("id = \"g\"", "missing field"),
            ("id = \"1\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1", "id: `1` is no id"),
            ("id = \"g\"\nversion = \"1\"\ncommand = []\nprotocol = 2", "version: `1` is no semantic"),
            ("id = \"g\"\nversion = \"1\"\ncommand = []\nprotocol = 2", "command: is empty"),
            ("id = \"g\"\nversion = \"1\"\ncommand = []\nprotocol = 2", "`2` is not known"),
            ("id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]", "write `protocol = 1`"),
            ("id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1\nx = 1", "unknown field `x`"),
            ("id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1\n[permissions]\nnetz = []", "netz"),
            (
                "id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1\n[limits]\nstart_s = 0",
                "give 1 to 600",
            ),
            ("id = \"g\"\nversion = \"1.0.0\"\ncommand = [\"x\"]\nprotocol = 1\nsha256 = \"ab\"", "64 hexadecimal"),
        ] {
            let said = read(text).unwrap_err().message;
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
