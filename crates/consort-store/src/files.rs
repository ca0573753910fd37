//! Blobs as files: `blobs/ab/abcdef…` holds the bytes and nothing else, so that `sha256sum` can check them.
//!
//! A file gets its name only after its bytes are on disk, so a name that can be seen can be trusted. A media type other than
//! [`COMMON_TYPE`] stands in a file beside it, `….type`, which is there before the blob is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use consort_core::data::BlobRef;
use consort_core::ports::{BlobWriter, StoreError};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::integrity::Integrity;

/// The media type of values that became blobs: most of them, so it costs no file of its own.
const COMMON_TYPE: &str = "application/json";

/// Bytes that a writer collects before it crosses to a blocking thread.
const PART: usize = 256 * 1024;

/// A blob that was not asked for during this time is marked as wanted when it is: see [`BlobFiles::wanted`].
const STALE: Duration = Duration::from_secs(30 * 60);

/// A folder of blobs.
#[derive(Clone)]
pub(crate) struct BlobFiles {
    root: Arc<Path>,
    /// Held while a blob is marked as wanted, and while one that nobody wants is deleted. Absent where nothing may be written.
    gate: Option<Arc<Mutex<()>>>,
}

impl BlobFiles {
    /// Opens the folder, makes what is missing and removes what interrupted writers left.
    pub(crate) fn open(root: &Path) -> io::Result<BlobFiles> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(root)?;
        let temporary = root.join("tmp");
        builder.create(&temporary)?;
        for entry in fs::read_dir(&temporary)? {
            fs::remove_file(entry?.path())?;
        }
        // All folders are made here, so that no write has to wait until a new folder is durable.
        for number in 0..=u8::MAX {
            builder.create(root.join(hex::encode([number])))?;
        }
        sync_folder(root)?;
        Ok(BlobFiles { root: root.into(), gate: Some(Arc::default()) })
    }

    /// The folder as somebody else has it open: nothing is made, marked or removed.
    pub(crate) fn look(root: &Path) -> BlobFiles {
        BlobFiles { root: root.into(), gate: None }
    }

    /// Whether a blob is there, marked as wanted if it is: its time is that of its file, and only blobs whose time is long past
    /// are ever deleted. Whoever is told of a blob has hours to refer to it.
    fn wanted(&self, sha256: &str) -> io::Result<bool> {
        let path = self.path(sha256);
        let Some(metadata) = found(fs::metadata(&path))? else { return Ok(false) };
        let Some(gate) = self.gate.as_ref().filter(|_| is_older(&metadata, SystemTime::now() - STALE)) else {
            return Ok(true);
        };
        let _held = gate.lock().unwrap_or_else(PoisonError::into_inner);
        match found(File::open(&path))? {
            Some(file) => file.set_modified(SystemTime::now()).map(|()| true),
            None => Ok(false),
        }
    }

    /// The names in one of the 256 folders of blobs older than a time, in any order; at most `limit`.
    pub(crate) fn older(&self, folder: u8, before: SystemTime, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(hex::encode([folder])))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_sha256(&name) && found(entry.metadata())?.is_some_and(|metadata| is_older(&metadata, before)) {
                names.push(name);
            }
            if names.len() >= limit {
                break;
            }
        }
        Ok(names)
    }

    /// All blobs of one of the 256 folders, and the types beside them, by name.
    pub(crate) fn all(&self, folder: u8) -> io::Result<Vec<(String, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.root.join(hex::encode([folder])))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_sha256(name.strip_suffix(".type").unwrap_or(&name)) {
                all.push((name, entry.path()));
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Deletes a blob if it is still older than a time; its length if it went.
    pub(crate) fn delete(&self, sha256: &str, before: SystemTime) -> io::Result<Option<u64>> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let _held = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(sha256);
        let Some(metadata) = found(fs::metadata(&path))? else { return Ok(None) };
        if !is_older(&metadata, before) {
            return Ok(None);
        }
        fs::remove_file(&path)?;
        found(fs::remove_file(self.type_path(sha256)))?;
        Ok(Some(metadata.len()))
    }

    /// Stores several blobs; all are durable when this returns.
    pub(crate) async fn put(&self, blobs: Vec<(BlobRef, Vec<u8>)>) -> Result<(), StoreError> {
        let files = self.clone();
        blocking(move || {
            for (blob, bytes) in &blobs {
                check(blob, bytes)?;
                if files.wanted(&blob.sha256).map_err(|e| unwritten(&e))? {
                    // Another writer may have named it a moment ago, and not have made the name durable yet.
                    sync_folder(&files.folder(&blob.sha256)).map_err(|e| unwritten(&e))?;
                } else {
                    let mut temporary = files.temporary().map_err(|e| unwritten(&e))?;
                    temporary.file.write_all(bytes).map_err(|e| unwritten(&e))?;
                    files.publish(temporary, blob).map_err(|e| unwritten(&e))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Begins a blob of unknown length.
    pub(crate) async fn writer(&self, media_type: &str) -> Result<Box<dyn BlobWriter>, StoreError> {
        let files = self.clone();
        let temporary = blocking(move || files.temporary().map_err(|e| unwritten(&e))).await?;
        let part = Part { temporary, hasher: Sha256::new(), size: 0 };
        let media_type = media_type.into();
        Ok(Box::new(FileWriter { files: self.clone(), media_type, part: Some(part), pending: Vec::new() }))
    }

    /// The reference of a blob.
    pub(crate) async fn stat(&self, sha256: &str) -> Result<Option<BlobRef>, StoreError> {
        if !is_sha256(sha256) {
            return Ok(None);
        }
        let (files, sha256) = (self.clone(), Arc::<str>::from(sha256));
        blocking(move || files.reference(sha256).map_err(|e| unread(&e))).await
    }

    /// Up to `length` bytes from `offset`.
    pub(crate) async fn read(&self, sha256: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        if !is_sha256(sha256) {
            return Ok(None);
        }
        let path = self.path(sha256);
        blocking(move || read_part(&path, offset, length).map_err(|e| unread(&e))).await
    }

    /// Hashes every blob, counts them in the report and names those whose bytes are not what their name says.
    pub(crate) async fn verify(&self, mut report: Integrity) -> Result<Integrity, StoreError> {
        let files = self.clone();
        blocking(move || {
            files.verify_now(&mut report).map_err(|e| unread(&e))?;
            Ok(report)
        })
        .await
    }

    fn verify_now(&self, report: &mut Integrity) -> io::Result<()> {
        for number in 0..=u8::MAX {
            for entry in fs::read_dir(self.root.join(hex::encode([number])))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if !is_sha256(&name) {
                    continue;
                }
                report.blobs += 1;
                if hash_file(&entry.path())? != name {
                    report.problem(format!("blob {name} has other bytes than its name says"));
                }
            }
        }
        Ok(())
    }

    fn folder(&self, sha256: &str) -> PathBuf {
        self.root.join(&sha256[..2])
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder(sha256).join(sha256)
    }

    fn type_path(&self, sha256: &str) -> PathBuf {
        self.folder(sha256).join(format!("{sha256}.type"))
    }

    fn temporary(&self) -> io::Result<Temporary> {
        let path = self.root.join("tmp").join(Uuid::new_v4().simple().to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Temporary { file, path, named: false })
    }

    fn reference(&self, sha256: Arc<str>) -> io::Result<Option<BlobRef>> {
        if !self.wanted(&sha256)? {
            return Ok(None);
        }
        let Some(metadata) = found(fs::metadata(self.path(&sha256)))? else { return Ok(None) };
        let media_type = found(fs::read_to_string(self.type_path(&sha256)))?;
        let media_type = media_type.as_deref().unwrap_or(COMMON_TYPE).into();
        Ok(Some(BlobRef { sha256, size: metadata.len(), media_type }))
    }

    /// Gives a written file its name, durably.
    fn publish(&self, temporary: Temporary, blob: &BlobRef) -> io::Result<()> {
        let (folder, type_path) = (self.folder(&blob.sha256), self.type_path(&blob.sha256));
        temporary.file.sync_data()?;
        if &*blob.media_type == COMMON_TYPE {
            // A crash may have left the type of a blob that never came to be.
            found(fs::remove_file(&type_path))?;
        } else {
            let mut beside = self.temporary()?;
            beside.file.write_all(blob.media_type.as_bytes())?;
            beside.file.sync_data()?;
            beside.name(&type_path)?;
            sync_folder(&folder)?;
        }
        temporary.name(&self.path(&blob.sha256))?;
        sync_folder(&folder)
    }
}

/// A file that disappears unless it gets a name.
struct Temporary {
    file: File,
    path: PathBuf,
    named: bool,
}

impl Temporary {
    fn name(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next open.
        if !self.named
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a temporary blob stays until the next start");
        }
    }
}

struct Part {
    temporary: Temporary,
    hasher: Sha256,
    size: u64,
}

impl Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.temporary.file.write_all(bytes)
    }
}

struct FileWriter {
    files: BlobFiles,
    media_type: Arc<str>,
    /// Absent after a write failed or was abandoned: the file is gone then.
    part: Option<Part>,
    pending: Vec<u8>,
}

impl FileWriter {
    fn take(&mut self) -> Result<(Part, Vec<u8>), StoreError> {
        let part = self.part.take().ok_or_else(|| {
            StoreError::Unavailable("an earlier write of this blob did not finish: begin the upload again".into())
        })?;
        Ok((part, std::mem::take(&mut self.pending)))
    }
}

#[async_trait]
impl BlobWriter for FileWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < PART {
            return Ok(());
        }
        let (mut part, mut pending) = self.take()?;
        let written = blocking(move || {
            part.write(&pending).map_err(|e| unwritten(&e))?;
            pending.clear();
            Ok((part, pending))
        });
        let (part, pending) = written.await?;
        self.part = Some(part);
        self.pending = pending;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobRef, StoreError> {
        let (mut part, pending) = self.take()?;
        let FileWriter { files, media_type, .. } = *self;
        blocking(move || {
            part.write(&pending).map_err(|e| unwritten(&e))?;
            let sha256: Arc<str> = hex::encode(part.hasher.finalize()).into();
            let blob = BlobRef { sha256: sha256.clone(), size: part.size, media_type };
            if let Some(stored) = files.reference(sha256).map_err(|e| unread(&e))? {
                sync_folder(&files.folder(&stored.sha256)).map_err(|e| unwritten(&e))?;
                return Ok(stored);
            }
            files.publish(part.temporary, &blob).map_err(|e| unwritten(&e))?;
            Ok(blob)
        })
        .await
    }
}

/// Refuses bytes under a name that is not theirs.
pub(crate) fn check(blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError> {
    let actual = BlobRef::of(bytes, &blob.media_type);
    if actual != *blob {
        return Err(StoreError::Corrupt(format!(
            "blob {} of {} bytes was to be stored, but its bytes are {} of {} bytes",
            blob.sha256, blob.size, actual.sha256, actual.size
        )));
    }
    Ok(())
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn read_part(path: &Path, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = found(File::open(path))? else { return Ok(None) };
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(Some(bytes))
}

fn hash_file(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; PART]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn is_older(metadata: &fs::Metadata, time: SystemTime) -> bool {
    metadata.modified().is_ok_and(|modified| modified < time)
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn unwritten(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("a blob could not be written: {error}"))
}

fn unread(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("a blob could not be read: {error}"))
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(StoreError::Unavailable(format!("the file work did not finish: {stopped}"))),
    }
}
