"""A case that is pushed for the first time while both servers run: answered without a start, and the others notice nothing."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway_case import PICTURE, PURCHASE, Simple, logged, run, versions
from support.redis_server import Server

from models.fraud.online import Purchases
from models.image.online import Pictures
from serving.gateway import stack
from serving.gateway.history import memory_checkpoint
from serving.gateway.scoring import Options
from serving.gateway.stack import Place, Settings, Stack
from serving.server.app import Options as Serving

pytestmark = pytest.mark.system

BODIES = {"fraud": PURCHASE, "image": PICTURE}


@pytest.fixture
def simple(monkeypatch) -> None:
    """The backend computes in this process, wherever it is said to be."""
    monkeypatch.setattr(stack, "Remote", lambda target: Simple())


@asynccontextmanager
async def running(home: Path, **more: Any):
    """Both cases of a home, of which some or none are pushed, and a client."""
    made = {"fraud": Purchases(), "image": Pictures()}
    cases = {name: Place(online, home / name / "versions", home / name / "online") for name, online in made.items()}
    served = Serving(rest_port=None, grpc_port=None, poll=0.05)
    settings = Settings(cases, served, port=0, options=Options(timeout=120.0), **({"backend": "nowhere:1"} | more))
    both = await Stack(settings).start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{both.port}", timeout=120.0) as client:
            yield both, client
    finally:
        await both.close()


async def scored(client: httpx.AsyncClient, case: str, **changes: Any) -> httpx.Response:
    return await client.post(f"/v1/{case}/score", json=BODIES[case] | changes)


def push(home: Path, case: str) -> None:
    """Appears at once, as a push does."""
    versions(home / case / "incoming", 1)
    (home / case / "versions").mkdir(exist_ok=True)
    os.rename(home / case / "incoming" / "1", home / case / "versions" / "1")


async def answered(client: httpx.AsyncClient, case: str, **changes: Any) -> dict[str, Any]:
    """The first answer, before which the gateway knows nothing of the case: no error comes between."""
    ends = time.monotonic() + 120
    while (response := await scored(client, case, **changes)).status_code == 404:
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(("first", "later"), [("fraud", "image"), ("image", "fraud")])
def test_a_first_push_is_answered_while_others_go_on(tmp_path: Path, simple: None, first: str, later: str) -> None:
    async def work():
        versions(tmp_path / first / "versions", 1)
        async with running(tmp_path) as (_, client):
            others = []

            async def load() -> None:
                while True:
                    others.append((await scored(client, first)).status_code)

            going = asyncio.create_task(load())
            assert (await scored(client, later)).status_code == 404
            assert f"/v1/{later}/score" not in (await client.get("/openapi.json")).json()["paths"]
            push(tmp_path, later)
            assert (await answered(client, later))["case"] == later
            assert f"/v1/{later}/score" in (await client.get("/openapi.json")).json()["paths"]
            assert (await client.get("/readyz")).json()["cases"] == {first: "ready", later: "ready"}
            assert f'gateway_decisions_total{{arm="stable",case="{later}"' in (await client.get("/metrics")).text
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            assert len(others) > 2 and set(others) == {200}

    run(work())
    assert len(logged(tmp_path, later)) == 1 and (tmp_path / later / "online" / memory_checkpoint.FILE).exists()


def test_it_waits_for_what_it_begins_with_and_is_seeded_once(tmp_path: Path, simple: None) -> None:
    ready, seeds = [], []

    def seed(name: str, online: Purchases) -> int:
        seeds.append(name)
        if name == "fraud":
            online.remember(["t0", 1_767_614_390_000_000, "c1", "m1", 7.0])  # ten seconds before
        return 1

    async def work():
        versions(tmp_path / "image" / "versions", 1)
        arrived = {"arrived": lambda name: name == "image" or bool(ready), "seed": seed}
        async with running(tmp_path, **arrived) as (_, client):
            push(tmp_path, "fraud")
            for _ in range(10):
                assert (await scored(client, "fraud")).status_code == 404
                await asyncio.sleep(0.05)
            ready.append(True)
            await answered(client, "fraud")
        async with running(tmp_path, **arrived) as (_, client):
            assert (await scored(client, "fraud", transaction_id="t2")).status_code == 200

    run(work())
    assert seeds == ["image", "fraud"]
    assert [one["customer_count_1d"] for one in logged(tmp_path)] == [[1.0], [2.0]]
    assert logged(tmp_path)[0]["seconds_since_last"] == [10.0]


def test_it_waits_for_the_historys_store(tmp_path: Path, simple: None, caplog) -> None:
    server = Server(tmp_path)
    server.kill()

    async def work():
        versions(tmp_path / "image" / "versions", 1)
        async with running(tmp_path, store=server.url) as (_, client):
            push(tmp_path, "fraud")
            while "fraud is not answered for yet: The history's store at" not in caplog.text:
                assert (await scored(client, "image")).status_code == 200
                assert (await scored(client, "fraud")).status_code == 404
            await asyncio.to_thread(server.start)
            await answered(client, "fraud")

    try:
        run(work())
        assert server.redis.hlen("showcase:fraud:customer/c1") == 1
    finally:
        server.close()


def test_one_that_cannot_be_restored_is_said_once_and_the_others_go_on(tmp_path: Path, simple: None, caplog) -> None:
    (tmp_path / "fraud" / "online").mkdir(parents=True)
    (tmp_path / "fraud" / "online" / memory_checkpoint.FILE).write_text("{")

    async def work():
        versions(tmp_path / "image" / "versions", 1)
        async with running(tmp_path) as (_, client):
            push(tmp_path, "fraud")
            while "fraud is not answered for; mend this" not in caplog.text:
                assert (await scored(client, "image")).status_code == 200
            await asyncio.sleep(0.3)
            assert (await scored(client, "fraud")).status_code == 404
            assert caplog.text.count("is not answered for") == 1 and "remove it to replay" in caplog.text

    run(work())


@pytest.mark.slow
def test_the_engine_has_loaded_it_before_the_gateway_answers(tmp_path: Path) -> None:
    from support.amount_model import model

    async def work():
        (tmp_path / "made").mkdir()
        for case in BODIES:
            model(tmp_path / "made", 1)
            (tmp_path / case / "versions").mkdir(parents=True)
            os.rename(tmp_path / "made" / "1", tmp_path / case / "pushed")
        os.rename(tmp_path / "image" / "pushed", tmp_path / "image" / "versions" / "1")
        async with running(tmp_path, backend="") as (both, client):
            assert both.loaded() == {"image": 1}
            os.rename(tmp_path / "fraud" / "pushed", tmp_path / "fraud" / "versions" / "1")
            assert (await answered(client, "fraud"))["score"] == pytest.approx(0.11)
            assert both.loaded() == {"image": 1, "fraud": 1}

    run(work())
