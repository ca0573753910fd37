"""A Python worker for the shape: `python -m bench.shape_worker PORT`. Every task of a frame goes through a handler."""

import asyncio
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto


def messages() -> Any:
    """The class of `shape.Batch`, as in shape/proto/shape.proto, made without generated code."""
    file = descriptor_pb2.FileDescriptorProto(name="shape.proto", package="shape", syntax="proto3")
    item = file.message_type.add(name="Item")
    one = _FIELD.LABEL_OPTIONAL
    item.field.add(name="number", number=1, type=_FIELD.TYPE_UINT64, label=one)
    item.field.add(name="body", number=2, type=_FIELD.TYPE_BYTES, label=one)
    batch = file.message_type.add(name="Batch")
    many = _FIELD.LABEL_REPEATED
    batch.field.add(name="items", number=1, type=_FIELD.TYPE_MESSAGE, label=many, type_name=".shape.Item")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shape.Batch"))


async def noop(body: bytes) -> bytes:
    """The handler: it does nothing."""
    return body


async def main(port: int) -> None:
    """Answers tasks until the stream ends."""
    batches = messages()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        work: Any = channel.stream_stream(
            "/shape.Shape/Work",
            request_serializer=batches.SerializeToString,
            response_deserializer=batches.FromString,
        )
        stream = work()
        await stream.wait_for_connection()
        print("ready", flush=True)
        async for tasks in stream:
            answers = batches()
            for task in tasks.items:
                answers.items.add(number=task.number, body=await noop(task.body))
            await stream.write(answers)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
