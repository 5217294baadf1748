"""HTTP load generator, run as a separate process: repeats one request on each connection as fast as answers arrive.

    python -m benchmarks.load HOST PORT CONNECTIONS SECONDS < REQUEST

``REQUEST`` is a complete HTTP/1.1 request; the ten characters ``##########`` in it become a new id each time, since a gateway
answers a repeated purchase without the model. Prints JSON: answers per second, latencies in milliseconds, and the number
of answers with another status than 200. The first fifth of the time is a warm-up that is not counted.
"""

import asyncio
import itertools
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop

MARK = b"##########"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def main() -> None:
    """Run the load generator and print its JSON."""
    host, port, connections, seconds = sys.argv[1:]
    request = sys.stdin.buffer.read()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(host, int(port), int(connections), float(seconds), request))))


async def load(host: str, port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    """Send requests for the given time; return rate, latencies and errors."""
    loop, ids = asyncio.get_running_loop(), itertools.count(random.getrandbits(39))
    clients = [(await loop.create_connection(lambda: Client(request, ids), host, port))[1] for _ in range(connections)]
    for client in clients:
        client.send()
    await asyncio.sleep(seconds / 5)
    for client in clients:
        client.times.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds * 4 / 5)
    duration = time.perf_counter() - started
    times = sorted(latency for client in clients for latency in client.times)
    wrong = sum(client.wrong for client in clients)
    for client in clients:
        client.transport.close()
    if not times:
        return {"rate": 0.0, "p50": 0.0, "p99": 0.0, "wrong": wrong + 1}
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return {"rate": len(times) / duration, "p50": p50, "p99": p99, "wrong": wrong}


class Client(asyncio.Protocol):
    """One connection, with at most one request in flight."""

    def __init__(self, request: bytes, ids: Iterator[int]) -> None:
        self.request, self.ids, self.wrong, self.missing, self.buffer = request, ids, 0, 0, b""
        self.times: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.request.replace(MARK, b"%010x" % next(self.ids)))

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        head = data.find(b"\r\n\r\n")
        length = LENGTH.search(data, 0, head) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            self.buffer = data
            return
        self.buffer = b""
        self.times.append(time.perf_counter() - self.started)
        if not data.startswith(b"HTTP/1.1 200"):
            self.wrong += 1
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.wrong += error is not None


if __name__ == "__main__":
    main()
