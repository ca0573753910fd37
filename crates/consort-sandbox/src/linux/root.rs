//! A file system that holds what was granted and nothing else.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{chdir, getgid, getuid, pivot_root};

use super::base;
use super::plan::{OWN, Plan};
use super::sys::set_mount_attributes;
use crate::Exec;
use crate::launcher::Policy;

/// Over which the new root is mounted until it is the root. Any folder does: it is hidden only from this process.
const PLACES: [&str; 5] = ["/tmp", "/mnt", "/run", "/var", "/usr"];
/// Ids below this are not used again by the kernel, so a limit of ids must be so much higher.
const RESERVED_IDS: u64 = 300;
/// The processes that stand between the mesh and the program.
pub(super) const HELPERS: u64 = 2;

/// What is written to a device is not written to a file: read-only are its mode, times and owner.
const DEVICE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY;

const PROC: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// Something to be mounted.
enum Source {
    /// A tree of the machine, cut off from it.
    Tree(OwnedFd),
    /// A file system in memory.
    Memory,
}

/// Makes the new root and enters it. The process is the first of its namespaces. Nothing of the old root can be reached afterwards.
pub(super) fn enter(plan: &Plan, policy: &Policy) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mut mounts: Vec<(PathBuf, Source)> = Vec::new();
    for grant in &plan.grants {
        // Devices are granted one by one, below /dev, and are no devices elsewhere.
        let no_devices = if grant.path.starts_with("/dev") { 0 } else { libc::MOUNT_ATTR_NODEV };
        let read_only = if grant.write { 0 } else { libc::MOUNT_ATTR_RDONLY };
        let tree = cut(&grant.path, libc::MOUNT_ATTR_NOSUID | no_devices | read_only)
            .map_err(|error| explain(&grant.path, error))?;
        mounts.push((grant.path.clone(), Source::Tree(tree)));
    }
    for device in base::DEVICES.map(Path::new).into_iter().filter(|path| path.exists()) {
        let tree = cut(device, DEVICE)?;
        mounts.push((device.to_owned(), Source::Tree(tree)));
    }
    for own in OWN.into_iter().chain(["/dev/shm"]).map(PathBuf::from) {
        if !mounts.iter().any(|(path, _)| *path == own) {
            mounts.push((own, Source::Memory));
        }
    }
    mounts.sort_by_key(|(path, _)| path.components().count());
    let place = PLACES.map(Path::new).into_iter().find(|path| path.is_dir());
    let place = place.ok_or_else(|| io::Error::other("none of /tmp, /mnt, /run, /var and /usr is a folder"))?;
    memory(place, 4, "755")?;
    let limit = policy.sandbox.limits.tmp_mib;
    for (path, source) in mounts {
        let target = within(place, &path);
        attach(&target, source, limit).map_err(|error| explain(&path, error))?;
    }
    if policy.sandbox.exec != Exec::None {
        terminals(place)?;
    }
    furnish(place, plan)?;
    processes(place, policy)?;
    chdir(place)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    seal(Path::new("/"))
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn within(place: &Path, path: &Path) -> PathBuf {
    path.strip_prefix("/").map_or_else(|_| place.to_owned(), |inner| place.join(inner))
}

/// A copy of the mounts at `path`, which leads through no link, with `attributes`.
fn cut(path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    // Opened first, and without links: who may write above it could put a link there in the meantime.
    let opened = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&opened, "", flags)?;
    set_mount_attributes(tree.as_fd(), attributes, true)?;
    Ok(tree)
}

fn memory(target: &Path, mib: u64, mode: &str) -> io::Result<()> {
    let options = CString::new(format!("size={mib}m,mode={mode},nr_inodes=65536"))?;
    Ok(mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}

fn attach(target: &Path, source: Source, mib: u64) -> io::Result<()> {
    match source {
        Source::Memory => {
            fs::create_dir_all(target)?;
            let mode = if target.ends_with("dev") { "755" } else { "1777" };
            memory(target, mib, mode)
        }
        Source::Tree(tree) => {
            let folder = rustix::fs::fstat(&tree)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            if !target.exists() {
                if folder {
                    fs::create_dir_all(target)?;
                } else {
                    target.parent().map_or(Ok(()), fs::create_dir_all)?;
                    fs::write(target, "")?;
                }
            }
            Ok(move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
        }
    }
}

/// Terminals for the programs that it may start, unconnected to those of the machine.
fn terminals(place: &Path) -> io::Result<()> {
    let target = within(place, Path::new(base::TERMINALS));
    fs::create_dir_all(&target)?;
    mount("devpts", &target, "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, c"newinstance,ptmxmode=0666,mode=600")?;
    let link = within(place, Path::new("/dev/ptmx"));
    if link.symlink_metadata().is_err() {
        symlink("pts/ptmx", link)?;
    }
    Ok(())
}

/// Links, and the files of `/etc` that would tell who else uses the machine.
fn furnish(place: &Path, plan: &Plan) -> io::Result<()> {
    let own = base::LINKS.map(|(link, target)| (PathBuf::from(link), PathBuf::from(target)));
    for (link, target) in own.iter().chain(&plan.links) {
        let link = within(place, link);
        if link.symlink_metadata().is_err() {
            link.parent().map_or(Ok(()), fs::create_dir_all)?;
            symlink(target, link)?;
        }
    }
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let users = format!("plugin:x:{user}:{group}:plugin:/tmp:/bin/sh\n");
    for (path, text) in [("etc/passwd", users), ("etc/group", format!("plugin:x:{group}:\n"))] {
        let path = place.join(path);
        if !path.exists() {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)?;
        }
    }
    Ok(())
}

/// A `/proc` of the new namespace, which shows nobody else (or the machine's, if that was granted), and a limit of processes that holds for root, too.
fn processes(place: &Path, policy: &Policy) -> io::Result<()> {
    let proc = place.join("proc");
    fs::create_dir_all(&proc)?;
    if !policy.mechanisms.proc {
        return Ok(());
    }
    if !policy.own_processes() {
        let machine = cut(Path::new("/proc"), PROC | libc::MOUNT_ATTR_RDONLY)?;
        move_mount(&machine, "", CWD, &proc, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        return mask(place);
    }
    mount("proc", &proc, "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    if getuid().is_root() && policy.mechanisms.processes {
        // Of this namespace alone, since Linux 6.14; whoever sets `processes` for root has looked at the version.
        let most = policy.sandbox.limits.processes + HELPERS + RESERVED_IDS;
        fs::write(proc.join("sys/kernel/pid_max"), most.to_string())?;
    }
    mask(place)?;
    seal(&proc)
}

/// Hides what tells of the kernel's insides.
fn mask(place: &Path) -> io::Result<()> {
    for masked in base::MASKED.map(|path| within(place, Path::new(path))).iter().filter(|path| path.exists()) {
        move_mount(&cut(Path::new("/dev/null"), DEVICE)?, "", CWD, masked, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    Ok(())
}

/// Makes a mount, not those below it, read-only.
fn seal(path: &Path) -> io::Result<()> {
    let opened = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())?;
    set_mount_attributes(opened.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
}
