//! What is known of files, so that each is hashed and tried once: a small JSON file in the engine's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::kernels::Kernels;

/// Verdicts hold for the llama.cpp that gave them, and for its kernels.
fn engine() -> String {
    format!("llama-cpp-sys-2 0.1.161 {}", Kernels::best().name())
}

/// Files that are remembered.
const LIMIT: usize = 1000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Entry {
    size: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    digest: String,
    /// The llama.cpp that has loaded it.
    #[serde(default)]
    good_for: String,
}

/// What is known of files.
#[derive(Debug)]
pub(crate) struct Known {
    at: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Known {
    pub(crate) fn open(folder: &Path) -> Known {
        let at = folder.join("known.json");
        // A file that is missing or broken costs a second look at each model.
        let entries = fs::read(&at).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Known { at, entries: Mutex::new(entries) }
    }

    /// `sha256:…`, if the file was hashed since it changed.
    pub(crate) fn digest(&self, path: &Path) -> Option<String> {
        self.entry(path).map(|entry| entry.digest)
    }

    /// Whether llama.cpp has loaded the file since it changed.
    pub(crate) fn is_good(&self, path: &Path) -> bool {
        self.entry(path).is_some_and(|entry| entry.good_for == engine())
    }

    pub(crate) fn remember_digest(&self, path: &Path, digest: &str) {
        self.change(path, |entry| digest.clone_into(&mut entry.digest));
    }

    pub(crate) fn remember_good(&self, path: &Path) {
        self.change(path, |entry| entry.good_for = engine());
    }

    fn entry(&self, path: &Path) -> Option<Entry> {
        let (key, size, modified) = look(path)?;
        let entry = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()?;
        (entry.size == size && entry.modified == modified).then_some(entry)
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Entry)) {
        let Some((key, size, modified)) = look(path) else { return };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= LIMIT && !entries.contains_key(&key) {
            entries.pop_first();
        }
        let entry = entries.entry(key).or_default();
        if entry.size != size || entry.modified != modified {
            *entry = Entry { size, modified, ..Entry::default() };
        }
        change(entry);
        let written = serde_json::to_vec_pretty(&*entries).map_err(std::io::Error::other).and_then(|text| {
            if let Some(folder) = self.at.parent() {
                fs::create_dir_all(folder)?;
            }
            let beside = self.at.with_extension(format!("{}.tmp", std::process::id()));
            fs::write(&beside, text)?;
            fs::rename(&beside, &self.at)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.at.display(), "what is known of models could not be written down");
        }
    }
}

fn look(path: &Path) -> Option<(String, u64, u128)> {
    let path = fs::canonicalize(path).ok()?;
    let about = fs::metadata(&path).ok()?;
    let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some((path.to_string_lossy().into_owned(), about.len(), modified))
}
