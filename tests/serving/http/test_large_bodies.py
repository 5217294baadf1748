"""Large bodies: the bytes under way are bounded and given back, and only supported encodings are read."""

import asyncio
import gzip
import json
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from support.http_server import GET, echo_request, exchange, parse_statuses, run_http_server

from serving.http import asyncio_server
from serving.http.byte_budget import SMALL_BODY, BudgetExceededError, ByteBudget

SIZE = 1 << 20
HEAD = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


def start_upload(port: int, sent: int) -> socket.socket:
    """Send the beginning of a body of ``SIZE`` bytes."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(HEAD % SIZE + bytes(sent))
    return client


def wait_for(server, used: int) -> None:
    deadline = time.monotonic() + 20
    while server.server.budget.used != used:
        assert time.monotonic() < deadline, server.server.budget.used
        time.sleep(0.01)


@pytest.mark.system
def test_large_body_beyond_the_limit_is_a_503_and_small_requests_and_the_others_are_answered():
    with run_http_server(max_body=SIZE, budget=ByteBudget(2 * SIZE)) as server, ExitStack() as stack:
        uploads = [stack.enter_context(start_upload(server.port, SIZE - 1)) for _ in range(2)]
        wait_for(server, 2 * (SIZE - 1))
        refused = exchange(server.port, HEAD % SIZE + bytes(SIZE), close=False)
        assert parse_statuses(refused) == [503] and b"\r\nretry-after: 1\r\n" in refused
        assert b"under way" in refused and b"connection: close" in refused
        small = HEAD % SMALL_BODY + bytes(SMALL_BODY)
        assert parse_statuses(exchange(server.port, small + GET)) == [200, 200]
        for upload in uploads:
            upload.sendall(b"a")
            assert upload.recv(1000).startswith(b"HTTP/1.1 200 OK")
            upload.close()
        wait_for(server, 0)
        assert parse_statuses(exchange(server.port, HEAD % SIZE + bytes(SIZE))) == [200]


@pytest.mark.system
def test_bytes_of_a_closed_connection_and_of_a_refused_body_are_given_back():
    with run_http_server(max_body=SIZE, budget=ByteBudget(2 * SIZE)) as server:
        upload = start_upload(server.port, SIZE // 2)
        wait_for(server, SIZE // 2)
        upload.close()
        wait_for(server, 0)
        chunk = b"%x\r\n" % SIZE + bytes(SIZE) + b"\r\n"
        chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + chunk
        assert parse_statuses(exchange(server.port, chunked, close=False)) == [413]
        wait_for(server, 0)


@pytest.mark.system
def test_content_encoding_that_is_not_supported_is_a_415():
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: %s\r\nContent-Length: 1\r\n\r\na"
    with run_http_server() as plain, run_http_server(encodings=("gzip",)) as zipped:
        answer = exchange(plain.port, request % b"gzip", close=False)
        assert parse_statuses(answer) == [415] and b"\r\naccept-encoding: identity\r\n" in answer
        assert parse_statuses(exchange(plain.port, request % b"identity")) == [200]
        answer = exchange(zipped.port, request % b"br", close=False)
        assert parse_statuses(answer) == [415] and b"\r\naccept-encoding: gzip\r\n" in answer
        assert parse_statuses(exchange(zipped.port, request % b"GZIP")) == [200]


def test_limits_hold_under_asgi():
    async def post(content: bytes, encoding: str) -> httpx.Response:
        application = asyncio_server.asgi(echo_request, max_body=SIZE, budget=ByteBudget(SIZE // 2))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://m") as client:
            return await client.post("/p", content=content, headers={"content-encoding": encoding})

    assert asyncio.run(post(bytes(10), "identity")).status_code == 200
    assert asyncio.run(post(bytes(SIZE), "identity")).status_code == 503
    response = asyncio.run(post(gzip.compress(b"a"), "gzip"))
    assert response.status_code == 415 and json.loads(response.content)["error"].startswith("Content-Encoding gzip")


def test_reservation_grows_up_to_the_limit_and_releases_once():
    budget = ByteBudget(3 * SIZE)
    with budget.reserve(SIZE) as first, budget.reserve(SMALL_BODY) as second:
        assert (budget.used, second.size) == (SIZE, 0)
        second.grow(2 * SIZE)
        second.grow(SIZE)  # holds more already
        assert budget.used == 3 * SIZE
        with pytest.raises(BudgetExceededError, match="More than 3145728 bytes"):
            first.grow(SIZE + 1)
        assert first.size == SIZE
    assert budget.used == 0
