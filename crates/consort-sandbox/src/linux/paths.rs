//! What a path leads through, and what a program needs to be started.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

/// Links in one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// Of a script's first line, as in the kernel.
const MAX_LINE: usize = 256;
/// Interpreters of interpreters.
const MAX_INTERPRETERS: usize = 4;

/// What a path leads through.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    /// Symbolic links on the way, each with what it says.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Where it ends; no link.
    pub(super) end: PathBuf,
}

/// Follows an absolute path as the kernel does.
pub(super) fn trail(path: &Path) -> io::Result<Trail> {
    let mut trail = Trail { links: Vec::new(), end: PathBuf::from("/") };
    let mut ahead: VecDeque<OsString> = steps(path);
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            trail.end.pop();
            continue;
        }
        let next = trail.end.join(&step);
        if !fs::symlink_metadata(&next)?.is_symlink() {
            trail.end = next;
            continue;
        }
        if trail.links.len() >= MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            trail.end = PathBuf::from("/");
        }
        for step in steps(&target).into_iter().rev() {
            ahead.push_front(step);
        }
        trail.links.push((next, target));
    }
    Ok(trail)
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// A program with its arguments, as it will be executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// What is to stand before the arguments that were given.
    pub(super) first: Vec<OsString>,
}

/// Finds a program: beneath `folder` if it has a `/`, else on `search`. A script of `/usr/bin/env` becomes the program that env would
/// look for, so that it can be started without starting env.
pub(super) fn find(program: &Path, folder: &Path, search: &str) -> io::Result<Program> {
    let mut found = Program { path: look(program, folder, search)?, first: Vec::new() };
    for _ in 0..MAX_INTERPRETERS {
        let Some(line) = shebang(&found.path) else { break };
        if !line[0].ends_with("/env") {
            break;
        }
        let mut words: Vec<&String> = line.iter().skip(1).skip_while(|word| *word == "-S").collect();
        if words.is_empty() || words[0].starts_with('-') || words[0].contains('=') {
            break;
        }
        let path = look(Path::new(words.remove(0)), folder, search)?;
        let mut first: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        first.push(found.path.into_os_string());
        first.append(&mut found.first);
        found = Program { path, first };
    }
    Ok(found)
}

fn look(program: &Path, folder: &Path, search: &str) -> io::Result<PathBuf> {
    let candidates: Vec<PathBuf> = if program.components().count() > 1 || program.is_absolute() {
        vec![folder.join(program)]
    } else {
        search.split(':').filter(|part| !part.is_empty()).map(|part| folder.join(part).join(program)).collect()
    };
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(executable).ok_or_else(|| {
        let why = format!("{} is no program, or not on PATH ({search})", program.display());
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

/// The words of a script's first line: an interpreter and what follows it.
fn shebang(path: &Path) -> Option<Vec<String>> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(MAX_LINE as u64).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let words: Vec<String> = String::from_utf8_lossy(line).split_whitespace().map(str::to_owned).collect();
    words.first().is_some_and(|word| word.starts_with('/')).then_some(words)
}

/// The programs that the kernel starts in order to start this one: interpreters of scripts, and the loader of libraries.
pub(super) fn interpreters(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(program.to_owned());
    while let Some(path) = next.take().filter(|_| found.len() < MAX_INTERPRETERS) {
        next = shebang(&path).map(|mut line| PathBuf::from(line.swap_remove(0))).or_else(|| loader(&path));
        found.extend(next.clone());
    }
    found
}

/// What an ELF file (64 bits, little endian) names as its interpreter; see elf(5).
fn loader(path: &Path) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    let file = File::open(path).ok()?;
    let mut header = [0_u8; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
    for index in 0..count {
        let mut entry = [0_u8; 56];
        file.read_exact_at(&mut entry, table.checked_add(index * size)?).ok()?;
        if number(&entry[0..4]) == PT_INTERP {
            let mut name = vec![0; usize::try_from(number(&entry[32..40])).ok().filter(|length| *length <= 4096)?];
            file.read_exact_at(&mut name, number(&entry[8..16])).ok()?;
            name.retain(|byte| *byte != 0);
            return Some(PathBuf::from(OsString::from_vec(name)));
        }
    }
    None
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Folders and files that stand beside a program in a `bin` folder and belong to it: libraries, and what makes a folder a virtual
/// environment of Python. For every link on the way to the program, too.
pub(super) fn runtime(program: &Path) -> Vec<PathBuf> {
    let Ok(trail) = trail(program) else { return Vec::new() };
    let names = trail.links.iter().map(|(link, _)| link.as_path()).chain([program, &trail.end]);
    let homes = names.filter_map(|name| name.parent().filter(|folder| folder.ends_with("bin"))?.parent());
    let beside = |home: &Path| ["lib", "lib64", "pyvenv.cfg", "bin"].map(|name| home.join(name));
    homes.filter(|home| *home != Path::new("/")).flat_map(beside).filter(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_trail_names_every_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        write(&root.join("real/file"), "");
        symlink("real", root.join("one")).unwrap();
        symlink(root.join("one/../one/file"), root.join("two")).unwrap();
        let found = trail(&root.join("two")).unwrap();
        let links: Vec<&Path> = found.links.iter().map(|(link, _)| link.as_path()).collect();
        assert_eq!(links, [root.join("two"), root.join("one"), root.join("one")]);
        assert_eq!(found.end, root.join("real/file"));
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(trail(&root.join("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn programs_are_found_and_env_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&root.join("bin/inter"), "#!/bin/sh -e\n");
        write(&root.join("script"), "#!/usr/bin/env inter\n");
        write(&root.join("split"), "#!/usr/bin/env -S inter --flag\n");
        let search = root.join("bin").display().to_string();
        let script = find(Path::new("./script"), root, &search).unwrap();
        assert_eq!(script, Program { path: root.join("bin/inter"), first: vec![root.join("./script").into()] });
        let split = find(&root.join("split"), root, &search).unwrap();
        assert_eq!(split.first, [OsString::from("--flag"), root.join("split").into()]);
        assert_eq!(find(Path::new("inter"), root, &search).unwrap().first, [""; 0]);
        assert!(find(Path::new("script"), root, &search).is_err(), "a bare name is not looked for in the folder");
        assert_eq!(interpreters(&root.join("bin/inter"))[0], Path::new("/bin/sh"));
    }

    #[test]
    fn a_program_in_a_bin_folder_brings_its_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        write(&root.join("real/bin/python3"), "");
        write(&root.join("real/lib/os.py"), "");
        write(&root.join("venv/pyvenv.cfg"), "");
        fs::create_dir(root.join("venv/bin")).unwrap();
        symlink(root.join("real/bin/python3"), root.join("venv/bin/python")).unwrap();
        let found = runtime(&root.join("venv/bin/python"));
        for expected in ["venv/pyvenv.cfg", "venv/bin", "real/bin", "real/lib"] {
            assert!(found.contains(&root.join(expected)), "{expected} is not in {found:?}");
        }
    }
}
