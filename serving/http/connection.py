"""One client's connection: bytes to requests, answers to bytes, and everything that a client may do wrong between."""

import asyncio
from collections import deque
from typing import NoReturn, Protocol, cast
from urllib.parse import unquote

import httptools

from serving.http.messages import Handler, Request, Response, answered, encoded, failure

MAX_HEAD = 64 << 10
MAX_TARGET = 8 << 10
PIPELINED = 16
LINGER = 2.0
SLOWEST = 100_000  # bytes of a body a second


class Refused(Exception):
    """The request cannot be read; ``response`` says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = failure(status, message)


class Listener(Protocol):
    """The listening server, as its connections see it.

    Attributes:
        handler: Called once a request.
        max_body: Largest body in bytes.
        idle_seconds: How long a connection may lie idle between requests.
        read_seconds: How long a request may take to arrive.
        connections: The open connections.
        draining: Whether the server is closing.
        date: Value of the Date header.
    """

    handler: Handler
    max_body: int
    idle_seconds: float
    read_seconds: float
    connections: "set[Connection]"
    draining: bool
    date: bytes

    def left(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""


class Connection(asyncio.Protocol):
    """One client. Parsed requests wait in ``queue`` for ``_work``, which answers them in order.

    Attributes:
        over: Nothing more is read: the client or we said that this was the last.
        reading: A request has begun to arrive; ``in_head`` while it is the headers.
        held: Reading is paused, because too many requests wait.
        since: When began what is being waited for: the next request, the rest of it, or the client's reading.
    """

    def __init__(self, server: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.queue: deque[tuple[Request | Response, bool]] = deque()
        self.parser = httptools.HttpRequestParser(self)
        self.over = self.reading = self.in_head = self.held = self.working = self.lingering = self.expecting = False
        self.writable: asyncio.Future[None] | None = None
        self.refusal: Refused | None = None
        self.head_bytes = self.size = 0
        self.since = loop.time()
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        del self.parser  # which knows this connection: only the garbage collector would find the two
        self.queue.clear()
        self.resume_writing()
        self.server.left(self)

    def eof_received(self) -> bool:
        """A client may close its side and still wait for answers."""
        self.over = True
        return self.working

    def pause_writing(self) -> None:
        self.writable, self.since = self.loop.create_future(), self.loop.time()

    def resume_writing(self) -> None:
        if self.writable and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        headers = self.headers if self.in_head else None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.over = True  # answered as plain HTTP; what follows would be in another protocol
        except httptools.HttpParserError as error:
            if not self.over:
                self._refuse(self.refusal or Refused(400, f"Malformed HTTP: {error}"))
        else:
            if self.in_head and self.headers is headers:
                self.head_bytes += len(data)
            self._watch()

    def _watch(self) -> None:
        """Bounds a header that does not end, of which the parser tells nothing, and requests that wait."""
        if self.in_head and self.head_bytes > 2 * MAX_HEAD:
            self._refuse(Refused(431, f"Headers are larger than {MAX_HEAD} bytes."))
        if len(self.queue) >= PIPELINED and not self.held:
            self.held = True
            self.transport.pause_reading()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self.reading = self.in_head = True
        self.target, self.headers, self.body = b"", {}, []
        self.head_bytes = self.size = 0
        self.since = self.loop.time()

    def on_url(self, part: bytes) -> None:
        self.target += part
        if len(self.target) > MAX_TARGET:
            self._stop(414, f"The target is longer than {MAX_TARGET} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value) + 4
        if self.head_bytes > MAX_HEAD:
            self._stop(431, f"Headers are larger than {MAX_HEAD} bytes.")
        if self.in_head:  # after the body come trailers, which nobody asked for
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            if key in self.headers:
                if key == "host":
                    self._stop(400, "There are two Host headers.")
                text = f"{self.headers[key]}, {text}"
            self.headers[key] = text

    def on_headers_complete(self) -> None:
        self.in_head = False
        headers, most = self.headers, self.server.max_body
        if "host" not in headers and self.parser.get_http_version() == "1.1":
            self._stop(400, "The Host header is missing.")
        if "content-length" in headers and int(headers["content-length"]) > most:
            self._stop(413, f"The body is larger than {most} bytes.")
        if "expect" in headers:
            if headers["expect"].lower() != "100-continue":
                self._stop(417, "Only 100-continue can be expected.")
            self.expecting = True
            self._continue()

    def on_body(self, part: bytes) -> None:
        self.expecting = False
        self.size += len(part)
        if self.size > self.server.max_body:
            self._stop(413, f"The body is larger than {self.server.max_body} bytes.")
        self.body.append(part)

    def on_message_complete(self) -> None:
        self.reading = self.expecting = False
        keep = self.parser.should_keep_alive()
        try:
            path, query = _split(self.target)
        except (ValueError, httptools.HttpParserInvalidURLError):
            self._stop(400, "The target is not a URL.")
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.over = not keep
        self._put(Request(self.parser.get_method().decode(), path, query, self.headers, body), keep)

    def _stop(self, status: int, message: str) -> NoReturn:
        """Ends the parsing from inside a callback."""
        self.refusal = Refused(status, message)
        raise self.refusal

    # What follows from it.

    def check(self, now: float) -> None:
        """Ends what takes too long; called every now and then."""
        waited = now - self.since
        if self.lingering or self.writable:
            if waited > (LINGER if self.lingering else self.server.read_seconds):
                self.transport.abort()
        elif self.working:
            pass
        elif self.reading:
            if waited > self.server.read_seconds + self.size / SLOWEST:
                self._refuse(Refused(408, "The request took too long to arrive."))
        elif waited > self.server.idle_seconds:
            self.transport.close()

    def close_if_idle(self) -> None:
        """Closes between two requests."""
        if not (self.working or self.reading or self.lingering):
            self.transport.close()

    def _refuse(self, refusal: Refused) -> None:
        """Answers after what is being answered already, then closes."""
        self.over, self.reading = True, False
        self._put(refusal.response, False)

    def _put(self, item: Request | Response, keep: bool) -> None:
        self.queue.append((item, keep))
        if not self.working:
            self.working = True
            self.task = self.loop.create_task(self._work())

    def _continue(self) -> None:
        """Asks for the body, but never in front of an earlier answer."""
        if self.expecting and not self.working:
            self.expecting = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _work(self) -> None:
        while self.queue:
            item, keep = self.queue.popleft()
            request: Request | None = None
            if isinstance(item, Request):
                request, response = item, await answered(self.server.handler, item)
            else:
                response = item
            if self.transport.is_closing():
                break
            last = (self.over or self.server.draining) and not (self.queue or self.reading)
            keep = keep and not last
            self.transport.write(encoded(request, response, keep, self.server.date))
            if not keep:
                self.over, self.lingering = True, request is None
                break
            if self.writable:
                await self.writable
            if self.held and len(self.queue) < PIPELINED // 2 and not self.transport.is_closing():
                self.held = False
                self.transport.resume_reading()
        self._rest()

    def _rest(self) -> None:
        """All that has arrived is answered."""
        self.working, self.since = False, self.loop.time()
        if self.lingering and self.transport.can_write_eof() and not self.transport.is_closing():
            # Closed with bytes unread, the kernel would reset the connection, and the answer would be lost.
            self.transport.write_eof()
        elif self.over:
            self.transport.close()
        else:
            self._continue()


def _split(target: bytes) -> tuple[str, str]:
    """Decoded path, and query."""
    if not target.startswith(b"/") and target != b"*":
        url = httptools.parse_url(target)
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.decode("ascii").partition("?")
    return unquote(path, errors="strict") if "%" in path else path, query
