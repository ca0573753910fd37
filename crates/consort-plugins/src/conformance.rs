//! What every plugin must do, tried on one: `consort plugin test FOLDER`.
//!
//! Some checks need operations that do something known: a plugin that has all of `echo`, `count`, `sleep`, `large`, `fail`, `crash` and `write`
//! (each SDK has such an example) is tried with them, too. What another plugin should be called with stands in its `consort-plugin-test.yaml`.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_core::Error;
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_client::PluginServiceClient;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use wire::invoke_response::Kind;

use crate::config::SandboxMode;
use crate::contract::Hello;
use crate::convert;
use crate::hold::{Held, Sandboxes, hold};
use crate::host::inline;
use crate::manifest::Manifest;
use crate::process::{Program, Running, start};
use crate::wire::Wire;

/// The file with calls to try.
pub const EXAMPLES: &str = "consort-plugin-test.yaml";
/// Operations of the plugin that each SDK has as its example. One alone may mean anything in another plugin.
const EXAMPLE: [&str; 7] = ["echo", "count", "sleep", "large", "fail", "crash", "write"];
/// How long a plugin may take to end.
const END: Duration = Duration::from_secs(5);

/// A thing that was tried.
#[derive(Debug)]
pub struct Check {
    /// What a plugin must do.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must.
    Passed,
    /// What went wrong, and what to do.
    Failed(String),
    /// Why it could not be tried.
    Skipped(String),
}

/// Calls to try.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Examples {
    /// Given to Configure.
    config: Value,
    calls: Vec<Example>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    operation: String,
    #[serde(default)]
    input: Option<Value>,
    /// What must come out, if it is known.
    #[serde(default)]
    output: Option<Value>,
    /// The code with which it must fail, for example `NOT_FOUND`.
    #[serde(default)]
    code: Option<String>,
}

type Outcome = Result<(), Trouble>;

enum Trouble {
    Wrong(String),
    Skip(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Wrong(why.into()))
}

fn skip<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Skip(why.into()))
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Wrong(error.message)
    }
}

/// Tries a plugin, held to what its manifest wants if there are `sandboxes`. `tell` hears each check as it ends. An error means that it cannot be tried at all.
pub async fn test(
    folder: &Path,
    sandboxes: Option<&Sandboxes>,
    tell: &mut dyn FnMut(&Check),
) -> Result<Vec<Check>, Error> {
    let folder = folder
        .canonicalize()
        .map_err(|error| Error::bad_field("folder", format!("`{}`: {error}", folder.display())))?;
    let manifest = Manifest::read(&folder)?;
    if manifest.protocol.is_none() {
        let said = format!("`{}` is a worker: it has no operations that could be tried", manifest.id);
        return Err(Error::precondition("PLUGIN_IS_WORKER", said));
    }
    let examples = match std::fs::read_to_string(folder.join(EXAMPLES)) {
        Ok(text) => serde_saphyr::from_str(&text)
            .map_err(|error| Error::bad_field(EXAMPLES, error.to_string().chars().take(500).collect::<String>()))?,
        Err(_) => Examples::default(),
    };
    let scratch = std::env::temp_dir().join(format!("consort-test-{:016x}", rand::random::<u64>()));
    let mut program = Program::without_mesh(&manifest, &folder, scratch.join("data"), manifest.limits.start())?;
    if let Some(sandboxes) = sandboxes {
        let granted = manifest.wanted(&folder, &program.data);
        let (manifest, folder, data, path) = (&manifest, &folder, &program.data, &program.path);
        let plugin = Held { manifest, folder, data, program: path, granted: &granted };
        program.hold = hold(sandboxes, SandboxMode::Required, plugin).await?;
    }
    let mut bench = Bench { manifest, program, examples, checks: Vec::new(), tell };
    bench.all().await;
    let checks = bench.checks;
    let _ = std::fs::remove_dir_all(scratch);
    Ok(checks)
}

struct Bench<'a> {
    manifest: Manifest,
    program: Program,
    examples: Examples,
    checks: Vec<Check>,
    tell: &'a mut dyn FnMut(&Check),
}

/// A process that is tried.
struct Subject {
    running: Running,
    client: PluginServiceClient<Wire>,
    hello: Hello,
}

/// What came out of a call.
#[derive(Default)]
struct Seen {
    progress: usize,
    logs: usize,
    bytes: u64,
    largest: usize,
    output: Option<Value>,
    would: Vec<String>,
}

impl Subject {
    fn has(&self, operations: &[&str]) -> Result<(), Trouble> {
        match operations.iter().find(|name| !self.hello.operations.contains_key(**name)) {
            Some(name) => skip(format!("it has no operation `{name}`")),
            None => Ok(()),
        }
    }

    async fn call(&self, operation: &str, input: Value, limit: Duration, dry_run: bool) -> Result<Seen, Status> {
        let mut request = Request::new(wire::InvokeRequest {
            operation: operation.to_owned(),
            input: Some(inline(&input.to_string())),
            call_id: uuid::Uuid::new_v4().to_string(),
            idempotency_key: uuid::Uuid::new_v4().to_string(),
            dry_run,
            origin: None,
        });
        request.set_timeout(limit);
        let mut seen = Seen::default();
        let call = async {
            let mut stream = self.client.clone().invoke(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                match message.kind {
                    Some(Kind::Progress(_)) => seen.progress += 1,
                    Some(Kind::Log(_)) => seen.logs += 1,
                    Some(Kind::Chunk(bytes)) => {
                        seen.bytes += bytes.len() as u64;
                        seen.largest = seen.largest.max(bytes.len());
                    }
                    Some(Kind::Result(result)) => {
                        seen.would = result.would;
                        let output = result.output.and_then(|output| output.kind);
                        seen.output = Some(match output {
                            Some(consort_proto::blob::payload::Kind::Json(text)) => serde_json::from_str(&text)
                                .map_err(|error| Status::data_loss(format!("its output is not JSON: {error}")))?,
                            _ => Value::Null,
                        });
                    }
                    None => {}
                }
            }
            Ok(())
        };
        match tokio::time::timeout(limit + Duration::from_secs(2), call).await {
            Ok(Ok(())) if seen.output.is_none() => Err(Status::data_loss("the stream ended without a result")),
            Ok(Ok(())) => Ok(seen),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::data_loss("it did not end although its deadline was over")),
        }
    }

    async fn code(&self, operation: &str, input: Value, limit: Duration) -> Result<Status, Trouble> {
        match self.call(operation, input, limit, false).await {
            Ok(_) => wrong(format!("`{operation}` succeeded")),
            Err(status) => Ok(status),
        }
    }
}

fn must(status: &Status, codes: &[Code]) -> Outcome {
    if codes.contains(&status.code()) {
        return Ok(());
    }
    let wanted = codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>().join(" or ");
    wrong(format!("it failed with {:?} (`{}`) instead of {wanted}", status.code(), status.message()))
}

impl Bench<'_> {
    async fn check(&mut self, name: &str, outcome: impl Future<Output = Outcome>) -> bool {
        let began = Instant::now();
        let outcome = outcome.await;
        self.took(name, began.elapsed(), outcome)
    }

    fn took(&mut self, name: &str, took: Duration, outcome: Outcome) -> bool {
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(Trouble::Wrong(why)) => Verdict::Failed(why),
            Err(Trouble::Skip(why)) => Verdict::Skipped(why),
        };
        let check = Check { name: name.to_owned(), verdict, took };
        (self.tell)(&check);
        let passed = check.verdict == Verdict::Passed;
        self.checks.push(check);
        passed
    }

    async fn up(&self) -> Result<Subject, Trouble> {
        let running = start(&self.program).await?;
        let client = running.client();
        let request = wire::HelloRequest { mesh_version: env!("CARGO_PKG_VERSION").to_owned(), protocol: 1 };
        let said = client.clone().hello(request).await;
        let said = said.map_err(|status| Trouble::Wrong(format!("Hello failed: {}", status.message())))?.into_inner();
        let hello = Hello::take(said, &self.manifest)?;
        let config = match (&hello.config, &self.examples.config) {
            (None, _) => None,
            (Some(_), Value::Null) => Some(convert::object(&json!({}))),
            (Some(_), config) => Some(convert::object(config)),
        };
        let permissions = Some(convert::permissions(&self.manifest.permissions));
        let configured = client.clone().configure(wire::ConfigureRequest { config, permissions }).await;
        configured.map_err(|status| {
            let hint = format!("put a `config` that it takes into {EXAMPLES}");
            Trouble::Wrong(format!("Configure failed: {}; {hint}", status.message()))
        })?;
        Ok(Subject { running, client, hello })
    }

    async fn all(&mut self) {
        let program = self.program.clone();
        self.check("started by hand it says what it is and ends with status 2", by_hand(&program)).await;
        let mut subject = None;
        let up = async {
            subject = Some(self.up().await?);
            Ok(())
        };
        let began = Instant::now();
        let outcome: Outcome = up.await;
        let name = "it shakes hands, says hello as its manifest does, and takes its configuration";
        let again = self.took(name, began.elapsed(), outcome);
        let Some(subject) = subject.filter(|_| again) else { return };
        let subject = Arc::new(subject);
        self.check("its health is SERVING", health(&subject)).await;
        self.check("it says the same when it is asked again", same(&subject)).await;
        self.check("an unknown operation is NOT_FOUND", async {
            must(&subject.code("no-such-operation", json!({}), END).await?, &[Code::NotFound])
        })
        .await;
        self.check("inputs that break their schema are INVALID_ARGUMENT", bad_inputs(&subject)).await;
        let examples = std::mem::take(&mut self.examples.calls);
        for example in &examples {
            let name = format!("the example of `{}`", example.operation);
            self.check(&name, tried(&subject, example)).await;
        }
        self.check("what goes in comes out", echo(&subject)).await;
        self.check("progress and logs arrive before the result", count(&subject)).await;
        self.check("an error keeps its code, message and details", fails(&subject)).await;
        self.check("a call whose deadline is over ends", deadline(&subject)).await;
        self.check("a cancelled call ends, and others go on", cancelled(&subject)).await;
        self.check("64 MiB come in chunks of at most 1 MiB", large(&subject)).await;
        self.check("a dry run does nothing and says what it would do", dry(&subject)).await;
        self.check("32 calls at once are kept apart", at_once(&subject)).await;
        self.check("it finishes what it has when it is drained", drained(&subject)).await;
        self.check("SIGTERM ends it within 5 s", async {
            let began = Instant::now();
            subject.running.stop().await;
            if began.elapsed() < END { Ok(()) } else { wrong("it had to be killed") }
        })
        .await;
        let began = Instant::now();
        let outcome = self.abandoned().await;
        self.took("it ends when the mesh is gone (its standard input ends)", began.elapsed(), outcome);
        let began = Instant::now();
        let outcome = self.crashes().await;
        self.took("a crash in a call is seen as one", began.elapsed(), outcome);
    }

    async fn abandoned(&self) -> Outcome {
        let subject = self.up().await?;
        subject.running.abandon();
        if tokio::time::timeout(END, subject.running.ended()).await.is_ok() {
            return Ok(());
        }
        subject.running.stop().await;
        wrong("it still ran 5 s later; read standard input, and end when it does")
    }

    async fn crashes(&self) -> Outcome {
        let subject = self.up().await?;
        subject.has(&EXAMPLE)?;
        let said = subject.call("crash", json!({}), END, false).await;
        let over = tokio::time::timeout(END, subject.running.ended()).await;
        match (said, over) {
            (Err(_), Ok(_)) => Ok(()),
            (Ok(_), _) => wrong("`crash` yielded a result"),
            (_, Err(_)) => wrong("the process still runs after `crash`"),
        }
    }
}

async fn by_hand(program: &Program) -> Outcome {
    let child = tokio::process::Command::new(&program.path)
        .args(&program.arguments)
        .current_dir(&program.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(program.patience, child).await {
        Ok(Ok(done)) if done.status.code() != Some(2) => {
            wrong(format!("it ended with {}; without CONSORT_PLUGIN_COOKIE it must end with status 2", done.status))
        }
        Ok(Ok(done)) if done.stderr.is_empty() => wrong("it said nothing on standard error"),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => wrong(format!("it does not start: {error}")),
        Err(_) => wrong("it did not end; without CONSORT_PLUGIN_COOKIE it must end with status 2"),
    }
}

async fn health(subject: &Subject) -> Outcome {
    let mut client = subject.running.health();
    let said = client.check(HealthCheckRequest { service: String::new() }).await;
    match said {
        Ok(said) if said.get_ref().status == 1 => Ok(()),
        Ok(said) => wrong(format!("it is {}", said.get_ref().status().as_str_name())),
        Err(status) => wrong(format!("grpc.health.v1 answers {:?}: {}", status.code(), status.message())),
    }
}

async fn same(subject: &Subject) -> Outcome {
    let ask = || async {
        let request = wire::HelloRequest { mesh_version: "0.0.0".to_owned(), protocol: 1 };
        let said = subject.client.clone().hello(request).await;
        said.map(tonic::Response::into_inner).map_err(|status| Trouble::Wrong(status.message().to_owned()))
    };
    if ask().await? == ask().await? { Ok(()) } else { wrong("two answers to Hello differ") }
}

/// For each operation an input that its schema refuses, if there is one that can be made up.
async fn bad_inputs(subject: &Subject) -> Outcome {
    let mut tried = 0;
    for (name, contract) in &subject.hello.operations {
        let candidates =
            [json!({}), json!({"\u{0}no such member": 1}), bad_types(&contract.operation.input_schema.value())];
        let Some(input) = candidates.into_iter().find(|input| contract.check_input(input).is_err()) else { continue };
        tried += 1;
        let status = subject.code(name, input, END).await.map_err(|_| {
            Trouble::Wrong(format!("`{name}` took an input that breaks its schema; check it before you use it"))
        })?;
        must(&status, &[Code::InvalidArgument])?;
    }
    if tried == 0 { skip("no operation refuses anything") } else { Ok(()) }
}

/// Every member of another type than the schema says.
fn bad_types(schema: &Value) -> Value {
    let members = schema["properties"].as_object().into_iter().flatten();
    members
        .map(|(name, property)| {
            let value = if property["type"] == "string" { json!({"not": "a text"}) } else { json!("not this") };
            (name.clone(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn tried(subject: &Subject, example: &Example) -> Outcome {
    let input = example.input.clone().unwrap_or_else(|| json!({}));
    let ended = subject.call(&example.operation, input, Duration::from_secs(60), false).await;
    match (ended, &example.code) {
        (Err(status), Some(code)) => {
            let found = name_of(status.code());
            if found == *code { Ok(()) } else { wrong(format!("it failed with {found}: {}", status.message())) }
        }
        (Ok(_), Some(code)) => wrong(format!("it succeeded instead of failing with {code}")),
        (Err(status), None) => wrong(format!("it failed with {}: {}", name_of(status.code()), status.message())),
        (Ok(seen), None) => {
            let found = seen.output.unwrap_or_default();
            let contract = subject.hello.operations.get(example.operation.as_str());
            if seen.bytes == 0
                && let Some(Err(why)) = contract.map(|contract| contract.check_output(&found))
            {
                return wrong(format!("its output breaks its schema: {why}"));
            }
            match &example.output {
                Some(wanted) if *wanted != found => wrong(format!("it yielded {found} instead of {wanted}")),
                _ => Ok(()),
            }
        }
    }
}

/// `NOT_FOUND`, as everybody writes it.
fn name_of(code: Code) -> String {
    let mut name = String::new();
    for (index, letter) in format!("{code:?}").char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

async fn yields(subject: &Subject, operation: &str, input: Value) -> Result<Seen, Trouble> {
    subject.call(operation, input, Duration::from_secs(30), false).await.map_err(|status| {
        Trouble::Wrong(format!("`{operation}` failed with {:?}: {}", status.code(), status.message()))
    })
}

async fn echo(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    for text in ["", "plain", "\u{1F600} é \\ \" \n \u{7f}", &"x".repeat(500_000)] {
        let seen = yields(subject, "echo", json!({"text": text})).await?;
        if seen.output != Some(json!({"text": text})) {
            let shown: String = text.chars().take(20).collect();
            return wrong(format!("`echo` of `{shown}` yielded something else"));
        }
    }
    Ok(())
}

async fn count(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let seen = yields(subject, "count", json!({"to": 5, "delay_ms": 1})).await?;
    if seen.progress == 0 || seen.logs == 0 {
        return wrong(format!("`count` told {} times of progress and logged {} times", seen.progress, seen.logs));
    }
    if seen.output.as_ref().is_none_or(|output| !output["total"].is_number()) {
        return wrong("`count` yielded no `total`");
    }
    Ok(())
}

async fn fails(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    for (name, code) in [("NOT_FOUND", Code::NotFound), ("RESOURCE_EXHAUSTED", Code::ResourceExhausted)] {
        let status = subject.code("fail", json!({"code": name, "message": "as asked"}), END).await?;
        must(&status, &[code])?;
        if !status.message().contains("as asked") {
            return wrong(format!("its message is `{}`", status.message()));
        }
    }
    Ok(())
}

async fn deadline(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let began = Instant::now();
    let status = subject.code("sleep", json!({"ms": 60_000}), Duration::from_millis(300)).await?;
    must(&status, &[Code::DeadlineExceeded, Code::Cancelled])?;
    if began.elapsed() < Duration::from_secs(3) { Ok(()) } else { wrong("it went on long after its deadline") }
}

async fn cancelled(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let sleep = subject.call("sleep", json!({"ms": 60_000}), Duration::from_secs(60), false);
    let _ = tokio::time::timeout(Duration::from_millis(200), sleep).await;
    // The dropped call is cancelled on the wire; what is called next must not wait for it.
    let began = Instant::now();
    yields(subject, "echo", json!({"text": "after"})).await?;
    if began.elapsed() < Duration::from_secs(2) { Ok(()) } else { wrong("the next call waited for the cancelled one") }
}

async fn large(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let seen = yields(subject, "large", json!({"mib": 64})).await?;
    if seen.bytes != 64 << 20 {
        return wrong(format!("{} bytes came instead of {}", seen.bytes, 64 << 20));
    }
    if seen.largest > 1 << 20 {
        return wrong(format!("a chunk has {} bytes; the most is {}", seen.largest, 1 << 20));
    }
    Ok(())
}

async fn dry(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let path = std::env::temp_dir().join(format!("consort-dry-{:016x}", rand::random::<u64>()));
    let input = json!({"path": path, "text": "x"});
    let seen = subject.call("write", input, END, true).await;
    let seen = seen.map_err(|status| Trouble::Wrong(format!("the dry run failed: {}", status.message())))?;
    if path.exists() {
        let _ = std::fs::remove_file(&path);
        return wrong("the dry run wrote the file");
    }
    if seen.would.is_empty() { wrong("the dry run did not say what it would do") } else { Ok(()) }
}

async fn at_once(subject: &Subject) -> Outcome {
    subject.has(&EXAMPLE)?;
    let calls = (0..32).map(|n| async move {
        let text = format!("call {n}");
        let seen = yields(subject, "echo", json!({"text": text})).await?;
        if seen.output == Some(json!({"text": text})) { Ok(()) } else { wrong("an answer went to another call") }
    });
    let mut calls = calls.map(Box::pin).collect::<Vec<_>>();
    std::future::poll_fn(move |cx| {
        let mut index = 0;
        while index < calls.len() {
            match calls[index].as_mut().poll(cx) {
                std::task::Poll::Ready(Ok(())) => drop(calls.swap_remove(index)),
                std::task::Poll::Ready(Err(trouble)) => return std::task::Poll::Ready(Err(trouble)),
                std::task::Poll::Pending => index += 1,
            }
        }
        if calls.is_empty() { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

async fn drained(subject: &Subject) -> Outcome {
    let grace = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let mut client = subject.client.clone();
    let drain = client.drain(wire::DrainRequest { grace });
    let done = if subject.has(&EXAMPLE).is_ok() {
        let work = subject.call("sleep", json!({"ms": 500}), END, false);
        let late = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drain.await
        };
        let (work, done) = tokio::join!(work, late);
        if let Err(status) = work {
            return wrong(format!("a call in work failed when the plugin was drained: {}", status.message()));
        }
        done
    } else {
        drain.await
    };
    done.map(drop).map_err(|status| Trouble::Wrong(format!("Drain failed: {}", status.message())))
}
