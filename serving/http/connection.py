"""One client connection: parses requests, writes responses, and enforces limits and timeouts."""

import asyncio
from collections import deque
from typing import NoReturn, cast
from urllib.parse import unquote

import httptools

from serving.http.byte_budget import BudgetExceededError, Reservation
from serving.http.incoming_body import IncomingBody
from serving.http.listener import Listener
from serving.http.messages import (
    RETRY_AFTER,
    Request,
    Response,
    call_handler,
    check_encoding,
    encode_response,
    error_response,
)

MAX_HEAD = 64 << 10  # bytes of all headers
MAX_TARGET = 8 << 10  # bytes of the request target
LARGE_READ = 64 << 10  # bytes of one read after which other connections get their turn
REFUSED_PAUSE = 0.5  # seconds between two reads of what a refused client still sends
MAX_PIPELINED = 16  # parsed requests that may wait before reading is paused
LINGER_SECONDS = 2.0  # how long a rejected client may take to read the error response
MIN_BODY_RATE = 100_000  # bytes a second at which a body has to arrive


class BadRequestError(Exception):
    """A request that is not read; ``response`` holds the error response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Connection(asyncio.Protocol):
    """One client. Parsed requests wait in ``queue`` for ``_answer_requests``, which answers them in order.

    Attributes:
        input_closed: No further request is read: the client or the server has announced the end of the connection.
        reading: A request has started to arrive; ``in_head`` is true while its headers arrive.
        reading_paused: Reading is paused, because too many requests are queued.
        waiting_since: Start of the current wait: for the next request, for the rest of one, or for the client to read.
    """

    def __init__(self, server: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.queue: deque[tuple[Request | Response, bool, Reservation]] = deque()
        self.parser = httptools.HttpRequestParser(self)
        self.input_closed = self.reading = self.in_head = self.reading_paused = False
        self.working = self.lingering = self.expecting = False
        self.writable: asyncio.Future[None] | None = None
        self.refusal: BadRequestError | None = None
        self.head_bytes = 0
        self.waiting_since = loop.time()
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body = IncomingBody(server.budget)

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.input_closed = True
        del self.parser  # breaks the reference cycle with this connection, so that both are freed at once
        for _, _, reservation in self.queue:
            reservation.release()
        self.queue.clear()
        self.body.drop()
        self.resume_writing()
        self.server.forget(self)

    def eof_received(self) -> bool:
        """Keep the transport open while responses are due: a client may close its side and still wait for them."""
        self.input_closed = True
        return self.working

    def pause_writing(self) -> None:
        self.writable, self.waiting_since = self.loop.create_future(), self.loop.time()

    def resume_writing(self) -> None:
        if self.writable and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def data_received(self, data: bytes) -> None:
        if len(data) >= LARGE_READ:
            self._let_others_read()
        if self.input_closed:
            return
        headers = self.headers if self.in_head else None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.input_closed = (
                True  # the request is answered as plain HTTP; the bytes after it belong to another protocol
            )
        except httptools.HttpParserError as error:
            if not self.input_closed:
                self._refuse(self.refusal or BadRequestError(error_response(400, f"Malformed HTTP: {error}")))
        else:
            if self.in_head and self.headers is headers:
                self.head_bytes += len(data)
            self._enforce_limits()

    def _let_others_read(self) -> None:
        """Read no more in this turn of the event loop, which would read megabytes of each connection before the next."""
        self.transport.pause_reading()
        # What a refused client still sends is read slowly, only so that it gets the response.
        self.loop.call_later(REFUSED_PAUSE if self.input_closed else 0, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self.reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _enforce_limits(self) -> None:
        """Limit an unfinished header, which the parser does not report, and the number of queued requests."""
        if self.in_head and self.head_bytes > 2 * MAX_HEAD:
            self._refuse(BadRequestError(error_response(431, f"Headers are larger than {MAX_HEAD} bytes.")))
        if len(self.queue) >= MAX_PIPELINED and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        self.reading = self.in_head = True
        self.target, self.headers = b"", {}
        self.head_bytes = 0
        self.body.drop()
        self.waiting_since = self.loop.time()

    def on_url(self, part: bytes) -> None:
        self.target += part
        if len(self.target) > MAX_TARGET:
            self._stop(414, f"The target is longer than {MAX_TARGET} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value) + 4
        if self.head_bytes > MAX_HEAD:
            self._stop(431, f"Headers are larger than {MAX_HEAD} bytes.")
        if self.in_head:  # headers after the body are trailers, which are ignored
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            if key in self.headers:
                if key == "host":
                    self._stop(400, "There are two Host headers.")
                text = f"{self.headers[key]}, {text}"
            self.headers[key] = text

    def on_headers_complete(self) -> None:
        self.in_head = False
        headers, max_body = self.headers, self.server.max_body
        if "host" not in headers and self.parser.get_http_version() == "1.1":
            self._stop(400, "The Host header is missing.")
        if "content-length" in headers and int(headers["content-length"]) > max_body:
            self._stop(413, f"The body is larger than {max_body} bytes.")
        if "content-encoding" in headers and (unsupported := check_encoding(headers, self.server.encodings)):
            self._stop_with(unsupported)
        if "expect" in headers:
            if headers["expect"].lower() != "100-continue":
                self._stop(417, "The Expect header must be 100-continue.")
            self.expecting = True
            self._continue()

    def on_body(self, part: bytes) -> None:
        self.expecting = False
        if self.body.size + len(part) > self.server.max_body:
            self._stop(413, f"The body is larger than {self.server.max_body} bytes.")
        try:
            self.body.add(part)
        except BudgetExceededError as error:
            self._stop_with(error_response(503, str(error), RETRY_AFTER))

    def on_message_complete(self) -> None:
        self.reading = self.expecting = False
        keep = self.parser.should_keep_alive()
        try:
            path, query = _split_target(self.target)
        except (ValueError, httptools.HttpParserInvalidURLError):
            self._stop(400, "The request target is not a valid URL.")
        body, reservation = self.body.take()
        self.input_closed = not keep
        self._enqueue(Request(self.parser.get_method().decode(), path, query, self.headers, body), keep, reservation)

    def _stop(self, status: int, message: str) -> NoReturn:
        """Abort the parsing from inside a callback."""
        self._stop_with(error_response(status, message))

    def _stop_with(self, response: Response) -> NoReturn:
        self.refusal = BadRequestError(response)
        raise self.refusal

    # Responses and timeouts.

    def check(self, now: float) -> None:
        """Close the connection if it has exceeded a timeout; called periodically."""
        waited = now - self.waiting_since
        if self.lingering or self.writable:
            if waited > (LINGER_SECONDS if self.lingering else self.server.read_seconds):
                self.transport.abort()
        elif self.working:
            pass
        elif self.reading:
            if waited > self.server.read_seconds + self.body.size / MIN_BODY_RATE:
                self._refuse(BadRequestError(error_response(408, "The request took too long to arrive.")))
        elif waited > self.server.idle_seconds:
            self.transport.close()

    def close_if_idle(self) -> None:
        """Close the connection if it is between two requests."""
        if not (self.working or self.reading or self.lingering):
            self.transport.close()

    def _refuse(self, refusal: BadRequestError) -> None:
        """Send the error response after the responses that are due, then close."""
        self.input_closed, self.reading = True, False
        self.body.drop()
        self._enqueue(refusal.response, False, self.server.budget.reserve())

    def _enqueue(self, item: Request | Response, keep: bool, reservation: Reservation) -> None:
        self.queue.append((item, keep, reservation))
        if not self.working:
            self.working = True
            self.task = self.loop.create_task(self._answer_requests())

    def _continue(self) -> None:
        """Ask the client for the body, but never before an earlier response."""
        if self.expecting and not self.working:
            self.expecting = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _answer_requests(self) -> None:
        while self.queue:
            item, keep, reservation = self.queue.popleft()
            with reservation:
                keep = await self._answer(item, keep)
                if self.writable:
                    await self.writable
            del item  # frees the body
            if not keep or self.transport.is_closing():
                break
            if self.reading_paused and len(self.queue) < MAX_PIPELINED // 2:
                self.reading_paused = False
                self._resume_reading()
        self._finish_work()

    async def _answer(self, item: Request | Response, keep: bool) -> bool:
        """Write the response to a request, or an error response; return whether the connection stays open."""
        request = item if isinstance(item, Request) else None
        response = await call_handler(self.server.handler, item) if isinstance(item, Request) else item
        if self.transport.is_closing():
            return False
        last = (self.input_closed or self.server.draining) and not (self.queue or self.reading)
        keep = keep and not last
        for part in encode_response(request, response, keep, self.server.date):
            self.transport.write(part)
        if not keep:
            self.input_closed, self.lingering = True, request is None
        return keep

    def _finish_work(self) -> None:
        """Close the connection or wait for the next request, once everything that has arrived is answered."""
        self.working, self.waiting_since = False, self.loop.time()
        if self.lingering and self.transport.can_write_eof() and not self.transport.is_closing():
            # Closing with unread bytes makes the kernel reset the connection, and the client would lose the response.
            self.transport.write_eof()
        elif self.input_closed:
            self.transport.close()
        else:
            self._continue()


def _split_target(target: bytes) -> tuple[str, str]:
    """Return the decoded path and the raw query."""
    if not target.startswith(b"/") and target != b"*":
        url = httptools.parse_url(target)
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.decode("ascii").partition("?")
    return unquote(path, errors="strict") if "%" in path else path, query
