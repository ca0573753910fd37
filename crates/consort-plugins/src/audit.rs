//! What plugins did: a file of one JSON object a line, and its end in memory.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use consort_core::plugin::PluginAction as Action;

/// Entries in memory.
const KEPT: usize = 10_000;
/// Bytes of the file; then it becomes `audit.1.jsonl` and a new one begins.
const FILE: u64 = 64 * 1024 * 1024;
/// Bytes and time that lines of reads may wait.
const PENDING: usize = 64 * 1024;
const FLUSH: Duration = Duration::from_millis(500);

/// The log.
#[derive(Debug)]
pub(crate) struct Audit(Mutex<Log>);

#[derive(Debug)]
struct Log {
    at: PathBuf,
    file: Option<File>,
    size: u64,
    /// Lines that are not written yet: what reads did can wait a moment.
    pending: Vec<u8>,
    flushed: Instant,
    kept: VecDeque<Action>,
    next: u64,
}

impl Audit {
    /// Opens the log of a folder; lines that cannot be read are passed over.
    pub(crate) fn open(folder: &Path) -> std::io::Result<Audit> {
        fs::create_dir_all(folder)?;
        let at = folder.join("audit.jsonl");
        let mut kept = VecDeque::new();
        for path in [at.with_extension("1.jsonl"), at.clone()] {
            let Ok(file) = File::open(&path) else { continue };
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                let Ok(action) = serde_json::from_str::<Action>(&line) else { continue };
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(action);
            }
        }
        let next = kept.back().map_or(1, |last| last.number + 1);
        let (pending, flushed) = (Vec::new(), Instant::now());
        let mut log = Log { at, file: None, size: 0, pending, flushed, kept, next };
        log.append()?;
        Ok(Audit(Mutex::new(log)))
    }

    /// Writes an entry: at once if something was changed, or within a second ([`Audit::flush`]). A disk that refuses is told in the
    /// server's log; the call itself is not undone.
    pub(crate) fn write(&self, mut action: Action, changed: bool) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        action.number = log.next;
        log.next += 1;
        log.put(&action, changed);
        if log.kept.len() == KEPT {
            log.kept.pop_front();
        }
        log.kept.push_back(action);
    }

    /// Writes what waits.
    pub(crate) fn flush(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }

    /// The newest entries first, below a number if one is given; of one plugin if one is named.
    pub(crate) fn list(&self, plugin: Option<&str>, below: Option<u64>, most: usize) -> Vec<Action> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |action: &&Action| {
            plugin.is_none_or(|id| action.operation.split_once('.').is_some_and(|(plugin, _)| plugin == id))
                && below.is_none_or(|below| action.number < below)
        };
        log.kept.iter().rev().filter(of).take(most).cloned().collect()
    }
}

impl Log {
    fn append(&mut self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.at)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn put(&mut self, action: &Action, changed: bool) {
        // Strings and numbers always become JSON.
        if serde_json::to_writer(&mut self.pending, action).is_ok() {
            self.pending.push(b'\n');
        }
        if changed || self.pending.len() >= PENDING || self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if self.pending.is_empty() {
            return;
        }
        let mut write = || {
            if self.size >= FILE {
                self.file = None;
                fs::rename(&self.at, self.at.with_extension("1.jsonl"))?;
            }
            if self.file.is_none() {
                self.append()?;
            }
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(&self.pending))
        };
        match write() {
            Ok(()) => self.size += self.pending.len() as u64,
            Err(error) => tracing::error!(%error, "the audit log of plugins cannot be written"),
        }
        self.pending.clear();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(operation: &str) -> Action {
        Action {
            number: 0,
            time: 1,
            operation: operation.into(),
            call_id: "c".into(),
            namespace: "default".into(),
            step: None,
            agent: None,
            code: 0,
            took_ms: 2,
            actions: vec!["wrote x".into()],
            dry_run: false,
        }
    }

    #[test]
    fn the_log_survives() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for operation in ["git.log", "files.write", "git.push"] {
            audit.write(action(operation), false);
        }
        drop(audit);
        // A line that a crash cut off.
        let mut file = OpenOptions::new().append(true).open(folder.path().join("audit.jsonl")).unwrap();
        file.write_all(b"{\"number\": 4, \"op\n").unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.write(action("git.log"), true);
        let names = |actions: Vec<Action>| actions.into_iter().map(|a| (a.number, a.operation)).collect::<Vec<_>>();
        let all = names(audit.list(None, None, 10));
        assert_eq!(all[0], (4, "git.log".to_owned()));
        assert_eq!(names(audit.list(Some("git"), Some(4), 1)), [(3, "git.push".to_owned())]);
        assert_eq!(audit.list(Some("gi"), None, 10), []);
    }
}
