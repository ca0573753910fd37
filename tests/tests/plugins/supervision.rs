//! Plugins that crash, hang and lie, and plugins that are replaced.

use std::fs;
use std::time::{Duration, Instant};

use consort_proto::plugin::{PluginState, ReloadPluginRequest};
use consort_testkit::refusal;
use serde_json::json;
use tonic::Code;

use super::kit::{Bench, copy_python, script};

#[tokio::test]
async fn what_breaks_the_handshake_is_named_and_harms_nobody() {
    let cases = [
        ("early", "echo oops >&2; exit 3", "", "ended before its handshake: exit status: 3; it said: oops"),
        ("wrong", "echo hello; sleep 60", "", "printed `hello` instead of the handshake"),
        ("newer", "echo '1|9|unix|x|grpc'; sleep 60", "", "speaks version `9` of the plugin protocol"),
        ("else", "echo \"1|1|unix|/tmp/other|grpc\"; sleep 60", "", "it must be where CONSORT_PLUGIN_SOCKET says"),
        ("silent", "sleep 60", "[limits]\nstart_s = 1", "did not shake hands within 1 s"),
        ("deaf", "echo \"1|1|unix|$CONSORT_PLUGIN_SOCKET|grpc\"; sleep 60", "", "does not listen at"),
        ("flood", "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "instead of the handshake"),
    ];
    let names =
        cases.iter().map(|(id, ..)| format!("  {id}: {{path: HERE/{id}, grant: all}}\n")).collect::<Vec<_>>().concat();
    let bench = Bench::start(&format!("{names}  conformance: {{path: HERE/conformance, grant: all}}"), |folder| {
        copy_python(&folder.join("conformance"));
        for (id, text, manifest, _) in &cases {
            script(folder, id, &format!("[permissions]\nexec = [\"*\"]\n{manifest}"), text);
        }
    })
    .await;
    for (id, _, _, part) in cases {
        let said = consort_testkit::eventually(&format!("{id} is not well"), || async {
            let plugin = bench.plugin(id).await;
            (!plugin.state_reason.is_empty()).then_some(plugin.state_reason)
        })
        .await;
        assert!(said.contains(part), "{id}: {said}");
    }
    assert_eq!(bench.yields("conformance.echo", json!({"text": "well"})).await, json!({"text": "well"}));
    // One that crashes again and again says so, and is not waited for.
    let looping = bench.until("early", PluginState::Crashing).await;
    assert!(looping.restarts >= 5 && looping.state_reason.contains("within 60 s"), "{looping:?}");
    let began = Instant::now();
    let refused = bench.call("early.x", json!({})).await.unwrap_err();
    assert_eq!((refused.code(), refusal(&refused)), (Code::Unavailable, "PLUGIN_CRASHING".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reload_moves_calls_over_and_a_bad_one_changes_nothing() {
    let mut bench = Bench::python().await;
    bench.until("conformance", PluginState::Running).await;
    let folder = bench.folder.path().join("conformance");
    let edit = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        fs::write(folder.join(name), text.replace(from, to)).unwrap();
    };
    let reload = || async {
        let request = ReloadPluginRequest { name: "plugins/conformance".to_owned(), ..ReloadPluginRequest::default() };
        bench.mesh.client().plugins().reload_plugin(request).await
    };
    // A manifest that says something else than the program.
    edit("consort-plugin.toml", "0.1.0", "0.2.0");
    let refused = reload().await.unwrap_err();
    assert!(refused.message().contains("its version is `0.1.0`; its manifest says `0.2.0`"), "{}", refused.message());
    assert_eq!(bench.yields("conformance.echo", json!({"text": "old"})).await, json!({"text": "old"}));

    edit("main.py", "0.1.0", "0.2.0");
    let old = bench.plugin("conformance").await;
    let sleeping = bench.call("conformance.sleep", json!({"ms": 1500}));
    let moved = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        reload().await.unwrap().into_inner()
    };
    let (slept, new) = tokio::join!(sleeping, moved);
    assert_eq!((new.version.as_str(), new.state()), ("0.2.0", PluginState::Running));
    assert_ne!(new.pid, old.pid);
    slept.expect("the call in work ended with the old process");
    assert_eq!(bench.yields("conformance.echo", json!({"text": "new"})).await, json!({"text": "new"}));
    bench.mesh.stop().await;
}

#[tokio::test]
async fn nothing_of_a_plugin_outlives_the_server() {
    let mut bench = Bench::python().await;
    let pid = bench.until("conformance", PluginState::Running).await.pid;
    assert!(pid > 0);
    bench.mesh.kill();
    consort_testkit::eventually("the plugin has ended", || async {
        let state = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        (!state.contains("State:") || state.contains("Z (zombie)")).then_some(())
    })
    .await;
}
