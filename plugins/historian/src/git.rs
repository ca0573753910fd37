//! The history of a git repository, as the operation `git.log` lists it.

use consort_sdk::TaskError;
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde::Deserialize;

use crate::classify;
use crate::entry::History;
use crate::sessions::{self, Commit};

/// What `git.log` answers, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Log {
    /// Newest first.
    commits: Vec<Listed>,
    /// There are older ones.
    #[serde(default)]
    truncated: bool,
    /// The repository is a shallow clone.
    #[serde(default)]
    shallow: bool,
}

#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    parents: Vec<String>,
    author: Author,
    subject: String,
    /// Top-level folders, the one with most changed files first.
    #[serde(default)]
    folders: Vec<Folder>,
}

#[derive(Debug, Deserialize)]
struct Author {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    /// RFC 3339 with the author's offset; empty if the commit's time is outside of the calendar.
    time: String,
}

#[derive(Debug, Deserialize)]
struct Folder {
    name: String,
}

/// The time log behind the commits of a repository.
pub(crate) fn history(path: &str, log: Log) -> Result<History, TaskError> {
    let mut method = sessions::METHOD.to_owned();
    if log.truncated {
        method.push_str(&format!(" Only the newest {} commits were read.", grouped(log.commits.len())));
    }
    if log.shallow {
        method.push_str(" The repository is a shallow clone, so its older history is missing.");
    }
    let entries = sessions::entries(log.commits.into_iter().filter_map(commit).collect());
    if entries.is_empty() {
        return Err(TaskError::bad_input("log", format!("no commit of `{path}` has a time within the calendar")));
    }
    Ok(History::new("git", path, method, entries))
}

/// A listed commit; none if it has no time.
fn commit(listed: Listed) -> Option<Commit> {
    let Listed { parents, author, subject, folders } = listed;
    let at: Timestamp = author.time.parse().ok()?;
    let offset = Pieces::parse(&author.time).ok()?.to_numeric_offset()?;
    let (name, email) = (author.name.trim(), author.email.trim().to_lowercase());
    let known_as = if name.is_empty() { &email } else { name };
    let folder = || folders.into_iter().next().map(|folder| folder.name);
    Some(Commit {
        author: if known_as.is_empty() { "unknown".to_owned() } else { known_as.to_owned() },
        identity: if email.is_empty() { known_as.to_owned() } else { email.clone() },
        seconds: at.as_second(),
        offset_minutes: offset.seconds() / 60,
        category: classify::category(&subject, parents.len()),
        task: classify::task(&subject).or_else(folder).unwrap_or_else(|| "root".to_owned()),
    })
}

/// A number with a comma at each thousand.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::entry::Category;

    /// What `git.log` says of a commit; `folders` as it orders them.
    fn listed(time: &str, subject: &str, parents: usize, folders: &[&str]) -> Value {
        let folders: Vec<Value> = folders.iter().map(|name| json!({"name": name, "files": 1})).collect();
        json!({
            "id": "f00", "parents": vec!["abc"; parents], "subject": subject, "folders": folders, "files_truncated": false,
            "author": {"name": "Ana ", "email": "Ana@example.org", "time": time},
            "committer": {"name": "CI", "email": "ci@example.org", "time": "2026-02-01T00:00:00+00:00"},
        })
    }

    fn read(log: Value) -> Result<History, TaskError> {
        history("/r", serde_json::from_value(log).unwrap())
    }

    #[test]
    fn a_list_of_commits_becomes_a_log() {
        let history = read(json!({"truncated": false, "shallow": false, "commits": [
            listed("2026-01-05T15:00:00+01:00", "Merge branch 'x'", 2, &["src"]),
            listed("2026-01-05T14:30:00+01:00", "Choose a licence", 1, &[]),
            listed("2026-01-05T14:00:00+01:00", "fix(parser): stop at the end", 1, &["src"]),
            listed("2026-01-05T09:30:00+01:00", "docs: say what a does", 1, &["docs", "src"]),
            listed("2026-01-05T09:00:00+01:00", "Add a", 0, &["src"]),
            listed("", "Long ago", 1, &["src"]),
        ]}))
        .unwrap();
        let log: Vec<_> =
            history.entries.iter().map(|entry| (entry.task.as_str(), entry.category, entry.hours)).collect();
        assert_eq!(
            log,
            [
                ("src", Category::Feature, 0.5),
                ("docs", Category::Docs, 0.5),
                ("parser", Category::Fix, 0.5),
                ("root", Category::Other, 0.5),
                ("src", Category::Merge, 0.5),
            ]
        );
        assert_eq!(
            (history.entries[0].start.as_str(), history.entries[0].author.as_str()),
            ("2026-01-05T08:30:00+01:00", "Ana")
        );
        assert_eq!((history.summary.authors, history.summary.hours), (1, 2.5));
        let told = serde_json::to_string(&history).unwrap();
        assert!(!told.contains("Only the newest") && !told.contains("shallow"), "{told}");
    }

    #[test]
    fn what_is_missing_is_told() {
        let one = || listed("2026-01-05T14:00:00-03:30", "one", 0, &["a"]);
        let told = |log: Value| serde_json::to_string(&read(log).unwrap()).unwrap();
        assert!(told(json!({"commits": [one()], "shallow": true})).contains("shallow clone"));
        let told = told(json!({"commits": vec![one(); 1_234], "truncated": true}));
        assert!(told.contains("Only the newest 1,234 commits were read."), "{told}");
        assert!(told.contains("2026-01-05T13:30:00-03:30"), "{told}");
        let error = read(json!({"commits": [listed("", "one", 0, &[])]})).unwrap_err();
        assert!(error.message.starts_with("log: no commit of `/r`") && !error.retryable, "{}", error.message);
        assert_eq!([grouped(7), grouped(10_000), grouped(1_234_567)], ["7", "10,000", "1,234,567"]);
    }
}
