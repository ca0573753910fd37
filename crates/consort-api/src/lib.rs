//! The front desk: what `proto/` promises, served with tonic over the engine and the bus.
//!
//! A handler reads the request, calls the engine and writes the answer; it decides nothing. [`bind`] takes the address and
//! [`serve`] answers on it until it is told to stop.
//!
//! Errors become statuses in one file (`status`), names are read and written in one (`names`), and the layers in front of the
//! services stand in one listed order (`server`).

mod admin;
mod agent;
mod asks;
mod blob;
mod connect;
mod connection;
mod convert;
mod deadline;
mod decision;
mod envelope;
mod event;
mod front;
mod group;
mod hello;
mod inference;
mod io;
mod layers;
mod limits;
mod names;
mod orchestrator;
mod paging;
mod plugin;
mod project;
mod replay;
mod request;
mod requeue;
mod routes;
mod server;
mod signal;
mod status;
mod stream;
mod subscribe;
mod subscribe_group;
mod watch_run;
mod worker;

pub use front::{HttpBody, HttpHandler};
pub use limits::{ApiOptions, Limits};
pub use server::{Listener, ServeError, bind, check_listen, serve};

use consort_bus::{Bus, Groups};
use consort_engine::Engine;
use tokio_util::sync::CancellationToken;

/// What every service needs.
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) bus: Bus,
    pub(crate) groups: Groups,
    pub(crate) values: convert::Values,
    pub(crate) options: ApiOptions,
    /// Cancelled when the server begins to stop.
    pub(crate) stop: CancellationToken,
}

impl Context {
    pub(crate) fn store(&self) -> &dyn consort_core::ports::Store {
        &**self.engine.store()
    }

    /// What a call yields that waits and changes nothing meanwhile, or that the server is stopping: whoever waits learns it at
    /// once, and does not hold up the end.
    pub(crate) async fn unless_stopping<T>(
        &self,
        call: impl Future<Output = Result<T, consort_core::Error>>,
    ) -> Result<T, consort_core::Error> {
        self.stop.run_until_cancelled(call).await.unwrap_or_else(|| Err(status::stopping()))
    }
}

/// Reads the name of a task, `namespaces/N/runs/R/steps/S/attempts/A`, and joins it with its token: the namespace and the lease. For
/// whoever else is called on behalf of tasks; the error names `field`.
pub fn task_lease<'a>(
    field: &str,
    task: &'a str,
    token: u64,
) -> Result<(&'a str, consort_engine::LeaseRef), consort_core::Error> {
    names::task(field, task, token)
}
