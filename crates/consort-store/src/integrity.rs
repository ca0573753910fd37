//! The proof that a log is whole, for any backend.

use std::collections::HashMap;

use consort_core::event::{Record, chain};
use consort_core::ids::RunId;
use consort_core::ports::{LogRow, RunStore, StoreError};

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

/// Reads the whole log once, in order, and checks that positions and every run's sequences are dense, that every record's
/// hash links to the one before, and that every row can be read. Memory is bounded whatever the size of the log.
/// Damage is reported, not an error; an error means that the log could not be read.
pub async fn check_log(store: &dyn RunStore) -> Result<Integrity, StoreError> {
    let mut report = Integrity::default();
    let mut links = HashMap::new();
    let end = store.last_position().await?;
    let (mut position, mut limit) = (0, PAGE);
    while position < end {
        let rows = match store.log_after(position, "", limit).await {
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
            if found != position + 1 {
                report.problem(format!("the log has no row between positions {position} and {found}"));
            }
            position = found;
            report.rows += 1;
            if let LogRow::Run(record) = row {
                check_record(store, &mut report, &mut links, position, &record).await?;
            }
        }
        debug_assert_eq!(position, last, "rows come in order");
    }
    Ok(report)
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
