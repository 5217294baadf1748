"""The gateway while the Redis with its history is down, slow, empty or damaged, and its recovery without a restart."""

import asyncio
import sys

import orjson
import pytest
from support.command import ROOT
from support.gateway_case import PICTURE, PURCHASE, post, run, score_purchase
from support.programs import read_words_until_killed
from support.redis_server import RedisServer
from support.shared_case import QUICK, open_shared_gateway

from serving.gateway.history.memory import StoreUnavailableError
from serving.http.asyncio_server import Request

pytestmark = pytest.mark.system

CUSTOMER = "showcase:fraud:customer/c1"


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    yield running
    running.close()


async def read_state(gateway) -> tuple[int, dict, str]:
    """Return the readiness status, the state of each case, and the metrics."""
    ready = await gateway(Request("GET", "/readyz", "", {}, b""))
    metrics = await gateway(Request("GET", "/metrics", "", {}, b""))
    return ready.status, orjson.loads(ready.body)["cases"], metrics.body.decode()


async def wait_for_answer(gateway, **changes) -> dict:
    """Return the first answer; until then every status is 503."""
    for _ in range(600):
        response, answer = await score_purchase(gateway, **changes)
        if response.status == 200:
            return answer
        assert response.status == 503
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway does not recover")


@pytest.mark.parametrize(
    ("fault", "repair", "message"), [("kill", "start", "does not answer"), ("pause", "resume", "did not answer within")]
)
def test_store_failure_is_503_and_reported_and_the_gateway_recovers(
    tmp_path, server: RedisServer, fault: str, repair: str, message: str
) -> None:
    async def work():
        async with open_shared_gateway(tmp_path / "home", server.url, QUICK) as gateway:
            assert (await score_purchase(gateway))[0].status == 200
            getattr(server, fault)()
            response, answer = await score_purchase(gateway, transaction_id="t2")
            assert response.status == 503 and message in answer["error"] and f":{server.port}" in answer["error"]
            assert dict(response.headers)["retry-after"]
            hanging = [asyncio.ensure_future(score_purchase(gateway, transaction_id=f"h{n}")) for n in range(8)]
            await asyncio.sleep(0)
            assert (await post(gateway, "/v1/image/score", PICTURE))[0].status == 200  # other cases do not wait
            assert {response.status for response, _ in await asyncio.gather(*hanging)} == {503}
            response, answer = await score_purchase(gateway, transaction_id="t3")
            status, cases, metrics = await read_state(gateway)
            assert status == 503 and cases == {"fraud": "history breaker open", "image": "ready"}
            assert 'gateway_history_breaker{case="fraud"} 2.0' in metrics
            assert 'gateway_history_total{case="fraud",outcome="failed"}' in metrics
            getattr(server, repair)()
            await wait_for_answer(gateway, transaction_id="t4", event_time="2026-01-05T12:00:10Z")
            assert (await read_state(gateway))[0] == 200
            record = server.redis.hgetall(CUSTOMER)
            # The first purchase is still stored; a rejected one can be retried and is then stored once.
            assert {name.split(":")[1] for name in record} >= {"t1", "t4"}
            assert (await score_purchase(gateway, transaction_id="t2"))[0].status == 200
            assert sum(name.endswith(":t2") for name in server.redis.hgetall(CUSTOMER)) == 1

    run(work())


def test_replies_after_a_timeout_belong_to_their_own_commands(tmp_path, server: RedisServer) -> None:
    """A connection with a pending reply must not be reused."""

    async def work():
        async with open_shared_gateway(tmp_path / "home", server.url, QUICK) as gateway:
            for n in range(5):
                await score_purchase(gateway, transaction_id=f"t{n}", customer_id=f"c{n}", amount=n + 1.0)
            for _ in range(3):
                server.pause()
                await asyncio.gather(
                    *(score_purchase(gateway, transaction_id=f"slow{n}", customer_id=f"c{n}") for n in range(5))
                )
                server.resume()
                await wait_for_answer(gateway, transaction_id="probe", customer_id="probe")
                memory = gateway.scorers["fraud"].memory
                for n in range(5):
                    online = memory.online
                    body = {
                        "transaction_id": "ask",
                        "event_time": "2026-01-05T12:00:01Z",
                        "customer_id": f"c{n}",
                        "merchant_id": "none",
                        "amount": 1.0,
                    }
                    features, *_ = await memory.recall(
                        online.row(online.Request.model_validate_json(orjson.dumps(body))), "ask"
                    )
                    assert set(features["past_amount"]) - {0.0, 100.0} == {n + 1.0}

    run(work())


def test_emptied_store_is_reported_and_filled_by_the_next_start(tmp_path, server: RedisServer) -> None:
    async def work():
        async with open_shared_gateway(tmp_path / "a", server.url, QUICK) as gateway:
            assert (await score_purchase(gateway))[0].status == 200
            server.redis.flushall()
            response, answer = await score_purchase(gateway, transaction_id="t2")
            assert response.status == 503 and "has lost its data" in answer["error"]
            async with open_shared_gateway(tmp_path / "b", server.url):
                await wait_for_answer(gateway, transaction_id="t2")

    run(work())


@pytest.mark.parametrize(("value", "message"), [(("junk", "junk"), "remove it"), (None, "does not answer: ")])
def test_damaged_record_is_named(tmp_path, server: RedisServer, value, message: str) -> None:
    async def work():
        async with open_shared_gateway(tmp_path / "a", server.url, QUICK) as gateway:
            server.redis.hset(CUSTOMER, *value) if value else server.redis.set(CUSTOMER, "text")
            response, answer = await score_purchase(gateway)
            assert response.status == 503 and message in answer["error"]
            assert CUSTOMER in answer["error"]
            server.redis.delete(CUSTOMER)
            await wait_for_answer(gateway)

    run(work())


def test_start_without_redis_names_the_store_and_the_remedy(tmp_path, server: RedisServer) -> None:
    server.kill()

    async def work():
        async with open_shared_gateway(tmp_path / "a", server.url, QUICK):
            pass

    with pytest.raises(
        StoreUnavailableError, match=rf"127.0.0.1:{server.port} does not answer: .*Start it, or omit --store"
    ):
        run(work())


def test_label_is_503_without_the_store_and_stored_on_retry(tmp_path, server: RedisServer) -> None:
    async def work():
        async with open_shared_gateway(tmp_path / "a", server.url, QUICK) as gateway:
            _, answer = await score_purchase(gateway)
            label = {"prediction_id": answer["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            server.kill()
            assert (await post(gateway, "/labels", label))[0].status == 503
            server.start()
            await wait_for_answer(gateway, transaction_id="t2")
            outcomes = [(await post(gateway, "/labels", label))[1]["outcome"] for _ in range(2)]
            assert outcomes == ["kept", "known"]

    run(work())
    assert server.redis.hget("showcase:fraud:merchant/m1", "20458:20459") == "1"


SCRIPT = """
import asyncio, sys
from pathlib import Path
from support.gateway_case import score_purchase
from support.shared_case import open_shared_gateway

async def work():
    async with open_shared_gateway(Path(sys.argv[1]), sys.argv[2]) as gateway:
        for n in range(10**6):
            each = [score_purchase(gateway, transaction_id=f"{n}-{k}") for k in range(8)]
            assert all(response.status == 200 for response, _ in await asyncio.gather(*each))
            print(*(f"{n}-{k}" for k in range(8)), flush=True)
asyncio.run(work())
"""


def test_another_gateway_has_every_acknowledged_row_after_kill_9(tmp_path, server: RedisServer) -> None:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests', '.']{SCRIPT}", tmp_path / "a", server.url]
    acknowledged = read_words_until_killed(command, ROOT, lambda lines: len(lines) >= 80)

    async def work() -> int:
        async with open_shared_gateway(tmp_path / "b", server.url) as other:
            for name in acknowledged[-8:]:  # a client without an answer retries at another gateway
                assert (await score_purchase(other, transaction_id=name))[0].status == 200
            memory = other.scorers["fraud"].memory
            body = orjson.dumps(PURCHASE | {"transaction_id": "z", "event_time": "2026-01-05T12:00:10Z"})
            features, *_ = await memory.recall(memory.online.row(memory.online.Request.model_validate_json(body)), "z")
            return features["customer_count_1d"]

    count = run(work())
    names = {field.partition(":")[2] for field in server.redis.hgetall(CUSTOMER)}
    assert names >= set(acknowledged) and count == len(names)
    assert server.redis.hgetall("showcase:fraud:merchant/m1") == {"20458": str(len(names))}
