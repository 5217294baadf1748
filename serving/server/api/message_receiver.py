"""Receives gRPC messages as bytes, with a limit on those that arrive slowly.

gRPC reports a message, and its size, only when all of it is in memory. A message that takes longer than a moment is large or
its client is slow; only a few such messages may arrive at once, and the others are not read before that is clear. A method
therefore reads its request itself: to a client, a method with one streamed message is a unary method.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

from serving.status_errors import ServingError

MAX_READING = 2  # messages that are read at once; a small one has arrived already and takes no time
GRACE_SECONDS = 0.03  # time after which a message is large or slow
READ_SECONDS = 60.0  # time in which every message has to arrive
Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[bytes, Context], Awaitable[bytes]]


class MessageReceiver:
    """Receives the request messages of a gRPC server.

    Attributes:
        free: How many more messages may be arriving for longer than a moment.
        refused: Called when a message is refused, whose memory gRPC frees then.
        reading: Admits the messages that are read.
    """

    def __init__(self, slots: int, refused: Callable[[], None]) -> None:
        self.free = self.slots = slots
        self.refused = refused
        self.reading = asyncio.Semaphore(MAX_READING)

    def create_handlers(self, service: str, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
        """Return the handlers of a service whose methods map a serialized request to a serialized response."""
        return grpc.method_handlers_generic_handler(
            service,
            {
                name: grpc.stream_unary_rpc_method_handler(self._create_handler(method))
                for name, method in methods.items()
            },
        )

    def _create_handler(self, method: Method) -> Any:
        async def handle(requests: Any, context: Context) -> bytes:
            messages = [await self.receive_or_abort(context)]
            return await method(messages.pop(), context)  # this frame keeps no reference to the message

        return handle

    async def receive_or_abort(self, context: Context) -> bytes:
        """Return the message of a call; end the call if it is refused."""
        try:
            return await self.receive(context)
        except ServingError as error:
            await context.abort(grpc.StatusCode[error.status], error.message)
            raise

    async def receive(self, context: Context) -> bytes:
        """Return the message of a call.

        Raises:
            ServingError: UNAVAILABLE if too many others are arriving, DEADLINE_EXCEEDED if it arrives too slowly.
        """
        await self.reading.acquire()
        arrival = _Arrival(self, asyncio.current_task())
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if arrival.error is None:
                raise
            arrival.task.uncancel()
            raise arrival.error from None
        finally:
            arrival.end()
        if message is grpc.aio.EOF:
            raise ServingError("INVALID_ARGUMENT", "The call has no request message")
        return bytes(message)


class _Arrival:
    """A message that is being read: takes one of the receiver's places if that takes longer than a moment."""

    def __init__(self, receiver: MessageReceiver, task: Any) -> None:
        self.receiver, self.task = receiver, task
        self.counted = False
        self.error: ServingError | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(GRACE_SECONDS, self._count)

    def _count(self) -> None:
        if not self.receiver.free:
            self._refuse("UNAVAILABLE", f"{self.receiver.slots} large messages are arriving already; try again later")
            return
        self.receiver.free -= 1
        self.receiver.reading.release()
        self.counted = True
        self._timer = self._loop.call_later(
            READ_SECONDS, self._refuse, "DEADLINE_EXCEEDED", f"The request did not arrive in {READ_SECONDS:g} seconds"
        )

    def _refuse(self, status: str, message: str) -> None:
        self.error = ServingError(status, message)
        self.task.cancel()
        self.receiver.refused()

    def end(self) -> None:
        """Free the place."""
        self._timer.cancel()
        if self.counted:
            self.receiver.free += 1
        else:
            self.receiver.reading.release()
