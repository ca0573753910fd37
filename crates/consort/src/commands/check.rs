//! `consort doctor --data DIR`: holds everything in a data folder against its log.

use std::io::IsTerminal as _;
use std::path::Path;

use consort_store::{Integrity, Progress, SqliteStore};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::output::{self, Format};

/// Checks a folder, and mends it if that is asked for.
pub(crate) async fn run(folder: &Path, repair: bool, format: Format) -> Result<()> {
    let bar = bar();
    let mut progress = |Progress { position, end }| {
        bar.set_length(end);
        bar.set_position(position);
    };
    let opened = if repair { SqliteStore::open(folder).await } else { SqliteStore::look(folder).await };
    let store = opened.map_err(|error| Failure::usage(error.to_string()))?;
    let unread =
        |error: consort_core::ports::StoreError| Failure::failed(format!("the data cannot be checked: {error}"));
    let (report, repaired, left) = if repair {
        consort_core::keep::KeepStore::settle(&store).await.map_err(unread)?;
        let (before, repaired) = store.repair(&mut progress).await.map_err(unread)?;
        let left = if repaired.is_empty() {
            before.count()
        } else {
            store.examine(&mut progress).await.map_err(unread)?.count()
        };
        (before, repaired, left)
    } else {
        let report = store.examine(&mut progress).await.map_err(unread)?;
        let count = report.count();
        (report, Vec::new(), count)
    };
    bar.finish_and_clear();
    store.close().await;
    show(folder, format, &report, &repaired, left)?;
    match left {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing is wrong with the data").hint(hint(repair))),
        n => Err(Failure::failed(format!("{n} things are wrong with the data")).hint(hint(repair))),
    }
}

fn hint(repair: bool) -> &'static str {
    if repair {
        "what is left is in the log or in the blobs themselves: restore a backup, or bring the runs back with `consort import`"
    } else {
        "stop the server and add --repair: rows, decisions and snapshots are written again from the log"
    }
}

fn show(folder: &Path, format: Format, report: &Integrity, repaired: &[String], left: u64) -> Result<()> {
    let Integrity { rows, runs, events, blobs, problems, more_problems } = report;
    if format != Format::Table {
        return format.print_value(&json!({
            "folder": folder.display().to_string(),
            "rows": rows,
            "runs": runs,
            "events": events,
            "blobs": blobs,
            "problems": problems,
            "more_problems": more_problems,
            "repaired": repaired,
            "problems_left": left,
        }));
    }
    let mut text = String::new();
    for problem in problems {
        text += &format!("wrong     {problem}\n");
    }
    if *more_problems > 0 {
        text += &format!("wrong     and {more_problems} more\n");
    }
    for what in repaired {
        text += &format!("repaired  {what}\n");
    }
    text += &format!("{rows} rows, {runs} runs, {events} events and {blobs} blobs were checked");
    text += if problems.is_empty() { "; all is sound\n" } else { "\n" };
    output::print(&text)
}

/// Drawn for a person only.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("checking {bar:40} {percent}% of {len} rows, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
