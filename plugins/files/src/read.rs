//! `read`: a file, or a part of it.

use std::io::{Read as _, Seek as _, SeekFrom};

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::root::{Inside, Intent, Root};
use crate::save::digest;

/// Bytes that are given, at most and if nothing is said.
const MOST: u64 = 4 * 1024 * 1024;
const USUAL: u64 = 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of the file in the workspace.
    path: String,
    /// Bytes to leave out at the beginning.
    #[serde(default)]
    offset: u64,
    /// Bytes to give, at most; 4 MiB is the limit.
    #[serde(default = "usual")]
    #[schemars(range(min = 1, max = 4_194_304))]
    limit_bytes: u64,
}

fn usual() -> u64 {
    USUAL
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    path: String,
    /// Size of the whole file.
    size_bytes: u64,
    /// What was read, if it is UTF-8; it ends between two characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// What was read in base64 (RFC 4648, section 4), if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Where to go on reading; absent at the end.
    next_offset: Option<u64>,
    /// SHA-256 of the file, if all of it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

pub(crate) fn read(call: &Call, input: Input) -> Result<Output, Fault> {
    let Input { path, offset, limit_bytes } = input;
    if !(1..=MOST).contains(&limit_bytes) {
        return Err(Fault::bad_input("limit_bytes", format!("is {limit_bytes}; give 1 to {MOST}")));
    }
    let path = Inside::thing("path", &path)?;
    let mut file = Root::of(call, Intent::Read)?.file(&path)?;
    let size_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes).read_to_end(&mut bytes)?;
    let cut = offset.saturating_add(bytes.len() as u64) < size_bytes;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => Some(text.to_owned()),
        // A character was cut in two.
        Err(error) if cut && error.error_len().is_none() && error.valid_up_to() > 0 => {
            bytes.truncate(error.valid_up_to());
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(_) => None,
    };
    let next = offset.saturating_add(bytes.len() as u64);
    Ok(Output {
        path: path.shown(),
        size_bytes,
        base64: text.is_none().then(|| BASE64.encode(&bytes)),
        text,
        next_offset: (next < size_bytes).then_some(next),
        sha256: (offset == 0 && next >= size_bytes).then(|| digest(&bytes)),
    })
}
