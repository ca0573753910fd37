//! The adapter before the npm servers, over standard input and output and over HTTP. Left out, with a word, where there is no node.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{npm, skipped, start};
use consort_proto::plugin::Effect;
use serde_json::json;
use tonic::Code;

const PACKAGES: [&str; 2] = ["@modelcontextprotocol/server-everything", "@modelcontextprotocol/server-filesystem"];

/// The program of a package, or why there is none.
fn script(package: &str) -> Result<String, String> {
    let folder = npm(&PACKAGES, "consort-mcp-npm-servers")?;
    Ok(folder.join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js").display().to_string())
}

#[tokio::test]
async fn everything_is_a_plugin() {
    let script = match script("server-everything") {
        Ok(script) => script,
        Err(why) => return skipped("everything_is_a_plugin", &why),
    };
    let adapter = start(&json!({"id": "everything", "command": ["node", script, "stdio"]})).await.unwrap();
    check_everything(&adapter).await;
    adapter.running.stop().await;
}

#[tokio::test]
async fn everything_over_http_is_a_plugin() {
    let script = match script("server-everything") {
        Ok(script) => script,
        Err(why) => return skipped("everything_over_http_is_a_plugin", &why),
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut node = Command::new("node");
    node.args([&script, "streamableHttp"]).env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Ended(node.spawn().unwrap());
    let up = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), up).await.expect("the server listens");
    let adapter = start(&json!({"id": "everything", "url": format!("http://127.0.0.1:{port}/mcp")})).await.unwrap();
    check_everything(&adapter).await;
    adapter.running.stop().await;
}

/// Ends a process when the test ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn check_everything(adapter: &common::Adapter) {
    let hello = &adapter.hello;
    assert!(hello.operations.len() >= 10, "{}", hello.operations.len());
    assert_ne!(hello.version, "0.0.0");
    let echoed = adapter.call("echo", json!({"message": "hällo"})).await.unwrap().output;
    assert_eq!(echoed, json!({"content": [{"type": "text", "text": "Echo: hällo"}]}));
    let summed = adapter.call("get-sum", json!({"a": 2, "b": 3})).await.unwrap().output;
    assert!(summed["content"][0]["text"].as_str().unwrap().contains('5'), "{summed}");
    // Structured content is the output, as the tool's own schema says.
    let weather = adapter.call("get-structured-content", json!({"location": "New York"})).await.unwrap().output;
    assert!(weather["temperature"].is_number(), "{weather}");
    assert!(adapter.operation("get-structured-content").output_schema.is_some());
    let image = adapter.call("get-tiny-image", json!({})).await.unwrap().output;
    let blocks = image["content"].as_array().unwrap();
    assert!(blocks.iter().any(|block| block["type"] == "image" && block["mimeType"] == "image/png"), "{blocks:?}");
    let long = adapter.call("trigger-long-running-operation", json!({"duration": 1, "steps": 4})).await.unwrap();
    assert!(long.progress.iter().any(|(fraction, _)| *fraction > 0.0), "{:?}", long.progress);
    let status = adapter.call("get-sum", json!({"a": "x"})).await.unwrap_err();
    assert!(matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument), "{status}");
}

#[tokio::test]
async fn files_are_a_plugin() {
    let script = match script("server-filesystem") {
        Ok(script) => script,
        Err(why) => return skipped("files_are_a_plugin", &why),
    };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::write(root.join("a.txt"), "one\ntwo\n").unwrap();
    std::fs::write(root.join("large.txt"), "z".repeat(2 * 1024 * 1024)).unwrap();
    let config = json!({
        "id": "files", "command": ["node", script, root.display().to_string()],
        "tools": ["read_*", "write_file", "list_directory"], "effects": {"write_file": "idempotent_write"}});
    let adapter = start(&config).await.unwrap();
    assert!(adapter.hello.operations.iter().all(|one| one.name != "move_file"));
    assert_eq!(adapter.operation("read_text_file").effect(), Effect::Read);
    assert_eq!(adapter.operation("write_file").effect(), Effect::IdempotentWrite);
    let path = |name: &str| root.join(name).display().to_string();
    let read = adapter.call("read_text_file", json!({"path": path("a.txt")})).await.unwrap().output;
    assert_eq!(read["content"], "one\ntwo\n", "{read}");
    adapter.call("write_file", json!({"path": path("b.txt"), "content": "new"})).await.unwrap();
    assert_eq!(std::fs::read_to_string(root.join("b.txt")).unwrap(), "new");
    let large = adapter.call("read_text_file", json!({"path": path("large.txt")})).await.unwrap();
    assert!(
        large.chunks >= 2 && large.output["content"].as_str().unwrap().len() == 2 * 1024 * 1024,
        "{}",
        large.chunks
    );
    let status = adapter.call("read_text_file", json!({"path": "/etc/passwd"})).await.unwrap_err();
    assert!(status.code() == Code::FailedPrecondition && status.message().contains("denied"), "{status}");
}
