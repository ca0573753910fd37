//! `consort.blob.v1.BlobService`.

use std::sync::Arc;

use bytes::Bytes;
use consort_core::{Error, Kind};
use consort_proto::blob as wire;
use futures::stream::{self, BoxStream, StreamExt as _};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status, Streaming};
use wire::blob_service_server::BlobService;

use crate::status::{self, answer};
use crate::{Context, names};

/// Bytes of one message of an upload.
const UPLOAD_CHUNK: usize = 1024 * 1024;
/// Bytes of one message of a download.
const DOWNLOAD_CHUNK: usize = 64 * 1024;
/// Bytes read from the store at once: many chunks a visit.
const READ: usize = 1024 * 1024;
const ANY_BYTES: &str = "application/octet-stream";

/// See `proto/consort/blob/v1/blob_service.proto`.
pub(crate) struct Blobs(pub(crate) Arc<Context>);

impl Blobs {
    async fn take(&self, mut parts: Streaming<wire::UploadRequest>) -> Result<wire::BlobRef, Status> {
        let of = status::of;
        let Some(first) = self.part(&mut parts).await? else {
            return Err(of(Error::bad_field("media_type", "nothing came; send at least one message")));
        };
        let media_type = media_type(&first.media_type).map_err(of)?;
        let expected = expected(&first.sha256).map_err(of)?;
        let store_failed = |error| of(status::store(error));
        let mut writer = self.0.store().writer(media_type).await.map_err(store_failed)?;
        let mut hash = Sha256::new();
        let mut size = 0_u64;
        let mut part = first.chunk;
        loop {
            if part.len() > UPLOAD_CHUNK {
                let said = format!("has {} bytes; send at most {UPLOAD_CHUNK} a message", part.len());
                return Err(of(Error::bad_field("chunk", said)));
            }
            size += part.len() as u64;
            let limit = self.0.options.limits.blob;
            if size > limit {
                let said = format!("the blob has more than the {limit} bytes this server takes; split it");
                return Err(of(status::exhausted("BLOB_TOO_LARGE", said, None)));
            }
            if !part.is_empty() {
                hash.update(&part);
                writer.write(&part).await.map_err(store_failed)?;
            }
            let Some(next) = self.part(&mut parts).await? else { break };
            if !next.media_type.is_empty() || !next.sha256.is_empty() {
                let field = if next.sha256.is_empty() { "media_type" } else { "sha256" };
                return Err(of(Error::bad_field(field, "came again; only the first message carries it")));
            }
            part = next.chunk;
        }
        let found = hex::encode(hash.finalize());
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let said = format!("`{expected}` was announced, and the bytes that came have `{found}`; send them again");
            return Err(of(Error::bad_field("sha256", said)));
        }
        let blob = writer.finish().await.map_err(store_failed)?;
        Ok(wire::BlobRef {
            sha256: blob.sha256.to_string(),
            size_bytes: blob.size as i64,
            media_type: blob.media_type.to_string(),
        })
    }

    async fn part(&self, parts: &mut Streaming<wire::UploadRequest>) -> Result<Option<wire::UploadRequest>, Status> {
        let idle = self.0.options.limits.upload_idle;
        if let Ok(part) = tokio::time::timeout(idle, parts.message()).await {
            return part.map_err(status::of_stream);
        }
        let said = format!("nothing came for {} s; upload again", idle.as_secs());
        Err(status::of(Error::new(Kind::DeadlineExceeded, "UPLOAD_STALLED", said)))
    }

    async fn give(&self, request: wire::DownloadRequest) -> Result<Chunks, Error> {
        let sha256 = names::blob("name", &request.name)?;
        let offset = u64::try_from(request.offset).map_err(|_| {
            Error::bad_field("offset", format!("`{}` is negative; give 0 for the whole blob", request.offset))
        })?;
        let blob = self.0.store().stat(sha256).await.map_err(status::store)?;
        let blob = blob.ok_or_else(|| Error::not_found("blob", &request.name))?;
        if offset > blob.size {
            let said = format!("`offset` is {offset} and the blob has {} bytes; give at most that", blob.size);
            return Err(Error::new(Kind::OutOfRange, "BEYOND_THE_END", said));
        }
        let download =
            Download { context: self.0.clone(), sha256: blob.sha256, at: offset, end: blob.size, read: Bytes::new() };
        let chunks = stream::try_unfold(download, |mut download| async {
            let chunk = download.next().await.map_err(status::of)?;
            Ok(chunk.map(|chunk| (wire::DownloadResponse { chunk }, download)))
        });
        Ok(chunks.boxed())
    }
}

type Chunks = BoxStream<'static, Result<wire::DownloadResponse, Status>>;

/// Reads on only when the reader has taken what was read, so a slow one holds one piece in memory and nothing else.
struct Download {
    context: Arc<Context>,
    sha256: Arc<str>,
    at: u64,
    end: u64,
    read: Bytes,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.read.is_empty() {
            if self.at == self.end {
                return Ok(None);
            }
            let bytes = self.context.store().read(&self.sha256, self.at, READ).await.map_err(status::store)?;
            self.read = bytes.unwrap_or_default().into();
            if self.read.is_empty() {
                return Err(Error::internal(format!("blob {} ends at {} of {} bytes", self.sha256, self.at, self.end)));
            }
            self.at += self.read.len() as u64;
        }
        let length = self.read.len().min(DOWNLOAD_CHUNK);
        Ok(Some(self.read.split_to(length)))
    }
}

/// Checks a media type (RFC 6838, parameters allowed).
fn media_type(given: &str) -> Result<&str, Error> {
    if given.is_empty() {
        return Ok(ANY_BYTES);
    }
    let essence = given.split(';').next().unwrap_or_default().trim();
    let name = |name: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !name.is_empty() && name.len() <= 127 && name.bytes().all(legal)
    };
    let legal = essence.split_once('/').is_some_and(|(kind, subtype)| name(kind) && name(subtype));
    if !legal || given.len() > 255 || !given.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        let shown = names::shown(given);
        return Err(Error::bad_field(
            "media_type",
            format!("`{shown}` is not a media type; give one such as `text/csv`, or nothing"),
        ));
    }
    Ok(given)
}

fn expected(given: &str) -> Result<Option<String>, Error> {
    if given.is_empty() {
        return Ok(None);
    }
    let lower = given.to_ascii_lowercase();
    if names::is_sha256(&lower) {
        return Ok(Some(lower));
    }
    let shown = names::shown(given);
    Err(Error::bad_field("sha256", format!("`{shown}` is not a SHA-256; give 64 hexadecimal digits, or nothing")))
}

#[tonic::async_trait]
impl BlobService for Blobs {
    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadRequest>>,
    ) -> Result<Response<wire::UploadResponse>, Status> {
        let blob = self.take(request.into_inner()).await?;
        Ok(Response::new(wire::UploadResponse { blob: Some(blob) }))
    }

    type DownloadStream = Chunks;

    async fn download(&self, request: Request<wire::DownloadRequest>) -> Result<Response<Chunks>, Status> {
        answer(self.give(request.into_inner()).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_checked() {
        for good in ["text/csv", "application/vnd.api+json", "text/plain; charset=utf-8", ""] {
            media_type(good).unwrap();
        }
        assert_eq!(media_type("").unwrap(), "application/octet-stream");
        for bad in ["text", "/csv", "text/", "te xt/csv", "text/csv\n", "é/x"] {
            assert!(media_type(bad).is_err(), "{bad:?}");
        }
        assert!(media_type(&format!("text/{}", "x".repeat(128))).is_err());
    }

    #[test]
    fn an_announced_digest_may_be_upper_case() {
        assert_eq!(expected(&"AB".repeat(32)).unwrap(), Some("ab".repeat(32)));
        assert_eq!(expected("").unwrap(), None);
        assert!(expected("abc").is_err());
    }
}
