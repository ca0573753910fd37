//! `--watch`: the process ends when its code changes, and the mesh starts it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often files are looked at, how many, and how deep.
const EVERY: Duration = Duration::from_millis(500);
const FILES: usize = 10_000;
const DEPTH: usize = 8;

type Seen = BTreeMap<PathBuf, SystemTime>;

/// Returns when a `.py` file of the folder is written, made or removed: which.
pub(crate) fn changed(folder: &Path) -> PathBuf {
    let mut before = seen(folder);
    loop {
        std::thread::sleep(EVERY);
        let after = seen(folder);
        let other = |(path, time): (&PathBuf, &SystemTime), in_these: &Seen| {
            (in_these.get(path) != Some(time)).then(|| path.clone())
        };
        let found = after.iter().find_map(|each| other(each, &before));
        if let Some(path) = found.or_else(|| before.iter().find_map(|each| other(each, &after))) {
            return path;
        }
        before = after;
    }
}

fn seen(folder: &Path) -> Seen {
    let mut found = Seen::new();
    look(folder, DEPTH, &mut found);
    found
}

fn look(folder: &Path, depth: usize, into: &mut Seen) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if into.len() >= FILES {
            return;
        }
        let (name, path) = (entry.file_name(), entry.path());
        // Links are not followed; environments and caches begin with a dot or are not a plugin's code.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 && !name.as_encoded_bytes().starts_with(b".") && name != "__pycache__" {
            look(&path, depth - 1, into);
        } else if kind.is_file()
            && path.extension().is_some_and(|kind| kind == "py")
            && let Ok(time) = entry.metadata().and_then(|metadata| metadata.modified())
        {
            into.insert(path, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_seen_and_environments_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["a.py", "b/c.py", ".venv/d.py", "e.txt"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names: Vec<_> = seen(scratch.path()).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.py", "c.py"]);
    }
}
