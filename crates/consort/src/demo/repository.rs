//! Where a git repository lies: its working tree is not always all of it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of a file of git that names folders.
const NAMES: u64 = 64 << 10;
/// How deep objects may be borrowed by who lends them.
const DEEP: usize = 5;

/// The folders that hold the repository around a path, without links and without what lies in another of them: the working tree, its `.git`
/// where that is elsewhere (a worktree, a submodule), and whose objects it borrows. Only the path itself if it is in no repository.
pub(super) fn places(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in path.ancestors() {
        let inside = folder.join(".git");
        if let Some(git) = git_folder(&inside) {
            found.push(folder.to_owned());
            of_git(&git, &mut found);
            break;
        }
        if is_git_folder(folder) {
            // A bare repository, or the inner folder of another.
            let outer = folder.parent().filter(|_| folder.ends_with(".git"));
            found.extend(outer.map(Path::to_owned));
            of_git(folder, &mut found);
            break;
        }
    }
    if found.is_empty() {
        found.push(path.to_owned());
    }
    let mut real: Vec<PathBuf> = found.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    real.sort();
    // A folder stands before what is in it.
    real.dedup_by(|inner, outer| inner.starts_with(&*outer));
    real
}

/// The folder that a `.git` is or names.
fn git_folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return is_git_folder(path).then(|| path.to_owned());
    }
    let text = read(path)?;
    let named = text.strip_prefix("gitdir:")?.trim();
    Some(path.parent()?.join(named))
}

fn is_git_folder(path: &Path) -> bool {
    path.join("HEAD").is_file() && (path.join("objects").is_dir() || path.join("commondir").is_file())
}

/// A folder of git, the one that it shares with other worktrees, and those whose objects it borrows.
fn of_git(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    let common = match read(&folder.join("commondir")) {
        Some(named) => folder.join(named.trim()),
        None => folder.to_owned(),
    };
    found.push(common.clone());
    borrowed(&common.join("objects"), 0, found);
}

fn borrowed(objects: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Some(list) = read(&objects.join("info/alternates")).filter(|_| depth < DEEP) else { return };
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let other = objects.join(line);
        found.push(other.clone());
        borrowed(&other, depth + 1, found);
    }
}

/// A small file's text.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(NAMES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes files, with the folders that they are in.
    fn make(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn all_that_belongs_to_a_repository_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        make(
            &root,
            &[
                ("plain/src/a", ""),
                ("plain/.git/HEAD", ""),
                ("plain/.git/objects/x", ""),
                ("plain/.git/worktrees/w/HEAD", ""),
                ("plain/.git/worktrees/w/commondir", "../..\n"),
                ("tree/.git", "gitdir: ../plain/.git/worktrees/w\n"),
                ("tree/deep/a", ""),
                ("bare.git/HEAD", ""),
                ("bare.git/objects/info/alternates", "../../plain/.git/objects\n# a remark\n"),
                ("borrows/.git/HEAD", ""),
                ("borrows/.git/objects/info/alternates", "../../../bare.git/objects\n"),
                ("nothing/a", ""),
                ("empty/.git/a", ""),
            ],
        );
        let check = |path: &str, expected: &[&str]| {
            let expected: Vec<PathBuf> = expected.iter().map(|path| root.join(path)).collect();
            assert_eq!(places(&root.join(path)), expected, "{path}");
        };
        check("plain", &["plain"]);
        check("plain/src", &["plain"]);
        check("plain/.git", &["plain"]);
        check("tree/deep", &["plain/.git", "tree"]);
        check("bare.git", &["bare.git", "plain/.git/objects"]);
        check("borrows", &["bare.git/objects", "borrows", "plain/.git/objects"]);
        check("nothing", &["nothing"]);
        check("empty", &["empty"]);
    }
}
