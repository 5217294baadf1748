"""A case's first version is pushed while both servers run: no restart is needed, and other cases are unaffected."""

import asyncio
import gzip
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway_case import PICTURE, PURCHASE, FakeBackend, create_versions, read_logged_rows, run
from support.redis_server import RedisServer

from models.fraud.online_requests import Purchases
from models.image.online_requests import Pictures
from serving.gateway import stack
from serving.gateway.history import memory_checkpoint
from serving.gateway.scoring import ScoringOptions
from serving.gateway.stack import ServedCase, Stack, StackSettings
from serving.server.app import ServerOptions as Serving

pytestmark = pytest.mark.system

BODIES = {"fraud": PURCHASE, "image": PICTURE}


@pytest.fixture
def simple(monkeypatch) -> None:
    """Replace the remote backend by one in this process."""
    monkeypatch.setattr(stack, "GrpcBackend", lambda target: FakeBackend())


@asynccontextmanager
async def run_stack(home: Path, **options: Any):
    """Run a stack for both cases of a home, with any number of pushed versions; yield it and a client."""
    onlines = {"fraud": Purchases(), "image": Pictures()}
    cases = {
        name: ServedCase(online, home / name / "versions", home / name / "online") for name, online in onlines.items()
    }
    server = Serving(rest_port=None, grpc_port=None, poll=0.05)
    settings = StackSettings(
        cases, server, port=0, options=ScoringOptions(timeout=120.0), **({"backend": "nowhere:1"} | options)
    )
    servers = await Stack(settings).start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{servers.port}", timeout=120.0) as client:
            yield servers, client
    finally:
        await servers.close()


async def send_score(client: httpx.AsyncClient, case: str, **changes: Any) -> httpx.Response:
    return await client.post(f"/v1/{case}/score", json=BODIES[case] | changes)


def push(home: Path, case: str) -> None:
    """Move version 1 into place atomically, as a push does."""
    create_versions(home / case / "incoming", 1)
    (home / case / "versions").mkdir(exist_ok=True)
    os.rename(home / case / "incoming" / "1", home / case / "versions" / "1")


async def wait_for_answer(client: httpx.AsyncClient, case: str, **changes: Any) -> dict[str, Any]:
    """Return the first answer; until then the only status is 404, since the case is not served yet."""
    ends = time.monotonic() + 120
    while (response := await send_score(client, case, **changes)).status_code == 404:
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(("first", "later"), [("fraud", "image"), ("image", "fraud")])
def test_first_push_is_served_while_other_cases_keep_answering(
    tmp_path: Path, simple: None, first: str, later: str
) -> None:
    async def work():
        create_versions(tmp_path / first / "versions", 1)
        async with run_stack(tmp_path) as (_, client):
            statuses = []

            async def load() -> None:
                while True:
                    statuses.append((await send_score(client, first)).status_code)

            load_task = asyncio.create_task(load())
            assert (await send_score(client, later)).status_code == 404
            assert f"/v1/{later}/score" not in (await client.get("/openapi.json")).json()["paths"]
            push(tmp_path, later)
            assert (await wait_for_answer(client, later))["case"] == later
            assert f"/v1/{later}/score" in (await client.get("/openapi.json")).json()["paths"]
            assert (await client.get("/readyz")).json()["cases"] == {first: "ready", later: "ready"}
            assert f'gateway_decisions_total{{arm="stable",case="{later}"' in (await client.get("/metrics")).text
            load_task.cancel()
            await asyncio.gather(load_task, return_exceptions=True)
            assert len(statuses) > 2 and set(statuses) == {200}

    run(work())
    assert (
        len(read_logged_rows(tmp_path, later)) == 1 and (tmp_path / later / "online" / memory_checkpoint.FILE).exists()
    )


def test_new_case_waits_for_its_seed_data_and_is_seeded_once(tmp_path: Path, simple: None) -> None:
    ready, seeds = [], []

    def seed(name: str, online: Purchases) -> int:
        seeds.append(name)
        if name == "fraud":
            online.remember(["t0", 1_767_614_390_000_000, "c1", "m1", 7.0])  # ten seconds before
        return 1

    async def work():
        create_versions(tmp_path / "image" / "versions", 1)
        options = {"can_fill": lambda name: name == "image" or bool(ready), "seed": seed}
        async with run_stack(tmp_path, **options) as (_, client):
            push(tmp_path, "fraud")
            for _ in range(10):
                assert (await send_score(client, "fraud")).status_code == 404
                await asyncio.sleep(0.05)
            ready.append(True)
            await wait_for_answer(client, "fraud")
        async with run_stack(tmp_path, **options) as (_, client):
            assert (await send_score(client, "fraud", transaction_id="t2")).status_code == 200

    run(work())
    assert seeds == ["image", "fraud"]
    assert [record["customer_count_1d"] for record in read_logged_rows(tmp_path)] == [[1.0], [2.0]]
    assert read_logged_rows(tmp_path)[0]["seconds_since_last"] == [10.0]


def test_new_case_waits_for_the_history_store(tmp_path: Path, simple: None, caplog) -> None:
    server = RedisServer(tmp_path)
    server.kill()

    async def work():
        create_versions(tmp_path / "image" / "versions", 1)
        async with run_stack(tmp_path, store=server.url) as (_, client):
            push(tmp_path, "fraud")
            while "fraud is not served yet: The history store at" not in caplog.text:
                assert (await send_score(client, "image")).status_code == 200
                assert (await send_score(client, "fraud")).status_code == 404
            await asyncio.to_thread(server.start)
            await wait_for_answer(client, "fraud")

    try:
        run(work())
        assert server.redis.hlen("showcase:fraud:customer/c1") == 1
    finally:
        server.close()


def test_damaged_checkpoint_is_logged_once_and_other_cases_keep_answering(tmp_path: Path, simple: None, caplog) -> None:
    (tmp_path / "fraud" / "online").mkdir(parents=True)
    (tmp_path / "fraud" / "online" / memory_checkpoint.FILE).write_text("{")

    async def work():
        create_versions(tmp_path / "image" / "versions", 1)
        async with run_stack(tmp_path) as (_, client):
            push(tmp_path, "fraud")
            while "fraud is not served; fix this" not in caplog.text:
                assert (await send_score(client, "image")).status_code == 200
            await asyncio.sleep(0.3)
            assert (await send_score(client, "fraud")).status_code == 404
            assert caplog.text.count("is not served") == 1 and "remove it to replay" in caplog.text

    run(work())


@pytest.mark.slow
def test_gateway_serves_a_new_case_only_after_the_engine_has_loaded_it(tmp_path: Path) -> None:
    from support.amount_model import export_amount_model

    async def work():
        (tmp_path / "models").mkdir()
        for case in BODIES:
            export_amount_model(tmp_path / "models", 1)
            (tmp_path / case / "versions").mkdir(parents=True)
            os.rename(tmp_path / "models" / "1", tmp_path / case / "pushed")
        os.rename(tmp_path / "image" / "pushed", tmp_path / "image" / "versions" / "1")
        async with run_stack(tmp_path, backend="") as (servers, client):
            assert servers.loaded() == {"image": 1}
            os.rename(tmp_path / "fraud" / "pushed", tmp_path / "fraud" / "versions" / "1")
            assert (await wait_for_answer(client, "fraud"))["score"] == pytest.approx(0.11)
            assert servers.loaded() == {"image": 1, "fraud": 1}

    run(work())


def test_compressed_body_is_refused_before_it_is_read(tmp_path: Path, simple: None) -> None:
    async def work():
        create_versions(tmp_path / "fraud" / "versions", 1)
        async with run_stack(tmp_path) as (_, client):
            bomb = gzip.compress(bytes(64 << 20))
            for encoding in ("gzip", "deflate", "br"):
                response = await client.post("/v1/fraud/score", content=bomb, headers={"content-encoding": encoding})
                assert response.status_code == 415 and "identity" in response.json()["error"], response.text
            headers = {"content-encoding": "identity"}
            assert (await client.post("/v1/fraud/score", json=PURCHASE, headers=headers)).status_code == 200
            assert (await client.post("/v1/fraud/score", content=bytes(64 << 20))).status_code == 413

    run(work())
