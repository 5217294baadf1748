"""Where alerts go: a webhook that takes them, one that does not, and what people read."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.drift.alert_sinks import Webhook, delivered, sentence, to_log

NEWS = {
    "case": "tiny",
    "version": 3,
    "window": 12,
    "what": "alert",
    "incident": {"id": 2, "kind": "drift", "causes": ["amount", "score"]},
}


@pytest.fixture
def posted():
    """An address, what was posted to it, and the statuses that it answers with."""
    taken, statuses = [], []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(statuses.pop() if statuses else 204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", taken, statuses
    server.shutdown()


@pytest.mark.system
def test_a_webhook_gets_json_and_a_sentence(posted) -> None:
    address, taken, _ = posted
    Webhook(address)(NEWS)
    assert taken == [{"text": "tiny version 3: drift incident 2 in window 12: amount, score", **NEWS}]


@pytest.mark.system
def test_what_is_refused_or_unheard_waits_for_that_sink_alone(posted) -> None:
    address, taken, statuses = posted
    heard = []
    statuses.append(500)
    left = delivered([NEWS], [heard.append, Webhook(address)])
    assert left == [{**NEWS, "left": [1]}] and len(taken) == 1
    assert delivered(left, [heard.append, Webhook(address)]) == [] and len(taken) == 2 and heard == [NEWS]
    assert delivered([NEWS], [Webhook("http://127.0.0.1:9/")]) == [{**NEWS, "left": [0]}]


def test_the_log_says_what_is_over(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        to_log({**NEWS, "what": "resolved"})
    assert caplog.messages == ["tiny version 3: drift incident 2 is over"] and sentence(NEWS) not in caplog.text


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with http"):
        Webhook("file:///etc/passwd")
