"""Fuzzing of the HTTP server: no bytes crash or hang it, and the result does not depend on how they are split."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.http_server import GET, exchange, parse_statuses

pytestmark = pytest.mark.system

WORDS = [
    b"GET",
    b"POST",
    b" ",
    b"/",
    b"*",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"\r\n",
    b"\n",
    b"\r",
    b":",
    b"Host: h",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Connection: close",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"\x00",
    b"\xff",
    b"%",
    b"?",
    b"http://h/",
    b"Upgrade: x",
    b"Connection: upgrade",
]
VALID = b"POST /p?q HTTP/1.1\r\nHost: h\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" + GET


CHANGE = st.tuples(st.integers(0, len(VALID)), st.binary(max_size=5))
CHANGED = CHANGE.map(lambda change: VALID[: change[0]] + change[1] + VALID[change[0] + 1 :])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join), CHANGED))
def test_any_bytes_get_valid_responses_and_the_server_stays_up(server, sent):
    """Responses are complete and have an expected status, the connection closes, and the next client is served."""
    answer = exchange(server.port, sent)
    assert set(parse_statuses(answer)) <= {100, 200, 400, 413, 414, 417, 431}
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert parse_statuses(exchange(server.port, GET)) == [200]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, len(VALID) - 1), max_size=6))
def test_responses_do_not_depend_on_how_the_bytes_are_split(server, cuts):
    ends = [0, *sorted(set(cuts)), len(VALID)]
    parts = [VALID[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    answers = [re.sub(rb"date: [^\r]*", b"", exchange(server.port, *chunks)) for chunks in (parts, [VALID])]
    assert answers[0] == answers[1] and parse_statuses(answers[0]) == [200, 200]
