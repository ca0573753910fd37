"""What changes the machine, and parts of the kernel with a long history of holes."""

import ctypes
import errno
import os
import socket
import struct

from attempt import LIBC, X86, T, call, fail, number, probe

# What changes the machine


@probe("closed", harmless=False)
def mount_tmpfs():
    return call(number(165, 40), b"none", T["data"].encode(), b"tmpfs", 0, 0)


@probe("closed", harmless=False)
def remount_writable():
    # MS_REMOUNT | MS_BIND
    return call(number(165, 40), 0, b"/usr", 0, 0x1020, 0)


@probe("closed", harmless=False)
def unmount():
    return call(number(166, 39), b"/proc", 2)


@probe("closed", harmless=False)
def pivot_root():
    return call(number(155, 41), T["data"].encode(), T["data"].encode())


@probe("closed")
def open_tree():
    return call(428, -100, b"/", 1)


@probe("closed")
def fsopen():
    return call(430, b"tmpfs", 0)


@probe("closed")
def unshare_user():
    child = os.fork()
    if child == 0:
        try:
            call(number(272, 97), 0x10000000)
        except OSError:
            os._exit(1)
        os._exit(0)
    return "left" if os.waitpid(child, 0)[1] == 0 else fail(errno.EPERM)


@probe("closed")
def clone_into_namespaces():
    # clone(CLONE_NEWUSER | SIGCHLD)
    child = call(number(56, 220), 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made"


@probe("closed")
def clone3_into_namespaces():
    arguments = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    child = call(435, ctypes.create_string_buffer(arguments), 88)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made"


@probe("closed")
def setns():
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)
    return call(number(308, 268), own, 0)


@probe("closed")
def set_hostname():
    name = socket.gethostname().encode()
    return call(number(170, 161), name, len(name))


@probe("closed", harmless=False)
def set_clock():
    return call(number(227, 112), 0, struct.pack("qq", 0, 0))


@probe("closed")
def adjust_clock():
    return call(number(159, 171), ctypes.create_string_buffer(512))


@probe("closed", harmless=False)
def reboot():
    return call(number(169, 142), 0xFEE1DEAD, 672274793, 0, 0)


@probe("closed", harmless=False)
def kexec():
    return call(number(246, 104), 0, 0, 0, 0)


@probe("closed", harmless=False)
def load_module():
    return call(number(175, 105), ctypes.create_string_buffer(64), 64, b"")


@probe("closed", harmless=False)
def unload_module():
    return call(number(176, 106), b"probe", 0)


@probe("closed", harmless=False)
def swap_on():
    return call(number(167, 224), T["data"].encode(), 0)


@probe("closed", harmless=False)
def quota():
    return call(number(179, 60), 0x800001 << 8, T["disk"].encode(), 0, ctypes.create_string_buffer(64))


@probe("closed", harmless=False)
def accounting():
    return call(number(163, 89), T["data"].encode())


@probe("closed")
def io_ports():
    return call(number(172), 3)


@probe("closed")
def personality():
    now = call(number(135, 92), 0xFFFFFFFF)
    return call(number(135, 92), now | 0x0040000)


# Parts of the kernel with a long history


@probe("closed")
def bpf():
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))
    return call(number(321, 280), 0, attributes, 128)


@probe("closed")
def perf():
    # A software event, of this process alone.
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0) + bytes(96))
    return call(number(298, 241), attributes, 0, -1, -1, 0)


@probe("closed")
def io_uring():
    return call(425, 4, ctypes.create_string_buffer(120))


@probe("closed")
def userfaultfd():
    return call(number(323, 282), 1)


@probe("closed")
def keyring():
    return call(number(250, 219), 0, -3, 1)


@probe("closed")
def add_key():
    return call(number(248, 217), b"user", b"probe", b"x", 1, -2)


@probe("closed")
def compat_calls():
    """The numbers of x32, by which filters are often missed: getpid."""
    if not X86:
        fail(errno.ENOSYS)
    return call(0x40000000 | 39)


@probe("closed", harmless=False)
def terminal_input():
    import fcntl

    for descriptor in (0, 1, 2):
        try:
            # The upper half is what the kernel throws away.
            LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
            if LIBC.ioctl(descriptor, 0x100005412, b"x") == 0:
                return "typed"
            code = ctypes.get_errno()
            if code != errno.EPERM:
                return f"got through to the terminal: {os.strerror(code)}"
            fcntl.ioctl(descriptor, 0x5412, b"x")
            return "typed"
        except OSError as error:
            last = error
            if error.errno != errno.EPERM:
                return f"got through to the terminal: {error}"
    raise last


@probe("closed")
def core_dump():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard in (0, 1):
        fail(errno.EPERM)
    return hard
