//! Hours from commit times.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::entry::{Category, Entry, rfc3339, round};

/// A commit, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) author: String,
    /// Who counts as the same person: the e-mail address in lower case.
    pub(crate) identity: String,
    /// Author time in seconds since 1970.
    pub(crate) seconds: i64,
    /// The author's offset from UTC.
    pub(crate) offset_minutes: i32,
    pub(crate) task: String,
    pub(crate) category: Category,
}

/// Commits of one author that are less than this apart belong to one session: 2 h.
const SAME_SESSION: i64 = 2 * 3600;
/// Work before the first commit of a session, which left no trace: 0.5 h.
const FIRST_COMMIT: f64 = 0.5;
/// The least a commit takes, for those that a rebase or a script made in the same minute: 0.02 h.
const LEAST: f64 = 0.02;

/// The method in words, for the report.
pub(crate) const METHOD: &str = "Estimated from commit times as git-hours does: commits of one author less than 2 h apart are one \
     session and the gaps count as work; the first commit of a session counts 0.5 h. Meetings, reviews and reading leave no commits and are \
     not in it.";

/// The hours behind commits.
///
/// Method: the session heuristic of git-hours (Kimmo Brunfeldt, github.com/kimmobrunfeldt/git-hours). The commits of each author are put in
/// order of author time. One that follows another within 2 h took the time between the two; one that does not begins a session
/// and took a fixed time. git-hours takes 2 h for that; this takes 0.5 h, so that single commits do not make the total. A
/// commit takes at least 0.02 h. An entry begins where its hours begin: at the commit's time less its hours.
pub(crate) fn entries(mut commits: Vec<Commit>) -> Vec<Entry> {
    commits.sort_by_key(|commit| commit.seconds);
    let mut last: HashMap<String, i64> = HashMap::new();
    commits
        .into_iter()
        .filter_map(|commit| {
            let before = last.insert(commit.identity, commit.seconds);
            let gap = before.map(|before| commit.seconds - before).filter(|gap| *gap < SAME_SESSION);
            let hours = round(gap.map_or(FIRST_COMMIT, |gap| gap as f64 / 3600.0).max(LEAST));
            // Commits of forged times outside the calendar (years -9999 to 9999) are left out.
            let start = commit.seconds.checked_sub((hours * 3600.0).round() as i64)?;
            let at = Timestamp::from_second(start).ok()?;
            Some(Entry {
                author: commit.author,
                start: rfc3339(at, commit.offset_minutes),
                hours,
                task: commit.task,
                category: commit.category,
                at,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(author: &str, minutes: i64) -> Commit {
        Commit {
            author: author.to_uppercase(),
            identity: author.to_owned(),
            seconds: 1_767_600_000 + minutes * 60,
            offset_minutes: 60,
            task: "core".into(),
            category: Category::Feature,
        }
    }

    #[test]
    fn gaps_within_a_session_are_work_and_a_new_session_has_a_fixed_start() {
        // Ana: 0, +45 min, +119 min (one session), then +120 min (a new one). Bo in between does not matter.
        let log = entries(vec![
            commit("ana", 284),
            commit("ana", 0),
            commit("bo", 20),
            commit("ana", 45),
            commit("ana", 164),
        ]);
        let hours: Vec<_> = log.iter().map(|entry| (entry.author.as_str(), entry.hours)).collect();
        assert_eq!(hours, [("ANA", 0.5), ("BO", 0.5), ("ANA", 0.75), ("ANA", 1.98), ("ANA", 0.5)]);
    }

    #[test]
    fn an_entry_begins_where_its_hours_begin() {
        // 1767600000 is 2026-01-05T08:00:00Z, 09:00 at +01:00.
        assert_eq!(entries(vec![commit("ana", 0)])[0].start, "2026-01-05T08:30:00+01:00");
    }

    #[test]
    fn commits_of_the_same_instant_take_a_little_each() {
        let log = entries(vec![commit("ana", 0), commit("ana", 0), commit("ana", 0)]);
        assert_eq!(log.iter().map(|entry| entry.hours).collect::<Vec<_>>(), [0.5, 0.02, 0.02]);
    }

    #[test]
    fn forged_times_are_left_out() {
        let mut forged = commit("ana", 0);
        forged.seconds = i64::MIN;
        assert!(entries(vec![forged]).is_empty());
    }
}
