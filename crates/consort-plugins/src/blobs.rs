//! Blobs of the mesh, for plugins with `mesh = ["blobs"]`, on the socket of [`crate::host`].

use std::sync::Arc;

use bytes::Bytes;
use consort_core::ports::{BlobStore, StoreError};
use consort_proto::blob as wire;
use consort_proto::blob::blob_service_server::BlobService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::host::{Guests, denied, guest};

/// Bytes of one message, and bytes that are read from the store at once.
const CHUNK: usize = 64 * 1024;
const READ: usize = 1024 * 1024;
/// Messages that wait for a slow reader.
const WAITING: usize = 2;

/// See `proto/consort/blob/v1/blob_service.proto`. Only `Download`: what a plugin has to give it streams as its result.
pub(crate) struct Blobs {
    pub(crate) guests: Guests,
    pub(crate) store: Arc<dyn BlobStore>,
}

#[tonic::async_trait]
impl BlobService for Blobs {
    async fn upload(
        &self,
        _: Request<Streaming<wire::UploadRequest>>,
    ) -> Result<Response<wire::UploadResponse>, Status> {
        Err(Status::unimplemented("a plugin stores no blobs: stream the bytes as your result, and the mesh keeps them"))
    }

    type DownloadStream = ReceiverStream<Result<wire::DownloadResponse, Status>>;

    async fn download(
        &self,
        request: Request<wire::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let guest = guest(&self.guests, &request)?;
        if !guest.granted.mesh.iter().any(|service| service == "blobs") {
            return Err(denied("mesh", "blobs"));
        }
        let wire::DownloadRequest { name, offset } = request.into_inner();
        let sha256 = name.strip_prefix("blobs/").filter(|sha256| is_sha256(sha256)).ok_or_else(|| {
            let shown: String = name.chars().take(100).collect();
            Status::invalid_argument(format!("name: `{shown}` names no blob; give `blobs/` and 64 hexadecimal digits"))
        })?;
        let at = u64::try_from(offset).map_err(|_| Status::invalid_argument("offset: is negative; give 0 or more"))?;
        let blob = self.store.stat(sha256).await.map_err(|error| unavailable(&error))?;
        let blob = blob.ok_or_else(|| Status::not_found(format!("there is no blob `{name}`")))?;
        if at > blob.size {
            let said = format!("offset: is {at} and the blob has {} bytes; give at most that", blob.size);
            return Err(Status::out_of_range(said));
        }
        let (sender, chunks) = mpsc::channel(WAITING);
        // It ends with the blob, or with its reader.
        tokio::spawn(send(self.store.clone(), blob.sha256, at..blob.size, sender));
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

async fn send(
    store: Arc<dyn BlobStore>,
    sha256: Arc<str>,
    range: std::ops::Range<u64>,
    sender: mpsc::Sender<Result<wire::DownloadResponse, Status>>,
) {
    let mut at = range.start;
    while at < range.end {
        let read = tokio::select! {
            read = store.read(&sha256, at, READ) => read,
            () = sender.closed() => return,
        };
        let mut bytes = match read {
            Ok(Some(bytes)) if !bytes.is_empty() => Bytes::from(bytes),
            Ok(_) => {
                let said = format!("blob {sha256} ends at {at} of {} bytes", range.end);
                let _ = sender.send(Err(Status::internal(said))).await;
                return;
            }
            Err(error) => {
                let _ = sender.send(Err(unavailable(&error))).await;
                return;
            }
        };
        at += bytes.len() as u64;
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            if sender.send(Ok(wire::DownloadResponse { chunk })).await.is_err() {
                return;
            }
        }
    }
}

fn unavailable(error: &StoreError) -> Status {
    Status::unavailable(format!("the store of blobs: {error}"))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
