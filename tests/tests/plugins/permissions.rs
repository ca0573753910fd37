//! What plugins may, and who says so.

use std::fs;
use std::path::Path;

use consort_proto::plugin::{
    InstallPluginRequest, ListPluginsRequest, Plugin, PluginState, ReloadPluginRequest, UninstallPluginRequest,
};
use consort_testkit::refusal;
use serde_json::json;
use tonic::{Code, Status};

use super::kit::{Bench, copy_python, script};

/// The conformance plugin, which now wants a network.
fn wants_more(folder: &Path) {
    copy_python(&folder.join("conformance"));
    let manifest = folder.join("conformance/consort-plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("[permissions]", "[permissions]\nnet = [\"127.0.0.1:9\"]")).unwrap();
}

#[tokio::test]
async fn a_plugin_that_wants_more_than_is_granted_waits_for_the_operator() {
    let mut bench = Bench::start(
        "  conformance: {path: HERE/conformance}\n  other: {path: HERE/other, grant: all}\n  pinned: {path: HERE/pinned, grant: all}\n  off: {path: HERE/other, enabled: false}",
        |folder| {
            wants_more(folder);
            script(folder, "somebody", "", "exit 0");
            fs::rename(folder.join("somebody"), folder.join("other")).unwrap();
            script(folder, "pinned", &format!("sha256 = \"{}\"\n", "0".repeat(64)), "exit 0");
        },
    )
    .await;
    let waiting = bench.until("conformance", PluginState::Refused).await;
    assert!(waiting.state_reason.contains("wants more than is granted"), "{}", waiting.state_reason);
    assert!(waiting.state_reason.contains("net: 127.0.0.1:9"), "{}", waiting.state_reason);
    let refused = bench.call("conformance.echo", json!({"text": ""})).await.unwrap_err();
    assert_eq!((refused.code(), refusal(&refused)), (Code::FailedPrecondition, "PLUGIN_REFUSED".to_owned()));
    let wrong = bench.until("other", PluginState::Refused).await;
    assert!(wrong.state_reason.contains("has a manifest that says `somebody`"), "{}", wrong.state_reason);
    let changed = bench.until("pinned", PluginState::Refused).await;
    assert!(changed.state_reason.contains("another program than its manifest says"), "{}", changed.state_reason);
    assert_eq!(bench.plugin("off").await.state(), PluginState::Disabled);

    let request =
        ReloadPluginRequest { name: "plugins/conformance".into(), grant: true, ..ReloadPluginRequest::default() };
    let granted = bench.mesh.client().plugins().reload_plugin(request).await.unwrap().into_inner();
    assert_eq!(granted.granted.unwrap().net, ["127.0.0.1:9"]);
    assert_eq!(bench.yields("conformance.echo", json!({"text": "yes"})).await, json!({"text": "yes"}));
    // What was granted is granted after a restart, too.
    bench.mesh.kill();
    bench.mesh.restart().await;
    assert_eq!(bench.yields("conformance.echo", json!({"text": "still"})).await, json!({"text": "still"}));
    bench.mesh.kill();
}

async fn install(bench: &Bench, folder: &str, grant: bool, check: bool) -> Result<Plugin, Status> {
    let folder = bench.folder.path().join(folder).to_string_lossy().into_owned();
    let request = InstallPluginRequest { folder, grant, validate_only: check, ..InstallPluginRequest::default() };
    bench.mesh.client().plugins().install_plugin(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_plugin_is_installed_and_taken_away() {
    let mut bench = Bench::start("  {}", |folder| {
        wants_more(folder);
        copy_python(&folder.join("again"));
    })
    .await;
    let none = bench.call("conformance.echo", json!({"text": ""})).await.unwrap_err();
    assert!(none.message().contains("this server has none"), "{}", none.message());
    let wants = install(&bench, "conformance", false, false).await.unwrap_err();
    assert_eq!((wants.code(), refusal(&wants)), (Code::FailedPrecondition, "PERMISSIONS_WANTED".to_owned()));
    assert!(wants.message().contains("net: 127.0.0.1:9"), "{}", wants.message());
    assert!(install(&bench, "nothing", true, false).await.unwrap_err().message().contains("folder"));
    let plugins = || async {
        let listed = bench.mesh.client().plugins().list_plugins(ListPluginsRequest::default()).await.unwrap();
        listed.into_inner().plugins.len()
    };
    assert_eq!(plugins().await, 0, "what was refused left nothing");

    let installed = install(&bench, "conformance", true, false).await.unwrap();
    assert_eq!(installed.state(), PluginState::Running);
    let twice = install(&bench, "again", true, false).await.unwrap_err();
    assert_eq!((twice.code(), plugins().await), (Code::AlreadyExists, 1));
    // The same once more is a reload.
    install(&bench, "conformance", false, false).await.unwrap();
    bench.mesh.kill();
    bench.mesh.restart().await;
    assert_eq!(bench.yields("conformance.echo", json!({"text": "kept"})).await, json!({"text": "kept"}));
    let request = UninstallPluginRequest { name: "plugins/conformance".into(), ..UninstallPluginRequest::default() };
    bench.mesh.client().plugins().uninstall_plugin(request).await.unwrap();
    assert_eq!(bench.call("conformance.echo", json!({"text": ""})).await.unwrap_err().code(), Code::NotFound);
    bench.mesh.stop().await;
}

#[tokio::test]
async fn a_plugin_reaches_what_it_was_granted_and_nothing_else() {
    let mut bench = Bench::python().await;
    // Its own data folder was granted; the folder that it was started in is only to be read.
    bench.yields("conformance.write", json!({"path": "mine.txt", "text": "x"})).await;
    assert!(bench.mesh.data().join("plugins/data/conformance/mine.txt").exists());
    let outside = [
        bench.folder.path().join("conformance/theirs.txt"),
        bench.folder.path().join("theirs.txt"),
        bench.mesh.data().join("theirs.txt"),
    ];
    for path in outside {
        // What looks like the machine's folder of temporary files is the plugin's own, so some of these seem to work.
        let _ = bench.call("conformance.write", json!({"path": path, "text": "x"})).await;
        assert!(!path.exists(), "{} was written", path.display());
    }
    bench.mesh.stop().await;
}
