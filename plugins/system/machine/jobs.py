"""Programs that were started, with the output they leave."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from consort.plugin import Call, PluginError
from machine.output import Output

_PIECE = 64 * 1024
_TICK_S = 0.02
# What a program's children may still write after its end, before somebody who waits is told.
_ECHO_S = 0.2
# Programs that have ended, and whose output can still be read.
_KEPT = 64


class Job:
    """A program that was started, in a session of its own."""

    def __init__(
        self, argv: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str, data: Path, most: int
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.argv = list(argv)
        self.stdout = Output(most, plain=False)
        self.stderr = Output(most, plain=False)
        with tempfile.TemporaryFile(dir=data) as text:
            text.write(stdin.encode())
            text.seek(0)
            self._process = subprocess.Popen(  # noqa: S603 - a granted program.
                self.argv,
                cwd=folder,
                env=dict(environment),
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"job-{self.id}", daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; the negative number of the signal that ended it."""
        return self._process.poll()

    def wait(self, call: Call, seconds: float) -> bool:
        """Waits for its end, and for what it has written; whether it has ended."""
        end = time.monotonic() + seconds
        while self.exit_code is None:
            if time.monotonic() >= end:
                return False
            call.sleep(_TICK_S)
        self._reader.join(_ECHO_S)
        return True

    def stop(self, grace: float) -> None:
        """Ends it and what it started, after `grace` seconds by force."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._signal(signal.SIGKILL)
        self._process.wait(5.0)
        self._reader.join(_ECHO_S)

    def _signal(self, number: int) -> None:
        """To its whole group, which is still there while one of them is."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _read(self) -> None:
        process = self._process
        assert process.stdout is not None  # noqa: S101 - both are pipes.
        assert process.stderr is not None  # noqa: S101
        with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
            selector.register(process.stdout, selectors.EVENT_READ, self.stdout)
            selector.register(process.stderr, selectors.EVENT_READ, self.stderr)
            while selector.get_map():
                for key, _ in selector.select():
                    if data := os.read(key.fd, _PIECE):
                        key.data.add(data)
                    else:
                        key.data.close()
                        selector.unregister(key.fileobj)


class Jobs:
    """The programs of this process. Those that have ended are kept for a while."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, call: Call, argv: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str) -> Job:
        """Starts a program. RESOURCE_EXHAUSTED if too many run."""
        with self._lock:
            ended = [job for job in self._jobs.values() if job.exit_code is not None]
            if len(self._jobs) - len(ended) >= call.config.jobs:
                problem = f"{call.config.jobs} programs run already; wait for one, or stop one"
                raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_MANY_JOBS")
            for job in ended[: max(0, len(ended) - _KEPT)]:
                del self._jobs[job.id]
            try:
                job = Job(argv, folder, environment, stdin, call.data, call.config.output_kib * 1024)
            except OSError as error:
                problem = f"{argv[0]} cannot be started: {error.strerror or error}"
                raise PluginError("FAILED_PRECONDITION", problem, field="program", reason="NOT_STARTED") from None
            self._jobs[job.id] = job
            return job

    def get(self, job: str) -> Job:
        """A program by the id that `start` gave it."""
        found = self._jobs.get(job)
        if found is None:
            problem = f"no program '{job}' was started here, or it ended long ago"
            raise PluginError("NOT_FOUND", problem, field="job", reason="NO_JOB")
        return found

    def of(self, pid: int) -> Job | None:
        """The program with this process id, if it was started here and runs."""
        return next((job for job in list(self._jobs.values()) if job.pid == pid and job.exit_code is None), None)

    def close(self) -> None:
        """Ends all of them at once."""
        for job in list(self._jobs.values()):
            job.stop(0.0)


jobs = Jobs()
