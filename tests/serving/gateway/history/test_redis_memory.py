"""Several gateways share one history in Redis: it equals the embedded one, and nothing is lost or counted twice."""

import asyncio
from operator import itemgetter
from pathlib import Path

import pytest
from support.gateway_case import open_gateway, post, run, score_purchase
from support.purchase_stream import NAMES, _micro, read_bodies, read_table
from support.redis_server import RedisServer
from support.shared_case import open_shared_gateway

from models.fraud.generator import span_generator
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from models.fraud.online_requests import Purchases
from serving.gateway.history.redis_client import make_client
from serving.gateway.log.tf_example import decode

pytestmark = pytest.mark.system

CUSTOMER, MERCHANT = "showcase:fraud:customer/c1", "showcase:fraud:merchant/m1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"), durable=False)
    yield running
    running.close()


@pytest.fixture
def url(server: RedisServer) -> str:
    server.redis.flushall()
    return server.url


def model_inputs(gateway) -> dict[bytes, dict]:
    """Return the recorded model inputs by transaction id."""
    backend = gateway.scorers["fraud"].backend
    return {row["transaction_id"][0]: row for row in backend.rows}


def record_inputs(gateway):
    """Make the gateway's backend record the model inputs; return the gateway."""
    backend = gateway.scorers["fraud"].backend
    backend.rows, predict = [], backend.predict

    async def recording_predict(model, examples, version, timeout):
        backend.rows += [decode(data) for data in examples]
        return await predict(model, examples, version, timeout)

    backend.predict = recording_predict
    return gateway


@pytest.mark.parametrize("seeded", [0, 30])
def test_two_gateways_in_turn_compute_the_batch_columns(tmp_path: Path, url: str, seeded: int) -> None:
    """End to end: the first days are seeded, then JSON goes to both gateways, and labels when they become known."""
    spans, homes = tmp_path / "data", (tmp_path / "a", tmp_path / "b")
    span_generator.generate(spans, rows=600, days=45, seed=3)
    whole, seed_spans = read_table(spans), sorted(spans.glob("span-*"))[:seeded]
    batch = merchant_features(customer_features(whole), MerchantDays.of(whole)).to_pylist()
    expected = {purchase["transaction_id"]: {name: purchase[name] for name in NAMES} for purchase in batch}

    def seed(name: str, online: Purchases) -> int:
        return online.seed(map(str, seed_spans), {}) if name == "fraud" else 0

    async def replay() -> list[dict]:
        async with (
            open_shared_gateway(homes[0], url, seed=seed) as first_gateway,
            open_shared_gateway(homes[1], url, seed=seed) as second_gateway,
        ):
            gateways, late, sent = [record_inputs(first_gateway), record_inputs(second_gateway)], [], read_bodies(spans)
            start = sum(Purchases().seed([str(path)], {}) for path in seed_spans)
            for n, (body, raw) in enumerate(sent[start:]):
                while late and late[0][0] <= raw["event_time"]:
                    label_time, number, identity = late.pop(0)
                    label = {"prediction_id": identity, "label": 1, "label_time": label_time.isoformat()}
                    assert (await post(gateways[number], "/labels", label))[1]["outcome"] == "kept"
                response, answer = await post(gateways[n % 2], "/v1/fraud/score", body)
                assert response.status == 200, answer
                if raw["is_fraud"] and raw["label_time"]:
                    late.append((raw["label_time"], n % 2, answer["prediction_id"]))
                    late.sort(key=itemgetter(0))
            assert _micro(sent[-1][1]["event_time"]) > 0 and start == len(sent) - n - 1
            return [model_inputs(gateway) for gateway in gateways]

    for rows in run(replay()):
        assert len(rows) > 100
        for name, row in rows.items():
            columns = {column: row[column] for column in NAMES}
            columns["past_merchant"] = [text.decode() for text in columns["past_merchant"]]
            actual = {column: value if len(value) > 1 else value[0] for column, value in columns.items()}
            assert actual == expected[name.decode()]
    assert any(columns["merchant_risk_30d"] > 0 for columns in expected.values())


def test_concurrent_gateways_lose_no_purchase_and_count_a_retry_once(
    tmp_path: Path, url: str, server: RedisServer
) -> None:
    async def work():
        async with (
            open_shared_gateway(tmp_path / "a", url) as first,
            open_shared_gateway(tmp_path / "b", url) as second,
        ):
            requests = [score_purchase((first, second)[n % 3 % 2], transaction_id=f"t{n % 100}") for n in range(400)]
            replies = await asyncio.gather(*requests)
            assert {response.status for response, _ in replies} == {200}
            ids = [{answer["prediction_id"] for _, answer in replies[n::100]} for n in range(100)]
            assert all(len(same) == 1 for same in ids) and len(set.union(*ids)) == 100

    run(work())
    assert server.redis.hlen(CUSTOMER) == 100
    assert server.redis.hgetall(MERCHANT) == {"20458": "100"}


def test_first_answer_is_repeated_by_every_gateway(tmp_path: Path, url: str, server: RedisServer) -> None:
    async def work():
        async with open_shared_gateway(tmp_path / "a", url) as first:
            _, answer = await score_purchase(first)
        async with (
            open_shared_gateway(tmp_path / "a", url) as first,
            open_shared_gateway(tmp_path / "b", url) as second,
        ):
            for gateway in (first, second):
                assert (await score_purchase(gateway))[1] == answer
                response, conflict = await score_purchase(gateway, amount=1.0)
                assert response.status == 409 and answer["prediction_id"] in conflict["error"]
                assert (await score_purchase(gateway, event_time="2026-01-05T12:00:01Z"))[0].status == 409

    run(work())
    assert server.redis.hlen(CUSTOMER) == 1 and server.redis.hgetall(MERCHANT) == {"20458": "1"}


def test_label_at_one_gateway_raises_the_risk_at_the_other_and_counts_once(
    tmp_path: Path, url: str, server: RedisServer
) -> None:
    async def work():
        async with (
            open_shared_gateway(tmp_path / "a", url) as first,
            open_shared_gateway(tmp_path / "b", url) as second,
        ):
            _, answer = await score_purchase(first)
            label = {"prediction_id": answer["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            replies = await asyncio.gather(*(post(first, "/labels", label) for _ in range(5)))
            assert sorted(answer["outcome"] for _, answer in replies) == ["kept", "known", "known", "known", "known"]
            response, answer = await post(first, "/labels", label | {"label": 0})
            assert response.status == 409 and "labelled 1 already" in answer["error"]
            _, second_answer = await score_purchase(second)  # the same purchase at the other gateway
            assert second_answer["prediction_id"] == label["prediction_id"]
            response, _ = await post(second, "/labels", label)
            assert response.status == 404  # only the gateway that answered has the record
            response, _ = await score_purchase(
                record_inputs(second), transaction_id="t9", event_time="2026-01-13T12:00:00Z"
            )
            assert response.status == 200
            assert model_inputs(second)[b"t9"]["merchant_risk_1d"] == [pytest.approx(1 / 11)]

    run(work())
    assert server.redis.hgetall(MERCHANT) == {"20458": "1", "20458:20459": "1", "20466": "1"}


def test_request_reads_two_records_and_updates_them_with_one_script(
    tmp_path: Path, url: str, server: RedisServer
) -> None:
    async def work():
        async with open_shared_gateway(tmp_path, url) as gateway:
            await score_purchase(gateway)
            server.redis.config_resetstat()
            for n in range(10):
                await score_purchase(gateway, transaction_id=f"more{n}")
            return server.redis.info("commandstats")

    calls = {name.removeprefix("cmdstat_"): statistics["calls"] for name, statistics in run(work()).items()}
    assert (calls["hgetall"], calls["exists"], calls["evalsha"]) == (20, 20, 10)  # the script checks a key, too
    assert not {"keys", "scan", "hscan", "eval"} & set(calls)


def test_records_expire_after_the_longest_window(tmp_path: Path, url: str, server: RedisServer) -> None:
    async def work():
        async with open_shared_gateway(tmp_path, url) as gateway:
            _, answer = await score_purchase(gateway)
            await post(gateway, "/labels", {"prediction_id": answer["prediction_id"], "label": 1})
            for key in (CUSTOMER, MERCHANT):
                server.redis.pexpire(key, 60_000)
            await score_purchase(gateway, transaction_id="later")

    run(work())
    longest = (30 + 7 + 1) * 86_400_000
    keys = [key for key in server.redis.keys("*") if not key.endswith(":filled")]
    assert len(keys) == 5 and all(longest - 3_600_000 < server.redis.pttl(key) <= longest for key in keys)


def test_embedded_history_is_moved_to_the_store(tmp_path: Path, url: str, server: RedisServer) -> None:
    async def work():
        async with open_gateway(tmp_path / "a") as (gateway, _):
            _, answer = await score_purchase(gateway)
            label = {"prediction_id": answer["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            await post(gateway, "/labels", label)
        async with open_gateway(tmp_path / "a") as (gateway, _):
            await score_purchase(gateway, transaction_id="t2", event_time="2026-01-05T12:00:10Z")
        async with (
            open_shared_gateway(tmp_path / "a", url) as first,
            open_shared_gateway(tmp_path / "b", url) as second,
        ):
            assert (await post(first, "/labels", label))[1]["outcome"] == "known"
            assert (await post(first, "/labels", label | {"label": 0}))[0].status == 409
            assert (await score_purchase(second))[1] == answer
            assert (await score_purchase(second, amount=1.0))[0].status == 409
            await score_purchase(record_inputs(second), transaction_id="t3", event_time="2026-01-05T12:00:20Z")
            assert model_inputs(second)[b"t3"]["customer_count_1d"] == [2.0]

    run(work())
    assert server.redis.hgetall(MERCHANT) == {"20458": "3", "20458:20459": "1"}


def test_invalid_url_error_hides_the_password() -> None:
    with pytest.raises(ValueError, match="must be 'embedded' or a URL like") as error:
        make_client("http://me:secret@localhost:1")
    assert "secret" not in str(error.value)
    # Only the caller limits the time of a call.
    assert make_client("redis://host:1")[0].connection_pool.connection_kwargs["socket_timeout"] is None
    assert (
        make_client("redis://:secret@host:7000/1")[1] == "host:7000"
        and make_client("redis:///2")[1] == "localhost:6379"
    )
