//! The conformance example as a process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use consort_sdk::Code;
use consort_sdk::proto::plugin as wire;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use wire::invoke_response::Kind;
use wire::plugin_service_client::PluginServiceClient;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// Built by cargo with the tests, in the folder beside theirs.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/conformance-plugin-rust")
}

struct Subject {
    child: Child,
    channel: Channel,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Default)]
struct Seen {
    progress: usize,
    logs: usize,
    chunks: Vec<usize>,
    output: Value,
    media_type: String,
    would: Vec<String>,
    actions: Vec<String>,
}

impl Subject {
    async fn start() -> Subject {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let mut child = Command::new(program())
            .env("CONSORT_PLUGIN_COOKIE", "consort-plugin-host")
            .env("CONSORT_PLUGIN_PROTOCOLS", "1-1")
            .env("CONSORT_PLUGIN_SOCKET", &socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("cargo build -p consort-sdk --features plugin --example conformance-plugin-rust");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, format!("1|1|unix|{}|grpc", socket.display()));
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
        Subject { child, channel, _folder: folder }
    }

    /// Started and configured.
    async fn up() -> Subject {
        let subject = Subject::start().await;
        subject.client().configure(wire::ConfigureRequest::default()).await.unwrap();
        subject
    }

    fn client(&self) -> PluginServiceClient<Channel> {
        PluginServiceClient::new(self.channel.clone()).max_decoding_message_size(5 * 1024 * 1024)
    }

    async fn open(
        &self,
        operation: &str,
        input: Value,
        dry_run: bool,
    ) -> Result<Streaming<wire::InvokeResponse>, Status> {
        let mut request = Request::new(wire::InvokeRequest {
            operation: operation.to_owned(),
            input: Some(consort_sdk::payload::text(input.to_string())),
            dry_run,
            ..wire::InvokeRequest::default()
        });
        request.set_timeout(LONG);
        Ok(self.client().invoke(request).await?.into_inner())
    }

    async fn call(&self, operation: &str, input: Value, dry_run: bool) -> Result<Seen, Status> {
        let mut stream = self.open(operation, input, dry_run).await?;
        let mut seen = Seen::default();
        while let Some(message) = stream.message().await? {
            match message.kind.unwrap() {
                Kind::Progress(_) => seen.progress += 1,
                Kind::Log(_) => seen.logs += 1,
                Kind::Chunk(bytes) => seen.chunks.push(bytes.len()),
                Kind::Result(result) => {
                    if let Some(consort_sdk::proto::blob::payload::Kind::Json(text)) =
                        result.output.unwrap_or_default().kind
                    {
                        seen.output = serde_json::from_str(&text).unwrap();
                    }
                    (seen.media_type, seen.would, seen.actions) = (result.media_type, result.would, result.actions);
                }
            }
        }
        Ok(seen)
    }

    async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(LONG, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

#[tokio::test]
async fn by_hand_it_says_what_it_is() {
    let done = Command::new(program()).env_clear().stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(done.stdout.is_empty());
    assert!(String::from_utf8(done.stderr).unwrap().contains("started by the mesh"));
}

#[tokio::test]
async fn it_says_who_it_is_and_that_it_is_well() {
    let subject = Subject::start().await;
    let hello = subject.client().hello(wire::HelloRequest::default()).await.unwrap().into_inner();
    assert_eq!((hello.name.as_str(), hello.operations.len()), ("conformance-rust", 7));
    assert!(hello.operations.iter().all(|operation| operation.input_schema.is_some()));
    assert!(hello.sdk.starts_with("rust "));
    let mut health = HealthClient::new(subject.channel.clone());
    let said = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(said.get_ref().status, 1);
    let early = subject.call("echo", json!({"text": ""}), false).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "it is not configured yet");
}

#[tokio::test]
async fn it_does_what_it_is_asked() {
    let subject = Subject::up().await;
    let text = json!({"text": "\u{1F600} é \\ \" \n"});
    assert_eq!(subject.call("echo", text.clone(), false).await.unwrap().output, text);
    let count = subject.call("count", json!({"to": 5}), false).await.unwrap();
    assert_eq!((count.progress, count.logs, count.output), (5, 5, json!({"total": 15})));
    let large = subject.call("large", json!({"mib": 16}), false).await.unwrap();
    assert_eq!((large.chunks, large.media_type.as_str()), (vec![1 << 20; 16], "application/octet-stream"));
    let fails =
        subject.call("fail", json!({"code": "RESOURCE_EXHAUSTED", "message": "as asked"}), false).await.unwrap_err();
    assert_eq!((fails.code(), fails.message()), (Code::ResourceExhausted, "as asked"));
    let file = tempfile::tempdir().unwrap().path().join("f");
    let dry = subject.call("write", json!({"path": file, "text": "x"}), true).await.unwrap();
    assert!(dry.would.len() == 1 && dry.actions.is_empty() && !file.exists());
}

#[tokio::test]
async fn cancelled_calls_end_and_drain_waits_for_the_rest() {
    let mut subject = Subject::up().await;
    // A thousand abandoned calls: if one kept its place, the last ones would be refused.
    for _ in 0..1_000 {
        drop(subject.open("sleep", json!({"ms": 60_000}), false).await.unwrap());
    }
    let began = Instant::now();
    let slow = subject.call("sleep", json!({"ms": 300}), false);
    let mut client = subject.client();
    let drain = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let grace = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        client.drain(wire::DrainRequest { grace }).await.unwrap().into_inner().cancelled
    };
    let (slow, cancelled) = tokio::join!(slow, drain);
    assert_eq!((slow.unwrap().output, cancelled), (json!({"slept_ms": 300}), 0));
    assert!(began.elapsed() < Duration::from_secs(10));
    let late = subject.call("echo", json!({"text": ""}), false).await.unwrap_err();
    assert_eq!(late.code(), Code::Unavailable);
    let pid = pid(&subject);
    let _ = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert_eq!(subject.ended().await, Some(0));
}

fn pid(subject: &Subject) -> String {
    subject.child.id().unwrap().to_string()
}

#[tokio::test]
async fn drain_cancels_what_takes_too_long() {
    let subject = Subject::up().await;
    let _stuck = subject.open("sleep", json!({"ms": 60_000}), false).await.unwrap();
    let grace = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let drained = subject.client().drain(wire::DrainRequest { grace }).await.unwrap().into_inner();
    assert_eq!(drained.cancelled, 1);
}

#[tokio::test]
async fn it_ends_with_the_mesh_even_when_calls_are_in_work() {
    let mut subject = Subject::up().await;
    let _stuck = subject.open("sleep", json!({"ms": 60_000}), false).await.unwrap();
    drop(subject.child.stdin.take());
    assert_eq!(subject.ended().await, Some(0));
}

#[tokio::test]
async fn a_crash_is_one() {
    let mut subject = Subject::up().await;
    assert!(subject.call("crash", json!({}), false).await.is_err());
    assert_eq!(subject.ended().await, Some(7));
}
