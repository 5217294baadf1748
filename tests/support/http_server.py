"""A server of the HTTP layer that echoes requests, and raw exchanges with it."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serving.http import asyncio_server
from serving.http.asyncio_server import Request, Response

MAX_BODY = 1000
ONE_READ = (256 << 10) // 37 + 1  # requests that fit into one read of the event loop
GET = b"GET /a%20b?x=%20 HTTP/1.1\r\nHost: h\r\n\r\n"


async def echo_request(request: Request) -> Response:
    """Echo the request; some paths give an error, a delay or an unusual response."""
    if request.path == "/boom":
        raise RuntimeError("secret")
    if request.path == "/split":
        return Response(headers=(("x-name", "a\r\nset-cookie: b"),))
    if request.path == "/large":
        return Response(body=b"x" * 5_000_000)
    if request.path == "/slow":
        await asyncio.sleep(0.3)
    if request.path == "/none":
        return Response(204)
    fields = [
        request.method,
        request.path,
        request.query,
        request.body.decode("latin-1"),
        request.headers.get("x-a", ""),
    ]
    return Response(body=json.dumps(fields).encode(), headers=(("x-served", "yes"),))


@dataclass
class RunningServer:
    port: int
    server: asyncio_server.Server
    loop: asyncio.AbstractEventLoop

    def call(self, work: Callable) -> None:
        asyncio.run_coroutine_threadsafe(work(), self.loop).result(20)


@contextmanager
def run_http_server(**limits) -> Iterator[RunningServer]:
    ready: list[RunningServer] = []
    started, stopping = threading.Event(), asyncio.Event()

    async def main() -> None:
        server = await asyncio_server.serve(echo_request, "127.0.0.1", 0, **({"max_body": MAX_BODY} | limits))
        ready.append(RunningServer(server.port, server, asyncio.get_running_loop()))
        started.set()
        await stopping.wait()
        await server.close()

    thread = threading.Thread(target=lambda: asyncio_server.run(main()))
    thread.start()
    started.wait()
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(stopping.set)
        thread.join()


def exchange(port: int, *parts: bytes, close: bool = True, wait: float = 10) -> bytes:
    """Send the parts and read until the server closes; ``close`` shuts down our side, after which the server closes."""
    with socket.create_connection(("127.0.0.1", port), wait) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
            if len(parts) > 1:
                time.sleep(0.001)
        if close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(1 << 20):
            received += data
        return received


def parse_statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]
