//! Backups: one tar file with everything of a data folder.
//!
//! ```text
//! consort-backup.json   what this is
//! consort.db            the database, as of one moment
//! blobs/ab/abcdef…      the blobs, and the media types beside them
//! manifest.json         last: how many files, and their SHA-256; without it a backup is cut off
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use consort_core::ids::Millis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::files::{BlobFiles, is_sha256, sync_folder};
use crate::{OpenError, SqliteStore};

/// The version that is written. Older ones are read for ever.
const VERSION: u32 = 1;
const HEAD: &str = "consort-backup.json";
const DATABASE: &str = "consort.db";
const MANIFEST: &str = "manifest.json";
/// Longest text of the first and the last file.
const TEXT: u64 = 64 * 1024;

/// What a backup begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    consort_backup: u32,
    store: Uuid,
    created_at: Millis,
    position: u64,
}

/// What a backup ends with.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Files before it, without the first one.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// SHA-256 of the database.
    database: String,
    /// SHA-256 over the name, a zero, and the SHA-256 of each file, in order.
    sha256: String,
}

/// What is packed.
pub(crate) struct Contents {
    pub(crate) store: Uuid,
    pub(crate) created_at: Millis,
    /// Position of the last row in the copy.
    pub(crate) position: u64,
    /// The copy of the database.
    pub(crate) database: PathBuf,
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Hashing<T> {
        Hashing { inner, hash: Sha256::new(), bytes: 0 }
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[derive(Default)]
struct Account {
    manifest: Manifest,
    hash: Sha256,
}

impl Account {
    /// Adds a file; its SHA-256.
    fn add<T>(&mut self, name: &str, file: Hashing<T>) -> String {
        let digest = hex::encode(file.hash.finalize());
        self.manifest.files += 1;
        self.manifest.bytes += file.bytes;
        self.hash.update(name);
        self.hash.update([0]);
        self.hash.update(&digest);
        if name == DATABASE {
            self.manifest.database.clone_from(&digest);
        }
        digest
    }

    fn close(self) -> Manifest {
        Manifest { sha256: hex::encode(self.hash.finalize()), ..self.manifest }
    }
}

/// Packs a backup into a sink.
pub(crate) fn pack(contents: &Contents, blobs: &BlobFiles, sink: &mut dyn Write) -> io::Result<()> {
    let Contents { store, created_at, position, database } = contents;
    let head = Head { consort_backup: VERSION, store: *store, created_at: *created_at, position: *position };
    let seconds = (created_at / 1_000).max(0) as u64;
    let mut tar = tar::Builder::new(sink);
    add(&mut tar, HEAD, seconds, &mut serde_json::to_vec_pretty(&head)?.as_slice(), None)?;
    let mut account = Account::default();
    let mut file = |tar: &mut tar::Builder<&mut dyn Write>, name: &str, path: &Path| {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        // A file that is longer by now was not meant: what is written has the length it had.
        let mut hashing = Hashing::new(file.take(size));
        add(tar, name, seconds, &mut hashing, Some(size))?;
        account.add(name, hashing);
        io::Result::Ok(())
    };
    file(&mut tar, DATABASE, database)?;
    for folder in 0..=u8::MAX {
        for (name, path) in blobs.all(folder)? {
            file(&mut tar, &format!("blobs/{}/{name}", hex::encode([folder])), &path)?;
        }
    }
    let manifest = serde_json::to_vec_pretty(&account.close())?;
    add(&mut tar, MANIFEST, seconds, &mut manifest.as_slice(), None)?;
    tar.finish()
}

fn add(
    tar: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    seconds: u64,
    content: &mut dyn Read,
    size: Option<u64>,
) -> io::Result<()> {
    let mut text = Vec::new();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_mtime(seconds);
    header.set_entry_type(tar::EntryType::Regular);
    if let Some(size) = size {
        header.set_size(size);
        return tar.append_data(&mut header, name, content);
    }
    content.read_to_end(&mut text)?;
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, name, text.as_slice())
}

/// Why a backup was not restored. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The folder has something in it.
    #[error("{} is not empty; name a folder that is empty or not there", .0.display())]
    NotEmpty(PathBuf),
    /// The file is no backup, or not all of it, or not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was unpacked does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was unpacked contradicts itself.
    #[error("the backup unpacks, and what is in it is not sound: {0}")]
    Unsound(String),
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Identity of the store.
    pub store: Uuid,
    /// When the backup was made.
    pub created_at: Millis,
    /// Position of the last row.
    pub position: u64,
    /// Files that were unpacked.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Restores a backup into a folder that is empty or not there. It is unpacked beside the folder, each file held against its SHA-256;
/// then everything is checked as `consort doctor` checks it, and only then the folder gets its name.
pub async fn restore(source: Box<dyn Read + Send>, folder: &Path) -> Result<Restored, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    if folder.exists() && fs::read_dir(folder).map_err(at(folder))?.next().is_some() {
        return Err(RestoreError::NotEmpty(folder.to_owned()));
    }
    let absolute = std::path::absolute(folder).map_err(at(folder))?;
    let parent = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(&parent).map_err(at(&parent))?;
    let draft = Draft(parent.join(format!(".restoring-{}", Uuid::new_v4().simple())));
    DirBuilder::new().mode(0o700).create(&draft.0).map_err(at(&draft.0))?;

    let into = draft.0.clone();
    let unpacking = tokio::task::spawn_blocking(move || unpack(source, &into)).await;
    let restored = unpacking.map_err(|error| RestoreError::Damaged(format!("unpacking did not finish: {error}")))??;
    let store = SqliteStore::open(&draft.0).await?;
    let checked = store.examine(&mut |_| {}).await;
    store.close().await;
    match checked {
        Ok(report) if report.is_sound() => {}
        Ok(report) => return Err(RestoreError::Unsound(report.problems.join("; "))),
        Err(error) => return Err(RestoreError::Unsound(error.to_string())),
    }
    fs::rename(&draft.0, &absolute).map_err(at(folder))?;
    std::mem::forget(draft);
    sync_folder(&parent).map_err(at(&parent))?;
    Ok(restored)
}

/// A folder that goes unless it got another name.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "what was unpacked stays");
        }
    }
}

fn unpack(source: Box<dyn Read + Send>, folder: &Path) -> Result<Restored, RestoreError> {
    let damaged = |why: String| RestoreError::Damaged(format!("the backup is damaged: {why}"));
    let cut = |error: &io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RestoreError::Damaged("the backup is cut off".into()),
        _ => damaged(error.to_string()),
    };
    let mut tar = tar::Archive::new(source);
    let mut entries = tar.entries().map_err(|e| cut(&e))?;
    let first = entries.next().ok_or_else(|| RestoreError::Damaged("the file is empty".into()))?;
    let not_one = || RestoreError::Damaged("this is not a backup of Consort".into());
    let mut first = first.map_err(|_| not_one())?;
    if first.path().map_or(true, |path| path != Path::new(HEAD)) {
        return Err(not_one());
    }
    let mut text = Vec::new();
    (&mut first).take(TEXT).read_to_end(&mut text).map_err(|e| cut(&e))?;
    let head: Head = serde_json::from_slice(&text).map_err(|_| not_one())?;
    if head.consort_backup > VERSION {
        let text = format!("it has version {}, and this program reads up to {VERSION}", head.consort_backup);
        return Err(RestoreError::Damaged(text));
    }
    let mut account = Account::default();
    for entry in entries {
        let mut entry = entry.map_err(|e| cut(&e))?;
        let name = plain_name(&entry).ok_or_else(|| damaged("a file in it has a name that none should have".into()))?;
        if name == MANIFEST {
            let mut text = Vec::new();
            entry.take(TEXT).read_to_end(&mut text).map_err(|e| cut(&e))?;
            let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
            if manifest != account.close() {
                return Err(damaged("its files are not those of its manifest".into()));
            }
            let Manifest { files, bytes, .. } = manifest;
            let Head { store, created_at, position, .. } = head;
            return Ok(Restored { store, created_at, position, files, bytes });
        }
        let path = folder.join(&name);
        let at = |source| RestoreError::File { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(at)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at)?;
        let mut hashing = Hashing::new(&mut entry);
        // Damage of the source and of the disk are told apart by reading and writing apart.
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = hashing.read(&mut buffer).map_err(|e| cut(&e))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(at)?;
        }
        file.sync_data().map_err(at)?;
        let (bytes, hash) = (hashing.bytes, hashing.hash.clone());
        if bytes != entry.size() {
            return Err(RestoreError::Damaged("the backup is cut off".into()));
        }
        let digest = account.add(&name, Hashing { inner: (), hash, bytes });
        let blob = name.rsplit('/').next().filter(|blob| is_sha256(blob));
        if blob.is_some_and(|blob| blob != digest) {
            return Err(damaged(format!("{name} has other bytes than its name says")));
        }
    }
    Err(RestoreError::Damaged("the backup is cut off: its manifest is not there".into()))
}

/// The name of an ordinary file that a backup may have: the database, or a blob.
fn plain_name<R: Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    if !entry.header().entry_type().is_file() {
        return None;
    }
    let path = entry.path().ok()?;
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let name = path.to_str().filter(|_| plain)?.to_owned();
    let parts: Vec<&str> = name.split('/').collect();
    let legal = match parts[..] {
        [DATABASE | MANIFEST] => true,
        ["blobs", folder, blob] => {
            let sha256 = blob.strip_suffix(".type").unwrap_or(blob);
            is_sha256(sha256) && sha256.starts_with(folder) && folder.len() == 2
        }
        _ => false,
    };
    legal.then_some(name)
}
