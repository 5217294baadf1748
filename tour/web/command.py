"""The command ``showcase tour``: a web server in a process of its own, so that it never delays serving."""

import ipaddress
import logging
import os
import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

NICE = 5  # a lower priority than the server and the gateway
GRACE_SECONDS = 1  # time that open streams have to end at shutdown


def serve_tour(home: Path, host: str, port: int, token: str, gateway: str, opens: bool) -> None:
    """Serve the pages until interrupted; print the address.

    Raises:
        ValueError: if the home does not exist.
        OSError: if the address cannot be bound.
    """
    if not home.is_dir():
        raise ValueError(f"There is nothing at {home}; `showcase demo --home {home}` pushes two models to show.")
    from tour.web.application import create_app

    is_local = is_loopback(host)
    token = token or ("" if is_local else secrets.token_urlsafe(16))
    with open_socket(host, port) as bound:
        app = create_app(home, gateway, token, (host, socket.gethostname()))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS, lifespan="on"
        )
        address = page_url(host, bound.getsockname()[1], token)

        def announce() -> None:
            print(f"{address} (stop with Ctrl-C)", flush=True)
            if not is_local:
                print("Anyone who can reach this machine can read the pages; buttons need the token.", flush=True)
            if opens:
                webbrowser.open(address)

        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
        with suppress(KeyboardInterrupt):
            TourServer(config, app.state, announce).run(sockets=[bound])


class TourServer(uvicorn.Server):
    """A uvicorn server that announces when it is ready."""

    def __init__(self, config: uvicorn.Config, state: Any, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._state, self._announce = state, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, then announce it."""
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams of open pages, then shut down; a stream that is cut off is not logged as an error."""
        logging.getLogger("uvicorn.error").disabled = True
        await self._state.watch.close()
        await self._state.prover.close()
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 chooses a free one.

    Raises:
        OSError: if the address cannot be bound; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        message = f"The tour cannot listen on {host}:{port} ({error.strerror}); choose another --port (0: a free one)."
        raise OSError(message) from None


def page_url(host: str, port: int, token: str) -> str:
    """The URL to open in a browser, with the token if there is one."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
