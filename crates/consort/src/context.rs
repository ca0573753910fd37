//! What a command works with: the server, the namespace and the way to print.

use std::time::Duration;

use consort_proto::blob::Payload;
use consort_proto::orchestrator::{ListRunEventsRequest, RunEvent};
use consort_sdk::Client;
use serde_json::Value;
use tonic::{Response, Status};

use crate::cli::{Address, Global};
use crate::failure::{Failure, Result};
use crate::output::Format;

/// More pages than this are not read: a list of a million.
const PAGES: usize = 1_000;

/// What a command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The server.
    pub mesh: Mesh,
    /// `namespaces/{namespace}`.
    pub parent: String,
    /// How to print.
    pub format: Format,
}

impl Context {
    /// Nothing is sent before the first call.
    pub(crate) fn new(global: &Global) -> Result<Context> {
        if !consort_core::ids::is_id(&global.namespace) {
            return Err(Failure::usage(format!("--namespace `{}` is not a name", global.namespace))
                .hint("use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"));
        }
        let mesh = Mesh::new(&global.address(), &global.namespace)?;
        Ok(Context { parent: mesh.client.parent(), mesh, format: global.output })
    }
}

/// A server, spoken to in its public protocol.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// Tries each call once: a person wants to know at once that there is no server.
    pub client: Client,
    /// Tries for 30 s: for commands that have begun something and see it through.
    pub patient: Client,
    /// HOST:PORT and who said so, for messages.
    addr: String,
}

impl Mesh {
    /// A connection that is made when it is first used, and made again when it breaks.
    pub(crate) fn new(address: &Address, namespace: &str) -> Result<Mesh> {
        let patient = Client::connect(&address.addr)
            .map_err(|error| Failure::usage(format!("{error} (the address comes from {})", address.source)))?
            .with_namespace(namespace);
        let addr = match address.source.as_str() {
            "--addr" => address.addr.clone(),
            source => format!("{} (from {source})", address.addr),
        };
        Ok(Mesh { client: patient.clone().with_patience(Duration::ZERO), patient, addr })
    }

    /// The answer of a raw call.
    pub(crate) fn answer<T>(&self, answer: std::result::Result<Response<T>, Status>) -> Result<T> {
        answer.map(Response::into_inner).map_err(|status| Failure::of_status(&status, &self.addr))
    }

    /// The answer of a call through the SDK.
    pub(crate) fn check<T>(&self, answer: std::result::Result<T, consort_sdk::Error>) -> Result<T> {
        answer.map_err(|error| match error {
            consort_sdk::Error::Status(status) => Failure::of_status(&status, &self.addr),
            other => Failure::failed(other.to_string()),
        })
    }

    /// A run's history after a sequence, at most `limit` events.
    pub(crate) async fn history(&self, run: &str, after_sequence: i64, limit: usize) -> Result<Vec<RunEvent>> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let page_size = (limit - events.len()).min(1_000) as i32;
            let request = ListRunEventsRequest { name: run.to_owned(), after_sequence, page_size, page_token };
            let page = self.answer(self.client.orchestrator().list_run_events(request).await)?;
            events.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() || events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }

    /// The value of a payload, read from its blob if it is one; `null` if absent.
    pub(crate) async fn value(&self, payload: Option<&Payload>) -> Result<Value> {
        self.check(self.patient.payload_value(payload).await)
    }
}

/// A payload that carries a JSON value inline.
pub(crate) fn payload(value: &Value) -> Payload {
    consort_sdk::payload::text(value.to_string())
}

/// A fresh id for one mutation; a repeated call with it has the effect of the first.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
