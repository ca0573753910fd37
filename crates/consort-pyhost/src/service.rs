//! PluginService: converts, calls and converts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consort_proto::blob::payload;
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_service_server::PluginService;
use futures::Stream;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::Value as Json;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::desk::Desk;
use crate::work::{Ask, messages};

/// What is left of Drain's deadline for its answer.
const MARGIN: Duration = Duration::from_millis(500);

/// What the mesh calls.
pub(crate) struct Service {
    pub hello: wire::HelloResponse,
    pub desk: Arc<Desk>,
}

#[tonic::async_trait]
impl PluginService for Service {
    async fn hello(&self, _request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloResponse>, Status> {
        Ok(Response::new(self.hello.clone()))
    }

    async fn configure(
        &self,
        request: Request<wire::ConfigureRequest>,
    ) -> Result<Response<wire::ConfigureResponse>, Status> {
        let until = deadline(request.metadata());
        let wire::ConfigureRequest { config, permissions } = request.into_inner();
        let config = config.map_or_else(|| "{}".to_owned(), |config| object(config).to_string());
        let permissions = permissions.unwrap_or_default().encode_to_vec().into();
        self.desk.configure(config, permissions, until).await?;
        Ok(Response::new(wire::ConfigureResponse {}))
    }

    type InvokeStream = Pin<Box<dyn Stream<Item = Result<wire::InvokeResponse, Status>> + Send>>;

    async fn invoke(&self, request: Request<wire::InvokeRequest>) -> Result<Response<Self::InvokeStream>, Status> {
        let until = deadline(request.metadata());
        let wire::InvokeRequest { operation, input, call_id, idempotency_key, dry_run, origin } = request.into_inner();
        let origin = origin.unwrap_or_default();
        let (mut text, mut raw) = (None, None);
        match input.and_then(|input| input.kind) {
            None => text = Some("{}".to_owned()),
            Some(payload::Kind::Json(given)) => text = Some(given),
            Some(payload::Kind::Value(value)) => text = Some(plain(value).to_string()),
            blob @ Some(payload::Kind::Blob(_)) => {
                raw = Some(consort_proto::blob::Payload { kind: blob }.encode_to_vec().into());
            }
        }
        let ask = Ask {
            operation,
            text,
            raw,
            call_id,
            idempotency_key,
            dry_run,
            namespace: origin.namespace,
            step: origin.step,
            agent: origin.agent,
        };
        let work = self.desk.begin(ask, until).await?;
        Ok(Response::new(Box::pin(messages(work, self.desk.clone()))))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        let left = deadline(request.metadata())
            .map(|until| until.saturating_duration_since(Instant::now()).saturating_sub(MARGIN));
        let grace = request.into_inner().grace.and_then(|grace| Duration::try_from(grace).ok()).unwrap_or_default();
        let cancelled = self.desk.drain(left.map_or(grace, |left| grace.min(left))).await;
        Ok(Response::new(wire::DrainResponse { cancelled }))
    }
}

/// `grpc-timeout`, as a moment.
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    let left = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    // Later than a year is never.
    (left < Duration::from_secs(366 * 86_400)).then(|| Instant::now() + left)
}

fn object(found: Struct) -> Json {
    Json::Object(found.fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

/// A struct's numbers are doubles: those that are whole become integers.
fn plain(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            (number as i64).into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(plain).collect(),
        Some(Kind::StructValue(found)) => object(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let of = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
                .map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64().round() as i64)
        };
        assert_eq!([of("5S"), of("2M"), of("3000m"), of("1H")], [Some(5), Some(120), Some(3), Some(3600)]);
        assert_eq!([of("S"), of("5x"), of("99999999H"), of("999999999S")], [None; 4]);
    }
}
