"""Other processes, and what is inherited from them."""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import struct
import time

from attempt import HELPER, MAIN, T, call, fail, number, probe, read

# Other processes


@probe("closed")
def see_processes():
    return os.kill(T["victim"], 0)


@probe("closed")
def list_processes():
    names = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    command = []
    for pid in names:
        # Others come and go meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command.append(open(f"/proc/{pid}/cmdline").read())
    found = [line for line in command if T["victim_name"] in line]
    return found or fail(errno.ESRCH)


@probe("closed")
def victim_environment():
    return read(f"/proc/{T['victim']}/environ")


@probe("closed")
def helper_environment():
    """The first process of the namespace, and whatever else is not this one."""
    found = 0
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (os.getpid(), MAIN):
            try:
                found += read(f"/proc/{pid}/environ")
            except OSError:
                continue
    return found or fail(errno.EACCES)


@probe("closed")
def victim_memory():
    with open(f"/proc/{T['victim']}/maps") as file:
        start = int(file.readline().split("-")[0], 16)
    with open(f"/proc/{T['victim']}/mem", "rb") as file:
        file.seek(start)
        return len(file.read(16))


@probe("closed")
def helper_memory():
    with open(f"/proc/{HELPER}/maps") as file:
        return file.readline() or fail(errno.EACCES)


@probe("closed")
def process_vm_readv():
    buffer = ctypes.create_string_buffer(16)
    local = struct.pack("QQ", ctypes.addressof(buffer), 16)
    with open(f"/proc/{T['victim']}/maps") as file:
        start = int(file.readline().split("-")[0], 16)
    return call(number(310, 270), T["victim"], local, 1, struct.pack("QQ", start, 16), 1, 0)


@probe("closed")
def process_vm_readv_of_itself():
    buffer, secret = ctypes.create_string_buffer(16), ctypes.create_string_buffer(16)
    vector = [struct.pack("QQ", ctypes.addressof(which), 16) for which in (buffer, secret)]
    return call(number(310, 270), os.getpid(), vector[0], 1, vector[1], 1, 0)


@probe("closed")
def ptrace_attach():
    # PTRACE_SEIZE, and let go at once: the end of this process does that.
    return call(number(101, 117), 0x4206, T["victim"], 0, 0)


@probe("closed")
def ptrace_child():
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    try:
        return call(number(101, 117), 0x4206, child, 0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@probe("closed")
def signal_victim():
    return os.kill(T["victim"], signal.SIGCONT)


@probe("closed")
def signal_helper():
    for pid in (1, HELPER):
        try:
            return os.kill(pid, signal.SIGCONT)
        except OSError as error:
            last = error
    raise last


@probe("closed")
def signal_victim_group():
    return os.killpg(os.getpgid(T["victim"]), signal.SIGCONT)


@probe("closed")
def pidfd_of_victim():
    return os.pidfd_open(T["victim"])


@probe("closed")
def pidfd_getfd():
    own = os.pidfd_open(os.getpid())
    return call(438, own, 0, 0)


@probe("closed")
def kcmp():
    return call(number(312, 272), os.getpid(), os.getpid(), 0, 0, 0)


@probe("closed")
def process_madvise():
    own = os.pidfd_open(os.getpid())
    page = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return call(440, own, struct.pack("QQ", address, 4096), 1, 4, 0)


@probe("closed")
def priority_of_victim():
    return os.setpriority(os.PRIO_PROCESS, T["victim"], os.getpriority(os.PRIO_PROCESS, T["victim"]))


@probe("closed")
def group_of_the_host():
    return os.setpgid(0, T["host_group"]) if T["host_group"] != os.getpgrp() else "is in it"


@probe("closed")
def session_of_the_host():
    if os.getsid(MAIN) != os.getsid(HELPER):
        fail(errno.EPERM)
    return "is in it"


# What is inherited


@probe("closed", harmless=False)
def inherited_descriptors():
    found = []
    for descriptor in range(3, 1024):
        try:
            os.fstat(descriptor)
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return [path for path in found if not path.startswith("pipe:")] or fail(errno.EBADF)


@probe("closed", harmless=False)
def inherited_environment():
    allowed = {"PATH", "PROBE_TARGETS", "LC_CTYPE"}
    return [name for name in os.environ if name not in allowed] or fail(errno.ENODATA)


@probe("closed", harmless=False)
def capabilities():
    with open("/proc/self/status") as file:
        lines = dict(line.split(":\t") for line in file if line.startswith(("Cap", "NoNew", "Seccomp:")))
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(lines[name], 16)]
    loose = [name for name, least in (("NoNewPrivs", 1), ("Seccomp", 2)) if int(lines[name]) != least]
    return held + loose or fail(errno.EPERM)


@probe("closed", harmless=False)
def become_root_within():
    """A process of root's is root again after setuid, unless it gave that up for good."""
    if os.getuid() == 0:
        child = os.fork()
        if child == 0:
            try:
                os.setresuid(0, 0, 0)
                with open("/proc/self/status") as file:
                    text = file.read()
                os._exit(0 if "CapEff:\t0000000000000000" not in text else 1)
            except OSError:
                os._exit(1)
        return "got capabilities" if os.waitpid(child, 0)[1] == 0 else fail(errno.EPERM)
    return os.setuid(0)
