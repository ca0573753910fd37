//! What was installed and granted while the mesh ran: a small JSON file, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use consort_core::Error;
use consort_core::plugin::Permissions;
use serde::{Deserialize, Serialize};

/// What is kept of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Its folder, if it was installed and is in no file of the operator's.
    pub folder: Option<PathBuf>,
    /// What was granted, filled in.
    pub granted: Permissions,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Grants {
    at: PathBuf,
    kept: Mutex<BTreeMap<String, Kept>>,
}

impl Grants {
    /// Reads it. A broken file is an error: what was granted must not be forgotten silently.
    pub(crate) fn open(folder: &Path) -> Result<Grants, Error> {
        let at = folder.join("grants.json");
        let told = |why: String| Error::precondition("GRANTS_DAMAGED", format!("`{}`: {why}", at.display()));
        let kept = match fs::read(&at) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| told(format!("{error}; mend it, or remove it and grant again")))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(told(error.to_string())),
        };
        Ok(Grants { at, kept: Mutex::new(kept) })
    }

    pub(crate) fn of(&self, id: &str) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// What was installed: ids and folders.
    pub(crate) fn installed(&self) -> Vec<(String, PathBuf)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter_map(|(id, kept)| Some((id.clone(), kept.folder.clone()?))).collect()
    }

    /// Keeps it, or forgets it; on disk when this returns.
    pub(crate) fn set(&self, id: &str, new: Option<Kept>) -> Result<(), Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = kept.clone();
        match new {
            Some(new) => drop(changed.insert(id.to_owned(), new)),
            None => drop(changed.remove(id)),
        }
        let write = || -> std::io::Result<()> {
            let folder = self.at.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let beside = self.at.with_extension("new");
            let mut file = fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(&changed)?)?;
            file.sync_all()?;
            fs::rename(&beside, &self.at)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| {
            let said = format!("`{}` cannot be written: {error}", self.at.display());
            Error::unavailable(said, std::time::Duration::from_secs(1))
        })?;
        *kept = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_survive_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let grants = Grants::open(folder.path()).unwrap();
        let granted = Permissions { net: vec!["example.com:443".into()], ..Permissions::default() };
        let kept = Kept { folder: Some("/p".into()), granted };
        grants.set("git", Some(kept.clone())).unwrap();
        grants.set("gone", Some(Kept::default())).unwrap();
        grants.set("gone", None).unwrap();
        let again = Grants::open(folder.path()).unwrap();
        assert_eq!((again.of("git"), again.of("gone")), (kept, Kept::default()));
        assert_eq!(again.installed(), [("git".to_owned(), PathBuf::from("/p"))]);
        fs::write(folder.path().join("grants.json"), "{").unwrap();
        assert_eq!(Grants::open(folder.path()).unwrap_err().reason, "GRANTS_DAMAGED");
    }
}
