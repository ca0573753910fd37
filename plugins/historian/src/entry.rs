//! The time log.

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Serialize;

/// What kind of work an entry was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Category {
    Feature,
    Fix,
    Refactor,
    Test,
    Docs,
    Chore,
    Merge,
    Revert,
    Meeting,
    Review,
    Other,
}

impl Category {
    pub(crate) const ALL: [(&'static str, Category); 11] = [
        ("feature", Category::Feature),
        ("fix", Category::Fix),
        ("refactor", Category::Refactor),
        ("test", Category::Test),
        ("docs", Category::Docs),
        ("chore", Category::Chore),
        ("merge", Category::Merge),
        ("revert", Category::Revert),
        ("meeting", Category::Meeting),
        ("review", Category::Review),
        ("other", Category::Other),
    ];

    pub(crate) fn named(name: &str) -> Option<Category> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, category)| *category)
    }
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Entry {
    pub(crate) author: String,
    /// When it began: RFC 3339 with the author's own offset.
    pub(crate) start: String,
    /// Above 0, rounded to 2 digits.
    pub(crate) hours: f64,
    pub(crate) task: String,
    pub(crate) category: Category,
    /// The instant of `start`.
    #[serde(skip)]
    pub(crate) at: Timestamp,
}

/// What the agent answers.
#[derive(Debug, Serialize)]
pub(crate) struct History {
    source: Source,
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    pub(crate) summary: Summary,
}

#[derive(Debug, Serialize)]
struct Source {
    kind: &'static str,
    path: String,
    /// How the hours were found, in a sentence or two.
    method: String,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) entries: usize,
    pub(crate) authors: usize,
    pub(crate) hours: f64,
    /// Start of the first and of the last entry.
    from: String,
    to: String,
    /// Calendar span from first to last start in months of 30.44 days, at least 1, rounded to 2 digits.
    pub(crate) months: f64,
}

impl History {
    /// Puts at least one entry in order and sums up.
    pub(crate) fn new(kind: &'static str, path: &str, method: String, mut entries: Vec<Entry>) -> History {
        entries.sort_by_key(|entry| entry.at);
        let authors: std::collections::BTreeSet<&str> = entries.iter().map(|entry| entry.author.as_str()).collect();
        let (first, last) = (entries.first(), entries.last());
        let span = first.zip(last).map_or(0, |(first, last)| last.at.as_second() - first.at.as_second());
        let text = |entry: Option<&Entry>| entry.map(|entry| entry.start.clone()).unwrap_or_default();
        let summary = Summary {
            entries: entries.len(),
            authors: authors.len(),
            hours: round(entries.iter().map(|entry| entry.hours).sum()),
            from: text(first),
            to: text(last),
            months: round((span as f64 / 86_400.0 / 30.44).max(1.0)),
        };
        History { source: Source { kind, path: path.to_owned(), method }, entries, summary }
    }
}

/// RFC 3339 in an offset of so many minutes east; UTC if there is no such offset.
pub(crate) fn rfc3339(at: Timestamp, offset_minutes: i32) -> String {
    let offset = Offset::from_seconds(offset_minutes.saturating_mul(60)).unwrap_or(Offset::UTC);
    at.display_with_offset(offset).to_string()
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_authors_offset() {
        let at: Timestamp = "2026-03-02T22:30:00Z".parse().unwrap();
        assert_eq!(rfc3339(at, 120), "2026-03-03T00:30:00+02:00");
        assert_eq!(rfc3339(at, -330), "2026-03-02T17:00:00-05:30");
    }

    #[test]
    fn a_history_is_in_order_and_at_least_a_month() {
        let entry = |author: &str, start: &str, hours| Entry {
            author: author.into(),
            start: start.into(),
            hours,
            task: "t".into(),
            category: Category::Fix,
            at: start.parse().unwrap(),
        };
        let day = History::new(
            "csv",
            "a.csv",
            String::new(),
            vec![entry("B", "2026-01-02T00:00:00Z", 1.5), entry("A", "2026-01-01T00:00:00Z", 0.25)],
        );
        assert_eq!(day.entries[0].author, "A");
        assert_eq!((day.summary.hours, day.summary.authors, day.summary.months), (1.75, 2, 1.0));
        let quarter = [entry("A", "2026-01-01T00:00:00Z", 1.0), entry("A", "2026-04-01T00:00:00Z", 1.0)];
        // 90 days / 30.44.
        let summary = History::new("csv", "a", String::new(), quarter.to_vec()).summary;
        assert_eq!((summary.entries, summary.months), (2, 2.96));
    }
}
