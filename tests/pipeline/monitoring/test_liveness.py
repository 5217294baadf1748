"""What a cluster's probes and Prometheus are told of a monitor."""

import socket
import urllib.error
import urllib.request

import pytest

from pipeline.monitoring.liveness import PATIENCE, Heartbeat

pytestmark = pytest.mark.system


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as said:
            return said.status, said.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_is_well_until_nothing_got_on_for_too_long() -> None:
    now = [100.0]
    heart = Heartbeat("fraud", lambda: now[0])
    port = heart.serve("127.0.0.1", 0)
    assert asked(port, "/healthz")[0] == 200
    now[0] += PATIENCE + 1
    assert asked(port, "/healthz") == (503, f"{PATIENCE + 1:.0f} s since something got on\n")
    heart.beat()
    assert asked(port, "/healthz")[0] == 200
    assert asked(port, "/else")[0] == 404


def test_looks_decisions_and_retrainings_are_counted() -> None:
    heart = Heartbeat("fraud")
    port = heart.serve("127.0.0.1", 0)
    heart.looked()
    heart.looked("retrain", "pushed")
    heart.looked("retrain", "refused")
    said = asked(port, "/metrics")[1]
    assert 'showcase_monitor_decisions_total{action="retrain",case="fraud"} 2.0' in said
    assert 'showcase_monitor_retrainings_total{case="fraud",state="refused"} 1.0' in said
    assert "showcase_monitor_last_look_timestamp_seconds" in said


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="choose another --port"):
            Heartbeat("fraud").serve("127.0.0.1", taken.getsockname()[1])
