//! Writing an archive.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use consort_core::data::{BlobRef, Data};
use consort_core::event::Record;
use consort_core::ids::{Millis, RunId};
use consort_core::keep::{KeepError, Selection};
use consort_core::letter::{Buried, BuriedPayload};
use consort_core::ports::{DeadLetter, StoreError};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::Shelf;
use super::line::{End, Event, Header, Line, Row, RunHead, VERSION};
use crate::folds::started;

/// Records that are read at a time.
const PAGE: u32 = 256;
/// Bytes of a blob in one line.
const PART: usize = 48 * 1024;
/// Bytes of lines that are collected before they cross to a blocking thread.
const BUFFER: usize = 512 * 1024;
/// Names that are remembered so that nothing stands twice in one archive; more may.
const REMEMBERED: usize = 100_000;

/// Takes lines and writes them away from the runtime's threads.
struct Lines<W: Write + Send + 'static> {
    sink: Option<GzEncoder<W>>,
    pending: Vec<u8>,
    hash: Sha256,
    end: End,
}

impl<W: Write + Send + 'static> Lines<W> {
    async fn add(&mut self, line: &Line) -> Result<(), KeepError> {
        self.end.count(line);
        let from = self.pending.len();
        serde_json::to_writer(&mut self.pending, line)
            .map_err(|why| StoreError::Corrupt(format!("a line cannot be written as JSON: {why}")))?;
        self.pending.push(b'\n');
        self.hash.update(&self.pending[from..]);
        if self.pending.len() < BUFFER { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), KeepError> {
        let mut sink = self.sink.take().ok_or_else(|| unwritten(&io::Error::other("an earlier write failed")))?;
        let pending = std::mem::take(&mut self.pending);
        let work = move || sink.write_all(&pending).map(|()| sink);
        let written = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|sink| sink);
        self.sink = Some(written.map_err(|error| unwritten(&error))?);
        Ok(())
    }

    async fn finish(mut self) -> Result<W, KeepError> {
        let sha256 = hex::encode(self.hash.clone().finalize());
        let end = End { sha256, ..self.end.clone() };
        self.add(&Line::End(end)).await?;
        self.flush().await?;
        let sink = self.sink.take().ok_or_else(|| unwritten(&io::Error::other("an earlier write failed")))?;
        let finished = tokio::task::spawn_blocking(move || sink.finish()).await.map_err(io::Error::other);
        finished.and_then(|sink| sink).map_err(|error| unwritten(&error))
    }
}

/// Writes what is selected and gives the sink back, with everything in it.
pub(crate) async fn write<W: Write + Send + 'static>(
    shelf: &dyn Shelf,
    selection: &Selection,
    now: Millis,
    sink: W,
) -> Result<W, KeepError> {
    let lines = Lines {
        sink: Some(GzEncoder::new(sink, Compression::fast())),
        pending: Vec::new(),
        hash: Sha256::new(),
        end: End::default(),
    };
    let mut writing =
        Writing { shelf, lines, blobs: HashSet::new(), revisions: HashSet::new(), projects: HashSet::new() };
    let header = Header { version: VERSION, store: shelf.identity().await?, created_at: now };
    writing.lines.add(&Line::ConsortArchive(header)).await?;
    for run in &selection.runs {
        writing.run(*run).await?;
    }
    for position in &selection.events {
        let found = shelf.published(position - 1, *position, Millis::MAX, 1).await?;
        for (position, event) in found {
            writing.blob(&event.payload).await?;
            writing.lines.add(&Line::Event(Event { position, event })).await?;
        }
    }
    for id in &selection.signals {
        if let Some(signal) = shelf.signal(*id).await? {
            writing.blob(&signal.signal.payload).await?;
            writing.lines.add(&Line::Signal(signal)).await?;
        }
    }
    for (namespace, id) in &selection.letters {
        for letter in shelf.dead_letters_of(namespace, &[*id]).await? {
            if let Some(blob) = blob_of(&letter) {
                writing.blob(&Data::Blob(blob)).await?;
            }
            writing.lines.add(&Line::Letter(letter.into())).await?;
        }
    }
    for (namespace, id) in &selection.projects {
        if let Some(project) = shelf.project(namespace, id).await? {
            writing.blob(&project.request).await?;
            writing.lines.add(&Line::Project(project)).await?;
        }
    }
    writing.lines.finish().await
}

struct Writing<'a, W: Write + Send + 'static> {
    shelf: &'a dyn Shelf,
    lines: Lines<W>,
    blobs: HashSet<Arc<str>>,
    revisions: HashSet<(Arc<str>, Arc<str>, u64)>,
    projects: HashSet<(Arc<str>, Arc<str>)>,
}

impl<W: Write + Send + 'static> Writing<'_, W> {
    async fn run(&mut self, id: RunId) -> Result<(), KeepError> {
        let mut page = self.shelf.rows_of(id, 0, PAGE).await?;
        let Some(started) = page.first().and_then(|(_, first)| started(first)) else { return Ok(()) };
        let (namespace, workflow, revision) = (started.namespace, started.workflow, started.revision);
        let name = (namespace.clone(), workflow.clone(), revision);
        if started.plan.is_none() && !self.revisions.contains(&name) {
            let row = self.shelf.workflow(&namespace, &workflow, Some(revision)).await?;
            if let Some(row) = row {
                self.lines.add(&Line::Workflow(row.into())).await?;
            }
            forget_many(&mut self.revisions).insert(name);
        }
        // A run must not come back without its project, which may leave later and with another archive.
        if let Some(project) = started.project
            && let Some(row) = self.shelf.project(&namespace, &project.id).await?
            && forget_many(&mut self.projects).insert((namespace.clone(), project.id))
        {
            self.blob(&row.request).await?;
            self.lines.add(&Line::Project(row)).await?;
        }
        let mut head = Some(RunHead { id, namespace, workflow, revision });
        while let Some((_, last)) = page.last() {
            let after = last.last_sequence();
            // Blobs stand before the run, or between its rows.
            for (_, record) in &page {
                self.blobs_of(record).await?;
            }
            if let Some(head) = head.take() {
                self.lines.add(&Line::Run(head)).await?;
            }
            for (position, record) in &page {
                let row = Row::of(*position, record).ok_or_else(|| {
                    StoreError::Corrupt(format!("position {position} of the log: the row's body is not JSON"))
                })?;
                self.lines.add(&Line::Row(Box::new(row))).await?;
            }
            page = self.shelf.rows_of(id, after, PAGE).await?;
        }
        self.lines.add(&Line::Over(id)).await
    }

    async fn blobs_of(&mut self, record: &Record) -> Result<(), KeepError> {
        // A body that cannot be read is carried as it is.
        for mut entry in record.entries().unwrap_or_default() {
            for data in entry.fact.data_mut() {
                self.blob(data).await?;
            }
        }
        Ok(())
    }

    async fn blob(&mut self, data: &Data) -> Result<(), KeepError> {
        let Data::Blob(BlobRef { sha256, .. }) = data else { return Ok(()) };
        if self.blobs.contains(sha256) {
            return Ok(());
        }
        let Some(blob) = self.shelf.stat(sha256).await? else {
            tracing::warn!(%sha256, "a blob that is not there cannot be archived");
            return Ok(());
        };
        let size = blob.size;
        self.lines.add(&Line::Blob(blob)).await?;
        let mut offset = 0;
        while offset < size {
            let part = self.shelf.read(sha256, offset, PART).await?.unwrap_or_default();
            if part.is_empty() {
                return Err(StoreError::Corrupt(format!("blob {sha256} ends at {offset} of {size} bytes")).into());
            }
            offset += part.len() as u64;
            self.lines.add(&Line::Part(hex::encode(part))).await?;
        }
        forget_many(&mut self.blobs).insert(sha256.clone());
        Ok(())
    }
}

/// The blob that is the payload of a buried event.
fn blob_of(letter: &DeadLetter) -> Option<BlobRef> {
    match serde_json::from_str::<Buried>(&letter.event).ok()?.payload? {
        BuriedPayload::Blob { sha256, size_bytes, media_type } => {
            Some(BlobRef { sha256: sha256.into(), size: size_bytes.max(0) as u64, media_type: media_type.into() })
        }
        BuriedPayload::Text(_) => None,
    }
}

fn forget_many<T>(known: &mut HashSet<T>) -> &mut HashSet<T> {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known
}

fn unwritten(error: &io::Error) -> KeepError {
    StoreError::Unavailable(format!("an archive could not be written: {error}")).into()
}
