"""Whether a monitor that runs for weeks still gets on: an address for a cluster's probes and for Prometheus."""

import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

PATIENCE = 300.0  # seconds; while stages run they are looked at several times a second


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Probes ask every few seconds; nobody wants a line of each."""


class Heartbeat:
    """``/healthz`` answers 200 until nothing has been looked at for ``PATIENCE``; ``/metrics`` says what was done.

    Args:
        case: Whose monitor it is.
        clock: Seconds that never go back.

    Attributes:
        looks: When new windows were last looked for.
        decisions: Counted by action.
        retrainings: Counted by how they ended.
    """

    def __init__(self, case: str, clock: Callable[[], float] = time.monotonic) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app

        registry = CollectorRegistry()
        self._clock, self._last, self._case = clock, clock(), case
        self.looks = Gauge(
            "showcase_monitor_last_look_timestamp_seconds",
            "When new windows were last looked for.",
            ["case"],
            registry=registry,
        )
        self.decisions = Counter(
            "showcase_monitor_decisions", "Decisions by action.", ["case", "action"], registry=registry
        )
        self.retrainings = Counter(
            "showcase_monitor_retrainings", "Retrainings by how they ended.", ["case", "state"], registry=registry
        )
        self._metrics = make_wsgi_app(registry)

    def beat(self) -> None:
        """Something got on."""
        self._last = self._clock()

    def looked(self, action: str = "", state: str = "") -> None:
        """A look has ended, with a decision or a retraining or neither."""
        self.beat()
        self.looks.labels(self._case).set_to_current_time()
        if action:
            self.decisions.labels(self._case, action).inc()
        if state:
            self.retrainings.labels(self._case, state).inc()

    def serve(self, host: str, port: int) -> int:
        """Answers from a thread of its own until the process ends; the port that was taken.

        Raises:
            ValueError: if the address is not to be had.
        """
        try:
            server = make_server(host, port, self._answer, _Server, _Silent)
        except OSError as error:
            raise ValueError(
                f"The monitor cannot listen on {host}:{port}: {error.strerror}; choose another --port."
            ) from None
        threading.Thread(target=server.serve_forever, daemon=True, name="heartbeat").start()
        return server.server_port

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return self._metrics(environ, start)
        silent = self._clock() - self._last
        known = environ["PATH_INFO"] == "/healthz"
        status = "404 Not Found" if not known else "200 OK" if silent < PATIENCE else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{silent:.0f} s since something got on\n".encode() if known else b"There are /healthz and /metrics.\n"]
