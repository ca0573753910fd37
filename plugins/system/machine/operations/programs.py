"""Operations on programs that are started here: run or start them, read what they write, wait for them, stop them."""

import shlex
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, grants
from machine.jobs import Job, jobs
from machine.operations._plugin import WAIT_S, Arguments, Grace, Program, Seconds, Variables, plugin
from machine.operations.processes import Stopped

Text = Annotated[str, Limits(maxLength=1024 * 1024)]


class Started(TypedDict):
    """The program's name for later calls, and its process id."""

    job: str
    pid: int


class Written(TypedDict):
    """What it wrote. `next` is where a later call goes on, `lost` how many characters before are not kept any more."""

    text: str
    next: int
    lost: int


class Result(TypedDict):
    """How a program fares. `exit_code` is null while it runs, and negative if a signal ended it."""

    job: str
    pid: int
    running: bool
    exit_code: int | None
    stdout: Written
    stderr: Written


def _result(job: Job, stdout_after: int = 0, stderr_after: int = 0) -> Result:
    # Looked at first: what is told of a program that has ended is all of it.
    code = job.exit_code
    out, err = job.stdout.read(stdout_after), job.stderr.read(stderr_after)
    return {
        "job": job.id,
        "pid": job.pid,
        "running": code is None,
        "exit_code": code,
        "stdout": {"text": out.text, "next": out.next, "lost": out.lost},
        "stderr": {"text": err.text, "next": err.next, "lost": err.lost},
    }


def _started(
    call: Call, program: str, arguments: list[str], cwd: str, env: dict[str, str] | None, stdin: str
) -> Job | None:
    """Starts it, or says in a dry run that it would."""
    grants.need(call, "start")
    path = grants.program(call, program)
    folder = grants.folder(call, cwd)
    environment = grants.environment(call, env or {})
    line = f"{shlex.join([path, *arguments])} in {folder}"
    if call.dry_run:
        call.would(f"start {line}")
        return None
    job = jobs.start(call, [path, *arguments], folder, environment, stdin)
    call.did(f"started {line}: process {job.pid}")
    return job


@plugin.operation(effect="write", dry_run=True)
def start(
    call: Call,
    program: Program,
    arguments: Arguments = [],  # noqa: B006 - never changed.
    cwd: str = "",
    env: Variables | None = None,
    stdin: Text = "",
) -> Started | None:
    """Starts a program and goes on; `output`, `wait` and `stop` are for what comes then.

    Args:
        program: Absolute path, or a name that is on PATH; it must be granted.
        arguments: As they are: no shell reads them.
        cwd: Folder, which must be granted; left out, the plugin's own.
        env: Variables besides PATH, LANG, TERM and those that are granted.
        stdin: What it reads.

    """
    job = _started(call, program, arguments, cwd, env, stdin)
    return None if job is None else {"job": job.id, "pid": job.pid}


@plugin.operation(effect="write", dry_run=True, timeout=WAIT_S)
def run(
    call: Call,
    program: Program,
    arguments: Arguments = [],  # noqa: B006 - never changed.
    cwd: str = "",
    env: Variables | None = None,
    stdin: Text = "",
    seconds: Seconds = 60.0,
) -> Result | None:
    """Starts a program and waits for its end; one that takes longer is stopped, and so is one nobody waits for.

    Args:
        program: Absolute path, or a name that is on PATH; it must be granted.
        arguments: As they are: no shell reads them.
        cwd: Folder, which must be granted; left out, the plugin's own.
        env: Variables besides PATH, LANG, TERM and those that are granted.
        stdin: What it reads.

    """
    job = _started(call, program, arguments, cwd, env, stdin)
    if job is None:
        return None
    try:
        is_over = job.wait(call, seconds)
    except BaseException:
        job.stop(0.0)
        raise
    if not is_over:
        job.stop(1.0)
        call.did(f"stopped process {job.pid}, which ran longer than {seconds:g} s")
    return _result(job)


@plugin.operation(effect="read")
def output(
    call: Call,
    job: str,
    stdout_after: Annotated[int, Limits(minimum=0)] = 0,
    stderr_after: Annotated[int, Limits(minimum=0)] = 0,
) -> Result:
    """Tells how a started program fares and what it wrote, of which the end is kept.

    Args:
        stdout_after: `next` of an earlier call, to go on from there.
        stderr_after: The same for standard error.

    """
    grants.need(call, "start")
    return _result(jobs.get(job), stdout_after, stderr_after)


@plugin.operation(effect="read", timeout=WAIT_S)
def wait(call: Call, job: str, seconds: Seconds = 60.0) -> Result:
    """Waits until a started program ends, or time is up, and tells what it wrote."""
    grants.need(call, "start")
    found = jobs.get(job)
    found.wait(call, seconds)
    return _result(found)


@plugin.operation(effect="idempotent_write", dry_run=True)
def stop(call: Call, job: str, grace: Grace = 5.0) -> Stopped | None:
    """Ends a started program with all that it started: SIGTERM, and SIGKILL after a while.

    Args:
        grace: Seconds that it may take to go by itself.

    """
    grants.need(call, "start")
    found = jobs.get(job)
    runs = found.exit_code is None
    if call.dry_run:
        if runs:
            call.would(f"end program {found.id}: {found.argv[0]}, process {found.pid}")
        return None
    if runs:
        found.stop(grace)
        call.did(f"ended program {found.id}: {found.argv[0]}, process {found.pid}")
    return {"stopped": runs, "forced": runs and found.exit_code == -9}
