//! What plugins may ask of the mesh, served on a socket of their own.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use consort_core::plugin::Permissions;
use consort_core::ports::BlobStore;
use consort_core::{Error, Json};
use consort_proto::blob::blob_service_server::BlobServiceServer;
use consort_proto::blob::{Payload, payload};
use consort_proto::plugin as wire;
use consort_proto::plugin::plugin_host_service_server::{PluginHostService, PluginHostServiceServer};
use sha2::{Digest as _, Sha256};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::blobs::Blobs;
use crate::config::SecretFrom;

/// Bytes of a value, of all values of a plugin, and of a key.
const VALUE: usize = 1024 * 1024;
const ALL_VALUES: u64 = 64 * 1024 * 1024;
const KEY: usize = 255;
/// Calls of all plugins at once.
const AT_ONCE: usize = 256;

/// Publishes what plugins have to say.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Publishes an event and gives its id.
    async fn publish(&self, event_type: String, subject: String, data: Json) -> Result<String, Error>;
}

/// What the service is made of.
#[derive(Clone)]
pub struct HostParts {
    /// Where events go; without it PublishEvent is UNIMPLEMENTED.
    pub events: Option<Arc<dyn Events>>,
}

/// A plugin that may call.
#[derive(Debug)]
pub(crate) struct Guest {
    pub id: Arc<str>,
    pub granted: Permissions,
    pub secrets: Vec<(String, SecretFrom)>,
    pub data: PathBuf,
}

/// Those who may call, by what they show.
pub(crate) type Guests = Arc<Mutex<HashMap<String, Arc<Guest>>>>;

/// The socket, as long as it is there.
#[derive(Debug)]
pub(crate) struct Host {
    pub socket: PathBuf,
    guests: Guests,
    stop: CancellationToken,
}

impl Host {
    /// Begins to serve.
    pub(crate) fn open(parts: HostParts, blobs: Arc<dyn BlobStore>) -> std::io::Result<Host> {
        let folder = std::env::temp_dir().join(format!("consort-host-{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let socket = folder.join("s");
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        let (guests, stop) = (Guests::default(), CancellationToken::new());
        let service = PluginHostServiceServer::new(Service { guests: guests.clone(), parts })
            .max_decoding_message_size(VALUE + 64 * 1024);
        let blobs = Blobs { guests: guests.clone(), store: blobs };
        let server = tonic::transport::Server::builder()
            .concurrency_limit_per_connection(AT_ONCE)
            .timeout(std::time::Duration::from_secs(30))
            .add_service(service)
            .add_service(BlobServiceServer::new(blobs))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the service for plugins ended by itself");
            }
            let _ = fs::remove_dir_all(folder);
        });
        Ok(Host { socket, guests, stop })
    }

    /// Lets a plugin in; what it must show.
    pub(crate) fn admit(&self, guest: Guest) -> String {
        let token = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), Arc::new(guest));
        token
    }

    /// Lets it in no more.
    pub(crate) fn dismiss(&self, token: &str) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Service {
    guests: Guests,
    parts: HostParts,
}

/// Who calls.
pub(crate) fn guest<T>(guests: &Guests, request: &Request<T>) -> Result<Arc<Guest>, Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
    let guests = guests.lock().unwrap_or_else(PoisonError::into_inner);
    let hint = "send the metadata `authorization: Bearer` with CONSORT_PLUGIN_TOKEN";
    guests.get(token).cloned().ok_or_else(|| Status::unauthenticated(hint))
}

/// What was not granted, with the line of the manifest that would ask for it.
pub(crate) fn denied(kind: &str, entry: &str) -> Status {
    Status::permission_denied(format!(
        "`{entry}` is not granted; the manifest asks for it with `{kind} = [\"{entry}\"]` under [permissions]"
    ))
}

fn may_keep(guest: &Guest, key: &str) -> Result<PathBuf, Status> {
    if !guest.granted.mesh.iter().any(|service| service == "state") {
        return Err(denied("mesh", "state"));
    }
    if key.is_empty() || key.len() > KEY {
        return Err(Status::invalid_argument(format!("key: has {} bytes; give 1 to {KEY}", key.len())));
    }
    // Names of files have at most 255 bytes; the digest stands for the key.
    Ok(guest.data.join("state").join(hex::encode(Sha256::digest(key.as_bytes()))))
}

#[tonic::async_trait]
impl PluginHostService for Service {
    async fn get_secret(
        &self,
        request: Request<wire::GetSecretRequest>,
    ) -> Result<Response<wire::GetSecretResponse>, Status> {
        let guest = guest(&self.guests, &request)?;
        let name = request.into_inner().name;
        if !guest.granted.secrets.contains(&name) {
            return Err(denied("secrets", &name));
        }
        let Some((_, from)) = guest.secrets.iter().find(|(known, _)| *known == name) else {
            let said = format!("the operator gave plugin `{}` no secret `{name}`; add it to plugins.yaml", guest.id);
            return Err(Status::not_found(said));
        };
        let value = from.read().map_err(|error| Status::failed_precondition(error.message))?;
        Ok(Response::new(wire::GetSecretResponse { value }))
    }

    async fn get_state(
        &self,
        request: Request<wire::GetStateRequest>,
    ) -> Result<Response<wire::GetStateResponse>, Status> {
        let guest = guest(&self.guests, &request)?;
        let path = may_keep(&guest, &request.get_ref().key)?;
        match tokio::fs::read(path).await {
            Ok(value) => Ok(Response::new(wire::GetStateResponse { value: value.into() })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Status::not_found(format!("nothing is kept under `{}`", request.get_ref().key)))
            }
            Err(error) => Err(Status::unavailable(format!("the value cannot be read: {error}"))),
        }
    }

    async fn put_state(
        &self,
        request: Request<wire::PutStateRequest>,
    ) -> Result<Response<wire::PutStateResponse>, Status> {
        let guest = guest(&self.guests, &request)?;
        let path = may_keep(&guest, &request.get_ref().key)?;
        let value = request.into_inner().value;
        if value.len() > VALUE {
            return Err(Status::resource_exhausted(format!("value: has {} bytes; the most is {VALUE}", value.len())));
        }
        let kept = tokio::task::spawn_blocking(move || keep(&path, &value)).await;
        kept.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(wire::PutStateResponse {}))
    }

    async fn publish_event(
        &self,
        request: Request<wire::PublishEventRequest>,
    ) -> Result<Response<wire::PublishEventResponse>, Status> {
        let guest = guest(&self.guests, &request)?;
        if !guest.granted.mesh.iter().any(|service| service == "events") {
            return Err(denied("mesh", "events"));
        }
        let Some(events) = &self.parts.events else {
            return Err(Status::unimplemented("this mesh has no events for plugins"));
        };
        let wire::PublishEventRequest { event, data } = request.into_inner();
        let fine = event.starts_with(|c: char| c.is_ascii_uppercase())
            && event.len() <= 63
            && event.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !fine {
            let said = format!("event: `{event}` is no name; use letters A-Z, digits and `_`, from a letter on");
            return Err(Status::invalid_argument(said));
        }
        let data = match data.and_then(|data| data.kind) {
            None => Json::null(),
            Some(payload::Kind::Json(text)) => {
                Json::parse(text).map_err(|error| Status::invalid_argument(format!("data: {error}")))?
            }
            Some(_) => return Err(Status::invalid_argument("data: must be inline JSON")),
        };
        let name = guest.id.to_ascii_uppercase().replace('-', "_");
        let published = events.publish(format!("PLUGIN.{name}_{event}"), guest.id.to_string(), data).await;
        match published {
            Ok(event_id) => Ok(Response::new(wire::PublishEventResponse { event_id })),
            Err(error) if error.retryable() => Err(Status::unavailable(error.message)),
            Err(error) => Err(Status::invalid_argument(error.message)),
        }
    }
}

/// Writes a value, durably; an empty one forgets it.
fn keep(path: &Path, value: &[u8]) -> Result<(), Status> {
    let told = |error: std::io::Error| Status::unavailable(format!("the value cannot be kept: {error}"));
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(told)?;
    if value.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(told(error)),
            _ => Ok(()),
        };
    }
    let sizes = fs::read_dir(folder).map_err(told)?.flatten();
    let others = sizes.filter(|entry| entry.path() != path).filter_map(|entry| Some(entry.metadata().ok()?.len()));
    let used: u64 = others.sum();
    if used + value.len() as u64 > ALL_VALUES {
        let said =
            format!("the plugin keeps {used} bytes already; the most is {ALL_VALUES}. Forget some with empty values");
        return Err(Status::resource_exhausted(said));
    }
    let beside = path.with_extension(Uuid::new_v4().simple().to_string());
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&beside)?;
        file.write_all(value)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        told(error)
    })
}

/// A value as the wire has it.
pub(crate) fn inline(text: &str) -> Payload {
    Payload { kind: Some(payload::Kind::Json(text.to_owned())) }
}
