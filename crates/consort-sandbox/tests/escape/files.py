"""Files outside, devices, and the kernel's own files."""

import ctypes
import errno
import os
import struct

from attempt import HELPER, LIBC, T, call, fail, number, probe, read, write

# Files


@probe("closed")
def read_shadow():
    return read("/etc/shadow")


@probe("closed")
def read_outside():
    return read(T["secret"])


@probe("closed")
def read_home():
    return os.listdir(T["home"])


@probe("closed")
def read_ssh_keys():
    return read(os.path.join(T["home"], ".ssh/id_probe"))


@probe("closed")
def list_outside():
    return os.listdir(T["outside"])


@probe("closed")
def stat_outside():
    return os.stat(T["secret"]).st_size


@probe("closed")
def write_outside():
    return write(T["secret"])


@probe("closed")
def create_outside():
    with open(os.path.join(T["outside"], "made"), "x"):
        return "made"


@probe("closed")
def truncate_outside():
    return os.truncate(T["victim_file"], 0)


@probe("closed")
def chmod_outside():
    return os.chmod(T["victim_file"], 0o666)


@probe("closed")
def chown_outside():
    return os.chown(T["victim_file"], 0, 0)


@probe("closed")
def utime_outside():
    return os.utime(T["victim_file"])


@probe("closed")
def xattr_outside():
    return os.setxattr(T["victim_file"], "user.probe", b"1")


@probe("closed")
def delete_outside():
    return os.unlink(T["victim_delete"])


@probe("closed")
def rename_across():
    return os.rename(T["victim_rename"], os.path.join(T["data"], "stolen"))


@probe("closed")
def rename_out():
    with open(os.path.join(T["data"], "planted"), "w"):
        pass
    return os.rename(os.path.join(T["data"], "planted"), os.path.join(T["outside"], "planted"))


@probe("closed")
def symlink_out():
    link = os.path.join(T["data"], f"link-{os.getpid()}")
    os.symlink(T["secret"], link)
    return read(link)


@probe("closed")
def hard_link_in():
    return os.link(T["secret"], os.path.join(T["data"], f"hard-{os.getpid()}"))


@probe("closed")
def dot_dot():
    return read(os.path.join(T["data"], "../" * 30 + T["secret"].lstrip("/")))


@probe("closed")
def proc_self_root():
    return read("/proc/self/root" + T["secret"])


@probe("closed")
def proc_parent_root():
    return read(f"/proc/{HELPER}/root" + T["secret"])


@probe("closed")
def proc_parent_cwd():
    return os.listdir(f"/proc/{HELPER}/cwd")


@probe("closed")
def change_program():
    return write(os.path.join(T["folder"], "code.txt"))


@probe("closed", harmless=False)
def write_usr():
    with open("/usr/bin/probe-made", "x"):
        return "made"


@probe("closed", harmless=False)
def write_etc():
    with open("/etc/probe-made", "x"):
        return "made"


@probe("closed", harmless=False)
def write_root():
    return os.mkdir("/probe-made")


@probe("closed")
def chroot_out():
    return os.chroot(T["outside"])


@probe("closed")
def mknod_device():
    import stat

    return os.mknod(os.path.join(T["data"], f"node-{os.getpid()}"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))


@probe("closed")
def handle_of_file():
    handle = ctypes.create_string_buffer(struct.pack("II", 128, 0) + bytes(128))
    mount_id = ctypes.c_int()
    return call(number(303, 264), -100, T["folder"].encode(), handle, ctypes.byref(mount_id), 0)


@probe("closed")
def inotify_outside():
    watch = LIBC.inotify_init1(0)
    if LIBC.inotify_add_watch(watch, T["outside"].encode(), 0xFFF) < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
    return "watches"


@probe("closed")
def fanotify():
    return call(number(300, 262), 0, 0)


# Devices and the kernel's own files


@probe("closed")
def chmod_device():
    return os.chmod("/dev/null", os.stat("/dev/null").st_mode & 0o7777)


@probe("closed")
def chmod_masked():
    return os.chmod("/proc/kallsyms", os.stat("/proc/kallsyms").st_mode & 0o7777)


@probe("closed")
def chmod_granted():
    path = os.path.join(T["folder"], "code.txt")
    return os.chmod(path, os.stat(path).st_mode & 0o7777)


@probe("closed")
def dev_mem():
    return os.open("/dev/mem", os.O_RDONLY)


@probe("closed")
def dev_kmsg():
    return os.open("/dev/kmsg", os.O_RDONLY)


@probe("closed", harmless=False)
def dev_disk():
    return os.open(T["disk"], os.O_RDONLY)


@probe("closed", harmless=False)
def dev_tty():
    return os.open("/dev/tty", os.O_RDWR)


@probe("closed", harmless=False)
def sysrq():
    return write("/proc/sysrq-trigger", b"h")


@probe("closed")
def sysctl_write():
    with open("/proc/sys/kernel/pid_max") as file:
        now = file.read()
    with open("/proc/sys/kernel/pid_max", "w") as file:
        return file.write(now)


@probe("closed")
def sysctl_core_pattern():
    with open("/proc/sys/kernel/core_pattern") as file:
        now = file.read()
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        return file.write(now)


@probe("closed")
def sys_read():
    return os.listdir("/sys/kernel")


@probe("closed", harmless=False)
def sys_write():
    return write("/sys/devices/system/cpu/cpu1/online", b"1")


@probe("closed")
def debugfs():
    return os.listdir("/sys/kernel/debug")


@probe("closed")
def cgroup_tree():
    return os.listdir("/sys/fs/cgroup")


@probe("closed")
def kernel_symbols():
    size = read("/proc/kallsyms")
    if not size:
        raise OSError(errno.ENODATA, "empty")
    return size


@probe("closed")
def kernel_core():
    with open("/proc/kcore", "rb") as file:
        return len(file.read(4)) or fail(errno.ENODATA)


@probe("closed")
def kernel_log():
    buffer = ctypes.create_string_buffer(64)
    return call(number(103, 116), 3, buffer, 64)
