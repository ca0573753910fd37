//! What the command line and the environment say.

use std::path::{Path, PathBuf};

/// The environment of a process that the mesh started.
pub(crate) const COOKIE: &str = "consort-plugin-host";
/// The version of `consort.plugin` that is spoken.
pub(crate) const PROTOCOL: u32 = 1;

const USAGE: &str = "usage: consort-pyhost [--watch] MAIN.py [ARGUMENT...]
       consort-pyhost --paths [FOLDER]

Serves Python code as a plugin of Consort: the operations of its `Plugin`, or of its `Adapter`. The mesh starts it, by the line
`command = [\"consort-pyhost\", \"main.py\"]` of the plugin's manifest.

  --watch    end when a .py file of the program's folder changes, so that the mesh starts it anew
  --paths    print what a plugin in this folder must be able to read beside it: the library, the standard library, the
             virtual environment, each on a line
  --version  print the versions of this program and of its Python";

/// What to serve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The program.
    pub script: PathBuf,
    /// What it sees in `sys.argv`, after its own name.
    pub arguments: Vec<String>,
    /// End when a file changes.
    pub watch: bool,
}

/// What the mesh said to the process.
pub(crate) struct Surroundings {
    /// Where to listen.
    pub socket: PathBuf,
}

/// Reads the arguments. An error is a text to print and the status to end with.
pub(crate) fn options(arguments: impl IntoIterator<Item = String>) -> Result<Options, (String, i32)> {
    let mut watch = false;
    let mut rest = arguments.into_iter();
    loop {
        match rest.next().as_deref() {
            Some("--watch") => watch = true,
            Some("--help" | "-h") => return Err((USAGE.to_owned(), 0)),
            Some("--paths") => {
                let folder = rest.next().unwrap_or_else(|| ".".to_owned());
                return Err(match crate::interpreter::paths(Path::new(&folder)) {
                    Ok(paths) => (paths, 0),
                    Err(said) => (said, 1),
                });
            }
            Some("--version") => {
                let versions = (env!("CARGO_PKG_VERSION"), env!("PYHOST_VERSION"));
                return Err((format!("consort-pyhost {} with Python {}", versions.0, versions.1), 0));
            }
            Some(flag) if flag.starts_with('-') => return Err((format!("`{flag}` is unknown\n\n{USAGE}"), 2)),
            Some(script) => {
                return Ok(Options { script: PathBuf::from(script), arguments: rest.collect(), watch });
            }
            None => return Err((USAGE.to_owned(), 2)),
        }
    }
}

/// Reads the environment by way of `variable`. An error is a text to print; the status is then 2, as the protocol says.
pub(crate) fn surroundings(
    options: &Options,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Surroundings, String> {
    let script = options.script.display();
    let socket = variable("CONSORT_PLUGIN_SOCKET").unwrap_or_default();
    if variable("CONSORT_PLUGIN_COOKIE").as_deref() != Some(COOKIE) || socket.is_empty() {
        return Err(format!(
            "`{script}` is a plugin of Consort, which the mesh starts. Install its folder with `consort plugin install DIR`, or try it \
             with `consort plugin test DIR`."
        ));
    }
    let offered = variable("CONSORT_PLUGIN_PROTOCOLS").unwrap_or_else(|| "1-1".to_owned());
    let range = offered.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    if !range.is_some_and(|(low, high): (u32, u32)| (low..=high).contains(&PROTOCOL)) {
        return Err(format!("`{script}` speaks protocol {PROTOCOL}, and the mesh speaks {offered}"));
    }
    Ok(Surroundings { socket: PathBuf::from(socket) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, (String, i32)> {
        options(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read() {
        let found = read("--watch main.py --watch x").unwrap();
        let arguments = vec!["--watch".to_owned(), "x".to_owned()];
        assert_eq!(found, Options { script: "main.py".into(), arguments, watch: true });
        assert_eq!(read("").unwrap_err().1, 2);
        assert!(read("--loud main.py").unwrap_err().0.contains("`--loud` is unknown"));
        assert_eq!(read("--help").unwrap_err().1, 0);
    }

    #[test]
    fn the_mesh_is_recognised() {
        let options = read("main.py").unwrap();
        let said = |protocols: &'static str| {
            surroundings(&options, move |name| match name {
                "CONSORT_PLUGIN_COOKIE" => Some(COOKIE.to_owned()),
                "CONSORT_PLUGIN_SOCKET" => Some("/tmp/s".to_owned()),
                _ => Some(protocols.to_owned()),
            })
        };
        assert_eq!(said("1-3").ok().unwrap().socket, PathBuf::from("/tmp/s"));
        assert!(said("2-3").err().unwrap().contains("speaks protocol 1, and the mesh speaks 2-3"));
        assert!(surroundings(&options, |_| None).err().unwrap().contains("is a plugin of Consort"));
    }
}
