//! A time log in a CSV file.

use std::io::Read;

use consort_sdk::{Code, TaskError};
use csv::StringRecord;
use jiff::Timestamp;

use crate::entry::{Category, Entry, History, round};

const COLUMNS: [&str; 5] = ["author", "start", "hours", "task", "category"];
/// Largest file that is read: 64 MiB.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Most entries that are read.
const MOST_ENTRIES: usize = 50_000;
/// Mistakes that are listed.
const MOST_MISTAKES: usize = 10;

/// The time log in a file with the columns author, start, hours, task and category, in any order; other columns are ignored.
/// Its mistakes are reported together, up to ten, each with line and column.
pub(crate) fn history(path: &str) -> Result<History, TaskError> {
    let file = std::fs::File::open(path).map_err(|error| {
        TaskError::bad_input(
            "csv",
            format!("`{path}` cannot be read on this worker's machine: {error}; give the path of a file there"),
        )
    })?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    if size > MOST_BYTES {
        return Err(TaskError::bad_input(
            "csv",
            format!("`{path}` has {size} bytes; at most {MOST_BYTES} are read, split it"),
        ));
    }
    let entries = parse(path, file.take(MOST_BYTES))?;
    Ok(History::new("csv", path, "Hours as they were logged.".to_owned(), entries))
}

fn parse(path: &str, text: impl Read) -> Result<Vec<Entry>, TaskError> {
    let bad = |why: String| TaskError::bad_input("csv", format!("`{path}`: {why}"));
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text);
    let unreadable = |error: csv::Error| match error.kind() {
        csv::ErrorKind::Io(error) => TaskError::new(Code::Unavailable, format!("`{path}` cannot be read: {error}")),
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            bad(format!("line {line} is not UTF-8; save the file as UTF-8"))
        }
        _ => bad(error.to_string()),
    };
    let header = reader.headers().map_err(unreadable)?.clone();
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        // A file from a spreadsheet may begin with a byte order mark.
        let found = header.iter().position(|column| column.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        *place = found.ok_or_else(|| {
            bad(format!("line 1 has no column `{name}`; begin the file with the line `{}`", COLUMNS.join(",")))
        })?;
    }
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        if entries.len() == MOST_ENTRIES {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(bad(format!(
                "line {line} is entry {}; at most {MOST_ENTRIES} are read, split the file",
                MOST_ENTRIES + 1
            )));
        }
        match entry(&record, &places) {
            Ok(entry) => entries.push(entry),
            Err(mistake) => mistakes.push(mistake),
        }
        if mistakes.len() == MOST_MISTAKES {
            break;
        }
    }
    if !mistakes.is_empty() {
        return Err(bad(mistakes.join("; ")));
    }
    if entries.is_empty() {
        return Err(bad("there are no entries after line 1; add a line for each piece of work".to_owned()));
    }
    Ok(entries)
}

fn entry(record: &StringRecord, places: &[usize; COLUMNS.len()]) -> Result<Entry, String> {
    let line = record.position().map_or(0, csv::Position::line);
    let [author, start, hours, task, category] = places.map(|place| record.get(place).unwrap_or_default());
    let mistake = |column: usize, value: &str, fix: &str| {
        Err(format!("line {line}, column `{}`: `{value}` {fix}", COLUMNS[column]))
    };
    if author.is_empty() {
        return mistake(0, author, "is empty; name the author");
    }
    let Ok(at) = start.parse::<Timestamp>() else {
        return mistake(1, start, "is not RFC 3339 with an offset; write it as 2026-03-02T09:00:00+01:00");
    };
    let worked = hours.parse::<f64>().ok().filter(|hours| hours.is_finite() && *hours > 0.0 && *hours <= 24.0);
    let Some(worked) = worked else {
        return mistake(2, hours, "is not above 0 and at most 24; write hours as 1.5");
    };
    if task.is_empty() {
        return mistake(3, task, "is empty; name the task");
    }
    let Some(kind) = Category::named(&category.to_lowercase()) else {
        let known: Vec<&str> = Category::ALL.iter().map(|(name, _)| *name).collect();
        return mistake(4, category, &format!("is no category; use one of {}", known.join(", ")));
    };
    Ok(Entry {
        author: author.to_owned(),
        start: start.to_owned(),
        // A few seconds are rounded up to the least that is shown.
        hours: round(worked).max(0.01),
        task: task.to_owned(),
        category: kind,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse("log.csv", text.as_bytes()).unwrap_err().message
    }

    #[test]
    fn columns_come_in_any_order_and_others_are_ignored() {
        let text =
            "\u{feff}Task,note,author,hours,start,category\nlogin,\"a, b\",Ana,1.255,2026-03-02T09:00:00+01:00,Fix\n";
        let log = parse("log.csv", text.as_bytes()).unwrap();
        assert_eq!((log[0].author.as_str(), log[0].task.as_str(), log[0].hours), ("Ana", "login", 1.25));
        assert_eq!((log[0].category, log[0].start.as_str()), (Category::Fix, "2026-03-02T09:00:00+01:00"));
        assert_eq!(log[0].at, "2026-03-02T08:00:00Z".parse().unwrap());
    }

    #[test]
    fn every_mistake_has_its_line_column_value_and_fix() {
        let good = "Ana,2026-03-02T09:00:00Z,1,t,fix";
        let text = format!(
            "author,start,hours,task,category\n{good}\nAna,2026-03-02 9:00,1,t,fix\nAna,2026-03-02T09:00:00Z,-1,t,fix\n\
             Ana,2026-03-02T09:00:00Z,1,t,fun\n,2026-03-02T09:00:00Z,1,t,fix\n"
        );
        let message = refusal(&text);
        for part in [
            "csv: `log.csv`: ",
            "line 3, column `start`: `2026-03-02 9:00` is not RFC 3339",
            "line 4, column `hours`: `-1` is not above 0",
            "line 5, column `category`: `fun` is no category; use one of feature, fix,",
            "line 6, column `author`: `` is empty",
        ] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn files_without_header_or_entries_say_what_to_add() {
        assert!(refusal("author,start,hours,task\n").contains("line 1 has no column `category`; begin the file with"));
        assert!(refusal("author,start,hours,task,category\n").contains("no entries after line 1"));
        assert!(refusal("").contains("line 1 has no column `author`"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = history("/no/such.csv").unwrap_err().message;
        assert!(message.starts_with("csv: `/no/such.csv` cannot be read"), "{message}");
    }

    #[test]
    fn the_bundled_sample_is_a_quarter_of_four_people() {
        let sample = history(concat!(env!("CARGO_MANIFEST_DIR"), "/../audit/sample.csv")).unwrap();
        assert_eq!((sample.summary.entries, sample.summary.authors, sample.summary.hours), (124, 4, 433.5));
        assert!((2.5..3.1).contains(&sample.summary.months), "{} months", sample.summary.months);
    }
}
