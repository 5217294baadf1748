"""HTTP/1.1 server on asyncio and httptools for a single handler; ``asgi`` runs the same handler under any ASGI server.

Client errors are answered here: malformed request 400, slow request 408, body too large 413, target too long 414,
Content-Encoding not supported 415, headers too large 431. If too many bytes of requests are under way, a large request is
answered with 503. An exception in the handler is logged and answered with 500; the connection stays open.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from email.utils import formatdate
from typing import Any

from serving.http.byte_budget import BudgetExceededError, ByteBudget, Reservation
from serving.http.connection import Connection
from serving.http.messages import (
    RETRY_AFTER,
    Handler,
    Request,
    Response,
    call_handler,
    check_encoding,
    error_response,
)

__all__ = ["Handler", "Request", "Response", "Server", "asgi", "run", "serve"]

MAX_BODY = 64 << 20
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


class Server:
    """A listening server. ``port`` is the actual port, also if 0 was requested."""

    def __init__(
        self,
        handler: Handler,
        max_body: int,
        budget: ByteBudget,
        encodings: Sequence[str],
        idle_seconds: float,
        read_seconds: float,
    ) -> None:
        self.handler, self.max_body, self.budget, self.encodings = handler, max_body, budget, encodings
        self.idle_seconds, self.read_seconds = idle_seconds, read_seconds
        self.connections: set[Connection] = set()
        self.draining, self.port, self.date = False, 0, b""
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int, backlog: int, reuse_port: bool) -> "Server":
        """Start listening.

        Raises:
            OSError: if the address is taken or not of this machine; the message names it.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._listening = await self._loop.create_server(
                lambda: Connection(self, self._loop), host, port, backlog=backlog, reuse_port=reuse_port or None
            )
        except OSError as error:
            reason = describe_address_error(error)
            raise OSError(
                f"Nothing can listen on {host}:{port}: {reason}; choose another port (0: a free one) or address."
            ) from None
        self._sweep()
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Stop accepting, answer the requests in flight with ``Connection: close``, then abort what is still open."""
        self._listening.close()
        self.draining = True
        # A client may just be sending on a connection that seems idle: it gets its answer with "connection: close".
        await self._wait_until_empty(min(1.0, drain_seconds / 4))
        for connection in list(self.connections):
            connection.close_if_idle()
        await self._wait_until_empty(drain_seconds * 3 / 4)
        for connection in list(self.connections):
            connection.transport.abort()
        self._timer.cancel()

    def forget(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def _wait_until_empty(self, seconds: float) -> None:
        self._empty.clear()
        if self.connections and seconds > 0:
            await asyncio.wait([asyncio.ensure_future(self._empty.wait())], timeout=seconds)

    def _sweep(self) -> None:
        """Check the timeouts of all connections with one timer: a timer each would cost more than the parsing."""
        self.date = b"\r\ndate: " + formatdate(usegmt=True).encode()
        now = self._loop.time()
        for connection in list(self.connections):
            connection.check(now)
        self._timer = self._loop.call_later(min(1.0, self.idle_seconds / 4, self.read_seconds / 4), self._sweep)


def describe_address_error(error: OSError) -> str:
    """Return why an address cannot be used, as the operating system says it; the event loop's text repeats the address."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


async def serve(
    handler: Handler,
    host: str,
    port: int,
    *,
    max_body: int = MAX_BODY,
    budget: ByteBudget | None = None,
    encodings: Sequence[str] = (),
    idle_seconds: float = 75.0,
    read_seconds: float = 30.0,
    backlog: int = 1024,
    reuse_port: bool = False,
) -> Server:
    """Answer requests with ``handler`` until the server is closed.

    Args:
        handler: Called for each request; requests of one connection are handled one after the other.
        host: Address to listen on.
        port: 0 for any free port.
        max_body: Maximum size of a request's body in bytes; a larger one is answered with 413.
        budget: Counts the bytes of the bodies that have arrived and are not answered; by default one of its own.
        encodings: Supported values of Content-Encoding, which the handler decodes; others are answered with 415.
        idle_seconds: How long a connection may be idle between requests.
        read_seconds: How long a request may take to arrive, and a client to read a response; large bodies get longer.
        backlog: Number of connections that may wait to be accepted.
        reuse_port: Whether several processes may listen on the port.
    """
    server = Server(handler, max_body, budget or ByteBudget(), encodings, idle_seconds, read_seconds)
    return await server.start(host, port, backlog, reuse_port)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Like ``asyncio.run``, on uvloop."""
    from uvloop import new_event_loop  # imported here, because most importers of this module run no server

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def asgi(
    handler: Handler, *, max_body: int = MAX_BODY, budget: ByteBudget | None = None, encodings: Sequence[str] = ()
) -> Application:
    """Return the handler as an ASGI application, for uvicorn and other ASGI servers; see :func:`serve`."""
    budget = budget or ByteBudget()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
        elif scope["type"] == "http":
            with budget.reserve() as reservation:
                response = await answer(scope, receive, reservation)
                if response is not None:
                    await _send(send, scope, response)

    async def answer(scope: dict[str, Any], receive: Any, reservation: Reservation) -> Response | None:
        headers = _decode_headers(scope)
        if unsupported := check_encoding(headers, encodings):
            return unsupported
        try:
            body = await _read_body(receive, max_body, reservation)
        except BudgetExceededError as error:
            return error_response(503, str(error), RETRY_AFTER)
        if body is None:
            return None
        if len(body) > max_body:
            return error_response(413, f"The body is larger than {max_body} bytes.")
        query = scope["query_string"].decode("latin-1")
        return await call_handler(handler, Request(scope["method"], scope["path"], query, headers, body))

    return application


async def _run_lifespan(receive: Any, send: Any) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


async def _read_body(receive: Any, max_body: int, reservation: Reservation) -> bytes | None:
    """Return the body, or its beginning if it is longer than ``max_body``; None if the client has disconnected.

    Raises:
        BudgetExceededError: if too many bytes of requests are under way.
    """
    parts, size, more = [], 0, True
    while more and size <= max_body:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        reservation.grow(size)
    return b"".join(parts)


def _decode_headers(scope: dict[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _send(send: Any, scope: dict[str, Any], response: Response) -> None:
    headers = [("content-type", response.content_type), ("content-length", str(len(response.body))), *response.headers]
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
