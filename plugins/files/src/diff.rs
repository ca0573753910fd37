//! Unified diffs (as of `diff -u` and `git diff`): read, and applied to bytes.

/// Files and hunks of a diff.
const FILES: usize = 1_000;
const HUNKS: usize = 10_000;
/// How far from its line a hunk is looked for.
const DRIFT: usize = 2_000;

/// What a diff does to one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileDiff<'d> {
    /// Its path before; none if it is new.
    pub(crate) old: Option<&'d str>,
    /// Its path after; none if it is deleted.
    pub(crate) new: Option<&'d str>,
    pub(crate) hunks: Vec<Hunk<'d>>,
}

/// A place that changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hunk<'d> {
    /// Its line in the old file, from 1 on.
    line: usize,
    /// What must be there, and what comes instead: whole lines.
    before: Vec<Line<'d>>,
    after: Vec<Line<'d>>,
}

/// A line, and whether a line break follows it.
type Line<'d> = (&'d str, bool);

/// Reads a diff. An error says which line of it is wrong.
pub(crate) fn parse(text: &str) -> Result<Vec<FileDiff<'_>>, String> {
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
    let (mut files, mut at, mut hunks) = (Vec::new(), 0, 0);
    while at < lines.len() {
        let line = lines[at];
        if ["rename ", "copy ", "Binary files", "GIT binary patch"].iter().any(|start| line.starts_with(start)) {
            return Err(format!(
                "line {}: `{}`: only changes of lines are applied; use `move` or `write`",
                at + 1,
                cut(line)
            ));
        }
        let (Some(old), Some(new)) =
            (line.strip_prefix("--- "), lines.get(at + 1).and_then(|next| next.strip_prefix("+++ ")))
        else {
            // `diff --git`, `index` and what people write above a diff.
            if line.starts_with("@@") {
                return Err(format!("line {}: a hunk without `--- ` and `+++ ` above it", at + 1));
            }
            at += 1;
            continue;
        };
        let (old, new) = paths(old, new);
        let mut file = FileDiff { old, new, hunks: Vec::new() };
        at += 2;
        while lines.get(at).is_some_and(|line| line.starts_with("@@")) {
            hunks += 1;
            if hunks > HUNKS {
                return Err(format!("it has more than {HUNKS} hunks"));
            }
            file.hunks.push(hunk(&lines, &mut at)?);
        }
        if file.hunks.is_empty() || (file.old.is_none() && file.new.is_none()) {
            return Err(format!("line {at}: `{}` has no hunks, or no name", cut(new.or(old).unwrap_or_default())));
        }
        files.push(file);
        if files.len() > FILES {
            return Err(format!("it changes more than {FILES} files"));
        }
    }
    if files.is_empty() {
        return Err(
            "it changes no file; a unified diff has lines `--- path`, `+++ path` and `@@ -1,2 +1,3 @@`".to_owned()
        );
    }
    Ok(files)
}

fn cut(line: &str) -> String {
    line.chars().take(100).collect()
}

/// The paths of a file, without a time after a tab, and without the `a/` and `b/` of git.
fn paths<'d>(old: &'d str, new: &'d str) -> (Option<&'d str>, Option<&'d str>) {
    let clean = |path: &'d str| path.split('\t').next().unwrap_or_default().trim_end_matches('\r');
    let (old, new) = (clean(old), clean(new));
    let none = "/dev/null";
    let of_git = (old == none || old.starts_with("a/")) && (new == none || new.starts_with("b/"));
    let named = |path: &'d str| match path {
        path if path == none => None,
        path if of_git => Some(&path[2..]),
        path => Some(path),
    };
    (named(old), named(new))
}

fn hunk<'d>(lines: &[&'d str], at: &mut usize) -> Result<Hunk<'d>, String> {
    let head = *at + 1;
    let wrong = |why: &str| format!("line {head}: `{}`: {why}", cut(lines[head - 1]));
    let (line, old, new) = header(lines[*at]).ok_or_else(|| wrong("is no head of a hunk such as `@@ -1,2 +1,3 @@`"))?;
    *at += 1;
    let mut hunk = Hunk { line, before: Vec::new(), after: Vec::new() };
    // Which sides the last line was on.
    let mut last = (false, false);
    loop {
        let line = lines.get(*at).copied();
        if line.is_some_and(|line| line.starts_with('\\')) {
            let sides = [(last.0, &mut hunk.before), (last.1, &mut hunk.after)];
            for (_, side) in sides.into_iter().filter(|(touched, _)| *touched) {
                if let Some(line) = side.last_mut() {
                    line.1 = false;
                }
            }
            *at += 1;
            continue;
        }
        if hunk.before.len() >= old && hunk.after.len() >= new {
            break;
        }
        let line = line.ok_or_else(|| wrong("has fewer lines than it says"))?;
        let mut letters = line.chars();
        last = match letters.next() {
            // Some editors cut the blank of an empty line.
            Some(' ') | None => (true, true),
            Some('-') => (true, false),
            Some('+') => (false, true),
            Some(_) => return Err(wrong("has fewer lines than it says")),
        };
        let text = letters.as_str();
        if last.0 {
            hunk.before.push((text, true));
        }
        if last.1 {
            hunk.after.push((text, true));
        }
        *at += 1;
    }
    if hunk.before.len() != old || hunk.after.len() != new {
        return Err(wrong("has other lines than it says"));
    }
    Ok(hunk)
}

/// `@@ -line,old +line,new @@`: the line, and both counts.
fn header(line: &str) -> Option<(usize, usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let range = |range: &str| -> Option<(usize, usize)> {
        let (line, count) = range.split_once(',').unwrap_or((range, "1"));
        Some((line.parse().ok()?, count.parse().ok()?))
    };
    let ((line, old), (_, new)) = (range(old)?, range(new)?);
    Some((line, old, new))
}

/// Applies hunks to a content. An error says which of them does not fit.
pub(crate) fn apply(content: &[u8], hunks: &[Hunk]) -> Result<Vec<u8>, String> {
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let mut new = Vec::with_capacity(content.len() + 1024);
    // Lines that are taken over, and how far hunks were from their lines.
    let (mut taken, mut drift) = (0_usize, 0_isize);
    for (number, hunk) in hunks.iter().enumerate() {
        // A hunk without old lines stands behind its line.
        let named = if hunk.before.is_empty() { hunk.line } else { hunk.line.saturating_sub(1) };
        let expected = named.saturating_add_signed(drift).max(taken);
        let at = find(&lines, &hunk.before, taken, expected).ok_or_else(|| {
            let first = hunk.before.first().map(|(line, _)| cut(line)).unwrap_or_default();
            format!("hunk {} (line {}, `{first}`) does not fit", number + 1, hunk.line)
        })?;
        drift += at as isize - expected as isize;
        lines[taken..at].iter().for_each(|line| new.extend_from_slice(line));
        for (line, broken) in &hunk.after {
            new.extend_from_slice(line.as_bytes());
            if *broken {
                new.push(b'\n');
            }
        }
        taken = at + hunk.before.len();
    }
    lines[taken..].iter().for_each(|line| new.extend_from_slice(line));
    Ok(new)
}

/// Where lines stand, nearest to where they should.
fn find(lines: &[&[u8]], wanted: &[Line], from: usize, expected: usize) -> Option<usize> {
    let last = lines.len().checked_sub(wanted.len())?;
    let fits = |at: usize| {
        wanted.iter().zip(&lines[at..]).all(|((text, broken), line)| match line.strip_suffix(b"\n") {
            Some(line) => *broken && line == text.as_bytes(),
            None => !broken && *line == text.as_bytes(),
        })
    };
    (0..=DRIFT).find_map(|away| {
        let below = expected.checked_sub(away).filter(|at| *at >= from && *at <= last && fits(*at));
        below.or_else(|| Some(expected + away).filter(|at| *at >= from && *at <= last && fits(*at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(old: &str, diff: &str) -> Result<String, String> {
        let files = parse(diff)?;
        apply(old.as_bytes(), &files[0].hunks).map(|new| String::from_utf8(new).unwrap())
    }

    const HEAD: &str = "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n";

    #[test]
    fn hunks_change_lines() {
        let diff = format!("{HEAD}@@ -1,3 +1,3 @@ fn\n a\n-b\n+B\n c\n@@ -5 +5,2 @@\n e\n+f\n");
        assert_eq!(changed("a\nb\nc\nd\ne\n", &diff).unwrap(), "a\nB\nc\nd\ne\nf\n");
        // Lines above moved it.
        assert_eq!(changed("1\n2\na\nb\nc\nd\ne\n", &diff).unwrap(), "1\n2\na\nB\nc\nd\ne\nf\n");
        let said = changed("a\nx\nc\nd\ne\n", &diff).unwrap_err();
        assert!(said.contains("hunk 1 (line 1, `a`) does not fit"), "{said}");
        // The second hunk does not fit before the first.
        assert!(changed("e\na\nb\nc\n", &diff).unwrap_err().contains("hunk 2"));
    }

    #[test]
    fn missing_line_breaks_are_kept() {
        let diff = format!("{HEAD}@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n");
        assert_eq!(changed("a", &diff).unwrap(), "b\n");
        assert!(changed("a\n", &diff).is_err());
        let diff = format!("{HEAD}@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n");
        assert_eq!(changed("a\n", &diff).unwrap(), "b");
        let diff = format!("{HEAD}@@ -1 +1,2 @@\n a\r\n+b\r\n");
        assert_eq!(changed("a\r\n", &diff).unwrap(), "a\r\nb\r\n");
    }

    #[test]
    fn files_are_named() {
        let of = |old: &str, new: &str| {
            let diff = format!("--- {old}\n+++ {new}\n@@ -0,0 +1 @@\n+x\n");
            let files = parse(&diff).unwrap();
            (files[0].old.map(ToOwned::to_owned), files[0].new.map(ToOwned::to_owned))
        };
        assert_eq!(of("/dev/null", "b/new"), (None, Some("new".into())));
        assert_eq!(of("a/x\t2026-01-01", "b/x\t2026-01-02"), (Some("x".into()), Some("x".into())));
        assert_eq!(of("x", "x"), (Some("x".into()), Some("x".into())));
        assert_eq!(of("a/x", "a/x"), (Some("a/x".into()), Some("a/x".into())));
    }

    #[test]
    fn damaged_diffs_are_told() {
        for (diff, part) in [
            ("", "changes no file"),
            ("@@ -1 +1 @@\n-a\n+b\n", "without `--- `"),
            ("--- a/x\n+++ b/x\n", "has no hunks"),
            ("--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n", "fewer lines"),
            ("--- a/x\n+++ b/x\n@@ one @@\n-a\n", "no head of a hunk"),
            ("diff --git a/x b/y\nrename from x\nrename to y\n", "only changes of lines"),
            ("--- a/x\n+++ b/x\n@@ -1,1 +1,0 @@\n+a\n-b\n", "other lines"),
        ] {
            let said = parse(diff).unwrap_err();
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
