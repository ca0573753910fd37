"""Limits. Each attempt stops by itself before it harms."""

import errno
import os
import signal

from attempt import T, call, fail, number, probe

# Limits: each attempt is to stop by itself before it harms; the test says how much of it may have happened


@probe("limits")
def many_processes():
    children = []
    try:
        for _ in range(600):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
        return len(children)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@probe("limits")
def many_threads():
    import threading

    done = threading.Event()
    threads = []
    try:
        for _ in range(600):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            threads.append(thread)
        return len(threads)
    except RuntimeError:
        fail(errno.EAGAIN)
    finally:
        done.set()
        for thread in threads:
            thread.join()


@probe("limits")
def many_descriptors():
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
    files = [open("/dev/null") for _ in range(900)]
    return len(files)


@probe("limits")
def much_memory():
    return len(bytearray(700 << 20))


@probe("limits")
def large_file():
    path = os.path.join(T["data"], f"large-{os.getpid()}")
    try:
        with open(path, "wb") as file:
            return file.truncate(200 << 20)
    finally:
        os.unlink(path)


@probe("limits")
def full_tmp():
    path = f"/tmp/probe-{os.getpid()}-"
    made = []
    try:
        for index in range(6):
            made.append(f"{path}{index}")
            with open(made[-1], "wb") as file:
                file.write(bytes(30 << 20))
        return len(made)
    finally:
        for name in made:
            os.unlink(name)


@probe("limits")
def memory_files():
    files = []
    for _ in range(4):
        memory = os.memfd_create("probe", 0)
        os.ftruncate(memory, 30 << 20)
        files.append(memory)
    return len(files)


@probe("limits")
def shared_segments():
    segment = call(number(29, 194), 0, 1 << 20, 0o1600)
    # IPC_RMID
    call(number(31, 195), segment, 0, 0)
    return "made"


@probe("limits", harmless=False)
def raise_limits():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (100000, 100000))
    return "raised"
