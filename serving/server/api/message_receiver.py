"""Receives gRPC messages as bytes, with a limit on those that arrive slowly.

gRPC reports a message, and its size, only when all of it is in memory. A message that takes longer than a moment is large or
its client is slow; only a few such messages may arrive at once, and the others are not read before that is clear. A method
therefore reads its request itself: to a client, a method with one streamed message is a unary method. A method that raises
``ServingError`` ends its call with that status.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc

from serving.http.byte_budget import SMALL_BODY
from serving.status_errors import ServingError

MAX_READING = 2  # messages that are read at once; a small one has arrived already and takes no time
GRACE_SECONDS = 0.03  # time after which a message is large or slow
READ_SECONDS = 60.0  # time in which every message has to arrive
Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[bytes, Context], Awaitable[bytes]]
Result = TypeVar("Result")


async def catch_error(result: Awaitable[Result]) -> tuple[Any, tuple[str, str] | None]:
    """Return the result, or the status and the reason of its ``ServingError``, whose traceback may hold a message."""
    try:
        return await result, None
    except ServingError as error:
        return None, (error.status, error.message)


class MessageReceiver:
    """Receives the request messages of a gRPC server.

    Attributes:
        free: How many more messages may be arriving for longer than a moment; a large one counts until it is answered.
        refused: Called when gRPC has freed the memory of a message that was refused.
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
            response, error = await catch_error(self._answer(method, context))
            if error:
                # gRPC keeps an abort's exception, and so this frame, until the next garbage collection: it holds no message.
                await context.abort(grpc.StatusCode[error[0]], error[1])
            return response

        return handle

    async def _answer(self, method: Method, context: Context) -> bytes:
        await self.reading.acquire()
        arrival = _Arrival(self)
        try:
            messages = [await self._receive(context, arrival)]
            return await method(messages.pop(), context)  # this frame keeps no reference to the message
        finally:
            arrival.free_place()

    async def receive(self, context: Context) -> bytes:
        """Return the message of a call.

        Raises:
            ServingError: UNAVAILABLE if too many others are arriving, DEADLINE_EXCEEDED if it arrives too slowly.
        """
        await self.reading.acquire()
        arrival = _Arrival(self)
        try:
            return await self._receive(context, arrival)
        finally:
            arrival.free_place()

    async def _receive(self, context: Context, arrival: "_Arrival") -> bytes:
        # gRPC never frees a message whose read was cancelled, so the read ends by itself: with its message, or with its call.
        read = asyncio.ensure_future(context.read())
        read.add_done_callback(arrival.stop_waiting)  # one future to wait for takes less time than asyncio.wait for two
        try:
            refusal = await arrival.refusal
        finally:
            arrival.end()
            if not read.done():
                read.add_done_callback(self._drop)
        if refusal and not read.done():
            raise ServingError(*refusal)
        message = read.result()
        if message is grpc.aio.EOF:
            raise ServingError("INVALID_ARGUMENT", "The call has no request message")
        if len(message) <= SMALL_BODY:
            arrival.free_place()
        return bytes(message)

    def _drop(self, read: "asyncio.Future[Any]") -> None:
        """Drop the result of a read whose call was refused, or has ended."""
        if not read.cancelled():
            read.exception()  # asyncio reports an exception that nobody has read
        self.refused()


class _Arrival:
    """A message that is being read: takes one of the receiver's places if that takes longer than a moment.

    Attributes:
        refusal: Its result is the status and the reason with which the message is refused, or None if it has arrived.
    """

    def __init__(self, receiver: MessageReceiver) -> None:
        self.receiver = receiver
        self.has_place = False
        self._loop = asyncio.get_running_loop()
        self.refusal: asyncio.Future[tuple[str, str] | None] = self._loop.create_future()
        self._timer = self._loop.call_later(GRACE_SECONDS, self._take_place)

    def _take_place(self) -> None:
        if not self.receiver.free:
            self._refuse("UNAVAILABLE", f"{self.receiver.slots} large messages are under way already; try again later")
            return
        self.receiver.free -= 1
        self.receiver.reading.release()
        self.has_place = True
        self._timer = self._loop.call_later(
            READ_SECONDS, self._refuse, "DEADLINE_EXCEEDED", f"The request did not arrive in {READ_SECONDS:g} seconds"
        )

    def stop_waiting(self, _: "asyncio.Future[Any]") -> None:
        """Set that the message has arrived, or that its call has ended."""
        if not self.refusal.done():
            self.refusal.set_result(None)

    def _refuse(self, status: str, message: str) -> None:
        if not self.refusal.done():
            self.refusal.set_result((status, message))

    def end(self) -> None:
        """End the reading: another message may be read."""
        self._timer.cancel()
        if not self.has_place:
            self.receiver.reading.release()

    def free_place(self) -> None:
        """Free the place, if one was taken: a large message has been answered, or a slow one was small."""
        self.receiver.free += self.has_place
        self.has_place = False
