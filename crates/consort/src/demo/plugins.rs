//! The plugins of the demo: which ones run, what they are granted, and what holds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use consort_proto::plugin::Plugin;
use consort_sandbox::{Mechanisms, Net, Sandbox};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::install;
use crate::output;
use crate::plugins::mechanisms;

/// The file in the data folder that says all this to the server. A `plugins.yaml` that is there is the operator's.
const FILE: &str = "demo-plugins.yaml";
/// The variable of the server with the secret that signs webhooks.
pub(super) const SECRET: &str = "CONSORT_DEMO_WEBHOOK_SECRET";
/// The target of `notify` that the receiver is.
pub(super) const TARGET: &str = "demo";

/// What the plugins are for.
#[derive(Debug)]
pub(super) struct Needs {
    /// Folders that `git` reads; it does not run without.
    pub(super) repository: Option<Vec<PathBuf>>,
    /// Where `notify` posts to, with the URL; it does not run without.
    pub(super) receiver: Option<(SocketAddr, String)>,
}

/// The plugins, found and granted.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// The file for the server; none if no plugin is needed.
    pub(super) file: Option<PathBuf>,
    /// Their ids.
    pub(super) ids: Vec<&'static str>,
    /// What this machine cannot hold them with, in a sentence.
    pub(super) not_held: Option<String>,
}

impl Cast {
    /// Finds the plugins, looks at what the machine can hold them with, and writes the file.
    pub(super) fn write(needs: &Needs, data: &Path) -> Result<Cast> {
        Cast::of(needs, data, &mechanisms(), install::plugin)
    }

    fn of(
        needs: &Needs,
        data: &Path,
        mechanisms: &Mechanisms,
        find: impl Fn(&str) -> std::result::Result<PathBuf, String>,
    ) -> Result<Cast> {
        let mut ids = Vec::new();
        let mut plugins = Map::new();
        let (mut missing, mut lacks) = (Vec::new(), Vec::new());
        let mut add = |id: &'static str, net: Net, mut entry: Value| match find(id) {
            Ok(folder) => {
                let (mode, lack) = mode(mechanisms, net, &folder);
                entry["path"] = json!(folder);
                entry["sandbox"] = json!(mode);
                for each in lack {
                    if !lacks.contains(&each) {
                        lacks.push(each);
                    }
                }
                ids.push(id);
                plugins.insert(id.to_owned(), entry);
            }
            Err(todo) => missing.push(format!("{id}: {todo}")),
        };
        if let Some(folders) = &needs.repository {
            add("git", Net::None, json!({"grant": {"fs_read": folders}}));
        }
        if let Some((addr, url)) = &needs.receiver {
            let net = Net::Ports { connect: vec![addr.port()], bind: Vec::new(), udp: false };
            let entry = json!({
                "grant": {"net": [addr.to_string()], "secrets": ["notify-webhook"]},
                "config": {"webhooks": {TARGET: {"url": url}}},
                "secrets": {"notify-webhook": {"env": SECRET}},
            });
            add("notify", net, entry);
        }
        if !missing.is_empty() {
            return Err(Failure::failed("a plugin is missing")
                .details(missing)
                .hint("`make demo` builds everything; `consort doctor` says what else is missing"));
        }
        if ids.is_empty() {
            return Ok(Cast::default());
        }
        let file = data.join(FILE);
        let written = std::fs::write(&file, output::yaml(&json!({ "plugins": plugins }))?);
        written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
        let not_held = (!lacks.is_empty()).then(|| lacks.join("; "));
        Ok(Cast { file: Some(file), ids, not_held })
    }
}

/// How strictly a plugin can be held here, and what is missing for more.
fn mode(mechanisms: &Mechanisms, net: Net, folder: &Path) -> (&'static str, Vec<String>) {
    let missing = mechanisms.missing(&Sandbox { net, ..Sandbox::new(folder) });
    let mode = match missing.as_slice() {
        [] => "required",
        _ if mechanisms.landlock > 0 || mechanisms.namespaces => "best_effort",
        _ => "off",
    };
    (mode, missing.into_iter().map(|each| format!("{} ({})", each.mechanism, each.why)).collect())
}

/// What runs, what it may, and what holds it, as the server has it: a line for people.
pub(super) fn line(plugin: &Plugin) -> String {
    let granted = plugin.granted.clone().unwrap_or_default();
    let mut may = Vec::new();
    let mut say = |what: &str, entries: &[String]| {
        if !entries.is_empty() {
            may.push(format!("{what} {}", entries.join(" and ")));
        }
    };
    say("read", &granted.fs_read);
    say("change", &granted.fs_write);
    say("connect to", &granted.net);
    say("ask for the secret", &granted.secrets);
    say("run", &granted.exec);
    let may = if may.is_empty() { "reach nothing".to_owned() } else { may.join(" and ") };
    let id = plugin.name.trim_start_matches("plugins/");
    format!("{id} ({}) may {may}; {}", plugin.language, held(&plugin.sandbox))
}

/// The mechanisms that hold a plugin, the namespaces as one.
fn held(sandbox: &[String]) -> String {
    let is_namespace = |name: &String| name.ends_with("-namespace");
    let mut names: Vec<&str> = Vec::new();
    for name in ["landlock", "seccomp"] {
        names.extend(sandbox.iter().any(|each| each == name).then_some(name));
    }
    names.extend(sandbox.iter().any(is_namespace).then_some("namespaces"));
    if names.is_empty() { "NOT held by a sandbox".to_owned() } else { format!("held by {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use consort_proto::plugin::Permissions;

    use super::*;

    #[test]
    fn what_a_plugin_may_is_told() {
        let text = |text: &str| text.to_owned();
        let granted = Permissions { fs_read: vec![text("/r"), text("/g")], ..Permissions::default() };
        let sandbox = ["rlimits", "landlock", "landlock-net", "seccomp", "pid-namespace", "net-namespace"].map(text);
        let git = Plugin {
            name: text("plugins/git"),
            language: text("rust"),
            granted: Some(granted),
            sandbox: sandbox.to_vec(),
            ..Plugin::default()
        };
        assert_eq!(line(&git), "git (rust) may read /r and /g; held by landlock, seccomp, namespaces");
        let granted =
            Permissions { net: vec![text("127.0.0.1:1")], secrets: vec![text("s")], ..Permissions::default() };
        let notify = Plugin {
            name: text("plugins/notify"),
            language: text("python"),
            granted: Some(granted),
            ..Plugin::default()
        };
        assert_eq!(
            line(&notify),
            "notify (python) may connect to 127.0.0.1:1 and ask for the secret s; NOT held by a sandbox"
        );
    }

    #[test]
    fn a_plugin_is_held_as_well_as_the_machine_can() {
        let full = Mechanisms {
            landlock: 7,
            seccomp: true,
            exec_once: true,
            namespaces: true,
            processes: true,
            ..Mechanisms::default()
        };
        let check = |mechanisms: Mechanisms, expected: &str, lacks: &str| {
            let (mode, lack) = mode(&mechanisms, Net::None, Path::new("/p"));
            assert_eq!(mode, expected);
            assert!(lack.join(";").contains(lacks) && lack.is_empty() == lacks.is_empty(), "{lack:?}");
        };
        check(full.clone(), "required", "");
        check(Mechanisms { processes: false, ..full.clone() }, "best_effort", "processes (root's");
        check(full.without_namespaces(), "best_effort", "namespaces (the kernel said: switched off)");
        check(Mechanisms { reason: "this is not Linux".into(), ..Mechanisms::default() }, "off", "this is not Linux");
    }

    #[test]
    fn the_file_is_what_the_server_reads() {
        let folder = tempfile::tempdir().unwrap();
        let addr: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        let needs = Needs {
            repository: Some(vec!["/r".into(), "/a: b #c".into()]),
            receiver: Some((addr, "http://127.0.0.1:4711/audit".into())),
        };
        let found = |id: &str| Ok(Path::new("/plugins").join(id));
        let cast = Cast::of(&needs, folder.path(), &Mechanisms::default(), found).unwrap();
        let config = consort_plugins::Config::read(&cast.file.unwrap()).unwrap();
        assert_eq!(cast.ids, ["git", "notify"]);
        assert!(cast.not_held.unwrap().contains("landlock"), "what is missing is told");
        let git = format!("{:?}", config.plugins["git"]);
        assert!(git.contains(r#"fs_read: ["/r", "/a: b #c"]"#) && git.contains("Off"), "{git}");
        let notify = format!("{:?}", config.plugins["notify"]);
        assert!(notify.contains(r#"net: ["127.0.0.1:4711"]"#) && notify.contains(SECRET), "{notify}");
        let nothing = Cast::write(&Needs { repository: None, receiver: None }, folder.path()).unwrap();
        assert!(nothing.file.is_none() && nothing.ids.is_empty());
        let missing = |_: &str| Err("build it".to_owned());
        let failure = Cast::of(&needs, folder.path(), &Mechanisms::default(), missing).unwrap_err();
        assert_eq!(failure.details, ["git: build it", "notify: build it"]);
    }
}
