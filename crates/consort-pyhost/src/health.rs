//! Whether the process is well: its event loop turns, and its threads are not all lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use consort_proto::plugin::plugin_service_server::PluginServiceServer;
use pyo3::prelude::*;
use tokio::sync::mpsc;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::desk::Desk;
use crate::service::Service;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// An event loop that has not turned for so long hangs, and so does a function that goes on for so long after it was cancelled.
const PATIENCE: Duration = Duration::from_secs(5);
/// Hung functions that wait to be told of; more are told of by their number alone, in the refusal of calls.
const REPORTS: usize = 64;

/// Looks after the process until it ends.
pub(crate) async fn watch(desk: Arc<Desk>, reporter: HealthReporter) {
    let reports = reporting();
    let (mut hung, mut looked, mut was) = (false, Instant::now(), ServingStatus::Serving);
    reporter.set_serving::<PluginServiceServer<Service>>().await;
    loop {
        // Whoever stops the whole process stops its clock, too.
        if looked.elapsed() > EVERY * 8 {
            desk.turned();
        }
        looked = Instant::now();
        let still = desk.still();
        if still >= PATIENCE && !hung {
            eprintln!(
                "consort-pyhost: the event loop of '{}' has not turned for {} s; in work on it: {}",
                desk.name,
                still.as_secs(),
                desk.on_loop()
            );
        }
        hung = still >= PATIENCE;
        for work in desk.hung(PATIENCE) {
            let _ = reports.try_send(work);
        }
        let well = !hung && !desk.left.load(Ordering::Acquire) && !desk.is_stuck();
        let is = if well { ServingStatus::Serving } else { ServingStatus::NotServing };
        if is != was {
            reporter.set_service_status("", is).await;
            reporter.set_service_status("consort.plugin.v1.PluginService", is).await;
            was = is;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A thread that tells which functions hang. It waits for Python's lock, so nothing waits for it.
fn reporting() -> mpsc::Sender<Arc<crate::work::Work>> {
    let (reports, mut waiting) = mpsc::channel::<Arc<crate::work::Work>>(REPORTS);
    std::thread::spawn(move || {
        while let Some(work) = waiting.blocking_recv() {
            let thread = work.thread.load(Ordering::Acquire);
            let told = Python::attach(|py| {
                let embedded = py.import("consort.plugin._embedded")?;
                embedded.call_method1("report", (&work.ask.operation, &work.ask.call_id, thread)).map(drop)
            });
            if let Err(error) = told {
                eprintln!("consort-pyhost: '{}' goes on though it was cancelled: {error}", work.ask.operation);
            }
        }
    });
    reports
}
