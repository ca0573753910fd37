//! What an operation may ask of the mesh.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_host_service_client::PluginHostServiceClient;
use serde::Serialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::fault::Fault;
use crate::error::Error;
use crate::payload;

/// The mesh, as far as it is granted: `secrets` by name, `mesh = ["state"]` and `mesh = ["events"]` in the manifest. What is not granted is
/// PERMISSION_DENIED, with the line of the manifest that would ask for it.
#[derive(Clone)]
pub struct Host(pub(super) Arc<dyn Port>);

/// Whoever answers: the mesh, or the test bench.
#[tonic::async_trait]
pub(super) trait Port: Send + Sync {
    async fn get_secret(&self, name: String) -> Result<String, Fault>;
    async fn get_state(&self, key: String) -> Result<Option<Bytes>, Fault>;
    async fn put_state(&self, key: String, value: Bytes) -> Result<(), Fault>;
    async fn publish(&self, event: String, json: String) -> Result<String, Fault>;
}

impl Host {
    /// A secret by its name. Do not log it.
    pub async fn get_secret(&self, name: impl Into<String>) -> Result<String, Fault> {
        self.0.get_secret(name.into()).await
    }

    /// What the plugin kept under a key of 1 to 255 bytes; it survives restarts of both sides. None if there is nothing.
    pub async fn get_state(&self, key: impl Into<String>) -> Result<Option<Bytes>, Fault> {
        self.0.get_state(key.into()).await
    }

    /// Keeps a value of at most 1 MiB, 64 MiB in all; it is on disk when this returns. An empty one forgets the key.
    pub async fn put_state(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<(), Fault> {
        self.0.put_state(key.into(), value.into()).await
    }

    /// Publishes an event of the plugin's own, of type `PLUGIN.{ID}.{NAME}`, and gives its id. The name has letters A-Z, digits and
    /// `_`, from a letter on.
    pub async fn publish_event(&self, event: impl Into<String>, data: &impl Serialize) -> Result<String, Fault> {
        let json = serde_json::to_string(data)
            .map_err(|error| Fault::new(Code::Internal, format!("the data of the event is not JSON: {error}")))?;
        self.0.publish(event.into(), json).await
    }

    /// The mesh at a socket.
    pub(super) fn at(socket: &str, token: &str) -> Result<Host, Error> {
        let wrong = |value: &str, rule| Error::Setting { field: "host", value: value.to_owned(), rule };
        let endpoint = Endpoint::from_shared(format!("unix://{socket}"))
            .map_err(|_| wrong(socket, "CONSORT_HOST_SOCKET must be the path of a socket"))?;
        let bearer = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| wrong("***", "CONSORT_PLUGIN_TOKEN must be printable ASCII"))?;
        let client = PluginHostServiceClient::new(endpoint.connect_lazy());
        Ok(Host(Arc::new(Mesh { client, bearer })))
    }

    /// Nobody: the plugin was started without a mesh to call.
    pub(super) fn absent() -> Host {
        Host(Arc::new(Absent))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

struct Mesh {
    client: PluginHostServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Mesh {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}

#[tonic::async_trait]
impl Port for Mesh {
    async fn get_secret(&self, name: String) -> Result<String, Fault> {
        let request = self.request(wire::GetSecretRequest { name });
        Ok(self.client.clone().get_secret(request).await?.into_inner().value)
    }

    async fn get_state(&self, key: String) -> Result<Option<Bytes>, Fault> {
        match self.client.clone().get_state(self.request(wire::GetStateRequest { key })).await {
            Ok(response) => Ok(Some(response.into_inner().value)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn put_state(&self, key: String, value: Bytes) -> Result<(), Fault> {
        self.client.clone().put_state(self.request(wire::PutStateRequest { key, value })).await?;
        Ok(())
    }

    async fn publish(&self, event: String, json: String) -> Result<String, Fault> {
        let request = self.request(wire::PublishEventRequest { event, data: Some(payload::text(json)) });
        Ok(self.client.clone().publish_event(request).await?.into_inner().event_id)
    }
}

struct Absent;

impl Absent {
    fn fault() -> Fault {
        Fault::precondition("there is no mesh to ask: CONSORT_HOST_SOCKET and CONSORT_PLUGIN_TOKEN are not set")
    }
}

#[tonic::async_trait]
impl Port for Absent {
    async fn get_secret(&self, _: String) -> Result<String, Fault> {
        Err(Absent::fault())
    }

    async fn get_state(&self, _: String) -> Result<Option<Bytes>, Fault> {
        Err(Absent::fault())
    }

    async fn put_state(&self, _: String, _: Bytes) -> Result<(), Fault> {
        Err(Absent::fault())
    }

    async fn publish(&self, _: String, _: String) -> Result<String, Fault> {
        Err(Absent::fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consort_proto::blob::payload::Kind;
    use consort_proto::plugin::plugin_host_service_server::{PluginHostService, PluginHostServiceServer};
    use std::sync::Mutex;
    use tonic::{Response, Status};

    /// A mesh that knows one secret and keeps one value.
    #[derive(Default)]
    struct FakeMesh(Mutex<Bytes>);

    fn guarded<T>(request: Request<T>) -> Result<T, Status> {
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if shown == Some("Bearer t0ken") { Ok(request.into_inner()) } else { Err(Status::unauthenticated("who?")) }
    }

    #[tonic::async_trait]
    impl PluginHostService for FakeMesh {
        async fn get_secret(
            &self,
            request: Request<wire::GetSecretRequest>,
        ) -> Result<Response<wire::GetSecretResponse>, Status> {
            match guarded(request)?.name.as_str() {
                "known" => Ok(Response::new(wire::GetSecretResponse { value: "s3cret".into() })),
                _ => Err(Status::permission_denied("not granted")),
            }
        }

        async fn get_state(
            &self,
            request: Request<wire::GetStateRequest>,
        ) -> Result<Response<wire::GetStateResponse>, Status> {
            guarded(request)?;
            let value = self.0.lock().unwrap().clone();
            if value.is_empty() {
                Err(Status::not_found("nothing"))
            } else {
                Ok(Response::new(wire::GetStateResponse { value }))
            }
        }

        async fn put_state(
            &self,
            request: Request<wire::PutStateRequest>,
        ) -> Result<Response<wire::PutStateResponse>, Status> {
            *self.0.lock().unwrap() = guarded(request)?.value;
            Ok(Response::new(wire::PutStateResponse {}))
        }

        async fn publish_event(
            &self,
            request: Request<wire::PublishEventRequest>,
        ) -> Result<Response<wire::PublishEventResponse>, Status> {
            let wire::PublishEventRequest { event, data } = guarded(request)?;
            let Some(Kind::Json(json)) = data.and_then(|data| data.kind) else {
                return Err(Status::internal("no JSON"));
            };
            Ok(Response::new(wire::PublishEventResponse { event_id: format!("{event} {json}") }))
        }
    }

    #[tokio::test]
    async fn the_mesh_is_reached_over_its_socket_with_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let mesh = PluginHostServiceServer::new(FakeMesh::default());
        let server = tokio::spawn(tonic::transport::Server::builder().add_service(mesh).serve_with_incoming(incoming));
        let host = Host::at(socket.to_str().unwrap(), "t0ken").unwrap();
        assert_eq!(host.get_secret("known").await.unwrap(), "s3cret");
        assert_eq!(host.get_secret("other").await.unwrap_err().code, Code::PermissionDenied);
        assert_eq!(host.get_state("key").await.unwrap(), None);
        host.put_state("key", "value").await.unwrap();
        assert_eq!(host.get_state("key").await.unwrap().unwrap(), "value");
        assert_eq!(host.publish_event("DONE", &[1, 2]).await.unwrap(), "DONE [1,2]");
        let stranger = Host::at(socket.to_str().unwrap(), "wrong").unwrap();
        assert_eq!(stranger.get_secret("known").await.unwrap_err().code, Code::Unauthenticated);
        server.abort();
        assert_eq!(Host::absent().get_secret("known").await.unwrap_err().code, Code::FailedPrecondition);
    }
}
