"""What containers write, what programs in them do, and what they use."""

from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.errors import garbled
from engine.fields import flag, inner, number, rows, text
from engine.frames import Output
from engine.operations._plugin import Name, Text, engine_of, plugin
from engine.operations.containers import named
from engine.transport import Engine, Request

# Bytes that are read of a container's log before the rest is left.
_MOST_READ = 256 * 1024 * 1024
_LONGEST_S = 3600
# How often, and how long, an engine is asked for the exit code of a program whose output has ended.
_LOOK_S = 0.05
_LOOKS = 100


class Logs(TypedDict):
    """What a container wrote, the end of it. `truncated` says that there was more; `ended` that it does not run."""

    stdout: str
    stderr: str
    truncated: bool
    ended: bool


class Executed(TypedDict):
    """What a program wrote, and how it ended: `exit_code` is null if it was still running when time was up."""

    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool


class Stats(TypedDict):
    """What a container uses. 100 percent is one processor; a limit of 0 is none."""

    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int
    processes: int
    received_bytes: int
    sent_bytes: int
    read_bytes: int
    written_bytes: int


@plugin.operation(effect="read", timeout=_LONGEST_S)
def logs(
    call: Call,
    container: Name,
    lines: Annotated[int, Limits(minimum=0, maximum=1_000_000)] = 1000,
    since: Annotated[float, Limits(minimum=0)] = 0,
    timestamps: bool = False,
    follow_s: Annotated[float, Limits(minimum=0, maximum=_LONGEST_S)] = 0,
) -> Logs:
    """Reads what a container wrote.

    Args:
        container: Its name, or id.
        lines: The last ones.
        since: Only what was written after this time, in seconds since 1970.
        timestamps: Each line begins with its time.
        follow_s: Also what it writes in so many seconds from now on, or until it ends.

    """
    engine, settings = engine_of(call, "inspect"), call.config
    found = rules.container(engine, container)
    query = {
        "stdout": "true",
        "stderr": "true",
        "tail": str(lines),
        "timestamps": str(timestamps).lower(),
        "follow": str(follow_s > 0).lower(),
        **({"since": f"{since:.9f}"} if since else {}),
    }
    output = Output(settings.output_kib * 1024, terminal=flag(found, "Config", "Tty"))
    request = Request("GET", f"/containers/{text(found, 'Id')}/logs", query, patient=True)
    cut = _taken(engine, request, output, follow_s or settings.timeout_s)
    after = rules.container(engine, text(found, "Id"))
    stdout, stderr, truncated = output.texts()
    return {
        "stdout": stdout,
        "stderr": stderr,
        "truncated": truncated or (cut and not follow_s),
        "ended": not flag(after, "State", "Running"),
    }


@plugin.operation("exec", effect="write", dry_run=True, timeout=_LONGEST_S)
def execute(
    call: Call,
    container: Name,
    command: Annotated[list[Text], Limits(minItems=1, maxItems=1000)],
    env: dict[str, Text] | None = None,
    workdir: Annotated[str, Limits(maxLength=4096)] = "",
    user: Annotated[str, Limits(maxLength=100)] = "",
    seconds: Annotated[float, Limits(exclusiveMinimum=0, maximum=_LONGEST_S)] = 60.0,
) -> Executed | None:
    """Runs a program in a container that runs, with nothing on its standard input.

    Args:
        container: Its name, or id.
        command: As it is; no shell reads it.
        seconds: How long it is waited for. It goes on in the container after that: an engine cannot end it alone.

    """
    engine = engine_of(call, "exec")
    found = rules.container(engine, container)
    if flag(found, "HostConfig", "Privileged") and not call.config.privileged:
        raise rules.denied(f"container {named(found)} is privileged", "privileged: true", field="container")
    line = f"{' '.join(command)} in container {named(found)}"
    if call.dry_run:
        call.would(f"run {line}")
        return None
    wanted = {"AttachStdout": True, "AttachStderr": True, "Tty": False, "Privileged": False, "Cmd": command}
    given = {"WorkingDir": workdir, "User": user, "Env": [f"{key}={value}" for key, value in (env or {}).items()]}
    wanted |= {key: value for key, value in given.items() if value}
    program = text(engine.ask(Request("POST", f"/containers/{text(found, 'Id')}/exec", {}, wanted)), "Id")
    if not program.isalnum():
        raise garbled("no id of a program")
    output = Output(call.config.output_kib * 1024, terminal=False)
    plain = {"Detach": False, "Tty": False}
    request = Request("POST", f"/exec/{program}/start", {}, plain, again=False, patient=True)
    call.did(f"ran {line}")
    cut = _taken(engine, request, output, seconds)
    code = _exit_code(engine, program, 1 if cut else _LOOKS)
    stdout, stderr, truncated = output.texts()
    return {"exit_code": code, "stdout": stdout, "stderr": stderr, "truncated": truncated}


@plugin.operation(effect="read")
def stats(call: Call, container: Name) -> Stats:
    """Says what a container that runs uses, over about a second.

    Args:
        container: Its name, or id.

    """
    engine = engine_of(call, "inspect")
    found = rules.container(engine, container)
    if not flag(found, "State", "Running"):
        problem = f"container {named(found)} does not run"
        raise PluginError("FAILED_PRECONDITION", problem, field="container", reason="NOT_RUNNING")
    told = engine.ask(Request("GET", f"/containers/{text(found, 'Id')}/stats", {"stream": "false"}))
    blocks = list(rows(told, "blkio_stats", "io_service_bytes_recursive"))
    networks = inner(told, "networks")
    cards = list(networks.values()) if isinstance(networks, dict) else []
    # What is cached of files is given back when it is wanted: `inactive_file` of cgroup 2, the other of cgroup 1.
    memory = inner(told, "memory_stats", "stats")
    cache = number(memory, "inactive_file") or number(memory, "total_inactive_file")
    return {
        "cpu_percent": _cpu(told),
        "memory_bytes": max(0, number(told, "memory_stats", "usage") - cache),
        "memory_limit_bytes": number(told, "memory_stats", "limit"),
        "processes": number(told, "pids_stats", "current"),
        "received_bytes": sum(number(each, "rx_bytes") for each in cards),
        "sent_bytes": sum(number(each, "tx_bytes") for each in cards),
        "read_bytes": sum(number(each, "value") for each in blocks if text(each, "op").lower() == "read"),
        "written_bytes": sum(number(each, "value") for each in blocks if text(each, "op").lower() == "write"),
    }


def _taken(engine: Engine, request: Request, output: Output, seconds: float) -> bool:
    """Takes what is written until it ends, or until time is up or it is too much; whether it was cut off."""
    with engine.opened(request, seconds) as answer:
        for piece in answer.pieces(_MOST_READ, while_time=True):
            output.add(piece)
        if not answer.cut:
            output.close()
    return answer.cut


def _exit_code(engine: Engine, program: str, looks: int) -> int | None:
    for _ in range(looks):
        found = engine.ask(Request("GET", f"/exec/{program}/json"))
        if not flag(found, "Running") and isinstance(inner(found, "ExitCode"), int):
            return number(found, "ExitCode")
        engine.call.sleep(_LOOK_S)
    return None


def _cpu(told: Any) -> float:
    """Of processor time that passed between two looks, what the container took, times the processors."""
    now, before = inner(told, "cpu_stats"), inner(told, "precpu_stats")
    used = number(now, "cpu_usage", "total_usage") - number(before, "cpu_usage", "total_usage")
    whole = number(now, "system_cpu_usage") - number(before, "system_cpu_usage")
    processors = number(told, "cpu_stats", "online_cpus") or 1
    return round(100.0 * processors * used / whole, 2) if whole > 0 and used > 0 else 0.0
