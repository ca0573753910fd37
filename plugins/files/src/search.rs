//! `search`: lines that match a regular expression.

use std::io::Read as _;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::overrides::{Override, OverrideBuilder};
use regex::bytes::{Regex, RegexBuilder};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::list::names;
use crate::root::{DEEP, Inside, Intent, Root};

/// Matches that are given.
const MOST: usize = 10_000;
const USUAL: usize = 200;
/// Files that are looked into, and bytes of one and of all.
const FILES: usize = 100_000;
const LARGE: u64 = 8 * 1024 * 1024;
const ALL: u64 = 2 * 1024 * 1024 * 1024;
/// Bytes of a line that is shown, of a compiled pattern, and of a list of what is ignored.
const LINE: usize = 500;
const PATTERN: usize = 4 * 1024 * 1024;
const IGNORED: u64 = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// Regular expression in the syntax of the Rust crate `regex`; a line matches if it matches anywhere.
    pattern: String,
    /// Path of a file or folder in the workspace; the workspace itself if absent.
    #[serde(default)]
    path: String,
    /// Whether capitals are as good as small letters.
    #[serde(default)]
    ignore_case: bool,
    /// Only files whose path matches one of these, for example `*.rs` or `docs/**`; `!` in front leaves out.
    #[serde(default)]
    files: Vec<String>,
    /// Whether to leave out what `.gitignore` files in the workspace say, and `.git`.
    #[serde(default = "yes")]
    gitignore: bool,
    /// Matching lines to give, at most.
    #[serde(default = "usual")]
    #[schemars(range(min = 1, max = 10_000))]
    limit: usize,
}

fn yes() -> bool {
    true
}

fn usual() -> usize {
    USUAL
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// By path and line.
    matches: Vec<Found>,
    /// Files that were looked into.
    files_searched: usize,
    /// Files that were not, because they are binary, have more than 8 MiB, or could not be read.
    files_skipped: usize,
    /// There may be more matches.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    path: String,
    /// From 1 on.
    line: usize,
    /// Byte of the line at which the first match begins, from 1 on.
    column: usize,
    /// The line, at most 500 bytes of it.
    text: String,
}

struct Search<'c> {
    call: &'c Call,
    root: Root,
    pattern: Regex,
    wanted: Override,
    gitignore: bool,
    limit: usize,
    bytes: u64,
    output: Output,
}

pub(crate) fn search(call: &Call, input: Input) -> Result<Output, Fault> {
    if !(1..=MOST).contains(&input.limit) {
        return Err(Fault::bad_input("limit", format!("is {}; give 1 to {MOST}", input.limit)));
    }
    let pattern = RegexBuilder::new(&input.pattern)
        .case_insensitive(input.ignore_case)
        .size_limit(PATTERN)
        .build()
        .map_err(|error| Fault::bad_input("pattern", error.to_string()))?;
    let mut wanted = OverrideBuilder::new("/");
    for glob in input.files.iter().take(100) {
        wanted.add(glob).map_err(|error| Fault::bad_input("files", error.to_string()))?;
    }
    let wanted = wanted.build().map_err(|error| Fault::bad_input("files", error.to_string()))?;
    let start = Inside::new("path", &input.path)?;
    let mut search = Search {
        call,
        root: Root::of(call, Intent::Read)?,
        pattern,
        wanted,
        gitignore: input.gitignore,
        limit: input.limit,
        bytes: 0,
        output: Output::default(),
    };
    match search.root.folder(&start) {
        Ok(_) => search.folder(&start, &mut Vec::new())?,
        Err(fault) if fault.reason.as_deref() == Some("NOT_A_FOLDER") => {
            // It may still be a link.
            search.root.file(&start)?;
            search.file(&start)?;
        }
        Err(fault) => return Err(fault),
    }
    Ok(search.output)
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.output.truncated
    }

    /// Looks into a folder. `ignored` has what the folders above say.
    fn folder(&mut self, path: &Inside, ignored: &mut Vec<Gitignore>) -> Result<(), Fault> {
        self.call.check_cancelled()?;
        if path.0.components().count() > DEEP {
            self.output.truncated = true;
            return Ok(());
        }
        // It may be gone, or a link by now.
        let Ok(folder) = self.root.folder(path) else { return Ok(()) };
        let (names, cut) = names(path, &folder)?;
        let depth = ignored.len();
        ignored.extend(self.gitignore_of(path));
        for (name, kind) in names {
            let inside = path.join(name.as_os_str());
            let is_folder = kind == FileType::Directory;
            if self.is_over() || self.is_ignored(&inside, is_folder, ignored) {
                continue;
            }
            if is_folder {
                self.folder(&inside, ignored)?;
            } else if kind == FileType::RegularFile {
                self.file(&inside)?;
            }
        }
        ignored.truncate(depth);
        self.output.truncated |= cut;
        Ok(())
    }

    fn is_ignored(&self, path: &Inside, is_folder: bool, ignored: &[Gitignore]) -> bool {
        // As if the workspace were the whole file system.
        let absolute = std::path::Path::new("/").join(&path.0);
        if !is_folder && self.wanted.matched(&absolute, false).is_ignore() {
            return true;
        }
        if !self.gitignore {
            return false;
        }
        if path.0.file_name().is_some_and(|name| name == ".git") {
            return true;
        }
        // The nearest has the last word.
        ignored
            .iter()
            .rev()
            .find_map(|ignored| match ignored.matched(&absolute, is_folder) {
                Match::None => None,
                found => Some(found.is_ignore()),
            })
            .unwrap_or(false)
    }

    fn gitignore_of(&self, folder: &Inside) -> Option<Gitignore> {
        if !self.gitignore {
            return None;
        }
        let mut text = String::new();
        let file = self.root.file(&folder.join(".gitignore".as_ref())).ok()?;
        file.take(IGNORED).read_to_string(&mut text).ok()?;
        let mut builder = GitignoreBuilder::new(std::path::Path::new("/").join(&folder.0));
        for line in text.lines() {
            // git leaves out lines that it does not understand, too.
            let _ = builder.add_line(None, line);
        }
        builder.build().ok()
    }

    fn file(&mut self, path: &Inside) -> Result<(), Fault> {
        self.call.check_cancelled()?;
        if self.output.files_searched == FILES || self.bytes > ALL {
            self.output.truncated = true;
            return Ok(());
        }
        let mut bytes = Vec::new();
        let read = self.root.file(path).and_then(|file| Ok(file.take(LARGE + 1).read_to_end(&mut bytes)?));
        let is_binary = bytes[..bytes.len().min(8 * 1024)].contains(&0);
        if read.is_err() || is_binary || bytes.len() as u64 > LARGE {
            self.output.files_skipped += 1;
            return Ok(());
        }
        self.output.files_searched += 1;
        self.bytes += bytes.len() as u64;
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(found) = self.pattern.find(line) else { continue };
            if self.output.matches.len() == self.limit {
                self.output.truncated = true;
                return Ok(());
            }
            self.output.matches.push(Found {
                path: path.shown(),
                line: number + 1,
                column: found.start() + 1,
                text: String::from_utf8_lossy(&line[..line.len().min(LINE)]).into_owned(),
            });
        }
        Ok(())
    }
}
