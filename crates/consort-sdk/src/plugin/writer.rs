//! Results that are too large for one message.

use bytes::{Bytes, BytesMut};
use consort_proto::plugin::invoke_response::Kind;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::PoisonError;
use tonic::Code;

use super::CHUNK;
use super::call::Call;
use super::fault::Fault;

/// How far the writer of a call is.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// There is none.
    #[default]
    None,
    /// Bytes may be missing.
    Open,
    /// All bytes of this media type are on their way.
    Finished(String),
}

/// Writes a large result piece by piece. Waits while the mesh is slow, so that memory stays bounded.
#[derive(Debug)]
pub struct Writer {
    call: Call,
    media_type: String,
    pending: BytesMut,
    size: u64,
}

/// The output of an operation that wrote its result with a [`Writer`]. What the caller sees names the blob that the mesh made of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Written {
    /// SHA-256 of the bytes, 64 lower-case hexadecimal digits; the mesh fills it in.
    sha256: String,
    /// Length in bytes.
    size_bytes: u64,
    /// Media type of the bytes.
    media_type: String,
}

impl Writer {
    pub(super) fn open(call: Call, media_type: String) -> Result<Writer, Fault> {
        let mut stage = call.inner.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*stage, Stage::None) {
            return Err(Fault::new(Code::Internal, "the call has a writer already; a call has one result"));
        }
        *stage = Stage::Open;
        drop(stage);
        Ok(Writer { call, media_type, pending: BytesMut::new(), size: 0 })
    }

    /// Writes bytes. CANCELLED if nobody waits for them any more.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Fault> {
        let mut bytes = bytes.as_ref();
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// The end of the result, to be returned by the operation.
    pub async fn finish(mut self) -> Result<Written, Fault> {
        // Even an empty result has a chunk, which tells it from an output in JSON.
        if !self.pending.is_empty() || self.size == 0 {
            self.flush().await?;
        }
        let finished = Stage::Finished(self.media_type.clone());
        *self.call.inner.stage.lock().unwrap_or_else(PoisonError::into_inner) = finished;
        Ok(Written { sha256: String::new(), size_bytes: self.size, media_type: self.media_type })
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        self.call.check_cancelled()?;
        let chunk: Bytes = self.pending.split().freeze();
        self.call.send(Kind::Chunk(chunk)).await;
        self.call.check_cancelled()
    }
}
