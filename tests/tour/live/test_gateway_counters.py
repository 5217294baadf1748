"""Gateway metrics in the tour: rates, latencies, and a gateway that is slow, restarted or stopped."""

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from tour.live import gateway_counters, watch
from tour.live.gateway_counters import CaseCounters, Scrapes


def exposition(ok: int, failed: int) -> str:
    answers = [("requests_total", 'status="200"', ok), ("requests_total", 'status="503"', failed)]
    buckets = [
        ("request_seconds_bucket", f'le="{edge}"', n) for edge, n in (("0.001", ok / 2), ("0.01", ok), ("+Inf", ok))
    ]
    lines = [f'gateway_{name}{{case="fraud",{label}}} {n}' for name, label, n in answers + buckets]
    return "\n".join([*lines, 'gateway_breaker{case="fraud"} 2.0', 'other{x="1"} 4'])


def test_rates_latencies_and_errors_are_computed_from_two_scrapes() -> None:
    scrapes = Scrapes()
    scrapes.add(gateway_counters.parse_metrics(exposition(100, 0)), 10.0)
    scrapes.add(gateway_counters.parse_metrics(exposition(180, 20)), 12.0)
    fraud = scrapes.of("fraud")
    assert fraud.rate == 50 and fraud.errors == 0.2 and fraud.total == 200 and fraud.breaker == "open"
    assert fraud.p50 == pytest.approx(1.0) and fraud.p99 == pytest.approx(1 + 9 * 0.98)
    assert scrapes.of("image").total == 0


def test_restarted_gateway_is_counted_from_its_restart() -> None:
    scrapes = Scrapes()
    scrapes.add({"fraud": CaseCounters({"200": 1000})}, 1.0)
    scrapes.add({"fraud": CaseCounters({"200": 3})}, 2.0)
    scrapes.add({"fraud": CaseCounters({"200": 5})}, 3.0)
    assert scrapes.of("fraud").rate == 2 and min(scrapes.of("fraud").history) >= 0


@pytest.mark.system
def test_fetch_times_out_or_raises_without_an_answer() -> None:
    async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async def check() -> None:
        server = await asyncio.start_server(hanging, "127.0.0.1", 0)
        async with server:
            with pytest.raises(TimeoutError):
                await gateway_counters.fetch(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for address in ("127.0.0.1:1", "nonsense"):
            with pytest.raises(OSError):
                await gateway_counters.fetch(address)

    asyncio.run(check())


@pytest.mark.system
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_name_that_resolves_after_the_timeout_leaves_no_unretrieved_error(
    run: Callable[[Coroutine[None, None, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_counters, "SCRAPE_TIMEOUT", 1e-5)
    logged = []

    async def check() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
        with pytest.raises(TimeoutError):
            await gateway_counters.fetch("gateway.invalid:80")
        await asyncio.to_thread(_fail_to_resolve)  # behind the other look-up
        await asyncio.sleep(0.05)
        gc.collect()

    run(check())
    assert logged == []


def _fail_to_resolve() -> None:
    with pytest.raises(OSError):
        socket.getaddrinfo("gateway.invalid", 80)


@pytest.mark.system
def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + exposition(3, 1).encode())
        writer.close()

    async def check() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

        async def resolve(*_: object, **__: object) -> object:
            return addresses

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        async with server:
            assert (await gateway_counters.fetch(f"localhost:{port}"))["fraud"].total == 4

    asyncio.run(check())


def test_gateway_is_shown_after_one_timeout_and_not_after_a_refused_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [{"fraud": CaseCounters({"200": 5})}, TimeoutError(), OSError()]

    async def fetch(address: str) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read_addresses() -> list[str]:
        addresses, polled = [], watch.HomeWatcher(tmp_path, lambda: "127.0.0.1:8080")
        while answers:
            await polled.refresh()
            addresses.append(polled.state.gateway)
        return addresses

    monkeypatch.setattr(watch, "fetch", fetch)
    assert asyncio.run(read_addresses()) == ["127.0.0.1:8080", "127.0.0.1:8080", ""]
