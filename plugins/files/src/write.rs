//! `write`: a whole file.

use consort_sdk::Code;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::root::{Inside, Intent, Root};
use crate::save::{content, digest, prepare};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of the file in the workspace.
    path: String,
    /// The new content; or give `base64`.
    text: Option<String>,
    /// The new content in base64 (RFC 4648, section 4).
    base64: Option<String>,
    /// Whether to make the folders above it that are missing.
    #[serde(default)]
    folders: bool,
    /// SHA-256 that the file must have now, for those who changed what they read; `none` if it must not be there. ABORTED otherwise.
    if_sha256: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    path: String,
    size_bytes: u64,
    /// SHA-256 of the content.
    sha256: String,
    /// It was not there before.
    created: bool,
    /// False if it had this content already.
    changed: bool,
}

pub(crate) fn write(call: &Call, input: Input) -> Result<Output, Fault> {
    let path = Inside::thing("path", &input.path)?;
    let bytes = match (input.text, input.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => BASE64
            .decode(text.as_bytes())
            .map_err(|error| Fault::bad_input("base64", format!("is no base64: {error}")))?,
        _ => return Err(Fault::bad_input("text", "give either `text` or `base64`")),
    };
    let root = Root::of(call, Intent::Write)?;
    root.check_writable(&path)?;
    let before = content(&root, &path)?;
    let (sha256, old) = (digest(&bytes), before.as_deref().map(digest));
    let changed = old.as_ref() != Some(&sha256);
    if let Some(wanted) = &input.if_sha256 {
        let now = old.as_deref().unwrap_or("none");
        // A second try finds its own content.
        if changed && !wanted.eq_ignore_ascii_case(now) {
            let said = format!("`{}` is {now} and not {wanted}; read it again", path.shown());
            return Err(Fault::new(Code::Aborted, said).reason("FILE_CHANGED"));
        }
    }
    let line = |done| format!("{done} `{}`, {} bytes, {sha256}", path.shown(), bytes.len());
    if call.dry_run() {
        call.would(line("write"));
    } else if changed {
        if input.folders {
            root.make_parents(&path)?;
        }
        prepare(&root, &path, &bytes)?.place()?;
        call.did(line("wrote"));
    }
    Ok(Output { path: path.shown(), size_bytes: bytes.len() as u64, sha256, created: old.is_none(), changed })
}
