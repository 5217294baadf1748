"""HTTP requests and responses, independent of the server that carries them, and the encoding of a response."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus

BODILESS = (204, 304)
JOINED_BODY = 64 << 10  # bytes of a body up to which a copy of it costs less than a second write
RETRY_AFTER = ("retry-after", "1")  # seconds; for a server that has too much to do at the moment
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Request:
    """One complete request. ``path`` is URL-decoded, ``query`` is not; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes | bytearray


@dataclass(slots=True)
class Response:
    """One response; the server adds the content-length, date and connection headers."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


def error_response(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """Return an error response with the JSON body ``{"error": message}``."""
    return Response(status, json.dumps({"error": message}).encode(), headers=headers)


def check_encoding(headers: Mapping[str, str], encodings: Sequence[str]) -> Response | None:
    """Return a 415 that names the supported encodings if the body's Content-Encoding is not one of them."""
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding in ("identity", *encodings):
        return None
    supported = ", ".join(encodings) or "identity"
    message = f"Content-Encoding {encoding[:100]} is not supported; send {supported}."
    return error_response(415, message, ("accept-encoding", supported))


async def call_handler(handler: Handler, request: Request) -> Response:
    """Return the handler's response, or a 500 without details of the exception, which is logged."""
    try:
        response = await handler(request)
        for name, value in (("", response.content_type), *response.headers):
            if not (name + value).isprintable() or not (name + value).isascii():
                raise ValueError(f"the header {name or 'content-type'!r} cannot be sent")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return error_response(500, "The server failed to answer; see its log for the reason.")
    return response


@cache
def _format_status_line(status: int, content_type: str) -> bytes:
    return f"HTTP/1.1 {status} {PHRASES.get(status, 'Unknown')}\r\ncontent-type: {content_type}".encode("latin-1")


def encode_response(request: Request | None, response: Response, keep: bool, date: bytes) -> Sequence[bytes]:
    """Encode a response in one or two parts; ``request`` is None if the request could not be read."""
    head, body = _format_status_line(response.status, response.content_type) + date, response.body
    if response.headers:
        head += "".join(f"\r\n{name}: {value}" for name, value in response.headers).encode("latin-1")
    if not keep:
        head += b"\r\nconnection: close"
    elif request is not None and "connection" in request.headers:
        head += b"\r\nconnection: keep-alive"  # HTTP/1.0 clients close the connection without it
    if response.status in BODILESS:
        return (head + b"\r\n\r\n",)
    head += b"\r\ncontent-length: %d\r\n\r\n" % len(body)
    if request is not None and request.method == "HEAD":
        return (head,)
    return (head + body,) if len(body) <= JOINED_BODY else (head, body)
