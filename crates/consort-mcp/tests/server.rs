//! The server on the wire: messages as clients of each version send them, before a fake mesh.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod fakes;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use consort_mcp::server::{McpServer, Options};
use fakes::{FakePlugins, FakeWorkflows};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

struct Client {
    server: McpServer,
    plugins: Arc<FakePlugins>,
    workflows: Arc<FakeWorkflows>,
    session: Option<String>,
}

/// An answer: its status, its session, and its messages, of JSON or of events.
struct Said {
    status: StatusCode,
    session: Option<String>,
    messages: Vec<Value>,
}

impl Said {
    fn last(&self) -> &Value {
        self.messages.last().unwrap_or(&Value::Null)
    }
}

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::default();
    change(&mut options);
    let (plugins, workflows) = (Arc::new(FakePlugins::default()), Arc::new(FakeWorkflows::default()));
    let server = McpServer::new(plugins.clone(), Some(workflows.clone()), None, options);
    Client { server, plugins, workflows, session: None }
}

fn open() -> Client {
    client(|options| options.allow = vec!["*".to_owned()])
}

const CURRENT: &str = "2026-07-28";

impl Client {
    fn request(&self, method: Method, body: String, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri("/mcp")
            .header("host", "127.0.0.1:1234")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    }

    async fn post(&self, body: String, headers: &[(&str, &str)]) -> Said {
        let answer = self.server.answer(self.request(Method::POST, body, headers)).await;
        let status = answer.status();
        let session = answer.headers().get("mcp-session-id").map(|value| value.to_str().unwrap().to_owned());
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let messages = match serde_json::from_str::<Value>(&text) {
            Ok(message) => vec![message],
            Err(_) => {
                text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()).collect()
            }
        };
        Said { status, session, messages }
    }

    /// A request of the current version: it carries all that is needed.
    async fn current(&self, method: &str, mut params: Value) -> Said {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = CURRENT.into();
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "tester", "version": "1"});
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {"form": {}}});
        let name = params["name"].as_str().map(str::to_owned);
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut headers = vec![("mcp-protocol-version", CURRENT), ("mcp-method", method)];
        if let Some(name) = &name {
            headers.push(("mcp-name", name));
        }
        self.post(body, &headers).await
    }

    async fn tool(&self, name: &str, arguments: Value) -> Value {
        self.current("tools/call", json!({"name": name, "arguments": arguments})).await.last().clone()
    }

    /// Begins a session of an older version.
    async fn initialize(&mut self, version: &str, capabilities: Value) -> Value {
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "old", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let said = self.post(body.to_string(), &[]).await;
        assert_eq!(said.status, StatusCode::OK);
        self.session.clone_from(&said.session);
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.post(done.to_string(), &[]).await.status, StatusCode::ACCEPTED);
        said.last()["result"].clone()
    }
}

fn names(said: &Value) -> Vec<&str> {
    said["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_current_version_needs_no_session() {
    let client = client(|_| {});
    let said = client.current("server/discover", json!({})).await;
    assert_eq!(said.session, None);
    let versions =
        said.last()["result"]["supportedVersions"].as_array().unwrap_or_else(|| panic!("{:?}", said.messages));
    assert!(versions.contains(&json!(CURRENT)), "{versions:?}");

    let listed = client.current("tools/list", json!({})).await;
    // By default what only reads, and the state of runs; a plugin that was refused has nothing to call.
    let wanted = ["git_echo", "git_fail", "git_list", "git_slow", "pics_picture", "workflow_status"];
    assert_eq!(names(listed.last()), wanted);
    let echo = &listed.last()["result"]["tools"][0];
    assert_eq!(echo["inputSchema"]["required"], json!(["text"]));
    assert_eq!(echo["outputSchema"]["required"], json!(["echo"]));
    assert_eq!(echo["annotations"]["readOnlyHint"], true);
    assert!(listed.last()["result"]["tools"][2].get("outputSchema").is_none(), "an array is no output of a tool");
}

#[tokio::test]
async fn operations_are_called() {
    let client = open();
    let said = client.tool("git_echo", json!({"text": "hällo"})).await;
    assert_eq!(said["result"]["structuredContent"], json!({"echo": "hällo"}), "{said}");
    assert_eq!(said["result"]["content"][0]["text"], "{\"echo\":\"hällo\"}");
    let said = client.tool("git_list", json!({})).await;
    assert_eq!(
        (&said["result"]["content"][0]["text"], said["result"].get("structuredContent")),
        (&json!("[1,2]"), None)
    );
    // What an MCP server said goes out as it came.
    let said = client.tool("pics_picture", json!({})).await;
    assert_eq!(said["result"]["content"][0]["mimeType"], "image/png");
    let said = client.tool("git_fail", json!({})).await;
    assert_eq!(said["result"]["isError"], true);
    assert_eq!(said["result"]["content"][0]["text"], "NOT_FOUND: there is no such commit");
    let said = client.tool("git_push", json!({})).await;
    assert_eq!(said["result"]["content"][0]["text"], "PLUGIN_REFUSED: the fake refuses");
}

#[tokio::test]
async fn mistakes_name_their_field() {
    let client = open();
    let said = client.tool("git_echo", json!({"text": 5})).await;
    assert_eq!(said["error"]["code"], -32602, "{said}");
    assert_eq!(said["error"]["data"]["violations"][0]["field"], "arguments.text");
    let said = client.tool("git_ecko", json!({})).await;
    assert_eq!(said["error"]["code"], -32602);
    assert!(said["error"]["message"].as_str().unwrap().contains("did you mean `git_echo`?"), "{said}");
    let said = client.tool("workflow_start", json!({"workflw": "deploy", "wait_s": "x"})).await;
    let fields: Vec<&Value> =
        said["error"]["data"]["violations"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["arguments.workflow", "arguments.wait_s", "arguments.workflw"]);
    let said = client.tool("workflow_start", json!({"workflow": "deploy", "inputs": {"rate": "x"}})).await;
    assert_eq!(said["error"]["data"]["violations"][0]["field"], "inputs.rate");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_there() {
    let closed = client(|options| options.allow = vec!["git.t*".to_owned(), "read:pics.*".to_owned()]);
    let listed = closed.current("tools/list", json!({})).await;
    assert_eq!(names(listed.last()), ["git_tag", "pics_picture"]);
    for name in ["git_echo", "git_push", "workflow_start", "workflow_status", "decision_answer", "broken_x"] {
        assert_eq!(closed.tool(name, json!({})).await["error"]["code"], -32602, "{name}");
    }
    let some = client(|options| {
        options.allow = vec!["workflow_start".to_owned()];
        options.workflows = vec!["review*".to_owned()];
    });
    let said = some.tool("workflow_start", json!({"workflow": "deploy"})).await;
    assert_eq!(said["error"]["data"]["violations"][0]["field"], "arguments.workflow");
}

#[tokio::test]
async fn older_versions_have_sessions() {
    for version in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let mut client = client(|_| {});
        let info = client.initialize(version, json!({})).await;
        assert_eq!(info["protocolVersion"], version);
        assert!(client.session.is_some());
        let meta = json!({"progressToken": "t"});
        let params = json!({"name": "git_echo", "arguments": {"text": "a"}, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
        let said = client.post(body.to_string(), &[("mcp-protocol-version", version)]).await;
        let told: Vec<&Value> = said.messages.iter().filter(|one| one["method"] == "notifications/progress").collect();
        assert_eq!(told.len(), 2, "{:?}", said.messages);
        assert_eq!((&told[1]["params"]["progress"], &told[1]["params"]["message"]), (&json!(1.0), &json!("whole")));
        assert_eq!(said.last()["result"]["structuredContent"], json!({"echo": "a"}));
    }
}

#[tokio::test]
async fn limits_hold() {
    let mut small = client(|options| {
        options.sessions = 1;
        options.body = 10_000;
    });
    let said = small.post("x".repeat(10_001), &[]).await;
    assert_eq!((said.status, &said.last()["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(-32600)));
    small.initialize("2025-11-25", json!({})).await;
    small.session = None;
    let said = small.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize"}).to_string(), &[]).await;
    assert_eq!(said.status, StatusCode::SERVICE_UNAVAILABLE);
    // The current version needs none.
    assert_eq!(small.current("tools/list", json!({})).await.status, StatusCode::OK);
    let small = client(|_| {});
    for (body, header, status) in [
        ("{}", ("host", "evil.example"), StatusCode::FORBIDDEN),
        ("nonsense", ("x", "y"), StatusCode::BAD_REQUEST),
        ("{}", ("content-type", "text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let mut request = small.request(Method::POST, body.to_owned(), &[]);
        request.headers_mut().insert(header.0, header.1.parse().unwrap());
        let found = small.server.answer(request).await.status();
        assert!(found == status || (body == "nonsense" && found.is_client_error()), "{header:?}: {found}");
    }
    assert!(small.server.answer(small.request(Method::PUT, String::new(), &[])).await.status().is_client_error());
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it happens");
}

#[tokio::test]
async fn a_cancellation_cancels_the_call() {
    let mut client = open();
    client.initialize("2025-11-25", json!({})).await;
    let body = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "git_slow", "_meta": {"progressToken": 1}}});
    let mut answer = client.server.answer(client.request(Method::POST, body.to_string(), &[])).await.into_body();
    loop {
        let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        if String::from_utf8_lossy(&piece).contains("begun") {
            break;
        }
    }
    let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    client.post(body.to_string(), &[]).await;
    let plugins = client.plugins.clone();
    until(|| plugins.cancelled.load(Ordering::SeqCst) == 1).await;

    // Without a session, going away is the cancellation.
    client.session = None;
    let leaving = client.current("tools/call", json!({"name": "git_slow", "arguments": {}}));
    assert!(tokio::time::timeout(Duration::from_millis(300), leaving).await.is_err());
    until(|| plugins.cancelled.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn workflows_are_started_and_decisions_answered() {
    let client = open();
    let said = client.tool("workflow_start", json!({"workflow": "deploy"})).await;
    assert_eq!(said["result"]["structuredContent"]["run"], "run-1", "{said}");
    let said = client.tool("decisions_list", json!({"run": "run-1"})).await;
    assert_eq!(said["result"]["structuredContent"]["decisions"][0]["options"][1]["option"], "no");
    let answer = json!({"decision": "decision-1", "option": "maybe", "by": "ada"});
    let said = client.tool("decision_answer", answer).await;
    assert_eq!(said["error"]["data"]["violations"][0]["field"], "option");
    let answer = json!({"decision": "decision-1", "option": "no", "by": "ada"});
    assert_eq!(client.tool("decision_answer", answer).await["result"]["structuredContent"]["answered"], "decision-1");
    let said = client.tool("workflow_status", json!({"run": "run-1"})).await;
    // What a client says of the person is on record with what is known: the client itself.
    assert_eq!(said["result"]["structuredContent"]["output"]["by"], "ada via mcp:tester");
    let said = client.tool("workflow_status", json!({"run": "run-2"})).await;
    assert_eq!(said["result"]["isError"], true);
}

#[tokio::test]
async fn a_question_goes_to_a_newer_client_as_a_round_trip() {
    let client = open();
    let call = json!({"name": "workflow_start", "arguments": {"workflow": "deploy", "wait_s": 20}});
    let said = client.current("tools/call", call.clone()).await;
    let result = &said.last()["result"];
    assert_eq!(result["resultType"], "input_required", "{:?}", said.messages);
    let asked = &result["inputRequests"]["decision"]["params"];
    assert_eq!(asked["message"], "Deploy to production?");
    assert_eq!(asked["requestedSchema"]["properties"]["option"]["enum"], json!(["yes", "no"]));

    let mut back = call.clone();
    back["requestState"] = "forged".into();
    assert_eq!(client.current("tools/call", back.clone()).await.last()["error"]["code"], -32602);
    back["requestState"] = result["requestState"].clone();
    back["inputResponses"] =
        json!({"decision": {"action": "accept", "content": {"option": "yes", "reason": "friday"}}});
    let said = client.current("tools/call", back).await;
    let done = &said.last()["result"]["structuredContent"];
    assert_eq!(
        (&done["state"], &done["output"]["form"]),
        (&json!("SUCCEEDED"), &json!({"reason": "friday"})),
        "{:?}",
        said.messages
    );
    assert_eq!(client.workflows.answer.lock().unwrap().as_ref().unwrap().by, "mcp:tester");
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_hears_of_the_question() {
    let mut client = open();
    client.initialize("2025-11-25", json!({})).await;
    let params = json!({"name": "workflow_start", "arguments": {"workflow": "deploy", "wait_s": 20}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let said = client.post(body.to_string(), &[]).await;
    let done = &said.last()["result"]["structuredContent"];
    assert_eq!(
        (&done["is_over"], &done["decisions"][0]["decision"]),
        (&json!(false), &json!("decision-1")),
        "{:?}",
        said.messages
    );
}
