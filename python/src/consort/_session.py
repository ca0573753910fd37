"""One life of a worker: its stream to the mesh, its tasks and its answers."""

import asyncio
import contextlib
import contextvars
import functools
import logging
import resource
import sys
import threading
import time
import traceback
import typing
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from consort._gen.agent.v1.agent_service_pb2 import ListWorkersRequest, LogLevel, LogLine, StepReport
from consort._gen.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from consort._gen.agent.v1.worker_service_pb2 import (
    AgentOffer,
    Assignment,
    ConnectRequest,
    ConnectResponse,
    Failed,
    Hello,
    LeaseRef,
    Renew,
    SlotOffer,
    TaskReport,
    Welcome,
)
from consort._gen.blob.v1.payload_pb2 import Payload
from consort._handlers import Agent
from consort._net import connect, now, pauses
from consort._outbox import Lease, Outbox
from consort._values import Blobs, encode
from consort.errors import MAX_MESSAGE, RefusedError, TaskError, cut, from_rpc
from consort.task import Task

log = logging.getLogger("consort")

SDK = "python 0.1.0"
PROTOCOL = 1
_CONNECT = "/consort.agent.v1.WorkerService/Connect"
_WELCOME_TIMEOUT = 20.0
_CLOSE_TIMEOUT = 5.0
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_PAUSES = (0.2, 5.0)
# What these say about a Hello will be said again.
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a session is made from. `slots` is by slot type, `drain_timeout` in seconds."""

    worker_id: str
    address: str
    namespace: str
    slots: Mapping[str, int]
    drain_timeout: float
    on_ready: Callable[[], None] | None


class Session:
    """Serves the agents until it is drained.

    The jitter of reconnects lies between 0.1 s and 5 s. While the mesh is away the tasks in hand go on; their answers
    are sent when it is back.
    """

    def __init__(self, options: Options, agents: Mapping[str, Agent]) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop_thread = threading.get_ident()
        self.outbox = Outbox()
        self.blobs = Blobs(options.address)
        self.busy_threads = 0
        self._options = options
        self._agents = agents
        self._session_id = str(uuid.uuid4())
        self._tasks: dict[Lease, Task] = {}
        self._threads = ThreadPoolExecutor(sum(options.slots.values()), thread_name_prefix="consort")
        self._counting = threading.Lock()
        self._stopping = asyncio.Event()
        self._mesh_drains = False
        self._attached: bool | None = None
        self._closing = False
        self._ttl = 1.0
        self._clock = (time.monotonic(), time.process_time())

    async def run(self) -> None:
        """Serves until `stop` was called, or the mesh drained this worker, and all is finished.

        RefusedError if the mesh will never take this worker.
        """
        waits = pauses(*_PAUSES)
        try:
            while not self._is_over():
                began = self.loop.time()
                try:
                    await self._attach()
                except grpc.aio.AioRpcError as error:
                    self._note_absence(error)
                if self._closing and not self._stopping.is_set() and await self._mesh_stays():
                    log.info("drained by the mesh")
                    return
                if self.loop.time() - began > _PAUSES[1]:
                    waits = pauses(*_PAUSES)  # It held for a while, so this is a new trouble.
                if not self._is_over():
                    await self._rest(next(waits))
        finally:
            for task in list(self._tasks.values()):
                self._cancel(task)
            self._threads.shutdown(wait=False, cancel_futures=True)
            await self.blobs.close()

    def stop(self) -> None:
        """Takes nothing new, and ends when what is in hand is done and acknowledged, or after `drain_timeout`."""
        if self._stopping.is_set():
            return
        log.info("draining: %d tasks in hand", len(self._tasks))
        self._stopping.set()
        self.outbox.drain()
        self.loop.call_later(self._options.drain_timeout, self._give_up)

    def _give_up(self) -> None:
        if self._tasks or self.outbox.unacknowledged:
            log.error(
                "not drained after %g s: %d tasks are given back, %d answers were not acknowledged",
                self._options.drain_timeout,
                len(self._tasks),
                len(self.outbox.unacknowledged),
            )
        for task in list(self._tasks.values()):
            self.outbox.release(task.lease)
            self._cancel(task)
        self.outbox.unacknowledged.clear()
        self.outbox.poke()

    async def _mesh_stays(self) -> bool:
        """Tells why the mesh drained this worker.

        A mesh that still answers wants it gone; one that does not is going away itself, and the worker must be there
        when it comes back.
        """
        async with connect(self._options.address) as channel:
            request = ListWorkersRequest(parent=f"namespaces/{self._options.namespace}")
            try:
                await typing.cast(Any, AgentServiceStub(channel)).ListWorkers(request, timeout=_CLOSE_TIMEOUT)
            except grpc.aio.AioRpcError:
                return False
            return True

    def _is_over(self) -> bool:
        return self._stopping.is_set() and self._is_empty()

    def _is_empty(self) -> bool:
        return not self._tasks and not self.outbox.unacknowledged

    async def _rest(self, seconds: float) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(seconds)  # Answers still wait to be delivered, so the mesh is tried further.
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    # The stream.

    async def _attach(self) -> None:
        """Opens a stream and serves it until it ends. AioRpcError says why it broke, RefusedError that it is final."""
        self._mesh_drains = self._closing = False
        async with connect(self._options.address) as channel:
            call = typing.cast(Any, channel).stream_stream(
                _CONNECT,
                request_serializer=_as_it_is,
                response_deserializer=ConnectResponse.FromString,
            )()
            try:
                self._take(await self._greet(call))
                await self._serve(call)
            finally:
                call.cancel()

    async def _greet(self, call: Any) -> ConnectResponse:
        try:
            with contextlib.suppress(asyncio.InvalidStateError):  # The stream is over already; reading tells why.
                await call.write(ConnectRequest(hello=self._hello()).SerializeToString())
            first = await asyncio.wait_for(call.read(), _WELCOME_TIMEOUT)
        except TimeoutError:
            raise _unavailable(f"no welcome within {_WELCOME_TIMEOUT:g} s") from None
        except grpc.aio.AioRpcError as error:
            self._check_refusal(error)
            raise
        if first is _EOF:
            raise _unavailable("the mesh closed the stream before its welcome")
        if not first.HasField("welcome"):
            raise RefusedError(f"{self._options.address} did not begin with a welcome; is it a Consort mesh?")
        self._welcome(first.welcome)
        return typing.cast(ConnectResponse, first)

    def _check_refusal(self, error: grpc.aio.AioRpcError) -> None:
        if error.code() in _REFUSALS:
            raise RefusedError(f"{self._options.address} refuses worker '{self._options.worker_id}': {from_rpc(error)}")

    def _hello(self) -> Hello:
        return Hello(
            worker_id=self._options.worker_id,
            session_id=self._session_id,
            parent=f"namespaces/{self._options.namespace}",
            min_protocol=PROTOCOL,
            max_protocol=PROTOCOL,
            agents=[
                AgentOffer(
                    agent=agent.name,
                    type=agent.type,
                    description=agent.description,
                    capabilities=agent.capabilities,
                    slot=agent.slot,
                )
                for agent in self._agents.values()
            ],
            slots=[SlotOffer(slot=slot, credits=count) for slot, count in self._options.slots.items()],
            sdk=SDK,
        )

    def _welcome(self, welcome: Welcome) -> None:
        if welcome.protocol != PROTOCOL:
            raise RefusedError(f"{self._options.address} speaks protocol {welcome.protocol}, this worker {PROTOCOL}")
        resumed = {(lease.task, lease.lease_token) for lease in welcome.resumed}
        for lease, task in list(self._tasks.items()):
            if lease not in resumed:
                self._cancel(task)
        for lease in resumed - self._tasks.keys() - self.outbox.unacknowledged.keys():
            self.outbox.release(lease)  # Handed out in a frame that never arrived, or its handler was stopped.
        self.outbox.rewind(draining=self._stopping.is_set())
        self._attached = True
        self._ttl = max(welcome.lease_ttl.ToTimedelta().total_seconds(), 0.3)
        log.info(
            "attached to %s at %s: agents %s",
            welcome.server or "the mesh",
            self._options.address,
            ", ".join(self._agents),
        )
        if self._options.on_ready:
            self._options.on_ready()

    def _note_absence(self, error: grpc.aio.AioRpcError) -> None:
        reason = f"{error.code().name}: {error.details()}"
        if from_rpc(error).reason == "SESSION_REPLACED":
            raise RefusedError(
                f"another worker took the name '{self._options.worker_id}'; give each its own"
            ) from error
        if self._attached is not False:
            what = "lost the mesh" if self._attached else "no mesh"
            log.warning("%s at %s (%s); trying again until it answers", what, self._options.address, reason)
        self._attached = False

    async def _serve(self, call: Any) -> None:
        helpers = [asyncio.create_task(self._write(call)), asyncio.create_task(self._renew())]
        try:
            while (frame := await call.read()) is not _EOF:
                self._take(frame)
        except asyncio.CancelledError:
            if not self._closing or _is_being_cancelled():
                raise  # Otherwise it was the mesh, which did not close in time and was hung up on.
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        if not (self._mesh_drains or self._is_over()):
            raise _unavailable("the mesh closed the stream")

    async def _write(self, call: Any) -> None:
        """Writes what waits, a frame at a time, and half-closes when there is nothing left to do."""
        try:
            while True:
                if frame := self.outbox.take():
                    await call.write(frame)
                elif (self._stopping.is_set() or self._mesh_drains) and self._is_empty():
                    self._closing = True
                    await call.done_writing()
                    self.loop.call_later(_CLOSE_TIMEOUT, call.cancel)
                    return
                else:
                    await self.outbox.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The reader sees the same end and knows its reason.

    async def _renew(self) -> None:
        while True:
            clock = (time.monotonic(), time.process_time())
            passed = max(clock[0] - self._clock[0], 0.001)
            cpu = (clock[1] - self._clock[1]) / passed
            self._clock = clock
            self.outbox.renew(ConnectRequest(renew=Renew(cpu=cpu, memory_bytes=_resident_bytes())))
            await asyncio.sleep(self._ttl / 3)

    def _take(self, frame: ConnectResponse) -> None:
        for assignment in frame.assignments:
            self._start(assignment)
        for cancel in frame.cancels:
            lease = (cancel.lease.task, cancel.lease.lease_token)
            task = self._tasks.get(lease)
            if task is not None:
                log.info("%s is stopped: %s", task.name, cancel.reason or "no reason given")
                self._cancel(task)
            self.outbox.forget(lease)
        for ack in frame.acks:
            if ack.HasField("error"):
                log.warning("the answer of %s was refused: %s", ack.lease.task, ack.error.message)
            self.outbox.acknowledge((ack.lease.task, ack.lease.lease_token))
        if frame.drain and not self._mesh_drains:
            log.info("the mesh asks to drain: %d tasks in hand", len(self._tasks))
            self._mesh_drains = True
            self.outbox.drain()

    # The tasks.

    def _start(self, assignment: Assignment) -> None:
        task = Task(assignment, self)
        if task.lease in self._tasks or task.lease in self.outbox.unacknowledged:
            return  # Handed out again after a reconnect; it is in hand.
        if self._stopping.is_set() or self._mesh_drains:
            self.outbox.release(task.lease)
            return
        self._tasks[task.lease] = task
        task._handle = _start_soon(self._perform(task, assignment), self.loop)

    def _cancel(self, task: Task) -> None:
        task.cancelled = True
        self._tasks.pop(task.lease, None)
        self.outbox.poke()
        if task._handle is not None:
            task._handle.cancel()

    async def _perform(self, task: Task, assignment: Assignment) -> None:
        try:
            output = await self._output(task, assignment)
        except asyncio.CancelledError:
            if not task.cancelled:
                await self._fail(task, TaskError("CANCELLED", "the handler cancelled itself", retryable=True))
        except TaskError as error:
            await self._fail(task, error)
        except grpc.aio.AioRpcError as error:
            await self._fail(task, TaskError(error.code(), f"{error.code().name}: {error.details()}"))
        except (Exception, SystemExit) as error:
            await self._crash(task, error)
        else:
            # Filling it in place costs half of what building it from parts does, and this is done for every task.
            answer = ConnectRequest()
            completed = answer.completed.add()
            completed.lease.task, completed.lease.lease_token = task.lease
            completed.output.CopyFrom(output)
            self._finish(task, answer)

    async def _output(self, task: Task, assignment: Assignment) -> Payload:
        """Reads the input, calls the handler and writes the output."""
        agent = self._agents.get(assignment.agent)
        if agent is None:
            raise TaskError("UNIMPLEMENTED", f"this worker does not serve agent '{assignment.agent}'", retryable=True)
        try:
            task.input = await self.blobs.value(assignment.input)
        except (ValueError, RecursionError) as error:
            raise TaskError("INVALID_ARGUMENT", f"the input cannot be read: {error}", retryable=False) from error
        arguments = agent.bind(task)
        if agent.is_async:
            result = await agent.handler(**arguments)
        else:
            result = await self._in_thread(agent.handler, arguments)
        try:
            text = encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"the answer of '{agent.name}' is no JSON: {error}"
            raise TaskError("INTERNAL", problem, retryable=False) from error
        return await self.blobs.payload(text)

    async def _in_thread(self, handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        call = functools.partial(contextvars.copy_context().run, self._counted, handler, arguments)
        return await self.loop.run_in_executor(self._threads, call)

    def _counted(self, handler: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        with self._counting:
            self.busy_threads += 1
        try:
            return handler(**arguments)
        except StopIteration as error:
            raise RuntimeError("the handler raised StopIteration") from error  # A future cannot carry it.
        finally:
            with self._counting:
                self.busy_threads -= 1

    async def _crash(self, task: Task, error: BaseException) -> None:
        """Fails a task whose handler raised something else than TaskError, with the traceback on record."""
        trace = error.__traceback__
        if trace is not None and trace.tb_next is not None:
            trace = trace.tb_next  # The first frame is this file's.
        lines = "".join(traceback.format_exception(type(error), error, trace))
        if not task.cancelled:
            line = LogLine(level=LogLevel.LOG_LEVEL_ERROR, text=cut(lines[-MAX_MESSAGE:], MAX_MESSAGE))
            lease = LeaseRef(task=task.lease[0], lease_token=task.lease[1])
            await self.outbox.report(TaskReport(lease=lease, report=StepReport(log=line), time=now()))
        await self._fail(task, TaskError("UNKNOWN", f"{type(error).__name__}: {error}", retryable=True))

    async def _fail(self, task: Task, error: TaskError) -> None:
        retry_after = None
        if error.retry_after is not None:
            retry_after = Duration()
            retry_after.FromTimedelta(error.retry_after)
        lease = LeaseRef(task=task.lease[0], lease_token=task.lease[1])
        failed = Failed(lease=lease, error=error.to_status(), retryable=error.retryable, retry_after=retry_after)
        self._finish(task, ConnectRequest(failed=[failed]))

    def _finish(self, task: Task, answer: ConnectRequest) -> None:
        if self._tasks.pop(task.lease, None) is not None:
            self.outbox.answer(task.lease, answer.SerializeToString())


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _as_it_is(frame: bytes) -> bytes:
    return frame


def _unavailable(text: str) -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, text, None)


def _start_soon(work: Any, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[None]":
    """Starts a task: at once where Python can (3.12), so that one which never waits is finished on return."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
