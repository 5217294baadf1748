"""A load generator in a process of its own: sends one request over and over on each connection, as fast as answers come.

    python -m benchmarks.load HOST PORT CONNECTIONS SECONDS < REQUEST

``REQUEST`` is a whole HTTP/1.1 request. Prints JSON: answers a second, latencies in milliseconds, and how many answers were not
a 200. Answers that come in the first fifth of the time are not counted.
"""

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def main() -> None:
    """The program."""
    host, port, connections, seconds = sys.argv[1:]
    request = sys.stdin.buffer.read()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(host, int(port), int(connections), float(seconds), request))))


async def load(host: str, port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    """What was measured."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(lambda: Client(request), host, port))[1] for _ in range(connections)]
    for client in clients:
        client.send()
    await asyncio.sleep(seconds / 5)
    for client in clients:
        client.times.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds * 4 / 5)
    spent = time.perf_counter() - started
    times = sorted(latency for client in clients for latency in client.times)
    wrong = sum(client.wrong for client in clients)
    for client in clients:
        client.transport.close()
    if not times:
        return {"rate": 0.0, "p50": 0.0, "p99": 0.0, "wrong": wrong + 1}
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return {"rate": len(times) / spent, "p50": p50, "p99": p99, "wrong": wrong}


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes) -> None:
        self.request, self.wrong, self.missing, self.got = request, 0, 0, b""
        self.times: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Sends the request."""
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.got:
            data = self.got + data
        head = data.find(b"\r\n\r\n")
        length = LENGTH.search(data, 0, head) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            self.got = data
            return
        self.got = b""
        self.times.append(time.perf_counter() - self.began)
        if not data.startswith(b"HTTP/1.1 200"):
            self.wrong += 1
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.wrong += error is not None


if __name__ == "__main__":
    main()
