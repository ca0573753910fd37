//! Bringing back what an archive holds: first all of it is checked, then it comes back piece by piece.

use std::collections::HashSet;
use std::io;

use consort_core::event::Record;
use consort_core::ids::RunId;
use consort_core::keep::{Imported, KeepError};
use consort_core::ports::{BlobWriter, LogRow, StoreError};
use consort_core::run::Fold;

use super::line::{Header, Line};
use super::read::{Item, Reader, Source};
use super::{Piece, STEP, Shelf};
use crate::folds::Folds;

/// Items that are read at a time, away from the runtime's threads.
const ITEMS: usize = 256;

/// Opens what came, from its beginning.
pub(crate) type Spool = Box<dyn Fn() -> io::Result<Source> + Send + Sync>;

/// Checks an archive as a whole, and then brings back what is not there.
pub(crate) async fn take_in(shelf: &dyn Shelf, spool: &Spool) -> Result<Imported, KeepError> {
    let (header, checked) = check(shelf, spool).await?;
    let alone = checked.last > shelf.last_position().await?;
    if alone || header.store != shelf.identity().await? {
        shelf.adopt(header.store, checked.last).await?;
    }
    apply(shelf, spool, &checked).await
}

/// What is known of an archive before anything is changed.
#[derive(Default)]
struct Checked {
    /// Runs that are there already.
    runs: HashSet<RunId>,
    /// Positions of events that are there already.
    events: HashSet<u64>,
    /// Highest position in it.
    last: u64,
}

struct Pages {
    reader: Option<Reader>,
}

impl Pages {
    async fn open(spool: &Spool) -> Result<(Pages, Header), KeepError> {
        let source = spool().map_err(|error| unread(&error))?;
        let opened = tokio::task::spawn_blocking(move || Reader::open(source)).await;
        let (reader, header) = opened.map_err(|error| unread(&io::Error::other(error)))??;
        Ok((Pages { reader: Some(reader) }, header))
    }

    /// The next items; none at the end.
    async fn next(&mut self) -> Result<Vec<Item>, KeepError> {
        let Some(mut reader) = self.reader.take() else { return Ok(Vec::new()) };
        let work = move || {
            let mut items = Vec::new();
            while items.len() < ITEMS {
                match reader.next()? {
                    Some(item) => items.push(item),
                    None => return Ok((None, items)),
                }
            }
            Ok((Some(reader), items))
        };
        let read: Result<_, KeepError> =
            tokio::task::spawn_blocking(work).await.map_err(|error| unread(&io::Error::other(error)))?;
        let (reader, items) = read?;
        self.reader = reader;
        Ok(items)
    }
}

/// Reads all of it once, and holds it against what is there.
async fn check(shelf: &dyn Shelf, spool: &Spool) -> Result<(Header, Checked), KeepError> {
    let (mut pages, header) = Pages::open(spool).await?;
    let (identity, end) = (shelf.identity().await?, shelf.last_position().await?);
    if header.store != identity && end > 0 {
        return Err(KeepError::Taken(format!(
            "the archive is of store {} and this is store {identity}; import it there, or into an empty data folder",
            header.store
        )));
    }
    let mut checked = Checked::default();
    let mut known = false;
    let mut last: Option<Record> = None;
    // Positions that must be free, as far as they stand together.
    let mut span: Option<(u64, u64)> = None;
    loop {
        let items = pages.next().await?;
        if items.is_empty() {
            free(shelf, span.take(), end).await?;
            return Ok((header, checked));
        }
        for item in items {
            match item {
                Item::Line(Line::Run(head)) => {
                    known = shelf.run(head.id).await?.is_some();
                    if known {
                        checked.runs.insert(head.id);
                    }
                }
                Item::Row(position, record) => {
                    checked.last = checked.last.max(position);
                    last = Some(record);
                    if known {
                        continue;
                    }
                    span = match span {
                        Some((first, before)) if before + 1 == position => Some((first, position)),
                        other => {
                            free(shelf, other, end).await?;
                            Some((position, position))
                        }
                    };
                }
                Item::Line(Line::Over(run)) if known => {
                    let Some(record) = last.take() else { continue };
                    let there = shelf.rows_of(run, record.sequence - 1, 2).await?;
                    if !matches!(&there[..], [(_, same)] if same.hash == record.hash) {
                        return Err(KeepError::Taken(format!("run {run} is there with another history")));
                    }
                }
                Item::Line(Line::Event(event)) => {
                    checked.last = checked.last.max(event.position);
                    let there = shelf.log_after(event.position - 1, "", 1).await?;
                    let same = |row: &(u64, LogRow)| {
                        row.0 == event.position
                            && matches!(&row.1, LogRow::Published(e) if e.event_id == event.event.event_id)
                    };
                    if there.first().is_some_and(same) {
                        checked.events.insert(event.position);
                    } else {
                        free(shelf, Some((event.position, event.position)), end).await?;
                    }
                }
                Item::Line(_) | Item::Bytes(_) => {}
            }
        }
    }
}

/// Refuses positions that are taken, or that somebody may be about to take.
async fn free(shelf: &dyn Shelf, span: Option<(u64, u64)>, end: u64) -> Result<(), KeepError> {
    let Some((first, last)) = span else { return Ok(()) };
    if last > end && !shelf.is_alone() {
        return Err(KeepError::Taken(format!(
            "the archive has rows up to position {last} and the log ends at {end}; stop the server and import with --offline"
        )));
    }
    let within = last.min(end);
    if first <= within && shelf.erased(first, within).await? != within - first + 1 {
        return Err(KeepError::Taken(format!(
            "positions {first} to {last} are not free; the archive can only go back to where it came from"
        )));
    }
    Ok(())
}

/// A run that comes back.
struct Coming {
    run: RunId,
    rows: Vec<(u64, Record)>,
    fold: Option<Fold>,
}

async fn apply(shelf: &dyn Shelf, spool: &Spool, checked: &Checked) -> Result<Imported, KeepError> {
    let (mut pages, _) = Pages::open(spool).await?;
    let mut imported = Imported::default();
    let mut folds = Folds::new(shelf);
    let mut coming: Option<Coming> = None;
    let mut blob: Option<(Box<dyn BlobWriter>, u64)> = None;
    loop {
        let items = pages.next().await?;
        if items.is_empty() {
            return Ok(imported);
        }
        for item in items {
            match item {
                Item::Line(Line::Workflow(row)) => shelf.restore(Piece::Workflow(Box::new(row.into()))).await?,
                Item::Line(Line::Blob(named)) => {
                    let writer = shelf.writer(&named.media_type).await?;
                    if named.size == 0 {
                        writer.finish().await?;
                    } else {
                        blob = Some((writer, named.size));
                    }
                }
                Item::Bytes(bytes) => {
                    let Some((mut writer, left)) = blob.take() else { continue };
                    writer.write(&bytes).await?;
                    match left - bytes.len() as u64 {
                        0 => drop(writer.finish().await?),
                        left => blob = Some((writer, left)),
                    }
                }
                Item::Line(Line::Run(head)) => {
                    let known = checked.runs.contains(&head.id);
                    imported.known += u64::from(known);
                    coming = (!known).then(|| Coming { run: head.id, rows: Vec::new(), fold: None });
                }
                Item::Row(position, record) => {
                    let Some(coming) = &mut coming else { continue };
                    imported.rows += 1;
                    add(shelf, &mut folds, coming, position, record).await?;
                }
                Item::Line(Line::Over(_)) => {
                    let Some(Coming { run, rows, fold: Some(fold) }) = coming.take() else { continue };
                    if !fold.run().state().is_over() {
                        return Err(KeepError::Damaged(format!("run {run} of the archive is not over")));
                    }
                    let decisions = fold.decisions().values().cloned().collect();
                    let over = Some(Box::new((fold.run().row(), decisions)));
                    shelf.restore(Piece::Rows { run, rows, over }).await?;
                    imported.runs += 1;
                }
                Item::Line(Line::Event(event)) if !checked.events.contains(&event.position) => {
                    shelf.restore(Piece::Event(event.position, Box::new(event.event))).await?;
                    (imported.rows, imported.others) = (imported.rows + 1, imported.others + 1);
                }
                Item::Line(line) => {
                    let piece = match line {
                        Line::Signal(signal) if shelf.signal(signal.id).await?.is_none() => {
                            Piece::Signal(Box::new(signal))
                        }
                        Line::Letter(letter) => Piece::Letter(Box::new(letter.into())),
                        Line::Project(project) if shelf.project(&project.namespace, &project.id).await?.is_none() => {
                            Piece::Project(Box::new(project))
                        }
                        _ => continue,
                    };
                    shelf.restore(piece).await?;
                    imported.others += 1;
                }
            }
        }
    }
}

async fn add<'a>(
    shelf: &'a dyn Shelf,
    folds: &mut Folds<'a>,
    coming: &mut Coming,
    position: u64,
    record: Record,
) -> Result<(), KeepError> {
    let run = coming.run;
    let unfit = |why: String| KeepError::Damaged(format!("run {run} of the archive: {why}"));
    if let Some(fold) = &mut coming.fold {
        fold.add(&record).map_err(|why| unfit(why.to_string()))?;
    } else {
        let definition = folds.definition(run, &record).await.map_err(|why| match why.into_store() {
            Ok(store) => KeepError::from(store),
            Err(why) => unfit(why),
        })?;
        coming.fold = Some(Fold::begin(run, definition, &record).map_err(|why| unfit(why.to_string()))?);
    }
    if coming.rows.len() >= STEP {
        let rows = std::mem::take(&mut coming.rows);
        shelf.restore(Piece::Rows { run, rows, over: None }).await?;
    }
    coming.rows.push((position, record));
    Ok(())
}

fn unread(error: &io::Error) -> KeepError {
    StoreError::Unavailable(format!("the archive could not be read: {error}")).into()
}
