"""Programs in terminals, which are sent text and of which text is expected."""

import contextlib
import fcntl
import os
import selectors
import signal
import struct
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from consort.plugin import Call, PluginError
from machine.output import Output

_PIECE = 64 * 1024
_LAUNCH = str(Path(__file__).with_name("launch.py"))


class Shell:
    """A program in a terminal of its own. `mark` is where its output was when text was last sent."""

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        size: tuple[int, int],
        most: int,
        *,
        raw: bool,
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.argv = list(argv)
        self.output = Output(most, plain=not raw)
        self.mark = 0
        self._writing = threading.Lock()
        self._terminal, inner = os.openpty()
        try:
            fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            self._process = subprocess.Popen(  # noqa: S603 - a granted program.
                [sys.executable, "-I", "-S", _LAUNCH, *argv],
                cwd=folder,
                env=dict(environment),
                stdin=inner,
                stdout=inner,
                stderr=inner,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(inner)
        os.set_blocking(self._terminal, False)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"shell-{self.id}", daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative number of the signal that ended it."""
        return self._process.poll()

    def send(self, call: Call, data: bytes) -> int:
        """Types into the terminal; the position of the output before that."""
        with self._writing:
            before = self.output.end
            left = memoryview(data)
            while left:
                call.raise_if_cancelled()
                if self.exit_code is not None:
                    raise PluginError("FAILED_PRECONDITION", f"'{self.argv[0]}' has ended", reason="SHELL_ENDED")
                try:
                    left = left[os.write(self._terminal, left) :]
                except BlockingIOError:
                    call.sleep(0.01)  # It does not read.
                except OSError:
                    raise PluginError("FAILED_PRECONDITION", "its terminal is closed", reason="SHELL_ENDED") from None
            self.mark = before
            return before

    def close(self, grace: float = 1.0) -> None:
        """Hangs up, and ends what does not go by itself."""
        for number, seconds in ((signal.SIGHUP, grace), (signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # Others of its group.
        self._reader.join(1.0)

    def _read(self) -> None:
        """Reads until nobody holds the terminal any more, or its program has ended and has no more to say."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._terminal, selectors.EVENT_READ)
            while True:
                ready = selector.select(0.2)
                try:
                    data = os.read(self._terminal, _PIECE) if ready else None
                except BlockingIOError:
                    continue
                except OSError:
                    break
                if data:
                    self.output.add(data)
                elif data == b"" or self.exit_code is not None:
                    break
        self.output.close()
        with self._writing:
            os.close(self._terminal)
            self._terminal = -1


class Shells:
    """The sessions of this process."""

    def __init__(self) -> None:
        self._shells: dict[str, Shell] = {}
        self._lock = threading.Lock()

    def open(
        self,
        call: Call,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        size: tuple[int, int],
        *,
        raw: bool,
    ) -> Shell:
        """Opens a session. RESOURCE_EXHAUSTED if there are too many."""
        with self._lock:
            if len(self._shells) >= call.config.shells:
                problem = f"{call.config.shells} sessions are open already; close one"
                raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_MANY_SHELLS")
            try:
                shell = Shell(argv, folder, environment, size, call.config.output_kib * 1024, raw=raw)
            except OSError as error:
                problem = f"{argv[0]} cannot be started: {error.strerror or error}"
                raise PluginError("FAILED_PRECONDITION", problem, field="program", reason="NOT_STARTED") from None
            self._shells[shell.id] = shell
            return shell

    def all(self) -> list[Shell]:
        """The open sessions, oldest first."""
        return list(self._shells.values())

    def get(self, shell: str) -> Shell:
        """A session by its id."""
        found = self._shells.get(shell)
        if found is None:
            raise PluginError("NOT_FOUND", f"no session '{shell}' is open", field="shell", reason="NO_SHELL")
        return found

    def close(self, shell: str) -> bool:
        """Closes a session; whether it was open."""
        with self._lock:
            found = self._shells.pop(shell, None)
        if found is not None:
            found.close()
        return found is not None

    def close_all(self) -> None:
        """Closes all of them, without patience."""
        for shell in list(self._shells):
            found = self._shells.pop(shell, None)
            if found is not None:
                found.close(0.0)


shells = Shells()
