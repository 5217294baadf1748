"""The receiver of gRPC messages, with a stand-in for the context of a call: no refused message stays in memory."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc

from serving.server.api import message_receiver
from serving.server.api.message_receiver import MessageReceiver
from serving.status_errors import ServingError


class Text(str):
    """A value that can be referred to weakly, as a message cannot."""


class FakeContext:
    """Context of a call whose message arrives when ``arrived`` is set; like gRPC, it keeps the exception of an abort."""

    def __init__(self, message: bytes) -> None:
        self.message, self.arrived, self.cancelled = message, asyncio.Event(), False
        self.aborted: Exception | None = None
        self.code: Any = None

    async def read(self) -> bytes:
        try:
            await self.arrived.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.message

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.aborted = code, RuntimeError(details)
        raise self.aborted


def find_handler(receiver: MessageReceiver, method: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
    handlers: Any = receiver.create_handlers("Service", {"Method": method})
    return handlers.service(SimpleNamespace(method="/Service/Method")).stream_unary


async def call(handler: Callable[..., Awaitable[bytes]], context: FakeContext) -> bytes | None:
    try:
        return await handler(None, context)
    except RuntimeError:
        return None


async def echo(message: bytes, context: Any) -> bytes:
    return message


def test_read_of_a_refused_message_is_not_cancelled(monkeypatch):
    """gRPC frees a message only where its read ends by itself."""
    monkeypatch.setattr(message_receiver, "GRACE_SECONDS", 0.0)

    async def check() -> None:
        refused: list[bool] = []
        receiver = MessageReceiver(1, lambda: refused.append(True))
        contexts = [FakeContext(b"a" * 100_000) for _ in range(3)]
        calls = [asyncio.create_task(call(find_handler(receiver, echo), context)) for context in contexts]
        await asyncio.wait(calls[1:])
        assert [context.code for context in contexts] == [
            None,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNAVAILABLE,
        ]
        assert not refused and receiver.free == 0
        for context in contexts:
            context.arrived.set()
        assert await calls[0] == contexts[0].message
        await asyncio.sleep(0)
        assert len(refused) == 2 and not any(context.cancelled for context in contexts)
        assert receiver.free == 1

    asyncio.run(check())


def test_large_message_keeps_its_place_until_it_is_answered(monkeypatch):
    monkeypatch.setattr(message_receiver, "GRACE_SECONDS", 0.0)

    async def check(size: int, free_while_answered: int) -> None:
        receiver, free = MessageReceiver(1, lambda: None), []

        async def record(message: bytes, context: Any) -> bytes:
            free.append(receiver.free)
            return b""

        context = FakeContext(b"a" * size)
        task = asyncio.create_task(call(find_handler(receiver, record), context))
        while receiver.free:
            await asyncio.sleep(0)
        context.arrived.set()
        await task
        assert free == [free_while_answered] and receiver.free == 1

    asyncio.run(check(100_000, 0))
    asyncio.run(check(10, 1))


def test_exception_of_an_abort_holds_nothing_of_the_method():
    values: list[Any] = []

    async def fail(message: bytes, context: Any) -> bytes:
        parsed = Text("a")
        values.append(weakref.ref(parsed))
        raise ServingError("NOT_FOUND", f"no model {parsed}")

    async def check() -> FakeContext:
        context = FakeContext(b"a")
        context.arrived.set()
        await call(find_handler(MessageReceiver(1, lambda: None), fail), context)
        return context

    gc.disable()
    try:
        context = asyncio.run(check())
        assert context.code is grpc.StatusCode.NOT_FOUND and context.aborted
        assert values[0]() is None
    finally:
        gc.enable()
