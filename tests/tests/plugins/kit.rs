//! A server with plugins, and what tests ask of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use consort_proto::blob::{Payload, payload};
use consort_proto::plugin::{
    GetPluginRequest, InvokeOperationOnceRequest, InvokeOperationOnceResponse, InvokeOperationRequest, Plugin,
    PluginState,
};
use consort_testkit::{Mesh, eventually, root};
use serde_json::Value;
use tonic::Status;

/// A server whose plugins a test writes.
pub(crate) struct Bench {
    pub mesh: Mesh,
    pub folder: tempfile::TempDir,
}

impl Bench {
    /// Starts a server with the plugins that `plugins` (the members of `plugins:` in YAML) names; `HERE` in it is the bench's folder.
    pub(crate) async fn start(plugins: &str, make: impl FnOnce(&Path)) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let file = folder.path().join("plugins.yaml");
        fs::write(&file, format!("plugins:\n{}", plugins.replace("HERE", &folder.path().to_string_lossy()))).unwrap();
        let mesh = Mesh::with(&["--plugins", &file.to_string_lossy()]).await;
        Bench { mesh, folder }
    }

    /// The plugin of the Python SDK that all SDKs have.
    pub(crate) async fn python() -> Bench {
        Bench::start("  conformance: {path: HERE/conformance, grant: all}", |folder| {
            copy_python(&folder.join("conformance"));
        })
        .await
    }

    pub(crate) async fn plugin(&self, id: &str) -> Plugin {
        let name = format!("plugins/{id}");
        self.mesh.client().plugins().get_plugin(GetPluginRequest { name }).await.unwrap().into_inner()
    }

    /// Waits until a plugin is in a state.
    pub(crate) async fn until(&self, id: &str, state: PluginState) -> Plugin {
        eventually(&format!("{id} is {state:?}"), || async {
            let plugin = self.plugin(id).await;
            (plugin.state() == state).then_some(plugin)
        })
        .await
    }

    pub(crate) async fn call(&self, operation: &str, input: Value) -> Result<InvokeOperationOnceResponse, Status> {
        let call = InvokeOperationRequest {
            operation: operation.to_owned(),
            input: Some(Payload { kind: Some(payload::Kind::Json(input.to_string())) }),
            ..InvokeOperationRequest::default()
        };
        let request = InvokeOperationOnceRequest { call: Some(call) };
        self.mesh.client().plugins().invoke_operation_once(request).await.map(tonic::Response::into_inner)
    }

    /// What a call yields.
    pub(crate) async fn yields(&self, operation: &str, input: Value) -> Value {
        let answer = self.call(operation, input).await.unwrap();
        self.mesh.client().payload_value(answer.output.as_ref()).await.unwrap()
    }
}

/// A copy of the conformance plugin whose virtual environment is found.
pub(crate) fn copy_python(to: &Path) {
    let from = root().join("python/tests/conformance_plugin");
    fs::create_dir_all(to).unwrap();
    for name in ["main.py", "consort-plugin.toml"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    // As an operator's folder would have it.
    let python = root().join(".venv/bin/python");
    let text = fs::read_to_string(to.join("consort-plugin.toml")).unwrap();
    let text = text.replace("\"python\"", &format!("\"{}\"", python.display()));
    fs::write(to.join("consort-plugin.toml"), text).unwrap();
}

/// A plugin that is a shell script.
pub(crate) fn script(folder: &Path, id: &str, manifest: &str, text: &str) -> PathBuf {
    let folder = folder.join(id);
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("run.sh");
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let head = format!("id = \"{id}\"\nversion = \"1.0.0\"\nprotocol = 1\ncommand = [\"run.sh\"]\n");
    fs::write(folder.join("consort-plugin.toml"), head + manifest).unwrap();
    folder
}
