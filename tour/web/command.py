"""The command that shows the tour: a web server of its own process, which serving never waits for."""

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

NICE = 5  # behind whatever serves
GRACE = 1  # seconds that open streams get at the end


def tour(home: Path, host: str, port: int, token: str, gateway: str, opens: bool) -> None:
    """Serves the pages until it is interrupted, and says where.

    Raises:
        ValueError: if there is no such home.
        OSError: if the address cannot be had.
    """
    if not home.is_dir():
        raise ValueError(f"There is nothing at {home}: `showcase demo --home {home}` makes two models to walk through.")
    from tour.web.app import create

    here = is_loopback(host)
    token = token or ("" if here else secrets.token_urlsafe(16))
    with listening(host, port) as bound:
        app = create(home, gateway, token, (host, socket.gethostname()))
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, lifespan="on")
        address = url(host, bound.getsockname()[1], token)

        def ready() -> None:
            print(f"{address} (Ctrl-C ends it)", flush=True)
            if not here:
                print("Who can reach this machine can look; only who has the token can press buttons.", flush=True)
            if opens:
                webbrowser.open(address)

        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
        with suppress(KeyboardInterrupt):
            Server(config, app.state, ready).run(sockets=[bound])


class Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, state: Any, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._state, self._ready = state, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, then says so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets the streams of open pages end, then ends; a stream that is cut off after all is no error to tell of."""
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


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be had, saying which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        said = f"The tour cannot listen on {host}:{port} ({error.strerror}); --port takes another, 0 a free one."
        raise OSError(said) from None


def url(host: str, port: int, token: str) -> str:
    """The address to open, the token in it where there is one."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
