//! Starting the adapter as the plugin host does, and what is needed from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use consort_plugins::{Program, Running};
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_client::PluginServiceClient;
use serde_json::Value;
use tonic::{Request, Status};
use wire::invoke_response::Kind;

/// An example of this crate. Cargo builds them with all tests, but not with one; then it is asked.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    if !built.exists() {
        BUILT.get_or_init(|| {
            let mut cargo = Command::new(env!("CARGO"));
            let done = cargo.args(["build", "-q", "-p", "consort-mcp", "--examples"]).status().unwrap();
            assert!(done.success(), "the examples are not built");
        });
    }
    built
}

/// The adapter as a plugin, with its data folder.
pub(crate) struct Adapter {
    pub(crate) running: Running,
    pub(crate) client: PluginServiceClient<consort_plugins::Wire>,
    pub(crate) hello: wire::HelloResponse,
    _data: tempfile::TempDir,
}

/// What a call gave.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) output: Value,
    pub(crate) progress: Vec<(f64, String)>,
    pub(crate) logs: Vec<(String, String)>,
    pub(crate) chunks: usize,
}

/// Starts it.
pub(crate) async fn start(config: &Value) -> Result<Adapter, String> {
    let data = tempfile::tempdir().unwrap();
    let environment = vec![
        ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
        ("HOME".to_owned(), std::env::var("HOME").unwrap_or_default()),
        ("CONSORT_MCP".to_owned(), config.to_string()),
    ];
    let program = Program {
        id: "mcp".into(),
        folder: data.path().to_owned(),
        path: example("adapter"),
        arguments: Vec::new(),
        data: data.path().join("data"),
        environment,
        host: Some((data.path().join("none"), "a-secret-token".to_owned())),
        hold: None,
        patience: Duration::from_secs(60),
    };
    let running = consort_plugins::start(&program).await.map_err(|error| error.message)?;
    let mut client = running.client();
    let hello = client.hello(wire::HelloRequest::default()).await.map_err(|status| status.to_string())?.into_inner();
    client.configure(wire::ConfigureRequest::default()).await.map_err(|status| status.to_string())?;
    Ok(Adapter { running, client, hello, _data: data })
}

impl Adapter {
    pub(crate) fn operation(&self, name: &str) -> &wire::Operation {
        let names: Vec<&str> = self.hello.operations.iter().map(|operation| operation.name.as_str()).collect();
        self.hello
            .operations
            .iter()
            .find(|operation| operation.name == name)
            .unwrap_or_else(|| panic!("{name}: {names:?}"))
    }

    pub(crate) async fn begin(
        &self,
        operation: &str,
        input: &Value,
    ) -> Result<tonic::Streaming<wire::InvokeResponse>, Status> {
        let input = Some(Payload { kind: Some(payload::Kind::Json(input.to_string())) });
        let request = wire::InvokeRequest { operation: operation.to_owned(), input, ..wire::InvokeRequest::default() };
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(30));
        Ok(self.client.clone().invoke(request).await?.into_inner())
    }

    pub(crate) async fn call(&self, operation: &str, input: Value) -> Result<Answer, Status> {
        let mut stream = self.begin(operation, &input).await?;
        let mut answer = Answer::default();
        let mut whole = Vec::new();
        while let Some(message) = stream.message().await? {
            match message.kind.unwrap() {
                Kind::Progress(said) => answer.progress.push((said.fraction, said.message)),
                Kind::Log(said) => answer.logs.push((said.level, said.message)),
                Kind::Chunk(piece) => {
                    answer.chunks += 1;
                    whole.extend_from_slice(&piece);
                }
                Kind::Result(result) => {
                    let text = match result.output {
                        Some(Payload { kind: Some(payload::Kind::Json(text)) }) => text.into_bytes(),
                        None => std::mem::take(&mut whole),
                        other => panic!("{other:?}"),
                    };
                    answer.output = serde_json::from_slice(&text).unwrap();
                }
            }
        }
        Ok(answer)
    }
}

/// npm packages in a folder that stays, or why there are none.
pub(crate) fn npm(packages: &[&str], folder: &str) -> Result<PathBuf, String> {
    static ONE: OnceLock<std::sync::Mutex<()>> = OnceLock::new();
    let _one = ONE.get_or_init(Default::default).lock().unwrap();
    let version =
        Command::new("node").arg("--version").output().map_err(|error| format!("node is not here: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.unwrap_or_default() < 18 {
        return Err(format!("node is {version}, and 18 is needed"));
    }
    let folder = std::env::temp_dir().join(folder);
    let there = |package: &&str| folder.join("node_modules").join(package).join("package.json").exists();
    if !packages.iter().all(there) {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), "{\"private\": true}").unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).args(packages).current_dir(&folder);
        let done = npm.output().map_err(|error| format!("npm is not here: {error}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            return Err(format!("npm does not install {packages:?}: {}", said.lines().last().unwrap_or_default()));
        }
    }
    Ok(folder)
}

/// Says why a test was left out, where a person sees it.
pub(crate) fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}
