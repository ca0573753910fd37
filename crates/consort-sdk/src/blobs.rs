//! Bytes that are too large for a message.

use bytes::{Bytes, BytesMut};
use consort_proto::blob::payload::Kind;
use consort_proto::blob::{BlobRef, DownloadRequest, Payload, UploadRequest};
use serde_json::Value;
use tonic::{Request, Status};

use crate::client::Client;
use crate::error::Error;
use crate::payload;

/// Bytes a message of an upload carries.
const CHUNK: usize = 256 * 1024;
/// Largest blob that is read into memory at once.
pub(crate) const IN_MEMORY: u64 = 256 * 1024 * 1024;

impl Client {
    /// Stores bytes and returns their name. Storing what is already stored succeeds, so the call is repeated while the
    /// mesh cannot be reached.
    pub async fn upload(&self, bytes: impl Into<Bytes>, media_type: &str) -> Result<BlobRef, Error> {
        let bytes: Bytes = bytes.into();
        let answer = self
            .call((bytes, media_type.to_owned()), |client, request| async move {
                let (metadata, extensions, (bytes, media_type)) = request.into_parts();
                let stream = tokio_stream::iter(chunks(bytes, media_type));
                client.blobs().upload(Request::from_parts(metadata, extensions, stream)).await
            })
            .await?;
        answer.blob.ok_or(Error::Protocol("an upload was answered without the name of the blob"))
    }

    /// The bytes of a blob, at most 256 MiB. A broken download goes on where it stopped.
    pub async fn download(&self, blob: &BlobRef) -> Result<Bytes, Error> {
        let name = format!("blobs/{}", blob.sha256);
        let too_large = || Error::TooLarge { name: name.clone(), limit: IN_MEMORY };
        if u64::try_from(blob.size_bytes).is_ok_and(|size| size > IN_MEMORY) {
            return Err(too_large());
        }
        let size = usize::try_from(blob.size_bytes).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(size.min(IN_MEMORY as usize));
        // Each further round begins where the last one broke; a round that brings nothing is the last.
        loop {
            let request = DownloadRequest { name: name.clone(), offset: bytes.len() as i64 };
            let mut stream =
                self.call(request, |client, request| async move { client.blobs().download(request).await }).await?;
            let before = bytes.len();
            match read(&mut stream, &mut bytes).await {
                Ok(true) => return Ok(bytes.freeze()),
                Ok(false) => return Err(too_large()),
                Err(status) if crate::error::is_transient(&status) && bytes.len() > before => {}
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// The value of a payload in any of its forms; an absent one is `null`. A blob is fetched.
    pub async fn payload_value(&self, payload: Option<&Payload>) -> Result<Value, Error> {
        let read = |json: &[u8]| {
            serde_json::from_slice(json).map_err(|source| Error::Json { what: "the value of a payload", source })
        };
        match payload.and_then(|payload| payload.kind.as_ref()) {
            None => Ok(Value::Null),
            Some(Kind::Json(json)) => read(json.as_bytes()),
            Some(Kind::Value(value)) => Ok(payload::from_protobuf(value.clone())),
            Some(Kind::Blob(blob)) => read(&self.download(blob).await?),
        }
    }
}

/// Appends what comes; false if it is more than fits in memory.
async fn read(
    stream: &mut tonic::Streaming<consort_proto::blob::DownloadResponse>,
    into: &mut BytesMut,
) -> Result<bool, Status> {
    while let Some(part) = stream.message().await? {
        if (into.len() + part.chunk.len()) as u64 > IN_MEMORY {
            return Ok(false);
        }
        into.extend_from_slice(&part.chunk);
    }
    Ok(true)
}

/// The messages of an upload: at least one, the first with the media type.
fn chunks(mut bytes: Bytes, media_type: String) -> impl Iterator<Item = UploadRequest> {
    let mut first = Some(media_type);
    std::iter::from_fn(move || {
        if bytes.is_empty() && first.is_none() {
            return None;
        }
        let chunk = bytes.split_to(bytes.len().min(CHUNK));
        Some(UploadRequest { chunk, media_type: first.take().unwrap_or_default(), sha256: String::new() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_at_least_one_message_and_names_its_type_once() {
        let of = |len| chunks(Bytes::from(vec![7; len]), "text/plain".into()).collect::<Vec<_>>();
        assert_eq!(of(0).len(), 1);
        let two = of(CHUNK + 1);
        assert_eq!(two.iter().map(|m| m.chunk.len()).collect::<Vec<_>>(), [CHUNK, 1]);
        assert_eq!(two.iter().map(|m| m.media_type.as_str()).collect::<Vec<_>>(), ["text/plain", ""]);
    }
}
