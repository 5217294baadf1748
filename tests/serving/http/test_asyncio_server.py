"""The HTTP server: requests, limits, slow clients, shutdown, and the same handler under ASGI."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from support.http_server import GET, MAX_BODY, ONE_READ, echo_request, exchange, parse_statuses, run_http_server

from serving.http import asyncio_server

pytestmark = pytest.mark.system


def test_request_is_parsed_and_response_is_encoded(server):
    answer = exchange(
        server.port, b"POST /p?q=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nabc"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert json.loads(body) == ["POST", "/p", "q=1", "abc", "1, 2"]
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n") and b"\r\nx-served: yes" in head
    assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", head)


def test_paths_are_decoded_and_queries_are_not(server):
    assert json.loads(exchange(server.port, GET).partition(b"\r\n\r\n")[2])[1:3] == ["/a b", "x=%20"]


def test_pipelined_requests_are_answered_in_order(server):
    parts = [f"GET /{'slow' if n == 0 else n} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for n in range(100)]
    answer = exchange(server.port, b"".join(parts))
    assert re.findall(rb'\["GET", "/(\w+)"', answer) == [b"slow", *(str(n).encode() for n in range(1, 100))]


def test_connection_is_reused(server):
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        before = len(server.server.connections)
        for _ in range(3):
            assert client.get("/x").status_code == 200
        assert len(server.server.connections) == before + 1


@pytest.mark.parametrize(
    ("extra", "version", "keep_alive"),
    [
        ("", "1.1", True),
        ("Connection: close\r\n", "1.1", False),
        ("", "1.0", False),
        ("Connection: keep-alive\r\n", "1.0", True),
    ],
)
def test_keep_alive_follows_the_connection_header_and_version(server, extra, version, keep_alive):
    request = f"GET /x HTTP/{version}\r\nHost: h\r\n{extra}\r\n".encode()
    answer = exchange(server.port, request + request)
    assert len(parse_statuses(answer)) == (2 if keep_alive else 1)
    if not keep_alive:
        assert b"connection: close" in answer


def test_chunked_body_is_joined_and_trailers_are_ignored(server):
    body = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-A: trailer\r\n\r\n"
    answer = exchange(server.port, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body + GET)
    assert parse_statuses(answer) == [200, 200] and b'"abcde", ""]' in answer


def test_expect_100_continue_is_answered(server):
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert b'"ok"' in client.recv(1000)


def test_earlier_response_precedes_a_100(server):
    slow = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
    expecting = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(slow + expecting)
        received = b""
        while b"100 Continue" not in received:
            received += client.recv(1000)
        assert parse_statuses(received) == [200, 100]


def test_head_and_204_responses_have_no_body(server):
    answer = exchange(server.port, b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert parse_statuses(answer) == [200, 200] and answer.count(b"[") == 1
    answer = exchange(server.port, b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert parse_statuses(answer) == [204, 200] and answer.count(b"content-length") == 1


@pytest.mark.parametrize("path", ["/boom", "/split"])
def test_handler_error_is_a_logged_500_without_details(server, caplog, path):
    answer = exchange(server.port, f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode() + GET)
    assert parse_statuses(answer) == [500, 200]
    assert b"secret" not in answer and b"set-cookie" not in answer and b'{"error": ' in answer
    assert f"GET {path} failed" in caplog.text


HOST = b"Host: h\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"bad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\n\r\nff\r\n"
            + b"a" * 255
            + b"\r\n3e8\r\n"
            + b"b" * 900,
            413,
        ),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 20_000, 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: more\r\nContent-Length: 1\r\n\r\n", 417),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT h:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ],
    ids=range(20),
)
def test_client_error_has_its_status_and_closes_the_connection(server, request_, status):
    """The error response arrives after the previous response, although much of the sent data is never read."""
    answer = exchange(server.port, GET + request_, close=False)
    assert parse_statuses(answer) == [200, status]
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"] and b"connection: close" in answer


def test_bytes_after_an_upgrade_are_not_read(server):
    answer = exchange(
        server.port, b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\x00\x01", close=False
    )
    assert parse_statuses(answer) == [200] and b"connection: close" in answer


def test_slow_and_idle_clients_are_disconnected():
    with run_http_server(read_seconds=0.2, idle_seconds=0.2) as running:
        assert parse_statuses(exchange(running.port, b"GET / HTT", close=False)) == [408]
        assert parse_statuses(
            exchange(running.port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na", close=False)
        ) == [408]
        assert exchange(running.port, b"", close=False) == b""
        assert parse_statuses(exchange(running.port, GET, close=False)) == [200]


def test_client_that_does_not_read_is_disconnected_and_delays_no_other():
    with (
        run_http_server(read_seconds=0.3) as running,
        socket.create_connection(("127.0.0.1", running.port), 10) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
        assert parse_statuses(exchange(running.port, GET)) == [200]
        deadline = time.monotonic() + 20
        while running.server.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not running.server.connections


def test_reading_pauses_while_too_many_requests_wait(server):
    """A client sends five thousand requests at once and reads nothing until all are sent."""
    client = socket.create_connection(("127.0.0.1", server.port), 30)
    sending = threading.Thread(target=lambda: (client.sendall(GET * 5000), client.shutdown(socket.SHUT_WR)))
    sending.start()
    received = b""
    while data := client.recv(1 << 16):
        received += data
        assert all(len(connection.queue) <= ONE_READ + 16 for connection in list(server.server.connections))
    sending.join()
    client.close()
    assert parse_statuses(received) == [200] * 5000


def test_close_answers_requests_in_flight_and_rejects_new_connections():
    with run_http_server() as running:
        responses: list[bytes] = []
        client_thread = threading.Thread(
            target=lambda: responses.append(
                exchange(running.port, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n", close=False)
            )
        )
        idle = socket.create_connection(("127.0.0.1", running.port), 10)
        client_thread.start()
        while not any(connection.working for connection in list(running.server.connections)):
            time.sleep(0.01)
        running.call(lambda: running.server.close(10))
        client_thread.join()
        assert parse_statuses(responses[0]) == [200] and b"connection: close" in responses[0]
        assert idle.recv(10) == b""
        idle.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), 1)


@contextmanager
def run_uvicorn() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            asyncio_server.asgi(echo_request, max_body=MAX_BODY), log_level="critical", lifespan="on"
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join()


def test_asgi_responses_equal_those_of_the_server(server):
    with run_uvicorn() as port:
        requests = [("GET", path, b"") for path in ("/a%20b?x=1", "/boom", "/split", "/none")]
        requests += [("HEAD", "/x", b""), ("POST", "/p", b"abc"), ("POST", "/p", b"x" * (MAX_BODY + 1))]
        for method, path, body in requests:
            own, uvicorns = (
                httpx.request(method, f"http://127.0.0.1:{each}{path}", content=body, headers={"x-a": "1"})
                for each in (server.port, port)
            )
            assert (own.status_code, own.content) == (uvicorns.status_code, uvicorns.content), path
            assert own.headers.get("content-type") == uvicorns.headers.get("content-type")
        chunks = iter([b"x" * 600, b"y" * 600])
        assert httpx.post(f"http://127.0.0.1:{port}/p", content=chunks).status_code == 413
