//! `consort plugins` and `consort call`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use consort_plugins::conformance::{self, Check, Verdict};
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin::{
    Effect, GetPluginRequest, InstallPluginRequest, InvokeOperationRequest, ListPluginActionsRequest,
    ListPluginsRequest, Operation, Permissions, Plugin, PluginState, ReloadPluginRequest, UninstallPluginRequest,
    invoke_operation_response,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::commands::template::New;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::inputs;
use crate::output::{Table, print, text};

/// List plugins and how they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort plugins
  consort plugins show git
  consort plugins install ./plugins/git --grant
  consort plugins reload git
  consort plugins actions git
  consort plugin new words --lang python
  consort plugin test ./words")]
pub(crate) struct Plugins {
    /// What to do instead of listing.
    #[command(subcommand)]
    pub action: Option<PluginAction>,
}

/// What can be done with a plugin.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginAction {
    /// Show a plugin's operations, permissions and state.
    Show {
        /// Its id.
        id: String,
    },
    /// Add a plugin from a folder on the server's machine, or take a new version of one.
    Install {
        /// Folder with a `consort-plugin.toml`.
        folder: PathBuf,
        /// Allow what its manifest wants.
        #[arg(long)]
        grant: bool,
        /// Only check, and show what it wants.
        #[arg(long)]
        check: bool,
    },
    /// Stop a plugin and forget it.
    Uninstall {
        /// Its id.
        id: String,
    },
    /// Start a plugin anew from its folder; calls in work end with the old process.
    Reload {
        /// Its id.
        id: String,
        /// Allow what its new manifest wants.
        #[arg(long)]
        grant: bool,
    },
    /// Show what plugins did, newest first.
    Actions {
        /// Only of this plugin.
        id: Option<String>,
        /// How many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        limit: i32,
    },
    /// Make a new plugin that passes the test.
    New(New),
    /// Try whether a plugin does what every plugin must; needs no server.
    Test {
        /// Its folder.
        folder: PathBuf,
        /// Do not hold it to what its manifest wants.
        #[arg(long)]
        no_sandbox: bool,
    },
}

fn full(id: &str) -> String {
    if id.starts_with("plugins/") { id.to_owned() } else { format!("plugins/{id}") }
}

impl Plugins {
    /// Whether it needs no server.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.action, Some(PluginAction::Test { .. } | PluginAction::New(_)))
    }

    /// Runs what needs no server.
    pub(crate) async fn run_local(self) -> Result<()> {
        match self.action {
            Some(PluginAction::Test { folder, no_sandbox }) => test(&folder, no_sandbox).await,
            Some(PluginAction::New(new)) => new.run(),
            _ => unreachable!("asked before"),
        }
    }

    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let mut client = context.mesh.client.plugins();
        let request_id = uuid::Uuid::new_v4().to_string();
        match self.action {
            None => {
                let page = client.list_plugins(ListPluginsRequest { page_size: 1_000, ..Default::default() }).await;
                let page = context.mesh.answer(page)?;
                context.format.print(&page, || list(&page.plugins))
            }
            Some(PluginAction::Show { id }) => {
                let plugin = context.mesh.answer(client.get_plugin(GetPluginRequest { name: full(&id) }).await)?;
                context.format.print(&plugin, || show(&plugin))
            }
            Some(PluginAction::Install { folder, grant, check }) => {
                let folder = folder
                    .canonicalize()
                    .map_err(|error| Failure::usage(format!("cannot use {}: {error}", folder.display())))?;
                let folder = folder.to_string_lossy().into_owned();
                let request = InstallPluginRequest { folder, grant, validate_only: check, request_id };
                let plugin = context.mesh.answer(client.install_plugin(request).await)?;
                context.format.print(&plugin, || show(&plugin))
            }
            Some(PluginAction::Uninstall { id }) => {
                let request = UninstallPluginRequest { name: full(&id), request_id };
                context.mesh.answer(client.uninstall_plugin(request).await)?;
                print(&format!("{id} is gone\n"))
            }
            Some(PluginAction::Reload { id, grant }) => {
                let request = ReloadPluginRequest { name: full(&id), grant, request_id };
                let plugin = context.mesh.answer(client.reload_plugin(request).await)?;
                context.format.print(&plugin, || show(&plugin))
            }
            Some(PluginAction::Actions { id, limit }) => {
                let plugin = id.as_deref().map(full).unwrap_or_default();
                let request = ListPluginActionsRequest { plugin, page_size: limit, ..Default::default() };
                let page = context.mesh.answer(client.list_plugin_actions(request).await)?;
                context.format.print(&page, || {
                    let mut table = Table::new(&["TIME", "OPERATION", "CODE", "TOOK", "FOR", "DID"]);
                    for action in &page.actions {
                        let origin = action.origin.clone().unwrap_or_default();
                        let what = if action.dry_run { "(dry run) " } else { "" };
                        table.row([
                            text::time(action.time.as_ref()),
                            action.operation.clone(),
                            action.code.clone(),
                            span(action.took.as_ref()),
                            text::one_line(origin.step.rsplit("/runs/").next().unwrap_or_default(), 60),
                            text::one_line(&format!("{what}{}", action.actions.join("; ")), 80),
                        ]);
                    }
                    table.render_or("nothing was called yet")
                })
            }
            Some(PluginAction::Test { .. } | PluginAction::New(_)) => unreachable!("needs no server"),
        }
    }
}

/// Tries a plugin and prints each check as it ends.
async fn test(folder: &Path, no_sandbox: bool) -> Result<()> {
    let sandboxes = if no_sandbox { None } else { Some(crate::plugins::sandboxes()?) };
    let mut tell = |check: &Check| {
        let millis = check.took.as_millis();
        match &check.verdict {
            Verdict::Passed => println!("ok       {} ({millis} ms)", check.name),
            Verdict::Failed(why) => println!("FAILED   {}\n         {why}", check.name),
            Verdict::Skipped(why) => println!("skipped  {} ({why})", check.name),
        }
    };
    let checks = conformance::test(folder, sandboxes.as_ref(), &mut tell)
        .await
        .map_err(|error| Failure::failed(error.message))?;
    let count = |passed: fn(&Verdict) -> bool| checks.iter().filter(|check| passed(&check.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let said = format!("{} passed, {failed} failed, {skipped} skipped", checks.len() - failed - skipped);
    if failed > 0 { Err(Failure::failed(said)) } else { print(&format!("{said}\n")) }
}

fn span(length: Option<&prost_types::Duration>) -> String {
    length.map_or_else(String::new, |span| text::span(span.seconds as f64 + f64::from(span.nanos) / 1e9))
}

fn state(plugin: &Plugin) -> String {
    plugin.state().as_str_name().trim_start_matches("PLUGIN_STATE_").to_owned()
}

fn list(plugins: &[Plugin]) -> String {
    let mut table = Table::new(&[
        "PLUGIN", "VERSION", "STATE", "OPS", "CALLS", "FAILED", "NOW", "P50", "P99", "RESTARTS", "MEMORY", "NOTE",
    ]);
    for plugin in plugins {
        let note = if plugin.state() == PluginState::Running { &plugin.description } else { &plugin.state_reason };
        table.row([
            plugin.name.trim_start_matches("plugins/").to_owned(),
            plugin.version.clone(),
            state(plugin),
            plugin.operations.len().to_string(),
            plugin.calls.to_string(),
            plugin.failures.to_string(),
            plugin.in_flight.to_string(),
            span(plugin.latency_p50.as_ref()),
            span(plugin.latency_p99.as_ref()),
            plugin.restarts.to_string(),
            if plugin.memory_bytes > 0 { text::bytes(plugin.memory_bytes) } else { String::new() },
            text::one_line(note, 80),
        ]);
    }
    table.render_or("no plugins; name some in plugins.yaml, or use `consort plugins install FOLDER`")
}

fn show(plugin: &Plugin) -> String {
    let mut said = format!(
        "{} {} ({}) {}\n{}\nfrom {}\n",
        plugin.name.trim_start_matches("plugins/"),
        plugin.version,
        plugin.language,
        state(plugin),
        plugin.description,
        plugin.source
    );
    if !plugin.sandbox.is_empty() {
        said += &format!("held by {}\n", plugin.sandbox.join(", "));
    }
    if !plugin.state_reason.is_empty() {
        said += &format!("\n{}\n", plugin.state_reason);
    }
    let (wanted, granted) = (plugin.wanted.clone().unwrap_or_default(), plugin.granted.clone().unwrap_or_default());
    let granted = lines(&granted);
    said += "\npermissions\n";
    let wanted = lines(&wanted);
    if wanted.is_empty() && granted.is_empty() {
        said += "  none\n";
    }
    for line in &wanted {
        let mark = if granted.contains(line) { "granted" } else { "NOT granted" };
        said += &format!("  {line}  ({mark})\n");
    }
    // Some plugins name nothing in their manifests, because only the operator knows what is meant.
    for line in granted.iter().filter(|line| !wanted.contains(line)) {
        said += &format!("  {line}  (granted by the operator)\n");
    }
    if !plugin.operations.is_empty() {
        said += "\noperations\n";
    }
    for operation in &plugin.operations {
        said += &format!(
            "  {}({})  {}: {}\n",
            operation.name,
            parameters(operation),
            effect(operation.effect()),
            text::one_line(&operation.description, 100)
        );
    }
    said
}

fn lines(permissions: &Permissions) -> Vec<String> {
    let Permissions { fs_read, fs_write, net, exec, env, secrets, display, capabilities, mesh } = permissions;
    let kinds = [
        ("fs_read", fs_read),
        ("fs_write", fs_write),
        ("net", net),
        ("exec", exec),
        ("env", env),
        ("secrets", secrets),
        ("display", display),
        ("capabilities", capabilities),
        ("mesh", mesh),
    ];
    kinds.into_iter().flat_map(|(kind, entries)| entries.iter().map(move |entry| format!("{kind}: {entry}"))).collect()
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::IdempotentWrite => "idempotent write",
        Effect::Write | Effect::Unspecified => "write",
    }
}

/// The names of the input's members; those that may be left out with a `?`.
fn parameters(operation: &Operation) -> String {
    use prost_types::value::Kind;
    let schema = operation.input_schema.clone().unwrap_or_default();
    let required: Vec<String> = match schema.fields.get("required").and_then(|value| value.kind.clone()) {
        Some(Kind::ListValue(list)) => list
            .values
            .into_iter()
            .filter_map(|value| match value.kind {
                Some(Kind::StringValue(name)) => Some(name),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let Some(Kind::StructValue(properties)) = schema.fields.get("properties").and_then(|value| value.kind.clone())
    else {
        return String::new();
    };
    let names = properties.fields.keys();
    let shown = names.map(|name| if required.contains(name) { name.clone() } else { format!("{name}?") });
    shown.collect::<Vec<_>>().join(", ")
}

/// Call an operation of a plugin and print what it yields.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort call git.log path=. limit=3
  consort call git.commit path=. message='Tidy' --dry-run
  consort call sql.query --input @query.json -o json")]
pub(crate) struct Call {
    /// `PLUGIN.OPERATION`.
    pub operation: String,
    /// Input by name: `KEY=TEXT`, or `KEY:=JSON` for anything else. A text becomes a number or a flag where the operation wants one.
    #[arg(value_name = "KEY=VALUE")]
    pub pairs: Vec<String>,
    /// The whole input: JSON, or @FILE with it.
    #[arg(long, value_name = "JSON")]
    pub input: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Receivers that can tell repeats get this.
    #[arg(long, value_name = "KEY", default_value = "")]
    pub idempotency_key: String,
    /// Seconds that the call may take.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

impl Call {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let mut input = match &self.input {
            Some(text) => inputs::json("the input", text)?,
            None => Value::Object(serde_json::Map::default()),
        };
        let mut client = context.mesh.client.plugins();
        if !self.pairs.is_empty() {
            let Value::Object(members) = &mut input else {
                return Err(Failure::usage("the input is no JSON object, so nothing can be added to it by name"));
            };
            let Value::Object(given) = inputs::collect(None, &self.pairs)? else { unreachable!("pairs are an object") };
            let schema = self.schema(context).await;
            for (name, value) in given {
                members.insert(name.clone(), typed(value, schema.as_ref(), &name));
            }
        }
        let mut request = tonic::Request::new(InvokeOperationRequest {
            operation: self.operation,
            input: Some(Payload { kind: Some(payload::Kind::Json(input.to_string())) }),
            dry_run: self.dry_run,
            idempotency_key: self.idempotency_key,
            task: None,
            parent: context.parent.clone(),
        });
        request.set_timeout(Duration::from_secs(self.timeout));
        let mut stream = context.mesh.answer(client.invoke_operation(request).await)?;
        let bar = ProgressBar::hidden();
        loop {
            let next = stream.message().await.map(tonic::Response::new);
            let Some(next) = context.mesh.answer(next)?.and_then(|next| next.kind) else {
                return Err(Failure::failed("the call ended without a result"));
            };
            match next {
                invoke_operation_response::Kind::Progress(progress) => {
                    if bar.is_hidden() {
                        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                        bar.set_length(100);
                        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}% {msg}") {
                            bar.set_style(style);
                        }
                    }
                    bar.set_position((progress.fraction.clamp(0.0, 1.0) * 100.0) as u64);
                    bar.set_message(progress.message);
                }
                invoke_operation_response::Kind::Log(log) => {
                    bar.suspend(|| eprintln!("{}: {}", log.level, log.message));
                }
                invoke_operation_response::Kind::Result(result) => {
                    bar.finish_and_clear();
                    return context.format.print(&result, || {
                        let mut said = String::new();
                        for line in &result.would {
                            said += &format!("would {line}\n");
                        }
                        if !self.dry_run || result.would.is_empty() {
                            said += &pretty(result.output.as_ref());
                        }
                        said
                    });
                }
            }
        }
    }

    /// The operation's input schema; nothing if it cannot be had, which the call itself will say better.
    async fn schema(&self, context: &Context) -> Option<prost_types::Struct> {
        let (plugin, operation) = self.operation.split_once('.')?;
        let found = context.mesh.client.plugins().get_plugin(GetPluginRequest { name: full(plugin) }).await.ok()?;
        found.into_inner().operations.into_iter().find(|known| known.name == operation)?.input_schema
    }
}

/// A text as the schema wants it.
fn typed(value: Value, schema: Option<&prost_types::Struct>, name: &str) -> Value {
    use prost_types::value::Kind;
    let member = |object: &prost_types::Struct, name: &str| match object.fields.get(name)?.kind.clone()? {
        Kind::StructValue(object) => Some(object),
        _ => None,
    };
    let kind = schema.and_then(|schema| member(schema, "properties")).and_then(|all| member(&all, name));
    let kind = kind.and_then(|property| property.fields.get("type")?.kind.clone());
    let is_text = match &kind {
        Some(Kind::StringValue(kind)) => kind == "string",
        Some(Kind::ListValue(kinds)) => {
            kinds.values.iter().any(|kind| kind.kind == Some(Kind::StringValue("string".to_owned())))
        }
        _ => kind.is_none() && schema.is_none(),
    };
    match &value {
        Value::String(text) if !is_text => serde_json::from_str(text).unwrap_or(value),
        _ => value,
    }
}

fn pretty(output: Option<&Payload>) -> String {
    match output.and_then(|output| output.kind.as_ref()) {
        Some(payload::Kind::Json(text)) => match serde_json::from_str::<Value>(text) {
            Ok(Value::String(text)) if text.ends_with('\n') => text,
            Ok(Value::String(text)) => text + "\n",
            Ok(value) => format!("{value:#}\n"),
            Err(_) => format!("{text}\n"),
        },
        Some(payload::Kind::Blob(blob)) => format!("blobs/{} ({})\n", blob.sha256, text::bytes(blob.size_bytes)),
        _ => "null\n".to_owned(),
    }
}
