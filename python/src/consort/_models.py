"""The client's part for models: calls of them, and what is known about them."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Unpack

from google.protobuf.timestamp_pb2 import Timestamp

from consort._base import Base, Named
from consort._gen.agent.v1.worker_service_pb2 import LeaseRef
from consort._gen.inference.v1 import inference_service_pb2 as pb
from consort._gen.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from consort._generation import GenerateOptions, is_json, request_of
from consort.converse import TURNS, Conversation, converse
from consort.models import Embeddings, Model, UsageReport, model_from, usage_report
from consort.reply import Reply, Usage, reply_from, usage_from
from consort.stream import ReplyStream, persist
from consort.tools import tools_of
from consort.views import Run

# How much later than its timeout a call is given up here, where the mesh should have said so.
_LATE = 5.0
# Texts of one request: their vectors must fit into a message of 4 MiB, and some have 4,096 numbers.
_TEXTS = 128


class ModelCalls(Base):
    """The client's part for models."""

    async def generate(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> Reply:
        """Asks a model and returns its whole answer. What can be said beside the prompt is in GenerateOptions.

        RpcError says why there is none: `reason` is such as BUDGET_EXHAUSTED, QUEUE_FULL or RATE_LIMITED, and
        `violations` names what the mesh refuses. While the mesh is away the call is made again, for the client's
        timeout in all; how long a model may take is bounded by `timeout=` alone. Cancelling stops the model.
        """
        return await self.whole(request_of(prompt, options, parent=self._parent))

    def stream(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> ReplyStream:
        """Asks a model and gives its answer as it comes; otherwise as `generate`."""
        return self.pieces(request_of(prompt, options, parent=self._parent))

    async def converse(
        self, prompt: str | None = None, *, max_turns: int = TURNS, **options: Unpack[GenerateOptions]
    ) -> Conversation:
        """Asks a model, calls the tools it wants, and goes on until it answers without calling any.

        Of `tools`, those that are functions, or have one, are called with what the model wrote, one after the other.
        What one raises is told to the model as an error, as are arguments that do not fit and tools that do not exist.
        The model has at most `max_turns` answers; TurnsError if it then still wants tools. With `tool_choice`
        "required" or a name, only its first answer must call one.
        """
        request = request_of(prompt, options, parent=self._parent)
        return await converse(request, tools_of(options.get("tools") or ()), max_turns, self.whole)

    async def count_tokens(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> int:
        """How many tokens a request has, as its model would read it; an estimate for some providers."""
        request = pb.CountTokensRequest(request=request_of(prompt, options, parent=self._parent))
        answer = await self._call(lambda timeout: self._inference().CountTokens(request, timeout=timeout))
        return int(answer.tokens)

    async def embed(
        self, texts: Sequence[str], *, model: str | Named = "", dimensions: int = 0, key: str = ""
    ) -> Embeddings:
        """Vectors of unit length for texts, in order; many texts are asked for bit by bit.

        Without `model`, the one configured for embeddings does it. `dimensions` is the vectors' length, for models that
        can shorten them; 0 is the model's own.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts: {texts!r:.100} is one text; give a list")  # noqa: TRY004 - as for every argument.
        vectors: list[list[float]] = []
        name, usage, cost = "", Usage(), 0
        for begin in range(0, max(len(texts), 1), _TEXTS):
            request = pb.EmbedRequest(
                parent=self._parent,
                model=model if isinstance(model, str) else model.name,
                texts=texts[begin : begin + _TEXTS],
                dimensions=dimensions,
                key=key,
            )
            answer = await persist(lambda r=request: self._inference().Embed(r), self._timeout)  # type: ignore[misc]
            vectors += [list(each.values) for each in answer.embeddings]
            name, usage, cost = answer.model, usage + usage_from(answer.usage), cost + answer.cost_nanos
        return Embeddings(vectors, name, usage, cost / 1e9)

    async def models(self) -> list[Model]:
        """All models by name, with what was seen of them."""
        request = pb.ListModelsRequest()
        answer = await self._call(lambda timeout: self._inference().ListModels(request, timeout=timeout))
        return [model_from(model) for model in answer.models]

    async def model(self, name: str | Model) -> Model:
        """One model, by `models/{provider}/{model}`, `{provider}/{model}`, or the id of a local one."""
        request = pb.GetModelRequest(name=_model_name(name))
        return model_from(await self._call(lambda timeout: self._inference().GetModel(request, timeout=timeout)))

    async def load_model(self, name: str | Model, on_progress: Callable[[float], Any] | None = None) -> Model:
        """Loads a local model into memory and returns it; one that is loaded already is there at once.

        `on_progress`, a plain or an async function, is called with how far it is, from 0 to 1.
        """
        request = pb.LoadModelRequest(name=_model_name(name))

        async def attempt() -> pb.Model:
            found = pb.Model()
            async for news in self._inference().LoadModel(request):
                if news.HasField("model"):
                    found = news.model
                if on_progress is not None:
                    waiting = on_progress(news.progress)
                    if inspect.isawaitable(waiting):
                        await waiting
            return found

        return model_from(await persist(attempt, self._timeout))

    async def unload_model(self, name: str | Model) -> None:
        """Frees a local model's memory. What it was generating fails with UNAVAILABLE; the next call loads it again."""
        request = pb.UnloadModelRequest(name=_model_name(name))
        await self._call(lambda timeout: self._inference().UnloadModel(request, timeout=timeout))

    async def usage(
        self,
        *,
        run: str | Run | None = None,
        agent: str = "",
        key: str = "",
        model: str | Model = "",
        since: datetime | None = None,
        until: datetime | None = None,
        all_namespaces: bool = False,
    ) -> UsageReport:
        """What was used and spent, of one run (without its children), agent, key and model, or of all.

        Days count that begin at or after `since` and before `until`, in UTC; a time without a zone is one in UTC. Calls
        of the last second may be missing.
        """
        request = pb.GetUsageRequest(
            parent="namespaces/-" if all_namespaces else self._parent,
            agent=agent,
            run=self._name_or_none("runs", run),
            key=key,
            model=_model_name(model) if model else "",
        )
        for field, time in (("from", since), ("to", until)):
            if time is not None:
                getattr(request, field).CopyFrom(_timestamp(time))
        return usage_report(await self._call(lambda timeout: self._inference().GetUsage(request, timeout=timeout)))

    async def rate(self, response: str | Reply, score: float, comment: str = "") -> None:
        """Votes on an answer's quality, 0 (bad) to 1 (good), from which the routing policy "best" learns.

        `comment` has at most 1,000 characters. A later vote on the same answer replaces the earlier one; NOT_FOUND if
        the answer is not among the last 10,000.
        """
        found = response if isinstance(response, str) else response.response_id
        request = pb.RateResponseRequest(response_id=found, score=score, comment=comment)
        await self._call(lambda timeout: self._inference().RateResponse(request, timeout=timeout))

    # Requests that are ready to be sent. Those of tasks wait until there is a connection, so that a call which fails
    # without a word of the mesh is one that was sent.

    async def whole(self, request: pb.GenerateRequest) -> Reply:
        """The whole answer to a request."""
        once = pb.GenerateOnceRequest(request=request)
        limit = _limit(request)
        for_task = request.HasField("task")

        async def attempt() -> pb.GenerateOnceResponse:
            answer: pb.GenerateOnceResponse = await self._inference().GenerateOnce(
                once, timeout=limit, wait_for_ready=for_task
            )
            return answer

        answer = await persist(attempt, self._timeout, for_task=for_task)
        return reply_from(answer, is_json=is_json(request))

    def pieces(
        self,
        request: pb.GenerateRequest,
        wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
        soon: Callable[[Callable[[], None]], Any] | None = None,
    ) -> ReplyStream:
        """The answer to a request as it comes; `wait` runs work of the loop for a thread, `soon` calls it there."""
        limit, for_task = _limit(request), request.HasField("task")
        return ReplyStream(
            lambda: self._inference().Generate(request, timeout=limit, wait_for_ready=for_task),
            is_json=is_json(request),
            patience=self._timeout,
            for_task=for_task,
            wait=wait,
            soon=soon,
        )

    def _inference(self) -> Any:
        return InferenceServiceStub(self._open())


def for_task(request: pb.GenerateRequest, task: str, lease_token: int) -> pb.GenerateRequest:
    """The request, made on behalf of a task."""
    request.task.CopyFrom(LeaseRef(task=task, lease_token=lease_token))
    return request


def _limit(request: pb.GenerateRequest) -> float | None:
    if not request.HasField("timeout"):
        return None
    return float(request.timeout.seconds + request.timeout.nanos / 1e9 + _LATE)


def _model_name(model: str | Model) -> str:
    name = model if isinstance(model, str) else model.name
    if name.startswith("models/"):
        return name
    return f"models/{name}" if "/" in name else f"models/local/{name}"


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time if time.tzinfo else time.replace(tzinfo=UTC))
    return stamp
