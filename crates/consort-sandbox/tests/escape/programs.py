"""Programs that were not granted."""

import ctypes
import errno
import os
import struct
import sys
import time

import processes
from attempt import LIBC, T, call, fail, number, probe

# Programs


def run(path, *arguments):
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path, *arguments])
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "ran" if status == 0 else fail(status if status > 0 else errno.EPERM)


@probe("closed")
def exec_shell():
    return run("/bin/sh", "-c", "true")


@probe("closed")
def exec_itself():
    return run(os.path.realpath(sys.executable), "-c", "pass")


@probe("closed")
def exec_by_loader():
    loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
    return run(next(path for path in loaders if os.path.exists(path)), "/bin/true")


@probe("closed")
def exec_from_data():
    path = os.path.join(T["data"], f"script-{os.getpid()}")
    with open(path, "w") as file:
        file.write("#!/bin/sh\ntrue\n")
    os.chmod(path, 0o755)
    return run(path)


@probe("closed")
def exec_from_memory():
    memory = os.memfd_create("probe", 0)
    with open("/bin/true", "rb") as file:
        os.write(memory, file.read())
    return run(f"/proc/self/fd/{memory}")


@probe("closed")
def execveat_from_memory():
    memory = os.memfd_create("probe", 0)
    with open("/bin/true", "rb") as file:
        os.write(memory, file.read())
    child = os.fork()
    if child == 0:
        try:
            empty = (ctypes.c_char_p * 1)(None)
            call(number(322, 281), memory, b"", empty, empty, 0x1000)
        except OSError as error:
            os._exit(error.errno)
    return "ran" if os.waitpid(child, 0)[1] == 0 else fail(errno.EPERM)


@probe("closed")
def exec_by_own_supervisor():
    """A filter of one's own whose questions one answers oneself: seccomp(SET_MODE_FILTER, NEW_LISTENER)."""
    LIBC.prctl(38, 1, 0, 0, 0)
    steps = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(steps)))
    return call(number(317, 277), 1, 8, program)


@probe("closed")
def exec_by_many_threads():
    """The one execution that is let through is over, whoever asks first."""
    import threading

    child = os.fork()
    if child == 0:
        for _ in range(8):
            threading.Thread(target=lambda: os.execv("/bin/true", ["true"])).start()
        time.sleep(1)
        os._exit(1)
    return "ran" if os.waitpid(child, 0)[1] == 0 else fail(errno.EPERM)


# With some programs granted: /bin/sh and what T["granted"] names


@probe("some-exec")
def exec_ungranted():
    return run("/usr/bin/id")


@probe("some-exec")
def exec_ungranted_by_shell():
    return run("/bin/sh", "-c", "/usr/bin/id >/dev/null")


@probe("some-exec")
def exec_memory_beside_granted():
    return exec_from_memory()


@probe("some-exec")
def exec_data_beside_granted():
    return exec_from_data()


# With all programs granted


@probe("all-exec")
def setuid_program():
    """A copy of a program with the bit set, made outside by root."""
    child = os.popen(T["setuid"] + " -u")
    text = child.read().strip()
    child.close()
    return text if text != str(os.getuid()) else fail(errno.EPERM)


@probe("all-exec")
def exec_outside():
    return run(T["outside_program"])


@probe("all-exec")
def shell_reads_outside():
    return run("/bin/sh", "-c", f": < {T['secret']}")


@probe("all-exec")
def child_sees_host():
    return run("/bin/sh", "-c", f"kill -0 {T['victim']}")


@probe("all-exec")
def child_traces():
    return processes.ptrace_attach()


@probe("all-exec")
def type_into_own_terminal():
    """TIOCSTI: another program's input is written. The upper half of the request is what the kernel throws away."""
    import pty

    _, theirs = pty.openpty()
    LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
    if LIBC.ioctl(theirs, 0x100005412, b"x") == 0:
        return "typed"
    fail(ctypes.get_errno())


@probe("all-exec")
def terminals_of_the_machine():
    others = [name for name in os.listdir("/dev/pts") if name != "ptmx"]
    return others or fail(errno.ENOENT)
