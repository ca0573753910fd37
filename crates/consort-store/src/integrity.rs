//! The proof that a log is whole, for any backend.

use std::collections::HashMap;

use consort_core::data::Data;
use consort_core::event::{Record, chain};
use consort_core::ids::RunId;
use consort_core::ports::{LogRow, RunStore, StoreError};

use crate::archive::Shelf;
use crate::folds::Folds;

/// Rows that are read at a time.
const PAGE: u32 = 256;

/// Runs whose last record is remembered; the others are looked up.
const REMEMBERED: usize = 65_536;

/// Problems that are described; the others are counted.
const DESCRIBED: usize = 100;

/// What a check found.
#[derive(Debug, Default)]
pub struct Integrity {
    /// Rows of the log.
    pub rows: u64,
    /// Runs that begin in it.
    pub runs: u64,
    /// Events of runs in it.
    pub events: u64,
    /// Blobs that were hashed.
    pub blobs: u64,
    /// What is wrong: the first hundred problems.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more_problems: u64,
}

impl Integrity {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many things are wrong.
    pub fn count(&self) -> u64 {
        self.problems.len() as u64 + self.more_problems
    }

    pub(crate) fn problem(&mut self, problem: String) {
        if self.problems.len() < DESCRIBED {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

/// Where a run's chain stands.
#[derive(Clone, Copy)]
struct Link {
    last_sequence: u64,
    hash: [u8; 32],
}

impl Link {
    const START: Link = Link { last_sequence: 0, hash: [0; 32] };

    fn of(record: &Record) -> Link {
        Link { last_sequence: record.last_sequence(), hash: record.hash }
    }
}

/// How far a check is: rows of the log that were looked at, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Position that was reached.
    pub position: u64,
    /// Position of the last row when the check began.
    pub end: u64,
}

/// Reads the whole log once, in order, and checks that positions and every run's sequences are dense, that every record's
/// hash links to the one before, and that every row can be read. Memory is bounded whatever the size of the log.
/// Damage is reported, not an error; an error means that the log could not be read.
pub async fn check_log(store: &dyn RunStore) -> Result<Integrity, StoreError> {
    Walk { store, shelf: None, folds: None, progress: &mut |_| {} }.check().await
}

/// One pass over the log, and what is held against it on the way.
pub(crate) struct Walk<'a, 'f> {
    pub(crate) store: &'a dyn RunStore,
    /// Knows which positions are empty because their rows were taken out on purpose, and has the blobs that rows refer to.
    pub(crate) shelf: Option<&'a dyn Shelf>,
    /// Holds what is listed against each history.
    pub(crate) folds: Option<&'f mut Folds<'a>>,
    pub(crate) progress: &'f mut (dyn FnMut(Progress) + Send),
}

impl Walk<'_, '_> {
    pub(crate) async fn check(mut self) -> Result<Integrity, StoreError> {
        let mut report = Integrity::default();
        let mut links = HashMap::new();
        let end = self.store.last_position().await?;
        let (mut position, mut limit) = (0, PAGE);
        while position < end {
            (self.progress)(Progress { position, end });
            let rows = match self.store.log_after(position, "", limit).await {
                Ok(rows) => rows,
                // One row of the page cannot be read: find it, report it, step over it.
                Err(StoreError::Corrupt(_)) if limit > 1 => {
                    limit = 1;
                    continue;
                }
                Err(StoreError::Corrupt(message)) => {
                    report.problem(message);
                    position += 1;
                    limit = PAGE;
                    continue;
                }
                Err(other) => return Err(other),
            };
            let Some((last, _)) = rows.last() else {
                report.problem(format!("the log ends at position {position} instead of {end}"));
                return Ok(report);
            };
            let last = *last;
            for (found, row) in rows {
                if found != position + 1 && self.lost(position, found).await? {
                    report.problem(format!("the log has no row between positions {position} and {found}"));
                }
                position = found;
                report.rows += 1;
                self.check_row(&mut report, &mut links, position, row).await?;
            }
            debug_assert_eq!(position, last, "rows come in order");
        }
        (self.progress)(Progress { position, end });
        Ok(report)
    }

    /// Whether rows are missing between two positions that nobody took out.
    async fn lost(&self, after: u64, until: u64) -> Result<bool, StoreError> {
        let Some(keep) = self.shelf else { return Ok(true) };
        Ok(keep.erased(after + 1, until - 1).await? != until - after - 1)
    }

    async fn check_row(
        &mut self,
        report: &mut Integrity,
        links: &mut HashMap<RunId, Link>,
        position: u64,
        row: LogRow,
    ) -> Result<(), StoreError> {
        match row {
            LogRow::Run(record) => {
                check_record(self.store, report, links, position, &record).await?;
                if self.folds.is_some() {
                    for mut entry in record.entries().unwrap_or_default() {
                        for data in entry.fact.data_mut() {
                            self.check_blob(report, position, data).await?;
                        }
                    }
                }
                if let Some(folds) = self.folds.as_mut().filter(|_| record.sequence == 1) {
                    folds.check(record.run, report).await?;
                }
            }
            LogRow::Published(event) => self.check_blob(report, position, &event.payload).await?,
        }
        Ok(())
    }

    async fn check_blob(&self, report: &mut Integrity, position: u64, data: &Data) -> Result<(), StoreError> {
        let (Some(blobs), true, Data::Blob(blob)) = (self.shelf, self.folds.is_some(), data) else { return Ok(()) };
        match blobs.stat(&blob.sha256).await? {
            Some(found) if found.size == blob.size => {}
            Some(found) => report.problem(format!(
                "position {position}: blob {} has {} bytes instead of {}",
                blob.sha256, found.size, blob.size
            )),
            None => report.problem(format!("position {position}: blob {} is not there", blob.sha256)),
        }
        Ok(())
    }
}

async fn check_record(
    store: &dyn RunStore,
    report: &mut Integrity,
    links: &mut HashMap<RunId, Link>,
    position: u64,
    record: &Record,
) -> Result<(), StoreError> {
    let Record { run, sequence, count, .. } = record;
    let before = match links.get(run) {
        Some(link) => *link,
        None => look_up(store, *run, *sequence).await?,
    };
    if links.len() >= REMEMBERED {
        links.clear();
    }
    report.events += u64::from(*count);
    report.runs += u64::from(*sequence == 1);
    if *count == 0 {
        report.problem(format!("position {position}: run {run} has an empty record at {sequence}"));
        return Ok(());
    }
    links.insert(*run, Link::of(record));
    if *sequence != before.last_sequence + 1 {
        report.problem(format!(
            "position {position}: run {run} goes from event {} to event {sequence}",
            before.last_sequence
        ));
    } else if chain(&before.hash, &record.body) != record.hash {
        report.problem(format!("position {position}: event {sequence} of run {run} breaks the chain of hashes"));
    }
    match record.entries() {
        Ok(entries) if entries.len() == *count as usize => {}
        Ok(entries) => report.problem(format!(
            "position {position}: event {sequence} of run {run} begins a record of {count} events that holds {}",
            entries.len()
        )),
        Err(error) => {
            report.problem(format!("position {position}: event {sequence} of run {run} cannot be read: {error}"));
        }
    }
    Ok(())
}

/// The link before a record whose run is not remembered.
async fn look_up(store: &dyn RunStore, run: RunId, sequence: u64) -> Result<Link, StoreError> {
    if sequence < 2 {
        return Ok(Link::START);
    }
    match store.records_after(run, sequence - 2, 1).await {
        Ok(records) => match records.first() {
            Some(record) if record.sequence < sequence && record.count > 0 => Ok(Link::of(record)),
            _ => Ok(Link::START),
        },
        // The damaged record was reported where it stands in the log.
        Err(StoreError::Corrupt(_)) => Ok(Link::START),
        Err(other) => Err(other),
    }
}
