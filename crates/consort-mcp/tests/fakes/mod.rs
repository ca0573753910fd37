//! A fake mesh: operations that answer by themselves, and a workflow that asks one question.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each user has its part")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use consort_core::event::{Code, Failure};
use consort_core::plugin::{
    Effect, Invocation, Invoke, InvokeNews, Operation, OperationName, Outcome, Permissions, PluginAction, PluginState,
    PluginView, Plugins,
};
use consort_core::{Data, Error, Json};
use consort_mcp::server::{Answer, DecisionView, RunView, Workflows};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Plugins that are none.
#[derive(Default)]
pub(crate) struct FakePlugins {
    /// Calls that were dropped before their end.
    pub(crate) cancelled: Arc<AtomicU32>,
}

fn operation(name: &str, effect: Effect, input: Value, output: Option<Value>) -> Arc<Operation> {
    Arc::new(Operation {
        name: name.into(),
        description: format!("The fake `{name}`"),
        input_schema: Json::of(&input),
        output_schema: output.map(|schema| Json::of(&schema)),
        effect,
        timeout: Duration::from_secs(60),
        dry_run: false,
    })
}

fn view(id: &str, language: &str, state: PluginState, operations: Vec<Arc<Operation>>) -> PluginView {
    PluginView {
        id: id.into(),
        description: String::new(),
        version: "1.0.0".into(),
        state,
        reason: String::new(),
        operations,
        wanted: Permissions::default(),
        granted: Permissions::default(),
        restarts: 0,
        calls: 0,
        failures: 0,
        in_flight: 0,
        latency: None,
        memory: 0,
        pid: None,
        started_at: None,
        source: String::new(),
        language: language.to_owned(),
        digest: String::new(),
        sandbox: Vec::new(),
    }
}

struct FakeCall {
    news: std::vec::IntoIter<Result<InvokeNews, Error>>,
    hangs: bool,
    done: bool,
    cancelled: Arc<AtomicU32>,
}

impl Drop for FakeCall {
    fn drop(&mut self) {
        if !self.done {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Invocation for FakeCall {
    async fn next(&mut self) -> Option<Result<InvokeNews, Error>> {
        tokio::time::sleep(Duration::from_millis(60)).await;
        if self.hangs && self.news.len() == 0 {
            std::future::pending::<()>().await;
        }
        let next = self.news.next();
        self.done = !matches!(next, Some(Ok(InvokeNews::Progress(..) | InvokeNews::Log(..))));
        next
    }
}

#[async_trait]
impl Plugins for FakePlugins {
    async fn describe(&self, name: &OperationName, _: Option<&str>) -> Result<Arc<Operation>, Error> {
        Err(Error::not_found("operation", name))
    }

    async fn invoke(&self, call: Invoke) -> Result<Box<dyn Invocation>, Error> {
        let Data::Inline(input) = &call.input else { return Err(Error::bad_field("input", "is a blob")) };
        let input = input.value();
        let done = |result| {
            let outcome = Outcome {
                result,
                would: Vec::new(),
                actions: Vec::new(),
                took: Duration::ZERO,
                version: "1.0.0".into(),
            };
            Ok(InvokeNews::Done(outcome))
        };
        let progress = |fraction, said: &str| Ok(InvokeNews::Progress(fraction, said.to_owned()));
        let news = match &*call.operation.operation {
            "echo" => {
                if !input["text"].is_string() {
                    return Err(Error::bad_field("input.text", format!("`{}` is no string", input["text"])));
                }
                vec![progress(0.5, "half"), progress(1.0, "whole"), done(Ok(Data::of(&json!({"echo": input["text"]}))))]
            }
            "fail" => vec![done(Err(Failure::new(Code::NotFound, "there is no such commit")))],
            "slow" => vec![progress(0.1, "begun")],
            "picture" => {
                vec![done(Ok(Data::of(
                    &json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}),
                )))]
            }
            "list" => vec![done(Ok(Data::of(&json!([1, 2]))))],
            _ => return Err(Error::precondition("PLUGIN_REFUSED", "the fake refuses")),
        };
        let hangs = &*call.operation.operation == "slow";
        Ok(Box::new(FakeCall { news: news.into_iter(), hangs, done: false, cancelled: self.cancelled.clone() }))
    }

    fn list(&self) -> Vec<PluginView> {
        let text = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
        let echoed = json!({"type": "object", "properties": {"echo": {"type": "string"}}, "required": ["echo"]});
        let any = || json!({"type": "object"});
        vec![
            view("broken", "rust", PluginState::Refused, vec![operation("x", Effect::Read, any(), None)]),
            view(
                "git",
                "rust",
                PluginState::Running,
                vec![
                    operation("echo", Effect::Read, text, Some(echoed)),
                    operation("fail", Effect::Read, any(), None),
                    operation("slow", Effect::Read, any(), None),
                    operation("list", Effect::Read, any(), Some(json!({"type": "array"}))),
                    operation("push", Effect::Write, any(), None),
                    operation("tag", Effect::IdempotentWrite, any(), None),
                ],
            ),
            view("pics", "mcp", PluginState::Running, vec![operation("picture", Effect::Read, any(), None)]),
        ]
    }

    async fn install(&self, _: &Path, _: bool, _: bool) -> Result<PluginView, Error> {
        Err(Error::internal("the fake installs nothing"))
    }

    async fn uninstall(&self, _: &str) -> Result<(), Error> {
        Err(Error::internal("the fake removes nothing"))
    }

    async fn reload(&self, _: &str, _: bool) -> Result<PluginView, Error> {
        Err(Error::internal("the fake reloads nothing"))
    }

    fn actions(&self, _: Option<&str>, _: Option<u64>, _: usize) -> Vec<PluginAction> {
        Vec::new()
    }
}

/// A workflow `deploy` whose run asks whether it may, and yields the answer.
#[derive(Default)]
pub(crate) struct FakeWorkflows {
    pub(crate) answer: Mutex<Option<Answer>>,
    changed: Notify,
}

impl FakeWorkflows {
    fn view(&self) -> RunView {
        let answer = self.answer.lock().unwrap().clone();
        let run = RunView { run: "run-1".into(), workflow: "deploy".into(), ..RunView::default() };
        match answer {
            None => {
                let options =
                    vec![("yes".to_owned(), "Deploy it".to_owned()), ("no".to_owned(), "Leave it".to_owned())];
                let decision = DecisionView {
                    decision: "decision-1".into(),
                    run: "run-1".into(),
                    step: "ask".into(),
                    question: "Deploy to production?".into(),
                    options,
                    form: Some(json!({"type": "object", "properties": {"reason": {"type": "string"}}})),
                    deadline: String::new(),
                };
                RunView { state: "RUNNING".into(), decisions: vec![decision], ..run }
            }
            Some(answer) => {
                let output = json!({"option": answer.option, "form": answer.form, "by": answer.by});
                RunView { state: "SUCCEEDED".into(), is_over: true, output: Some(output), ..run }
            }
        }
    }
}

#[async_trait]
impl Workflows for FakeWorkflows {
    async fn start(&self, workflow: &str, inputs: Value) -> Result<RunView, Error> {
        if workflow != "deploy" {
            return Err(Error::not_found("workflow", workflow));
        }
        if inputs.get("rate").is_some_and(|rate| !rate.is_number()) {
            return Err(Error::bad_field("inputs.rate", format!("`{}` is no number", inputs["rate"])));
        }
        *self.answer.lock().unwrap() = None;
        Ok(RunView { decisions: Vec::new(), ..self.view() })
    }

    async fn status(&self, run: &str) -> Result<RunView, Error> {
        if run == "run-1" { Ok(self.view()) } else { Err(Error::not_found("run", run)) }
    }

    async fn wait(&self, _: &str, known: &[String], patience: Duration) -> Result<RunView, Error> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let view = self.view();
                if view.is_over || view.decisions.iter().any(|decision| !known.contains(&decision.decision)) {
                    return view;
                }
                changed.await;
            }
        };
        Ok(tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| self.view()))
    }

    async fn decisions(&self, _: Option<&str>, _: usize) -> Result<Vec<DecisionView>, Error> {
        Ok(self.view().decisions)
    }

    async fn answer(&self, answer: Answer) -> Result<(), Error> {
        if !["yes", "no"].contains(&answer.option.as_str()) {
            return Err(Error::bad_field("option", format!("`{}` is no option; choose yes or no", answer.option)));
        }
        *self.answer.lock().unwrap() = Some(answer);
        self.changed.notify_waiters();
        Ok(())
    }
}
