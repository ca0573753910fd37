//! A model's file: found, or written from the binary, and judged.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use consort_core::Error;
use sha2::{Digest, Sha256};

use super::{Known, bad_file};
use crate::gguf::{Facts, inspect};
use crate::options::ModelOptions;

/// A file whose header is good.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub facts: Facts,
}

/// Finds a model's file; writes an embedded one first, because llama.cpp maps files into memory.
pub(crate) fn find(options: &ModelOptions, folder: &Path) -> Result<Source, Error> {
    let path = match options.embedded {
        Some(bytes) => write_embedded(&options.id, bytes, folder)
            .map_err(|error| bad_file(&options.id, folder, format!("it cannot be written there: {error}")))?,
        None => options.path.clone(),
    };
    let facts = inspect(&path).map_err(|said| bad_file(&options.id, &path, said))?;
    Ok(Source { path, facts })
}

fn write_embedded(id: &str, bytes: &[u8], folder: &Path) -> std::io::Result<PathBuf> {
    let digest = version_of(bytes);
    let digest = digest.trim_start_matches("sha256:");
    let path = folder.join(format!("{}-{}.gguf", id.replace(':', "-"), &digest[..12]));
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    // Written beside and renamed, so that nobody maps a half.
    let beside = folder.join(format!(".{}-{}", digest, std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    Ok(path)
}

/// `sha256:…` of bytes.
pub(crate) fn version_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// `sha256:…` of a file: from what is known of it, or read once.
pub(crate) fn version(path: &Path, known: &Known) -> std::io::Result<String> {
    if let Some(digest) = known.digest(path) {
        return Ok(digest);
    }
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let digest = format!("sha256:{}", hex::encode(digest.finalize()));
    known.remember_digest(path, &digest);
    Ok(digest)
}

impl Source {
    /// Its version, if it is the one that is wanted.
    pub(crate) fn check_version(&self, options: &ModelOptions, known: &Known) -> Result<String, Error> {
        let version = version(&self.path, known).map_err(|error| bad_file(&options.id, &self.path, error))?;
        match options.digest() {
            Some(wanted) if version != format!("sha256:{wanted}") => {
                let said = format!("its {version} is not the configured sha256:{wanted}");
                Err(bad_file(&options.id, &self.path, said))
            }
            _ => Ok(version),
        }
    }
}
