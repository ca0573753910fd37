"""Whether this process is held by the mesh's sandbox."""

from pathlib import Path

from consort.plugin import PluginError

_STATUS = Path("/proc/self/status")
# No new privileges, a filter of system calls, and no capability left even to be had.
_WANTED = {"NoNewPrivs": 1, "Seccomp": 2, "CapBnd": 0, "CapPrm": 0}


def is_held() -> bool:
    """What the kernel says of this process; whoever only imitates the mesh has the same to offer."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    return all(name in told and int(told[name].strip(), 16) == value for name, value in _WANTED.items())


def check(*, without_sandbox: bool) -> None:
    """FAILED_PRECONDITION if code would run without a sandbox and the operator did not say so."""
    if not without_sandbox and not is_held():
        problem = "code runs only in the mesh's sandbox; start the plugin in one, or set `without_sandbox: true`"
        raise PluginError("FAILED_PRECONDITION", problem, reason="NO_SANDBOX")
