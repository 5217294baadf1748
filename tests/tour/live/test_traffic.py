"""What the gateway counts, as the tour reads it: rates, latencies, and a gateway that is late, anew or gone."""

import asyncio
from pathlib import Path

import pytest

from tour.live import traffic, watch
from tour.live.traffic import Counted, Scrapes


def exposition(ok: int, failed: int) -> str:
    answers = [("requests_total", 'status="200"', ok), ("requests_total", 'status="503"', failed)]
    buckets = [
        ("request_seconds_bucket", f'le="{edge}"', n) for edge, n in (("0.001", ok / 2), ("0.01", ok), ("+Inf", ok))
    ]
    lines = [f'gateway_{name}{{case="fraud",{label}}} {n}' for name, label, n in answers + buckets]
    return "\n".join([*lines, 'gateway_breaker{case="fraud"} 2.0', 'other{x="1"} 4'])


def test_rates_latencies_and_errors_follow_from_two_answers_of_the_gateway() -> None:
    scrapes = Scrapes()
    scrapes.add(traffic.parsed(exposition(100, 0)), 10.0)
    scrapes.add(traffic.parsed(exposition(180, 20)), 12.0)
    found = scrapes.of("fraud")
    assert found.rate == 50 and found.errors == 0.2 and found.total == 200 and found.breaker == "open"
    assert found.p50 == pytest.approx(1.0) and found.p99 == pytest.approx(1 + 9 * 0.98)
    assert scrapes.of("image").total == 0


def test_a_gateway_that_began_anew_is_counted_from_its_beginning() -> None:
    scrapes = Scrapes()
    scrapes.add({"fraud": Counted({"200": 1000})}, 1.0)
    scrapes.add({"fraud": Counted({"200": 3})}, 2.0)
    scrapes.add({"fraud": Counted({"200": 5})}, 3.0)
    assert scrapes.of("fraud").rate == 2 and min(scrapes.of("fraud").history) >= 0


@pytest.mark.system
def test_a_gateway_that_does_not_answer_holds_nothing_up() -> None:
    async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async def asked() -> None:
        server = await asyncio.start_server(hanging, "127.0.0.1", 0)
        async with server:
            with pytest.raises(TimeoutError):
                await traffic.fetch(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for address in ("127.0.0.1:1", "nonsense"):
            with pytest.raises(OSError):
                await traffic.fetch(address)

    asyncio.run(asked())


def test_a_gateway_that_is_late_once_is_still_there_and_one_that_is_gone_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [{"fraud": Counted({"200": 5})}, TimeoutError(), OSError()]

    async def fetch(address: str) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def looked() -> list[str]:
        found, one = [], watch.Watch(tmp_path, lambda: "127.0.0.1:8080")
        while answers:
            await one.look()
            found.append(one.state.gateway)
        return found

    monkeypatch.setattr(watch, "fetch", fetch)
    assert asyncio.run(looked()) == ["127.0.0.1:8080", "127.0.0.1:8080", ""]
