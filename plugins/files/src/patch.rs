//! `patch`: a unified diff, all of it or nothing.

use std::collections::BTreeSet;

use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault};
use rustix::fs::{AtFlags, fsync, unlinkat};
use serde::{Deserialize, Serialize};

use crate::diff::{FileDiff, apply, parse};
use crate::root::{Inside, Intent, Root, fault};
use crate::save::{content, digest, prepare};

/// Bytes of all files of a patch, before and after.
const ALL: usize = 128 * 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// A unified diff as of `diff -u` or `git diff`, with paths relative to the workspace; `/dev/null` stands for a file that is not
    /// there before or after. A hunk whose lines have moved is found up to 2,000 lines away.
    diff: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// In the order of the diff.
    files: Vec<Patched>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Patched {
    path: String,
    /// What became of it.
    change: Change,
    /// SHA-256 of what it has now; absent if it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added,
    Changed,
    Deleted,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Changed => "changed",
            Change::Deleted => "deleted",
        }
    }
}

/// A file as it was and as it will be.
struct Plan {
    path: Inside,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

pub(crate) fn patch(call: &Call, input: Input) -> Result<Output, Fault> {
    let files = parse(&input.diff).map_err(|why| Fault::bad_input("diff", why))?;
    let root = Root::of(call, Intent::Write)?;
    let plans = plan(call, &root, &files)?;
    let files: Vec<Patched> = plans.iter().map(patched).collect();
    if !call.dry_run() {
        perform(&root, &plans)?;
    }
    for Patched { path, change, .. } in &files {
        let line = format!("patch `{path}` ({})", change.word());
        if call.dry_run() { call.would(line) } else { call.did(line) }
    }
    Ok(Output { files })
}

/// What becomes of each file; refused if anything does not fit.
fn plan(call: &Call, root: &Root, files: &[FileDiff]) -> Result<Vec<Plan>, Fault> {
    let (mut plans, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
    let mut refused = Fault::precondition("the patch does not fit; nothing was changed").reason("PATCH_REFUSED");
    for file in files {
        call.check_cancelled()?;
        if let (Some(old), Some(new)) = (file.old, file.new)
            && old != new
        {
            let why = format!("`{old}` becomes `{new}`; use `move` before the patch");
            return Err(Fault::bad_input("diff", why));
        }
        let path = Inside::thing("diff", file.new.or(file.old).unwrap_or_default())?;
        root.check_writable(&path)?;
        if !seen.insert(path.clone()) {
            return Err(Fault::bad_input("diff", format!("changes `{}` twice", path.shown())));
        }
        let old = content(root, &path)?;
        let fits = match (&old, file.old) {
            (None, Some(_)) => Err("is not there".to_owned()),
            (Some(_), None) => Err("is there already".to_owned()),
            _ => apply(old.as_deref().unwrap_or_default(), &file.hunks),
        };
        match fits {
            Ok(new) if file.new.is_none() && !new.is_empty() => {
                refused = refused.violation(path.shown(), "has more lines than the patch deletes");
            }
            Ok(new) => {
                bytes += new.len() + old.as_ref().map_or(0, Vec::len);
                if bytes > ALL {
                    return Err(Fault::precondition(format!("the files of the patch have more than {ALL} bytes")));
                }
                plans.push(Plan { path, old, new: file.new.map(|_| new) });
            }
            Err(why) => refused = refused.violation(path.shown(), why),
        }
    }
    if refused.violations.is_empty() {
        return Ok(plans);
    }
    let told = refused.violations.iter().take(5).map(|(path, why)| format!("`{path}`: {why}")).collect::<Vec<_>>();
    refused.message = format!("{}: {}", refused.message, told.join("; "));
    Err(refused)
}

fn patched(plan: &Plan) -> Patched {
    let change = match (&plan.old, &plan.new) {
        (_, None) => Change::Deleted,
        (None, _) => Change::Added,
        _ => Change::Changed,
    };
    Patched { path: plan.path.shown(), change, sha256: plan.new.as_deref().map(digest) }
}

/// Writes everything beside the files, then puts it in place; what was placed is undone if the rest cannot be.
fn perform(root: &Root, plans: &[Plan]) -> Result<(), Fault> {
    let mut waiting = Vec::new();
    for plan in plans {
        if let Some(new) = &plan.new {
            root.make_parents(&plan.path)?;
            waiting.push(Some(prepare(root, &plan.path, new)?));
        } else {
            waiting.push(None);
        }
    }
    for (number, (plan, waiting)) in plans.iter().zip(waiting).enumerate() {
        let placed = match waiting {
            Some(waiting) => waiting.place(),
            None => remove(root, &plan.path),
        };
        if let Err(mut failed) = placed {
            let undone = plans[..number].iter().try_for_each(|plan| undo(root, plan));
            let fate =
                if undone.is_ok() { "what was changed is as before" } else { "what was changed could not be undone" };
            failed.message = format!("{}; {fate}", failed.message);
            return Err(failed);
        }
    }
    Ok(())
}

fn undo(root: &Root, plan: &Plan) -> Result<(), Fault> {
    match &plan.old {
        Some(old) => prepare(root, &plan.path, old)?.place(),
        None => remove(root, &plan.path),
    }
}

fn remove(root: &Root, path: &Inside) -> Result<(), Fault> {
    let (folder, name) = root.parent(path)?;
    unlinkat(&folder, name, AtFlags::empty()).and_then(|()| fsync(&folder)).map_err(|error| fault(path, error))
}
