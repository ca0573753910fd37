//! What a commit was about, from its subject.

use crate::entry::Category;

/// Types of conventional commits (conventionalcommits.org 1.0.0 and Angular's list) and their short names in the wild.
const TYPES: [(&str, Category); 22] = [
    ("feat", Category::Feature),
    ("feature", Category::Feature),
    ("fix", Category::Fix),
    ("bugfix", Category::Fix),
    ("hotfix", Category::Fix),
    ("refactor", Category::Refactor),
    ("perf", Category::Refactor),
    ("style", Category::Refactor),
    ("cleanup", Category::Refactor),
    ("test", Category::Test),
    ("tests", Category::Test),
    ("docs", Category::Docs),
    ("doc", Category::Docs),
    ("chore", Category::Chore),
    ("build", Category::Chore),
    ("ci", Category::Chore),
    ("deps", Category::Chore),
    ("release", Category::Chore),
    ("merge", Category::Merge),
    ("revert", Category::Revert),
    ("review", Category::Review),
    ("wip", Category::Other),
];

/// Words of free subjects, the most telling first: a subject that says `fix` and `test` is a fix.
const WORDS: [(Category, &[&str]); 6] = [
    (
        Category::Fix,
        &["fix", "fixes", "fixed", "fixing", "bug", "bugs", "crash", "broken", "regression", "typo", "hotfix", "wrong"],
    ),
    (Category::Test, &["test", "tests", "testing", "coverage", "flaky"]),
    (Category::Docs, &["doc", "docs", "readme", "documentation", "document", "changelog", "comment", "comments"]),
    (
        Category::Refactor,
        &[
            "refactor",
            "rename",
            "renamed",
            "cleanup",
            "clean",
            "simplify",
            "move",
            "extract",
            "tidy",
            "reorganize",
            "format",
        ],
    ),
    (
        Category::Chore,
        &["bump", "upgrade", "release", "version", "ci", "build", "deps", "dependencies", "lint", "config"],
    ),
    (
        Category::Feature,
        &["add", "adds", "added", "implement", "introduce", "support", "allow", "new", "feature", "create"],
    ),
];

/// The category of a commit: merge if it has several parents, revert if its subject begins like git's own, else its conventional
/// type, else the first telling word, else other.
pub(crate) fn category(subject: &str, parents: usize) -> Category {
    if parents > 1 {
        return Category::Merge;
    }
    if subject.starts_with("Revert \"") || subject.to_lowercase().starts_with("revert ") {
        return Category::Revert;
    }
    if let Some((kind, _)) = conventional(subject)
        && let Some((_, category)) = TYPES.iter().find(|(name, _)| kind.eq_ignore_ascii_case(name))
    {
        return *category;
    }
    let lower = subject.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    WORDS
        .iter()
        .find(|(_, telling)| words.iter().any(|word| telling.contains(word)))
        .map_or(Category::Other, |(category, _)| *category)
}

/// The task of a commit as its subject tells it: the scope of a conventional commit, else the first issue it names (`#12` or
/// `ABC-12`).
pub(crate) fn task(subject: &str) -> Option<String> {
    if let Some((_, Some(scope))) = conventional(subject) {
        return Some(scope.to_owned());
    }
    let edge = |c: char| !(c.is_alphanumeric() || c == '#' || c == '-');
    subject.split(edge).find(|word| is_issue(word)).map(str::to_owned)
}

fn is_issue(word: &str) -> bool {
    let number = |text: &str| (1..=7).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match word.split_once(['#', '-']) {
        Some(("", digits)) => word.starts_with('#') && number(digits),
        Some((key, digits)) => {
            let is_key = (2..=10).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_uppercase());
            // `UTF-8` and `SHA-256` look like issues and are not.
            is_key && number(digits) && !matches!(key, "UTF" | "SHA" | "ISO" | "RFC")
        }
        None => false,
    }
}

/// Type and scope of `type(scope)!: words`.
fn conventional(subject: &str) -> Option<(&str, Option<&str>)> {
    let (head, _) = subject.split_once(": ")?;
    let head = head.strip_suffix('!').unwrap_or(head);
    let (kind, scope) = match head.split_once('(') {
        Some((kind, rest)) => (kind, Some(rest.strip_suffix(')')?.trim())),
        None => (head, None),
    };
    let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then_some((kind, scope.filter(|scope| !scope.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_categories() {
        for (subject, parents, expected) in [
            ("feat(api)!: drop v1", 1, Category::Feature),
            ("Fix: crash on start", 1, Category::Fix),
            ("perf: faster parsing", 1, Category::Refactor),
            ("ci: cache cargo", 1, Category::Chore),
            ("Merge branch 'x'", 2, Category::Merge),
            ("Revert \"feat: y\"", 1, Category::Revert),
            ("revert: feat y", 1, Category::Revert),
            ("Fixed the flaky test", 1, Category::Fix),
            ("Update README", 1, Category::Docs),
            ("Add a button", 1, Category::Feature),
            ("Rename things", 1, Category::Refactor),
            ("Engine: fix a leak", 1, Category::Fix),
            ("stuff", 1, Category::Other),
            ("", 1, Category::Other),
        ] {
            assert_eq!(category(subject, parents), expected, "{subject}");
        }
    }

    #[test]
    fn subjects_name_tasks() {
        for (subject, expected) in [
            ("feat(api): x", Some("api")),
            ("Fix login (#412)", Some("#412")),
            ("CORE-77: tidy", Some("CORE-77")),
            ("Use UTF-8 everywhere", None),
            ("add a-1 thing", None),
            ("fix(): x", None),
        ] {
            assert_eq!(task(subject).as_deref(), expected, "{subject}");
        }
    }
}
