"""The monitor's endpoint for Kubernetes probes and Prometheus."""

import socket
import urllib.error
import urllib.request

import pytest

from pipeline.monitoring.liveness import IDLE_LIMIT_SECONDS, Heartbeat

pytestmark = pytest.mark.system


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_check_fails_without_progress() -> None:
    now = [100.0]
    heart = Heartbeat("fraud", lambda: now[0])
    port = heart.serve("127.0.0.1", 0)
    assert get(port, "/healthz")[0] == 200
    now[0] += IDLE_LIMIT_SECONDS + 1
    assert get(port, "/healthz") == (503, f"{IDLE_LIMIT_SECONDS + 1:.0f} s since the last progress\n")
    heart.beat()
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/else")[0] == 404


def test_checks_decisions_and_retrainings_are_counted() -> None:
    heart = Heartbeat("fraud")
    port = heart.serve("127.0.0.1", 0)
    heart.record_check()
    heart.record_check("retrain", "pushed")
    heart.record_check("retrain", "refused")
    metrics = get(port, "/metrics")[1]
    assert 'showcase_monitor_decisions_total{action="retrain",case="fraud"} 2.0' in metrics
    assert 'showcase_monitor_retrainings_total{case="fraud",state="refused"} 1.0' in metrics
    assert "showcase_monitor_last_look_timestamp_seconds" in metrics


def test_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="choose another --port"):
            Heartbeat("fraud").serve("127.0.0.1", taken.getsockname()[1])
