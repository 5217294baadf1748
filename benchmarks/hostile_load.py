"""Clients of ``benchmarks.hostile``: many that send one heavy request each, and one that asks for the health."""

import asyncio
import http.client
import multiprocessing
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from benchmarks.hostile_bodies import MODEL, Body

PREDICT_PATH = f"/v1/models/{MODEL}:predict"
INTERVAL = 0.05  # seconds between two questions for the health


async def send_bodies(rest_port: int, grpc_port: int, body: Body, clients: int, timeout: float) -> Counter[str]:
    """Send a request from every client at once; return how many were answered with which status."""
    if body.method:
        sent = [_send_message(grpc_port, body, timeout) for _ in range(clients)]
    else:
        sent = [_send_body(rest_port, body, timeout) for _ in range(clients)]
    return Counter(await asyncio.gather(*sent))


async def _send_body(port: int, body: Body, timeout: float) -> str:
    """Return the HTTP status, ``timeout`` or the error. The body is not copied, as a stream's buffer would."""
    head = f"POST {body.path or PREDICT_PATH} HTTP/1.1\r\nHost: h\r\nContent-Encoding: {body.encoding}\r\n"
    head += f"Connection: close\r\nContent-Length: {len(body.content)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(client, ("127.0.0.1", port))
                with suppress(ConnectionError):  # a refused client still reads the response
                    await loop.sock_sendall(client, head.encode())
                    await loop.sock_sendall(client, body.content)
                received = await loop.sock_recv(client, 1 << 16)
                while rest := await loop.sock_recv(client, 1 << 16):
                    received = received if len(received) > 1000 else received + rest
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return type(error).__name__
    return received.split(b" ", 2)[1].decode() if received else "no answer"


async def _send_message(port: int, body: Body, timeout: float) -> str:
    """Return the gRPC status. Every client has its own connection."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            call: Any = channel.unary_unary(body.method)
            await call(body.content, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


class HealthProbe:
    """Results of the process that asks for the health: the slowest answer in seconds, and the number of failures."""

    def __init__(self) -> None:
        self.slowest, self.failures, self.answers = 0.0, 0, 0


@contextmanager
def probe_health(port: int, path: str) -> Iterator[HealthProbe]:
    """Ask for the health every 50 ms in a process of its own; the results are complete after the context."""
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    process = context.Process(target=_probe, args=(port, path, stop, results))
    process.start()
    results.get()  # the process has started
    probe = HealthProbe()
    try:
        yield probe
    finally:
        stop.set()
        probe.slowest, probe.failures, probe.answers = results.get()
        process.join()


def _probe(port: int, path: str, stop: Any, results: Any) -> None:
    slowest, failures, answers = 0.0, 0, 0
    results.put(None)
    while not stop.wait(INTERVAL):
        started = time.perf_counter()
        failures += not is_healthy(port, path)
        answers += 1
        slowest = max(slowest, time.perf_counter() - started)
    results.put((slowest, failures, answers))


def is_healthy(port: int, path: str, timeout: float = 60.0) -> bool:
    """Whether a GET is answered with 200."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        client.request("GET", path)
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


def read_memory(pid: int, field: str) -> float:
    """Return ``VmRSS`` or ``VmHWM``, the largest so far, of a process in GB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024 / 1e9
