"""ASGI middleware that refuses requests from other sites and unknown hosts, and adds security headers to responses."""

import ipaddress
import secrets
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Guard:
    """Middleware against cross-site requests and DNS rebinding; a page may send its own content security policy.

    Args:
        app: The application that answers allowed requests.
        token: Token that a request which changes something must carry; empty for none.
        hosts: Host names, besides localhost and IP addresses, that a Host header may have. Any other name is refused:
            its owner could point it at this machine, and then that site's script would have the tour's origin.
    """

    def __init__(self, app: ASGIApp, token: str = "", hosts: tuple[str, ...] = ()) -> None:
        self._app, self._token = app, token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                defaults = ((name.encode(), value.encode()) for name, value in HEADERS)
                message["headers"] = [*message["headers"], *(pair for pair in defaults if pair[0] not in present)]
            await send(message)

        refusal = self._find_refusal(scope, headers)
        if refusal:
            return await refusal(scope, receive, send_with_headers)
        if token := self._find_url_token(scope):
            return await _store_token(scope, token)(scope, receive, send_with_headers)
        return await self._app(scope, receive, send_with_headers)

    def _find_refusal(self, scope: Scope, headers: dict[str, str]) -> PlainTextResponse | None:
        """Response to a refused request; None for an allowed one."""
        host = headers.get("host", "")
        if not self._is_allowed_host(host):
            text = "The tour does not answer for this host name; open it by IP address or as localhost."
            return PlainTextResponse(f"{text}\n", 400)
        if scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and urlsplit(origin).netloc != host) or site not in ("same-origin", "none"):
            text = "Requests from another site may not change anything; use the tour's own pages."
            return PlainTextResponse(f"{text}\n", 403)
        if self._token and not self._has_token(headers):
            text = "This needs a token; open once the address with ?token=... that `showcase tour` printed."
            return PlainTextResponse(f"{text}\n", 403)
        return None

    def _is_allowed_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_address(name)

    def _has_token(self, headers: dict[str, str]) -> bool:
        cookies = SimpleCookie(headers.get("cookie", ""))
        token = headers.get("x-tour-token") or (cookies[COOKIE].value if COOKIE in cookies else "")
        return secrets.compare_digest(token.encode(), self._token.encode())

    def _find_url_token(self, scope: Scope) -> str:
        """The token in the URL's query; empty if there is none or it is wrong."""
        token = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        return token if self._token and secrets.compare_digest(token.encode(), self._token.encode()) else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _store_token(scope: Scope, token: str) -> RedirectResponse:
    """Set the token as a cookie and redirect to the URL without it, so that it stays out of the browser's history."""
    rest = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
    location = "/" + quote(scope["path"].lstrip("/")) + (f"?{urlencode(rest)}" if rest else "")
    response = RedirectResponse(location, 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return response
