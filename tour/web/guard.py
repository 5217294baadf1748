"""What every request has to pass, and what every answer says: the tour's rules against other sites and other hosts."""

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

COOKIE = "tour_token"
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-cache"),
)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Refuses what another site or an unknown host asks for; a page may say a policy of its own.

    Args:
        app: What answers the rest.
        token: What a request that changes something has to show; empty for none.
        hosts: Names, beside localhost and plain addresses, that a Host header may have. A name that anybody can point at this
            machine is refused, so that a foreign page cannot make itself this one.
    """

    def __init__(self, app: Application, token: str = "", hosts: tuple[str, ...] = ()) -> None:
        self._app, self._token = app, token
        self._hosts = {"localhost", *(one.lower() for one in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = ((name.encode(), value.encode()) for name, value in HEADERS)
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in there)]
            await send(message)

        refused = self._refusal(scope, headers)
        if refused:
            return await _answer(answered, *refused)
        if given := self._given(scope):
            return await _remember(answered, scope, given)
        return await self._app(scope, receive, answered)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence for a request that may not go on."""
        host = headers.get("host", "")
        if not self._known(host):
            return 400, "This host name is not one of the tour's; ask for it by its address or as localhost."
        if scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        if (origin is not None and urlsplit(origin).netloc != host) or headers.get(
            "sec-fetch-site", "same-origin"
        ) not in (
            "same-origin",
            "none",
        ):
            return 403, "Another site may not change anything here."
        if self._token and not self._shown(headers):
            return 403, "This needs the token that `showcase tour` printed: open the address with ?token=... once."
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_address(name)

    def _shown(self, headers: dict[str, str]) -> bool:
        held = SimpleCookie(headers.get("cookie", ""))
        shown = headers.get("x-tour-token") or (held[COOKIE].value if COOKIE in held else "")
        return secrets.compare_digest(shown.encode(), self._token.encode())

    def _given(self, scope: Scope) -> str:
        """The right token in the address; empty for none."""
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        return given if self._token and secrets.compare_digest(given.encode(), self._token.encode()) else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _answer(send: Send, status: int, text: str) -> None:
    body = (text + "\n").encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _remember(send: Send, scope: Scope, token: str) -> None:
    """Puts the token into a cookie and takes it out of the address, where it would be seen and kept."""
    rest = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
    place = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(rest)}" if rest else "")
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
    headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
