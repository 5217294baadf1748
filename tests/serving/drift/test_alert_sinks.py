"""Alert sinks: delivery to a webhook, retries after failures, and the text of alerts."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.drift.alert_sinks import Webhook, deliver, format_alert, log_alert

NEWS = {
    "case": "tiny",
    "version": 3,
    "window": 12,
    "what": "alert",
    "incident": {"id": 2, "kind": "drift", "causes": ["amount", "score"]},
}


@pytest.fixture
def posted():
    """A URL, the bodies posted to it, and the statuses that it will return."""
    bodies, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(statuses.pop() if statuses else 204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", bodies, statuses
    server.shutdown()


@pytest.mark.system
def test_webhook_receives_json_with_a_sentence(posted) -> None:
    address, bodies, _ = posted
    Webhook(address)(NEWS)
    assert bodies == [{"text": "tiny version 3: drift incident 2 in window 12: amount, score", **NEWS}]


@pytest.mark.system
def test_failed_delivery_is_retried_for_that_sink_only(posted) -> None:
    address, bodies, statuses = posted
    received = []
    statuses.append(500)
    left = deliver([NEWS], [received.append, Webhook(address)])
    assert left == [{**NEWS, "left": [1]}] and len(bodies) == 1
    assert deliver(left, [received.append, Webhook(address)]) == [] and len(bodies) == 2 and received == [NEWS]
    assert deliver([NEWS], [Webhook("http://127.0.0.1:9/")]) == [{**NEWS, "left": [0]}]


def test_resolved_incident_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_alert({**NEWS, "what": "resolved"})
    assert caplog.messages == ["tiny version 3: drift incident 2 is resolved"] and format_alert(NEWS) not in caplog.text


def test_url_of_another_scheme_raises() -> None:
    with pytest.raises(ValueError, match="does not start with http"):
        Webhook("file:///etc/passwd")
