"""Liveness of a long-running monitor: an HTTP endpoint for Kubernetes probes and Prometheus."""

import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

IDLE_LIMIT_SECONDS = (
    300.0  # seconds without progress until the probe fails; running stages report several times a second
)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes arrive every few seconds."""


class Heartbeat:
    """Server of ``/healthz``, which fails after ``PATIENCE`` seconds without progress, and of Prometheus ``/metrics``.

    Args:
        case: Name of the use case.
        clock: Monotonic clock, in seconds.

    Attributes:
        last_check_time: Time of the last check for new windows.
        decisions: Number of decisions by action.
        retrainings: Number of retrainings by the state in which they ended.
    """

    def __init__(self, case: str, clock: Callable[[], float] = time.monotonic) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app

        registry = CollectorRegistry()
        self._clock, self._last, self._case = clock, clock(), case
        self.last_check_time = Gauge(
            "showcase_monitor_last_look_timestamp_seconds",
            "Time of the last check for new windows.",
            ["case"],
            registry=registry,
        )
        self.decisions = Counter(
            "showcase_monitor_decisions", "Decisions by action.", ["case", "action"], registry=registry
        )
        self.retrainings = Counter(
            "showcase_monitor_retrainings", "Retrainings by final state.", ["case", "state"], registry=registry
        )
        self._metrics = make_wsgi_app(registry)

    def beat(self) -> None:
        """Record progress: a stage reported, or a check for new windows ended."""
        self._last = self._clock()

    def record_check(self, action: str = "", state: str = "") -> None:
        """Record the end of a check for new windows, with its decision and the final state of its retraining, if any."""
        self.beat()
        self.last_check_time.labels(self._case).set_to_current_time()
        if action:
            self.decisions.labels(self._case, action).inc()
        if state:
            self.retrainings.labels(self._case, state).inc()

    def serve(self, host: str, port: int) -> int:
        """Serve from a daemon thread until the process ends; return the port.

        Raises:
            ValueError: if the address is in use or invalid.
        """
        try:
            server = make_server(host, port, self._answer, _Server, _QuietHandler)
        except OSError as error:
            raise ValueError(
                f"The monitor cannot listen on {host}:{port}: {error.strerror}; choose another --port."
            ) from None
        threading.Thread(target=server.serve_forever, daemon=True, name="heartbeat").start()
        return server.server_port

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return self._metrics(environ, start_response)
        idle = self._clock() - self._last
        is_probe = environ["PATH_INFO"] == "/healthz"
        status = (
            "404 Not Found" if not is_probe else "200 OK" if idle < IDLE_LIMIT_SECONDS else "503 Service Unavailable"
        )
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [
            f"{idle:.0f} s since the last progress\n".encode()
            if is_probe
            else b"Not found; use /healthz or /metrics.\n"
        ]
