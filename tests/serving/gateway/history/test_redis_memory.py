"""Several gateways with one history in Redis: equal to the one in memory, nothing lost between them, nothing counted twice."""

import asyncio
from operator import itemgetter
from pathlib import Path

import pytest
from support.gateway_case import logged, opened, post, run, score
from support.purchase_stream import NAMES, _micro, bodies, table
from support.redis_server import Server
from support.shared_case import shared

from models.fraud.generator import span_generator
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from models.fraud.online import Purchases
from serving.gateway.history.redis_client import client
from serving.gateway.log.tf_example import decode

pytestmark = pytest.mark.system

CUSTOMER, MERCHANT = "showcase:fraud:customer/c1", "showcase:fraud:merchant/m1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("redis"), durable=False)
    yield running
    running.close()


@pytest.fixture
def url(server: Server) -> str:
    server.redis.flushall()
    return server.url


def seen(gateway) -> dict[bytes, dict]:
    """What the model saw of each purchase, by its id."""
    backend = gateway.scorers["fraud"].backend
    return {one["transaction_id"][0]: one for one in backend.rows}


def remembering(gateway):
    """The gateway, its backend keeping what it is asked."""
    backend = gateway.scorers["fraud"].backend
    backend.rows, predict = [], backend.predict

    async def kept(model, examples, version, timeout):
        backend.rows += [decode(one) for one in examples]
        return await predict(model, examples, version, timeout)

    backend.predict = kept
    return gateway


@pytest.mark.parametrize("seeded", [0, 30])
def test_two_gateways_in_turn_show_the_model_the_batch_columns(tmp_path: Path, url: str, seeded: int) -> None:
    """The whole way: the first days by seeding, then JSON to either gateway, and labels when they become known."""
    spans, homes = tmp_path / "data", (tmp_path / "a", tmp_path / "b")
    span_generator.generate(spans, rows=600, days=45, seed=3)
    whole, first = table(spans), sorted(spans.glob("span-*"))[:seeded]
    batch = merchant_features(customer_features(whole), MerchantDays.of(whole)).to_pylist()
    expected = {one["transaction_id"]: {name: one[name] for name in NAMES} for one in batch}

    def seed(name: str, online: Purchases) -> int:
        return online.seed(map(str, first), {}) if name == "fraud" else 0

    async def replay() -> list[dict]:
        async with shared(homes[0], url, seed=seed) as one, shared(homes[1], url, seed=seed) as two:
            gateways, late, sent = [remembering(one), remembering(two)], [], bodies(spans)
            start = sum(Purchases().seed([str(path)], {}) for path in first)
            for n, (body, raw) in enumerate(sent[start:]):
                while late and late[0][0] <= raw["event_time"]:
                    known, number, identity = late.pop(0)
                    told = {"prediction_id": identity, "label": 1, "label_time": known.isoformat()}
                    assert (await post(gateways[number], "/labels", told))[1]["outcome"] == "kept"
                response, told = await post(gateways[n % 2], "/v1/fraud/score", body)
                assert response.status == 200, told
                if raw["is_fraud"] and raw["label_time"]:
                    late.append((raw["label_time"], n % 2, told["prediction_id"]))
                    late.sort(key=itemgetter(0))
            assert _micro(sent[-1][1]["event_time"]) > 0 and start == len(sent) - n - 1
            return [seen(one), seen(two)]

    for rows in run(replay()):
        assert len(rows) > 100
        for name, row in rows.items():
            wanted = expected[name.decode()]
            plain = {one: row[one] for one in NAMES}
            plain["past_merchant"] = [text.decode() for text in plain["past_merchant"]]
            assert {one: value if len(value) > 1 else value[0] for one, value in plain.items()} == wanted
    assert any(one["merchant_risk_30d"] > 0 for one in expected.values())


def test_gateways_at_once_lose_no_purchase_and_a_retry_counts_once(tmp_path: Path, url: str, server: Server) -> None:
    async def work():
        async with shared(tmp_path / "a", url) as one, shared(tmp_path / "b", url) as two:
            asked = [score((one, two)[n % 2], transaction_id=f"t{n % 100}") for n in range(400)]
            assert {response.status for response, _ in await asyncio.gather(*asked)} == {200}

    run(work())
    assert server.redis.hlen(CUSTOMER) == 100
    assert server.redis.hgetall(MERCHANT) == {"20458": "100"}
    assert len(logged(tmp_path / "a")) + len(logged(tmp_path / "b")) == 400


def test_a_label_at_one_gateway_is_risk_at_the_other_and_counts_once(tmp_path: Path, url: str, server: Server) -> None:
    async def work():
        async with shared(tmp_path / "a", url) as one, shared(tmp_path / "b", url) as two:
            _, told = await score(one)
            label = {"prediction_id": told["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            found = await asyncio.gather(*(post(one, "/labels", label) for _ in range(5)))
            assert sorted(answer["outcome"] for _, answer in found) == ["kept", "known", "known", "known", "known"]
            response, answer = await post(one, "/labels", label | {"label": 0})
            assert response.status == 409 and "labelled 1 already" in answer["error"]
            _, again = await score(two)  # the same purchase, scored elsewhere too
            outcome = (await post(two, "/labels", label | {"prediction_id": again["prediction_id"]}))[1]["outcome"]
            assert outcome == "known"
            assert (await post(two, "/labels", label))[
                0
            ].status == 404  # the record lies with the gateway that answered
            assert (await score(remembering(two), transaction_id="t9", event_time="2026-01-13T12:00:00Z"))[
                0
            ].status == 200
            assert seen(two)[b"t9"]["merchant_risk_1d"] == [pytest.approx(1 / 11)]

    run(work())
    assert server.redis.hgetall(MERCHANT) == {"20458": "1", "20458:20459": "1", "20466": "1"}


def test_a_request_reads_its_own_two_records_and_changes_them_with_one_script(
    tmp_path: Path, url: str, server: Server
) -> None:
    async def work():
        async with shared(tmp_path, url) as gateway:
            await score(gateway)
            server.redis.config_resetstat()
            for n in range(10):
                await score(gateway, transaction_id=f"more{n}")
            return server.redis.info("commandstats")

    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in run(work()).items()}
    assert (calls["hgetall"], calls["exists"], calls["evalsha"]) == (20, 10, 10)
    assert not {"keys", "scan", "hscan", "eval"} & set(calls)


def test_records_end_when_no_window_reaches_them(tmp_path: Path, url: str, server: Server) -> None:
    async def work():
        async with shared(tmp_path, url) as gateway:
            _, told = await score(gateway)
            await post(gateway, "/labels", {"prediction_id": told["prediction_id"], "label": 1})
            for key in (CUSTOMER, MERCHANT):
                server.redis.pexpire(key, 60_000)
            await score(gateway, transaction_id="later")

    run(work())
    longest = (30 + 7 + 1) * 86_400_000
    keys = [key for key in server.redis.keys("*") if not key.endswith(":filled")]
    assert len(keys) == 3 and all(longest - 3_600_000 < server.redis.pttl(key) <= longest for key in keys)


def test_what_a_gateway_remembered_by_itself_goes_along(tmp_path: Path, url: str, server: Server) -> None:
    async def work():
        async with opened(tmp_path / "a") as (gateway, _):
            _, told = await score(gateway)
            label = {"prediction_id": told["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            await post(gateway, "/labels", label)
        async with opened(tmp_path / "a") as (gateway, _):
            await score(gateway, transaction_id="t2", event_time="2026-01-05T12:00:10Z")
        async with shared(tmp_path / "a", url) as one, shared(tmp_path / "b", url) as two:
            assert (await post(one, "/labels", label))[1]["outcome"] == "known"
            assert (await post(one, "/labels", label | {"label": 0}))[0].status == 409
            await score(remembering(two), transaction_id="t3", event_time="2026-01-05T12:00:20Z")
            assert seen(two)[b"t3"]["customer_count_1d"] == [2.0]

    run(work())
    assert server.redis.hgetall(MERCHANT) == {"20458": "3", "20458:20459": "1"}


def test_an_address_that_is_none_is_one_sentence_without_its_password() -> None:
    with pytest.raises(ValueError, match="is 'embedded' or an address like") as error:
        client("http://me:secret@here:1")
    assert "secret" not in str(error.value)
    # How long a call may take is said by the caller alone.
    assert client("redis://here:1")[0].connection_pool.connection_kwargs["socket_timeout"] is None
    assert client("redis://:secret@here:7000/1")[1] == "here:7000" and client("redis:///2")[1] == "localhost:6379"
