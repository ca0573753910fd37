//! `consort.admin.v1.AdminService`.

use std::sync::Arc;

use consort_core::keep::Archive;
use consort_core::{Error, Kind};
use consort_engine::{Policy, Pruned, keep_error};
use consort_proto::admin as wire;
use futures::FutureExt as _;
use futures::stream::{BoxStream, StreamExt as _, try_unfold};
use tonic::{Request, Response, Status, Streaming};
use wire::admin_service_server::AdminService;

use crate::paging::{self, List};
use crate::status::{self, answer};
use crate::{Context, names, request as req, stream};

/// Bytes of one message of an import.
const IMPORT_CHUNK: usize = 1024 * 1024;
/// Bytes of one message of an archive that is downloaded.
const DOWNLOAD_CHUNK: usize = 64 * 1024;

/// See `proto/consort/admin/v1/admin_service.proto`.
pub(crate) struct Admin(pub(crate) Arc<Context>);

impl Admin {
    async fn backup(&self) -> Result<stream::News<wire::CreateBackupResponse>, Error> {
        let mut parts = self.0.engine.backup().await?;
        // A reader that takes nothing is cut off: nobody else can back up or prune meanwhile.
        Ok(stream::news(&self.0, |reader| {
            async move {
                while let Some(part) = parts.next().await.map_err(|error| keep_error(&error))? {
                    reader.give(wire::CreateBackupResponse { chunk: part.into() }).await?;
                }
                Ok(())
            }
            .boxed()
        }))
    }

    async fn prune(&self, request: wire::PruneRunsRequest) -> Result<wire::PruneRunsResponse, Error> {
        req::check_id(&request.request_id)?;
        let namespace = match request.parent.as_str() {
            "" => None,
            parent => Some(names::parent("parent", parent)?),
        };
        let keep_last = u32::try_from(request.keep_last).map_err(|_| {
            Error::bad_field("keep_last", format!("`{}` is negative; give 0 or more", request.keep_last))
        })?;
        let policy = Policy {
            namespace,
            older_than: req::duration("older_than", request.older_than.as_ref())?,
            keep_last,
            keep_failed: request.keep_failed,
            others_older_than: req::duration("others_older_than", request.others_older_than.as_ref())?,
            blobs: request.blobs,
        };
        let pruned = self.0.unless_stopping(self.0.engine.prune(&policy, request.dry_run)).await?;
        let Pruned { runs, runs_held, events, signals, letters, projects, blobs, blob_bytes, archives } = pruned;
        Ok(wire::PruneRunsResponse {
            runs: runs as i64,
            runs_held: runs_held as i64,
            events: events as i64,
            signals: signals as i64,
            dead_letters: letters as i64,
            projects: projects as i64,
            blobs: blobs as i64,
            blob_bytes: blob_bytes as i64,
            archives: archives.iter().map(archive).collect(),
        })
    }

    async fn list(&self, request: wire::ListArchivesRequest) -> Result<wire::ListArchivesResponse, Error> {
        let size = paging::size(request.page_size, 100)?;
        let list = List::new("ListArchives", &[]);
        let after = list.place(&request.page_token)?;
        let all = self.0.engine.archives().await?;
        let later = all
            .into_iter()
            .filter(|archive| after.as_ref().is_none_or(|after| archive.name.as_bytes() > after.as_slice()));
        let rows: Vec<Archive> = later.take(size + 1).collect();
        let place = |row: &Archive| row.name.clone().into_bytes();
        let (archives, next_page_token) = paging::page(&list, size, &rows, archive, place);
        Ok(wire::ListArchivesResponse { archives, next_page_token })
    }

    async fn download(
        &self,
        request: wire::DownloadArchiveRequest,
    ) -> Result<BoxStream<'static, Result<wire::DownloadArchiveResponse, Status>>, Error> {
        let unknown = || Error::not_found("archive", names::shown(&request.name));
        let name = request.name.strip_prefix("archives/").ok_or_else(unknown)?;
        let archive = self.0.engine.archives().await?.into_iter().find(|archive| archive.name == name);
        let archive = archive.ok_or_else(unknown)?;
        let offset = u64::try_from(request.offset).map_err(|_| {
            Error::bad_field("offset", format!("`{}` is negative; give 0 for all of it", request.offset))
        })?;
        if offset > archive.size {
            let said = format!("`offset` is {offset} and the archive has {} bytes; give at most that", archive.size);
            return Err(Error::new(Kind::OutOfRange, "BEYOND_THE_END", said));
        }
        let chunks = try_unfold((self.0.clone(), archive, offset), |(context, archive, at)| async move {
            let read = context.engine.read_archive(&archive.name, at, DOWNLOAD_CHUNK).await.map_err(status::of)?;
            let chunk = read.unwrap_or_default();
            if chunk.is_empty() {
                return Ok(None);
            }
            let next = at + chunk.len() as u64;
            Ok(Some((wire::DownloadArchiveResponse { chunk: chunk.into() }, (context, archive, next))))
        });
        Ok(chunks.boxed())
    }

    async fn import(&self, mut parts: Streaming<wire::ImportRunsRequest>) -> Result<wire::ImportRunsResponse, Status> {
        let of = status::of;
        let failed = |error: consort_core::keep::KeepError| of(keep_error(&error));
        let mut intake = self.0.engine.import().await.map_err(of)?;
        let idle = self.0.options.limits.upload_idle;
        let mut size = 0_usize;
        loop {
            let Ok(part) = tokio::time::timeout(idle, parts.message()).await else {
                let said = format!("nothing came for {} s; import again", idle.as_secs());
                return Err(of(Error::new(Kind::DeadlineExceeded, "UPLOAD_STALLED", said)));
            };
            let Some(part) = part.map_err(status::of_stream)? else { break };
            if part.chunk.len() > IMPORT_CHUNK {
                let said = format!("has {} bytes; send at most {IMPORT_CHUNK} a message", part.chunk.len());
                return Err(of(Error::bad_field("chunk", said)));
            }
            size += part.chunk.len();
            intake.write(&part.chunk).await.map_err(failed)?;
        }
        if size == 0 {
            return Err(of(Error::bad_field("chunk", "nothing came; send an archive")));
        }
        let imported = intake.finish().await.map_err(failed)?;
        Ok(wire::ImportRunsResponse {
            runs: imported.runs as i64,
            runs_known: imported.known as i64,
            rows: imported.rows as i64,
            others: imported.others as i64,
        })
    }
}

fn archive(archive: &Archive) -> wire::Archive {
    wire::Archive { name: format!("archives/{}", archive.name), size_bytes: archive.size as i64 }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type CreateBackupStream = stream::News<wire::CreateBackupResponse>;

    async fn create_backup(
        &self,
        _: Request<wire::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        answer(self.backup().await)
    }

    async fn prune_runs(
        &self,
        request: Request<wire::PruneRunsRequest>,
    ) -> Result<Response<wire::PruneRunsResponse>, Status> {
        answer(self.prune(request.into_inner()).await)
    }

    async fn list_archives(
        &self,
        request: Request<wire::ListArchivesRequest>,
    ) -> Result<Response<wire::ListArchivesResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    type DownloadArchiveStream = BoxStream<'static, Result<wire::DownloadArchiveResponse, Status>>;

    async fn download_archive(
        &self,
        request: Request<wire::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        answer(self.download(request.into_inner()).await)
    }

    async fn import_runs(
        &self,
        request: Request<Streaming<wire::ImportRunsRequest>>,
    ) -> Result<Response<wire::ImportRunsResponse>, Status> {
        self.import(request.into_inner()).await.map(Response::new)
    }
}
