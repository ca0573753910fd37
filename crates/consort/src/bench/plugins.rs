//! `consort bench plugins`: what the mesh adds between a client and a plugin.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use consort_plugins::{Limits, Manifest, Program};
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin::plugin_registry_service_client::PluginRegistryServiceClient;
use consort_proto::plugin::plugin_service_client::PluginServiceClient;
use consort_proto::plugin::{
    ConfigureRequest, HelloRequest, InvokeOperationOnceRequest, InvokeOperationRequest, InvokeRequest,
};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::figures::{cores_used, round, table};
use super::gateway::median;
use super::machine;
use crate::cli::Global;
use crate::failure::{Failure, Result};
use crate::output::{Format, print};
use crate::process::{Scratch, Server, memory};

/// Calls of a plugin's operation `echo` through the server, beside the same calls made directly to the same plugin.
///
/// A closed loop of lanes; those of a round share one connection, as the mesh's own calls to a plugin do. Rounds of direct calls and
/// rounds through the server take turns; the figures are medians over the rounds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort bench plugins plugins/sdk-go/examples/conformance
  consort bench plugins ./my-plugin --operation ping --input '{}' --concurrency 1 -o json")]
pub(crate) struct Plugins {
    /// Folder of the plugin.
    pub folder: PathBuf,
    /// The operation that is called.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    pub operation: String,
    /// Its input.
    #[arg(long, value_name = "JSON", default_value = r#"{"text": "hello"}"#)]
    pub input: String,
    /// Calls at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub concurrency: u32,
    /// How long a round lasts.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Rounds of each kind.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Start the server's plugin without a sandbox, as the one that is called directly.
    #[arg(long)]
    pub no_sandbox: bool,
}

/// Whom a lane calls.
#[derive(Clone)]
enum Target {
    Direct(PluginServiceClient<Channel>, InvokeRequest),
    Through(PluginRegistryServiceClient<Channel>, InvokeOperationOnceRequest),
}

impl Plugins {
    /// Runs the command.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let folder = self
            .folder
            .canonicalize()
            .map_err(|error| Failure::usage(format!("cannot use {}: {error}", self.folder.display())))?;
        let manifest = Manifest::read(&folder).map_err(|error| Failure::usage(error.message))?;
        let scratch = Scratch::new("bench", None)?;
        let data = scratch.path.join("data");
        std::fs::create_dir_all(&data)?;
        let sandbox = if self.no_sandbox { "off" } else { "required" };
        let config = json!({"plugins": {&manifest.id: {"path": folder, "grant": "all", "sandbox": sandbox}}});
        std::fs::write(data.join("plugins.yaml"), config.to_string())?;
        let mut server = Server::start(&data, "127.0.0.1:0", scratch.path.join("server.log")).await?;
        let pid = server.process.pid();

        let alone = Program::without_mesh(&manifest, &folder, scratch.path.join("alone"), Limits::default().start())
            .map_err(|error| Failure::failed(error.message))?;
        let alone = consort_plugins::start(&alone).await.map_err(|error| Failure::failed(error.message))?;
        let input = Some(Payload { kind: Some(payload::Kind::Json(self.input.clone())) });
        let request = InvokeRequest { operation: self.operation.clone(), input: input.clone(), ..Default::default() };
        let socket = alone.socket.clone();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = Channel::from_static("http://plugin").connect_with_connector(connector).await.map_err(broken)?;
        let mut plugin = PluginServiceClient::new(channel);
        let said = |status: tonic::Status| Failure::failed(format!("the plugin failed: {}", status.message()));
        plugin.hello(HelloRequest { mesh_version: String::new(), protocol: 1 }).await.map_err(said)?;
        plugin.configure(ConfigureRequest::default()).await.map_err(said)?;
        let direct = Target::Direct(plugin, request);
        let operation = format!("{}.{}", manifest.id, self.operation);
        let call = Some(InvokeOperationRequest { operation, input, ..Default::default() });
        let endpoint = Channel::from_shared(format!("http://{}", server.addr)).map_err(broken)?;
        let channel = endpoint.connect().await.map_err(broken)?;
        let through = Target::Through(PluginRegistryServiceClient::new(channel), InvokeOperationOnceRequest { call });

        let length = Duration::from_secs(self.seconds.into());
        let warm = Duration::from_secs(1);
        self.load(&direct, warm).await?;
        self.load(&through, warm).await?;
        let (mut alone_seen, mut through_seen, mut cores) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            alone_seen.push(self.load(&direct, length).await?);
            let (from, to) = (Instant::now(), Instant::now() + length);
            let (seen, used) = tokio::join!(self.load(&through, length), cores_used([pid, None, None], from, to));
            through_seen.push(seen?);
            cores.extend(used[0]);
        }
        let loaded = pid.and_then(memory);
        server.process.check()?;
        server.process.stop().await;
        alone.stop().await;
        let mut figures = self.figures(&alone_seen, &through_seen);
        figures["server_rss_mib"] = json!(loaded.map(|(resident, _)| round(resident, 1)));
        figures["server_cores"] = json!(median(cores).map(|cores| round(cores, 2)));
        figures["machine"] = machine::describe(&scratch.path);
        match global.output {
            Format::Table => print(&table(&figures, &ORDER)),
            format => format.print_value(&figures),
        }
    }

    /// Calls for a while; microseconds of each call.
    async fn load(&self, target: &Target, length: Duration) -> Result<Histogram<u64>> {
        let end = Instant::now() + length;
        let lanes: Vec<_> = (0..self.concurrency).map(|_| tokio::spawn(lane(target.clone(), end))).collect();
        let mut all = times();
        for lane in lanes {
            let seen = lane
                .await
                .map_err(broken)?
                .map_err(|status| Failure::failed(format!("a call failed: {}", status.message())))?;
            all.add(seen).map_err(broken)?;
        }
        Ok(all)
    }

    fn figures(&self, direct: &[Histogram<u64>], through: &[Histogram<u64>]) -> Value {
        let rate = |seen: &[Histogram<u64>]| {
            median(seen.iter().map(|seen| seen.len() as f64 / f64::from(self.seconds)).collect())
        };
        let at = |seen: &[Histogram<u64>], share: f64| {
            median(seen.iter().map(|seen| seen.value_at_quantile(share) as f64 / 1_000.0).collect())
        };
        let digits = |value: Option<f64>| value.map(|value| round(value, 3));
        json!({
            "operation": self.operation,
            "concurrency": self.concurrency,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "per_s": rate(through).map(|rate| round(rate, 1)),
            "direct_per_s": rate(direct).map(|rate| round(rate, 1)),
            "share": rate(through).zip(rate(direct)).map(|(through, direct)| round(through / direct, 3)),
            "p50_ms": digits(at(through, 0.5)),
            "p99_ms": digits(at(through, 0.99)),
            "direct_p50_ms": digits(at(direct, 0.5)),
            "added_p50_ms": digits(at(through, 0.5).zip(at(direct, 0.5)).map(|(a, b)| a - b)),
        })
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("the measurement broke off: {error}"))
}

/// Microseconds, up to ten minutes.
fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds and three digits are allowed")
}

async fn lane(target: Target, end: Instant) -> std::result::Result<Histogram<u64>, tonic::Status> {
    let mut seen = times();
    while Instant::now() < end {
        let began = Instant::now();
        match target.clone() {
            Target::Direct(mut plugin, request) => {
                let mut stream = plugin.invoke(request).await?.into_inner();
                while stream.message().await?.is_some() {}
            }
            Target::Through(mut registry, request) => drop(registry.invoke_operation_once(request).await?),
        }
        seen.saturating_record(began.elapsed().as_micros() as u64);
    }
    Ok(seen)
}

/// The figures in the order a person reads them.
const ORDER: [&str; 13] = [
    "operation",
    "concurrency",
    "seconds",
    "rounds",
    "per_s",
    "share",
    "p50_ms",
    "p99_ms",
    "direct_per_s",
    "direct_p50_ms",
    "added_p50_ms",
    "server_rss_mib",
    "server_cores",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_difference_of_medians() {
        let seen = |micros: u64| {
            let mut took = times();
            took.record_n(micros, 100).unwrap();
            took
        };
        let plugins = Plugins {
            folder: PathBuf::new(),
            operation: "echo".into(),
            input: "{}".into(),
            concurrency: 1,
            seconds: 2,
            rounds: 1,
            no_sandbox: false,
        };
        let figures = plugins.figures(&[seen(100)], &[seen(300)]);
        assert_eq!((figures["added_p50_ms"].as_f64(), figures["share"].as_f64()), (Some(0.2), Some(1.0)));
    }
}
