//! What the benches share: languages, waiting for a worker, processor time, and how figures are shown.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use consort_proto::agent::{AgentStatus, GetAgentRequest};
use serde_json::Value;

use crate::context::Mesh;
use crate::failure::{Failure, Result};
use crate::output::Table;
use crate::process::Process;

/// How long the worker may take to connect.
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

/// Language of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// The worker built into this program.
    Rust,
    /// `python -m consort.noop`.
    Python,
}

impl Language {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
        }
    }
}

/// The figures in the order a person reads them; programs get them all by name.
pub(super) fn table(figures: &Value, order: &[&str]) -> String {
    let mut table = Table::plain();
    for &name in order {
        match &figures[name] {
            Value::Null => {}
            Value::String(text) => table.row([name, text]),
            other => table.row([name, &other.to_string()]),
        }
    }
    for (name, value) in figures["machine"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row([&format!("machine.{name}"), &text]);
    }
    table.render()
}

/// A figure with so many digits behind the point.
pub(super) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Waits until a worker serves the agent.
pub(super) async fn wait_for_worker(mesh: &Mesh, agent: &str, worker: &mut Process) -> Result<()> {
    let begun = Instant::now();
    let name = mesh.client.name("agents", agent);
    loop {
        worker.check()?;
        match mesh.client.agents().get_agent(GetAgentRequest { name: name.clone() }).await {
            Ok(agent) if agent.get_ref().status() != AgentStatus::Offline => return Ok(()),
            Err(status) if status.code() != tonic::Code::NotFound => return mesh.answer(Err(status)),
            _ if begun.elapsed() > CONNECTED_WITHIN => {
                let why = format!("the worker did not connect within {} s", CONNECTED_WITHIN.as_secs());
                return Err(Failure::failed(why).hint(format!("its log is {}", worker.log.display())));
            }
            // There is no call that waits for an agent.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The cores each process kept busy between two moments, where it is known.
pub(super) async fn cores_used(pids: [Option<u32>; 3], from: Instant, to: Instant) -> [Option<f64>; 3] {
    tokio::time::sleep_until(from.into()).await;
    let before = pids.map(|pid| pid.and_then(cpu_seconds));
    tokio::time::sleep_until(to.into()).await;
    let after = pids.map(|pid| pid.and_then(cpu_seconds));
    let span = (to - from).as_secs_f64();
    std::array::from_fn(|index| Some((after[index]? - before[index]?) / span))
}

/// Processor time of a process so far, from /proc, in seconds. Linux counts it in hundredths.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; user and system time are the 14th and 15th field of the whole.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_processor_time_is_known() {
        assert!(cpu_seconds(std::process::id()).is_some());
    }
}
