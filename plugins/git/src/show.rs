//! `show`: a file as it is at a revision.

use std::path::Path;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use data_encoding::BASE64;
use git2::{ErrorCode, ObjectType};
use serde::{Deserialize, Serialize};

use crate::access::{Intent, open};
use crate::words::{commit_of, told};

/// Bytes that are given, at most and if nothing is said.
const MOST: usize = 4 * 1024 * 1024;
const USUAL: usize = 1024 * 1024;
/// Bytes of a file that is looked into: all of it is in memory.
const LARGE: usize = 256 * 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Path of a repository, or of a folder in one.
    path: String,
    /// Path of the file in the repository.
    file: String,
    /// A branch, a tag, an id, `HEAD~2`.
    #[serde(default = "head")]
    revision: String,
    /// Bytes to give, at most; 4 MiB is the limit.
    #[serde(default = "usual")]
    #[schemars(range(max = 4_194_304))]
    limit_bytes: usize,
}

fn head() -> String {
    "HEAD".to_owned()
}

fn usual() -> usize {
    USUAL
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// The commit that was looked at.
    commit: String,
    /// Id of the content.
    blob: String,
    /// Size of the whole file.
    size_bytes: u64,
    /// Mode, for example `100644`, `100755` or `120000` (a link, whose target is the content).
    mode: String,
    /// The content, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The content in base64 (RFC 4648, section 4), if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Only the beginning is given.
    truncated: bool,
}

pub(crate) fn show(call: &Call, input: Input) -> Result<Output, Fault> {
    if input.limit_bytes > MOST {
        return Err(Fault::bad_input("limit_bytes", format!("is {}; give at most {MOST}", input.limit_bytes)));
    }
    let repository = open(call, &input.path, Intent::Read)?;
    let commit = commit_of(&repository, "revision", &input.revision)?;
    let broken = told("the file cannot be read");
    let tree = commit.tree().map_err(&broken)?;
    let file = &input.file;
    let entry = tree.get_path(Path::new(file)).map_err(|error| match error.code() {
        ErrorCode::NotFound => Fault::not_found(format!("there is no `{file}` in {}", commit.id())),
        _ => Fault::bad_input("file", format!("`{file}`: {}", error.message())),
    })?;
    if entry.kind() != Some(ObjectType::Blob) {
        let what = if entry.kind() == Some(ObjectType::Tree) { "a folder" } else { "a submodule" };
        return Err(Fault::bad_input("file", format!("`{file}` is {what}; give the path of a file")));
    }
    let (size, _) = repository.odb().and_then(|odb| odb.read_header(entry.id())).map_err(&broken)?;
    if size > LARGE {
        return Err(Fault::precondition(format!("`{file}` has {size} bytes; the most is {LARGE}")));
    }
    let blob = repository.find_blob(entry.id()).map_err(&broken)?;
    let content = blob.content();
    let truncated = content.len() > input.limit_bytes;
    let mut given = &content[..content.len().min(input.limit_bytes)];
    let text = match std::str::from_utf8(given) {
        Ok(text) => Some(text.to_owned()),
        // A character was cut in two.
        Err(error) if truncated && error.error_len().is_none() => {
            given = &given[..error.valid_up_to()];
            Some(String::from_utf8_lossy(given).into_owned())
        }
        Err(_) => None,
    };
    Ok(Output {
        commit: commit.id().to_string(),
        blob: entry.id().to_string(),
        size_bytes: size as u64,
        mode: format!("{:o}", entry.filemode()),
        base64: text.is_none().then(|| BASE64.encode(given)),
        text,
        truncated,
    })
}
