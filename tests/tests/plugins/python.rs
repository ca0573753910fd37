//! What plugins in Python ask of the mesh, and Python within `consort-pyhost`.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use consort_proto::plugin::PluginState;
use consort_testkit::{binary, eventually, root};
use serde_json::{Value, json};
use tonic::Code;

use super::kit::{Bench, copy_python};

/// Why `consort-pyhost` serves nothing here, if it does not.
fn missing() -> Option<String> {
    let said = Command::new(binary("consort-pyhost")).arg("--version").output().expect("consort-pyhost starts");
    (!said.status.success()).then(|| String::from_utf8_lossy(&said.stderr).trim().to_owned())
}

/// Returns from a test of `consort-pyhost` where there is none.
macro_rules! needs_python {
    ($test:literal) => {
        if let Some(why) = missing() {
            eprintln!("SKIPPED {}: {why}", $test);
            return;
        }
    };
}

/// A plugin in Python whose folder has a virtual environment, as an operator's would.
fn python(folder: &Path, id: &str, command: &str, permissions: &str, code: &str) {
    let folder = folder.join(id);
    fs::create_dir_all(&folder).unwrap();
    symlink(root().join(".venv"), folder.join(".venv")).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"0.1.0\"\nprotocol = 1\ncommand = [{command}]\n[permissions]\n{permissions}\n"
    );
    fs::write(folder.join("consort-plugin.toml"), manifest).unwrap();
    let head = "from consort.plugin import Call, Plugin\n";
    fs::write(
        folder.join("main.py"),
        format!("{head}plugin = Plugin(\"{id}\", version=\"0.1.0\")\n{code}\nplugin.serve()\n"),
    )
    .unwrap();
}

/// The conformance plugin, in `consort-pyhost`.
fn held_conformance(folder: &Path) {
    copy_python(&folder.join("conformance"));
    let manifest = folder.join("conformance/consort-plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let command = format!("\"{}\"", root().join(".venv/bin/python").display());
    assert!(text.contains(&command));
    fs::write(&manifest, text.replace(&command, "\"consort-pyhost\"")).unwrap();
    symlink(root().join(".venv"), folder.join("conformance/.venv")).unwrap();
}

const ASKS: &str = r#"
@plugin.operation(effect="read")
def kept(call: Call, key: str) -> str | None:
    value = call.host.get_state(key)
    return value.decode() if value is not None else None

@plugin.operation(effect="write")
async def keep(call: Call, key: str, value: str) -> None:
    await call.host.put_state(key, value.encode())

@plugin.operation(effect="write")
def tell(call: Call, what: str) -> str:
    return call.host.publish_event("TOLD", {"what": what})

@plugin.operation(effect="read")
def secret(call: Call) -> str:
    return call.host.get_secret("password")

@plugin.operation(effect="read")
def blob(call: Call, sha256: str) -> list[int]:
    import io
    file = io.BytesIO()
    size = call.host.read_blob(sha256, file)
    return [size, file.getvalue().count(b"x")]

@plugin.operation(effect="read")
def bytes_of(mib: int) -> bytes:
    return b"x" * (mib << 20)
"#;

async fn asks_the_mesh(command: &str) {
    let all = "mesh = [\"state\", \"events\", \"blobs\"]\nsecrets = [\"password\"]";
    let mut bench = Bench::start(
        "  asks: {path: HERE/asks, grant: all, secrets: {password: {file: HERE/password}}}\n  none: {path: HERE/none, grant: all}",
        |folder| {
            fs::write(folder.join("password"), "open sesame").unwrap();
            python(folder, "asks", command, all, ASKS);
            python(folder, "none", command, "", ASKS);
        },
    )
    .await;
    assert_eq!(bench.yields("asks.kept", json!({"key": "a"})).await, Value::Null);
    bench.yields("asks.keep", json!({"key": "a", "value": "1é"})).await;
    assert_eq!(bench.yields("asks.kept", json!({"key": "a"})).await, json!("1é"));
    assert_eq!(bench.yields("asks.secret", json!({})).await, json!("open sesame"));
    let event = bench.yields("asks.tell", json!({"what": "it"})).await;
    assert_eq!(event.as_str().map(str::len), Some(36), "{event}");
    let made = bench.yields("asks.bytes_of", json!({"mib": 3})).await;
    let read = bench.yields("asks.blob", json!({"sha256": made["sha256"]})).await;
    assert_eq!(read, json!([3 << 20, 3 << 20]));
    let unknown = bench.call("asks.blob", json!({"sha256": "0".repeat(64)})).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
    // What was not granted is denied, with the line that would ask for it.
    for (operation, input, line) in [
        ("none.kept", json!({"key": "a"}), "mesh = [\"state\"]"),
        ("none.tell", json!({"what": "it"}), "mesh = [\"events\"]"),
        ("none.secret", json!({}), "secrets = [\"password\"]"),
        ("none.blob", json!({"sha256": made["sha256"]}), "mesh = [\"blobs\"]"),
    ] {
        let denied = bench.call(operation, input).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{operation}: {denied:?}");
        assert!(denied.message().contains(line), "{operation}: {}", denied.message());
    }
    bench.mesh.stop().await;
}

#[tokio::test]
async fn a_plugin_in_python_asks_the_mesh() {
    asks_the_mesh("\"python\", \"main.py\"").await;
}

#[tokio::test]
async fn a_plugin_in_pyhost_asks_the_mesh() {
    needs_python!("a_plugin_in_pyhost_asks_the_mesh");
    asks_the_mesh("\"consort-pyhost\", \"main.py\"").await;
}

#[tokio::test]
async fn pyhost_does_what_every_plugin_must_in_the_sandbox() {
    needs_python!("pyhost_does_what_every_plugin_must_in_the_sandbox");
    let folder = tempfile::tempdir().unwrap();
    held_conformance(folder.path());
    let ran = Command::new(binary("consort")).args(["plugin", "test"]).arg(folder.path().join("conformance")).output();
    let ran = ran.unwrap();
    let (said, more) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("0 failed"), "{said}{more}");
}

#[tokio::test]
async fn a_hung_method_is_reported_and_its_host_started_again() {
    needs_python!("a_hung_method_is_reported_and_its_host_started_again");
    let code = "
import os, time
@plugin.operation(effect=\"write\")
async def block(seconds: float) -> None:
    time.sleep(seconds)  # The event loop waits.
@plugin.operation(effect=\"read\")
def pid() -> int:
    return os.getpid()
";
    let plugins = "  hung: {path: HERE/hung, grant: all}\n  conformance: {path: HERE/conformance, grant: all}";
    let mut bench = Bench::start(plugins, |folder| {
        python(folder, "hung", "\"consort-pyhost\", \"main.py\"", "", code);
        held_conformance(folder);
    })
    .await;
    let (before, other) =
        (bench.until("hung", PluginState::Running).await, bench.until("conformance", PluginState::Running).await);
    let blocked = bench.call("hung.block", json!({"seconds": 600.0}));
    // As long as it hangs, others are as quick as ever.
    let slowest = Cell::new(Duration::ZERO);
    let others = async {
        // Its health fails after 5 s, and has failed three times 15 s later; what does not end is killed after 5 more.
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let began = Instant::now();
            assert!(began < end, "the host was not started again");
            assert_eq!(bench.yields("conformance.echo", json!({"text": "x"})).await, json!({"text": "x"}));
            slowest.set(slowest.get().max(began.elapsed()));
            let plugin = bench.plugin("hung").await;
            if plugin.restarts > before.restarts {
                return plugin;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (blocked, after) = tokio::join!(blocked, others);
    assert!(slowest.get() < Duration::from_secs(5), "{slowest:?}");
    // A write that may have happened is not done again.
    let lost = blocked.unwrap_err();
    assert_eq!(lost.code(), Code::Aborted, "{lost:?}");
    assert!(bench.yields("hung.pid", json!({})).await.is_number());
    let (now, unharmed) = (bench.until("hung", PluginState::Running).await, bench.plugin("conformance").await);
    assert!(after.restarts == 1 && now.pid != before.pid, "{now:?}");
    assert_eq!((unharmed.pid, unharmed.restarts), (other.pid, 0));
    // The log says where it hung.
    let log = fs::read_to_string(bench.mesh.folder().join("server.log")).unwrap();
    for part in ["has not turned for", "block (", "in block"] {
        assert!(log.contains(part), "`{part}` is not in the log:\n{}", bench.mesh.process().tail());
    }
    bench.mesh.stop().await;
}

#[tokio::test]
async fn with_watch_changed_code_is_loaded() {
    needs_python!("with_watch_changed_code_is_loaded");
    let code = "@plugin.operation(effect=\"read\")\ndef say() -> str:\n    return \"old\"\n";
    let mut bench = Bench::start("  made: {path: HERE/made, grant: all}", |folder| {
        python(folder, "made", "\"consort-pyhost\", \"--watch\", \"main.py\"", "", code);
    })
    .await;
    assert_eq!(bench.yields("made.say", json!({})).await, json!("old"));
    let program = bench.folder.path().join("made/main.py");
    let text = fs::read_to_string(&program).unwrap().replace("\"old\"", "\"new\"");
    fs::write(&program, text).unwrap();
    eventually("the new code answers", || async {
        (bench.call("made.say", json!({})).await.is_ok() && bench.yields("made.say", json!({})).await == json!("new"))
            .then_some(())
    })
    .await;
    bench.mesh.stop().await;
}

#[tokio::test]
async fn an_environment_of_another_python_is_refused_before_it_starts() {
    needs_python!("an_environment_of_another_python_is_refused_before_it_starts");
    let mut bench = Bench::start("  made: {path: HERE/made, grant: all}", |folder| {
        python(folder, "made", "\"consort-pyhost\", \"main.py\"", "", "");
        fs::remove_file(folder.join("made/.venv")).unwrap();
        fs::create_dir(folder.join("made/.venv")).unwrap();
        fs::write(folder.join("made/.venv/pyvenv.cfg"), "home = /usr/bin\nversion = 3.8.1\n").unwrap();
    })
    .await;
    let refused = bench.until("made", PluginState::Refused).await;
    for part in ["is of Python 3.8.1", "-m venv --clear", "command = [\"python\", \"main.py\"]"] {
        assert!(refused.state_reason.contains(part), "{}", refused.state_reason);
    }
    bench.mesh.stop().await;
}
