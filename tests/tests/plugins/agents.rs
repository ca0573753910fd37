//! Which agents may call which operations, and secrets of MCP servers: what the operator's file says, and says after a reload.

use std::fs;
use std::time::Duration;

use consort_proto::agent::worker_service_client::WorkerServiceClient;
use consort_proto::agent::{LeaseRef, LeaseTasksRequest};
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin::{
    InvokeOperationOnceRequest, InvokeOperationOnceResponse, InvokeOperationRequest, Plugin, PluginState,
    ReloadPluginRequest,
};
use consort_sdk::StartOptions;
use consort_testkit::{refusal, root, soon};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::kit::{Bench, copy_python};

impl Bench {
    /// A task of an agent, which stays leased.
    async fn leased(&self, agent: &str) -> LeaseRef {
        let client = self.mesh.client();
        client.apply(&format!("name: {agent}\nsteps: [{{id: work, agent: {agent}}}]")).await.unwrap();
        client.start(agent, &json!({}), StartOptions::default()).await.unwrap();
        let lease = LeaseTasksRequest {
            worker_id: agent.to_owned(),
            session_id: uuid::Uuid::new_v4().to_string(),
            agents: vec![agent.to_owned()],
            wait: Some(Duration::from_secs(15).try_into().unwrap()),
            ..Default::default()
        };
        let mut workers = WorkerServiceClient::new(client.channel());
        let task = soon(workers.lease_tasks(lease)).await.unwrap().into_inner().assignments.remove(0);
        LeaseRef { task: task.task, lease_token: task.lease_token }
    }

    async fn call_as(
        &self,
        task: &LeaseRef,
        operation: &str,
        input: Value,
    ) -> Result<InvokeOperationOnceResponse, Status> {
        let call = InvokeOperationRequest {
            operation: operation.to_owned(),
            input: Some(Payload { kind: Some(payload::Kind::Json(input.to_string())) }),
            task: Some(task.clone()),
            ..InvokeOperationRequest::default()
        };
        let request = InvokeOperationOnceRequest { call: Some(call) };
        self.mesh.client().plugins().invoke_operation_once(request).await.map(tonic::Response::into_inner)
    }

    async fn reload(&self, id: &str) -> Result<Plugin, Status> {
        let request = ReloadPluginRequest { name: format!("plugins/{id}"), ..ReloadPluginRequest::default() };
        self.mesh.client().plugins().reload_plugin(request).await.map(tonic::Response::into_inner)
    }

    /// Changes the operator's file.
    fn edit(&self, from: &str, to: &str) {
        let file = self.folder.path().join("plugins.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    }
}

#[tokio::test]
async fn an_agent_calls_what_the_operator_gives_it() {
    let plugins = "  conformance: {path: HERE/conformance, grant: all, agents: {coder: ['ec*'], '*': []}}";
    let mut bench = Bench::start(plugins, |folder| copy_python(&folder.join("conformance"))).await;
    let (coder, writer) = (bench.leased("coder").await, bench.leased("writer").await);
    let (text, count) = (json!({"text": "hi"}), json!({"to": 1}));
    bench.call_as(&coder, "conformance.echo", text.clone()).await.unwrap();
    let refused = bench.call_as(&coder, "conformance.count", count.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refusal(&refused)), (Code::PermissionDenied, "AGENT_DENIED".to_owned()));
    for part in
        ["agent `coder`", "`conformance.count`", "`coder: [\"ec*\", \"count\"]` under `plugins.conformance.agents`"]
    {
        assert!(refused.message().contains(part), "{part}: {}", refused.message());
    }
    let refused = bench.call_as(&writer, "conformance.echo", text.clone()).await.unwrap_err();
    assert!(refused.message().contains("agent `writer` may not call `conformance.echo`"), "{}", refused.message());
    // Clients and steps of workflows are no agents.
    assert_eq!(bench.yields("conformance.echo", text.clone()).await, text);
    let client = bench.mesh.client();
    client.apply("name: step\nsteps: [{id: a, call: conformance.count, with: {to: 1}}]").await.unwrap();
    let wait = StartOptions { wait: Some(Duration::from_secs(30)), ..StartOptions::default() };
    let ended = client.start("step", &json!({}), wait).await.unwrap();
    assert!(ended.error.is_none(), "{ended:?}");

    // What is written down counts from the next reload; what cannot be meant changes nothing.
    bench.edit("['ec*']", "['ec*', 'co unt']");
    let refused = bench.reload("conformance").await.unwrap_err();
    assert!(refused.message().contains("plugins.conformance.agents.coder[1]"), "{}", refused.message());
    bench.call_as(&coder, "conformance.echo", text.clone()).await.unwrap();
    bench.edit("'co unt'", "count");
    bench.call_as(&coder, "conformance.count", count.clone()).await.unwrap_err();
    bench.reload("conformance").await.unwrap();
    bench.call_as(&coder, "conformance.count", count).await.unwrap();
    bench.edit("grant: all", "grant: all, enabled: false");
    let refused = bench.reload("conformance").await.unwrap_err();
    assert!(refused.message().contains("is disabled in plugins.yaml"), "{}", refused.message());
    bench.mesh.stop().await;
}

/// SHA-256 of `swordfish`.
const DIGEST: &str = "b9f195c5cc7ef6afadbfbc42892ad47d3b24c6bc94bb510c4564a90a14e8b799";

#[tokio::test]
async fn an_mcp_server_gets_its_secrets_by_reference() {
    let python = root().join(".venv/bin/python").display().to_string();
    let server = root().join("tests/tests/plugins/mcp_server.py").display().to_string();
    let plugins = format!(
        "  small:\n    mcp: {{command: ['{python}', '{server}'], env: {{TOKEN: '${{secret:PASS}}'}}}}\n    \
         secrets: {{PASS: {{file: HERE/pass}}}}\n    sandbox: off\n    agents: {{coder: [shout]}}"
    );
    let mut bench = Bench::start(&plugins, |_| {}).await;
    let refused = bench.until("small", PluginState::Refused).await.state_reason;
    for part in ["`PASS`", "`mcp.env.TOKEN`", "/pass is empty or cannot be read", "consort plugins reload small"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    fs::write(bench.folder.path().join("pass"), "swordfish\n").unwrap();
    bench.reload("small").await.unwrap();
    assert_eq!(bench.yields("small.digest", json!({})).await, json!({"said": DIGEST}));

    // A tool of an MCP server is an operation like any other.
    let coder = bench.leased("coder").await;
    bench.call_as(&coder, "small.shout", json!({})).await.unwrap();
    let refused = bench.call_as(&coder, "small.digest", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    // The secret itself is told to nobody.
    let log = fs::read_to_string(bench.mesh.folder().join("server.log")).unwrap();
    let plugin = format!("{:?}", bench.plugin("small").await);
    bench.mesh.stop().await;
    assert!(!log.contains("swordfish") && !plugin.contains("swordfish"), "{log}\n{plugin}");
}
