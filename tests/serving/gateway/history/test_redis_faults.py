"""What a gateway says while the Redis with its history is gone, slow, empty or damaged, and that it comes back by itself."""

import asyncio
import sys

import orjson
import pytest
from support.command import ROOT
from support.gateway_case import PICTURE, PURCHASE, post, run, score
from support.programs import told_before_kill_9
from support.redis_server import Server
from support.shared_case import QUICK, shared

from serving.gateway.history.memory import UnreachedError
from serving.http.asyncio_server import Request

pytestmark = pytest.mark.system

CUSTOMER = "showcase:fraud:customer/c1"


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path)
    yield running
    running.close()


async def told(gateway) -> tuple[int, dict, str]:
    """Readiness and metrics."""
    ready = await gateway(Request("GET", "/readyz", "", {}, b""))
    metrics = await gateway(Request("GET", "/metrics", "", {}, b""))
    return ready.status, orjson.loads(ready.body)["cases"], metrics.body.decode()


async def until_answered(gateway, **changes) -> dict:
    """The first answer, which comes without anybody's help."""
    for _ in range(600):
        response, found = await score(gateway, **changes)
        if response.status == 200:
            return found
        assert response.status == 503
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway does not come back")


@pytest.mark.parametrize(
    ("fault", "mend", "says"), [("kill", "start", "does not answer"), ("stall", "go_on", "no answer within")]
)
def test_gone_or_slow_is_503_and_seen_and_mends_by_itself(
    tmp_path, server: Server, fault: str, mend: str, says: str
) -> None:
    async def work():
        async with shared(tmp_path / "home", server.url, QUICK) as gateway:
            assert (await score(gateway))[0].status == 200
            getattr(server, fault)()
            response, answer = await score(gateway, transaction_id="t2")
            assert response.status == 503 and says in answer["error"] and f":{server.port}" in answer["error"]
            assert dict(response.headers)["retry-after"]
            hanging = [asyncio.ensure_future(score(gateway, transaction_id=f"h{n}")) for n in range(8)]
            await asyncio.sleep(0)
            assert (await post(gateway, "/v1/image/score", PICTURE))[0].status == 200  # nobody else waits
            assert {response.status for response, _ in await asyncio.gather(*hanging)} == {503}
            response, answer = await score(gateway, transaction_id="t3")
            status, cases, metrics = await told(gateway)
            assert status == 503 and cases == {"fraud": "history's breaker open", "image": "ready"}
            assert 'gateway_history_breaker{case="fraud"} 2.0' in metrics
            assert 'gateway_history_total{case="fraud",outcome="failed"}' in metrics
            getattr(server, mend)()
            await until_answered(gateway, transaction_id="t4", event_time="2026-01-05T12:00:10Z")
            assert (await told(gateway))[0] == 200
            record = server.redis.hgetall(CUSTOMER)
            # The first purchase is there still; those that were refused may come again and are there once then.
            assert {name.split(":")[1] for name in record} >= {"t1", "t4"}
            assert (await score(gateway, transaction_id="t2"))[0].status == 200
            assert sum(name.endswith(":t2") for name in server.redis.hgetall(CUSTOMER)) == 1

    run(work())


def test_answers_after_a_slow_one_belong_to_their_own_questions(tmp_path, server: Server) -> None:
    """A connection on which an answer is still to come must not be asked again."""

    async def work():
        async with shared(tmp_path / "home", server.url, QUICK) as gateway:
            for n in range(5):
                await score(gateway, transaction_id=f"t{n}", customer_id=f"c{n}", amount=n + 1.0)
            for _ in range(3):
                server.stall()
                await asyncio.gather(
                    *(score(gateway, transaction_id=f"slow{n}", customer_id=f"c{n}") for n in range(5))
                )
                server.go_on()
                await until_answered(gateway, transaction_id="probe", customer_id="probe")
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
                    features, _ = await memory.recall(
                        online.row(online.Request.model_validate_json(orjson.dumps(body)))
                    )
                    assert set(features["past_amount"]) - {0.0, 100.0} == {n + 1.0}

    run(work())


def test_a_store_that_was_emptied_is_said_and_filled_by_the_next_start(tmp_path, server: Server) -> None:
    async def work():
        async with shared(tmp_path / "a", server.url, QUICK) as gateway:
            assert (await score(gateway))[0].status == 200
            server.redis.flushall()
            response, answer = await score(gateway, transaction_id="t2")
            assert response.status == 503 and "has lost what it held" in answer["error"]
            async with shared(tmp_path / "b", server.url):
                await until_answered(gateway, transaction_id="t2")

    run(work())


@pytest.mark.parametrize(("value", "says"), [(("junk", "junk"), "remove it"), (None, "does not answer: ")])
def test_a_damaged_record_is_named(tmp_path, server: Server, value, says: str) -> None:
    async def work():
        async with shared(tmp_path / "a", server.url, QUICK) as gateway:
            server.redis.hset(CUSTOMER, *value) if value else server.redis.set(CUSTOMER, "text")
            response, answer = await score(gateway)
            assert response.status == 503 and says in answer["error"]
            assert CUSTOMER in answer["error"]
            server.redis.delete(CUSTOMER)
            await until_answered(gateway)

    run(work())


def test_without_a_redis_the_start_is_one_sentence(tmp_path, server: Server) -> None:
    server.kill()

    async def work():
        async with shared(tmp_path / "a", server.url, QUICK):
            pass

    with pytest.raises(
        UnreachedError, match=rf"127.0.0.1:{server.port} does not answer: .*Start it, or leave --store out"
    ):
        run(work())


def test_a_label_waits_for_the_store_too_and_is_kept_when_it_comes_again(tmp_path, server: Server) -> None:
    async def work():
        async with shared(tmp_path / "a", server.url, QUICK) as gateway:
            _, answer = await score(gateway)
            label = {"prediction_id": answer["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            server.kill()
            assert (await post(gateway, "/labels", label))[0].status == 503
            server.start()
            await until_answered(gateway, transaction_id="t2")
            outcomes = [(await post(gateway, "/labels", label))[1]["outcome"] for _ in range(2)]
            assert outcomes == ["kept", "known"]

    run(work())
    assert server.redis.hget("showcase:fraud:merchant/m1", "20458:20459") == "1"


SCRIPT = """
import asyncio, sys
from pathlib import Path
from support.gateway_case import score
from support.shared_case import shared

async def work():
    async with shared(Path(sys.argv[1]), sys.argv[2]) as gateway:
        for n in range(10**6):
            each = [score(gateway, transaction_id=f"{n}-{k}") for k in range(8)]
            assert all(response.status == 200 for response, _ in await asyncio.gather(*each))
            print(*(f"{n}-{k}" for k in range(8)), flush=True)
asyncio.run(work())
"""


def test_after_kill_9_of_a_gateway_another_knows_all_that_was_acknowledged(tmp_path, server: Server) -> None:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests', '.']{SCRIPT}", tmp_path / "a", server.url]
    acknowledged = told_before_kill_9(command, ROOT, lambda told: len(told) >= 80)

    async def work() -> int:
        async with shared(tmp_path / "b", server.url) as other:
            for name in acknowledged[-8:]:  # a client that is not sure sends again, elsewhere
                assert (await score(other, transaction_id=name))[0].status == 200
            memory = other.scorers["fraud"].memory
            body = orjson.dumps(PURCHASE | {"transaction_id": "z", "event_time": "2026-01-05T12:00:10Z"})
            features, _ = await memory.recall(memory.online.row(memory.online.Request.model_validate_json(body)))
            return features["customer_count_1d"]

    known = run(work())
    names = {field.partition(":")[2] for field in server.redis.hgetall(CUSTOMER)}
    assert names >= set(acknowledged) and known == len(names)
    assert server.redis.hgetall("showcase:fraud:merchant/m1") == {"20458": str(len(names))}
