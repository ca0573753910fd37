//! Deleting blobs that nothing refers to.
//!
//! Some old blobs are candidates; everything that is kept is read once, and each candidate whose name stands anywhere in it
//! stays. A name is looked for as text, so that nothing is lost because a reference was written in an unusual place.
//!
//! A blob may be referred to again at any moment. Whoever is about to do that asks for it or puts it first, which makes it young
//! (`BlobFiles::wanted`), and a blob that is young when its turn comes stays. References that are copied inside the store come
//! from rows that are read here, and the log is read last.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use consort_core::ids::Millis;
use consort_core::keep::Collected;
use consort_core::ports::StoreError;
use sqlx::Row as _;

use crate::files::blocking;
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::{failed, get};

/// Candidates of one reading of everything: 16 MiB at most.
const CANDIDATES: usize = 200_000;
/// Blobs that are deleted before others get their turn.
const AT_ONCE: usize = 256;

/// Everywhere a reference can stand; the key is first, and the log is last.
const TEXTS: [&str; 9] = [
    "SELECT rowid, CAST(answer AS BLOB) FROM requests WHERE rowid > ?1 ORDER BY rowid LIMIT 256",
    "SELECT rowid, CAST(source AS BLOB) FROM workflows WHERE rowid > ?1 ORDER BY rowid LIMIT 256",
    "SELECT rowid, CAST(event AS BLOB) FROM dead_letters WHERE rowid > ?1 ORDER BY rowid LIMIT 256",
    "SELECT rowid, CAST(body AS BLOB) FROM projects WHERE rowid > ?1 ORDER BY rowid LIMIT 256",
    "SELECT rowid, CAST(body AS BLOB) FROM signals WHERE rowid > ?1 ORDER BY rowid LIMIT 256",
    "SELECT rowid, body FROM snapshots WHERE rowid > ?1 ORDER BY rowid LIMIT 64",
    "SELECT id, CAST(body AS BLOB) FROM decisions WHERE id > ?1 ORDER BY id LIMIT 256",
    "SELECT name, CAST(value AS BLOB) FROM marks WHERE name > ?1 ORDER BY name LIMIT 256",
    "SELECT position, body FROM log WHERE position > ?1 ORDER BY position LIMIT 256",
];

type Name = [u8; 32];

/// The place that a reading of one table has come to.
enum Key {
    Number(i64),
    Bytes(Vec<u8>),
    Text(String),
}

impl SqliteStore {
    /// [`consort_core::keep::KeepStore::collect_blobs`].
    pub(super) async fn collect(&self, before: Millis) -> Result<Collected, StoreError> {
        let before = SystemTime::UNIX_EPOCH + Duration::from_millis(before.max(0) as u64);
        let mut collected = Collected::default();
        let mut candidates: HashSet<Name> = HashSet::new();
        for folder in 0..=u8::MAX {
            let files = self.blobs.clone();
            let older = move || files.older(folder, before, CANDIDATES).map_err(|error| super::unkept(&error));
            for name in blocking(older).await? {
                let mut bytes = [0; 32];
                if hex::decode_to_slice(&name, &mut bytes).is_ok() {
                    candidates.insert(bytes);
                }
            }
            if candidates.len() >= CANDIDATES || folder == u8::MAX {
                self.sweep(std::mem::take(&mut candidates), before, &mut collected).await?;
            }
        }
        Ok(collected)
    }

    async fn sweep(
        &self,
        mut candidates: HashSet<Name>,
        before: SystemTime,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        for sql in TEXTS {
            let mut key = match sql {
                _ if sql.contains("FROM decisions") => Key::Bytes(Vec::new()),
                _ if sql.contains("FROM marks") => Key::Text(String::new()),
                _ => Key::Number(i64::MIN),
            };
            while !candidates.is_empty() {
                let query = sqlx::query(sql);
                let query = match &key {
                    Key::Number(number) => query.bind(*number),
                    Key::Bytes(bytes) => query.bind(bytes.clone()),
                    Key::Text(text) => query.bind(text.clone()),
                };
                let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
                let Some(last) = rows.last() else { break };
                for row in &rows {
                    let text: Option<&[u8]> = row.try_get(1).map_err(failed)?;
                    names_in(text.unwrap_or_default(), |name| {
                        candidates.remove(name);
                    });
                }
                key = match key {
                    Key::Number(_) => Key::Number(get(last, 0)?),
                    Key::Bytes(_) => Key::Bytes(get(last, 0)?),
                    Key::Text(_) => Key::Text(get(last, 0)?),
                };
            }
        }
        let unwanted: Vec<Name> = candidates.into_iter().collect();
        for some in unwanted.chunks(AT_ONCE) {
            let (files, some) = (self.blobs.clone(), some.to_vec());
            let delete = move || {
                let mut gone = Collected::default();
                for name in some {
                    let size = files.delete(&hex::encode(name), before).map_err(|error| super::unkept(&error))?;
                    gone.blobs += u64::from(size.is_some());
                    gone.bytes += size.unwrap_or(0);
                }
                Ok(gone)
            };
            let gone = blocking(delete).await?;
            collected.blobs += gone.blobs;
            collected.bytes += gone.bytes;
        }
        Ok(())
    }
}

/// Everything in a text that can be the name of a blob: 64 lower-case hexadecimal digits, wherever they stand.
fn names_in(text: &[u8], mut found: impl FnMut(&Name)) {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut digits = 0;
    for (end, byte) in text.iter().enumerate() {
        digits = if is_digit(*byte) { digits + 1 } else { 0 };
        if digits >= 64 {
            let mut name = [0; 32];
            if hex::decode_to_slice(&text[end - 63..=end], &mut name).is_ok() {
                found(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let name = "ab".repeat(32);
        for (text, expected) in [
            (format!("{{\"sha256\":\"{name}\"}}"), 1),
            (format!("\\f{name}"), 2),
            (name[..63].to_owned(), 0),
            (name.to_uppercase(), 0),
            (format!("{name}{name}"), 65),
        ] {
            let mut found = 0;
            names_in(text.as_bytes(), |_| found += 1);
            assert_eq!(found, expected, "{text}");
        }
    }
}
