"""A repeated request gets its first answer, one id is one purchase, and an id with another content is refused."""

import asyncio
import shutil

import orjson
import pytest
from support.gateway_case import PICTURE, PURCHASE, open_gateway, post, read_logged_rows, run, score_purchase
from support.older_home import write_older_home

from serving.gateway.history.memory_checkpoint import FILE
from serving.gateway.log.prediction_log import LogLimits
from serving.gateway.scoring import ScoringOptions
from serving.status_errors import ServingError

REPEATED = ("idempotent-replayed", "true")
LATER = {"transaction_id": "later", "event_time": "2026-01-05T12:00:10Z"}


async def count_purchases(gateway) -> float:
    """Return how many purchases the customer's history holds, by scoring one more."""
    assert (await score_purchase(gateway, **LATER))[0].status == 200
    customers = gateway.scorers["fraud"].online.history.state()["customers"]
    return len(customers["c1"][0]) - 1


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"transaction_id": " t1 "},
        {"event_time": 1767614400},
        {"event_time": "2026-01-05 14:00+02:00"},
        {"distance_km": 0.0, "amount": 100},
    ],
)
def test_repeated_request_gets_the_first_answer_and_counts_once(tmp_path, change):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response, first = await score_purchase(gateway)
            assert REPEATED not in response.headers
            backend.live = {1}  # another version would score differently
            response, second = await score_purchase(gateway, **change)
            assert response.status == 200 and second == first and REPEATED in response.headers
            assert len(backend.asked) == 1 and await count_purchases(gateway) == 1

    run(work())
    assert [record["served/key"] for record in read_logged_rows(tmp_path)] == [[b"t1"], [b"later"]]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 100.01},
        {"customer_id": "c2"},
        {"merchant_id": "m2"},
        {"event_time": "2026-01-05T12:00:01Z"},
        {"category": "travel"},
        {"distance_km": 1.0},
    ],
)
def test_same_id_with_another_content_is_409_and_changes_nothing(tmp_path, change):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            _, first = await score_purchase(gateway)
            response, answer = await score_purchase(gateway, **change)
            assert response.status == 409 and len(backend.asked) == 1
            assert f"'t1' was sent before with another content (prediction {first['prediction_id']})" in answer["error"]
            assert (await score_purchase(gateway))[1] == first
            assert await count_purchases(gateway) == 1
            assert "c2" not in gateway.scorers["fraud"].online.history.state()["customers"]

    run(work())


def test_first_answer_with_reasons_is_repeated_with_them(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            _, first = await score_purchase(gateway, "reasons=true")
            assert first["reasons"] == [] and (await score_purchase(gateway))[1] == first

    run(work())


def test_concurrent_repetitions_wait_for_the_first_answer(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            backend.delay = 0.05
            replies = await asyncio.gather(
                *(score_purchase(gateway) for _ in range(5)), score_purchase(gateway, amount=1.0)
            )
            assert [response.status for response, _ in replies] == [200] * 5 + [409]
            assert len({answer["prediction_id"] for _, answer in replies[:5]}) == len(backend.asked) == 1

    run(work())
    assert len(read_logged_rows(tmp_path)) == 1


def test_request_without_an_answer_is_scored_when_it_is_repeated(tmp_path, monkeypatch):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            faults = iter([ServingError("UNAVAILABLE", "gone")])

            def fail_once(model, version):
                for fault in faults:
                    raise fault

            backend.fault, backend.delay = fail_once, 0.01
            replies = await asyncio.gather(*(score_purchase(gateway) for _ in range(3)))
            assert [response.status for response, _ in replies] == [503, 200, 200]
            log = gateway.scorers["fraud"].log
            with monkeypatch.context() as patch:
                patch.setattr(log, "_write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left")))
                assert (await score_purchase(gateway, transaction_id="t2"))[0].status == 503
            response, _ = await score_purchase(gateway, transaction_id="t2")
            assert response.status == 200 and REPEATED not in response.headers
            assert await count_purchases(gateway) == 2

    run(work())
    assert [record["served/key"] for record in read_logged_rows(tmp_path)] == [[b"t1"], [b"t2"], [b"later"]]


@pytest.mark.parametrize("killed", [False, True])
def test_first_answer_is_repeated_after_a_restart(tmp_path, killed):
    async def work():
        async with open_gateway(tmp_path / "a") as (gateway, _):
            _, first = await score_purchase(gateway)
            if killed:  # the files as they are before the gateway is closed
                shutil.copytree(tmp_path / "a", tmp_path / "b")
        home = tmp_path / ("b" if killed else "a")
        assert (home / "fraud" / "online" / FILE).exists() != killed
        for _ in range(2):  # once after the log, once after the checkpoint
            async with open_gateway(home) as (gateway, backend):
                assert (await score_purchase(gateway))[1] == first and not backend.asked
                assert (await score_purchase(gateway, amount=1.0))[0].status == 409
        async with open_gateway(home) as (gateway, _):
            assert await count_purchases(gateway) == 1

    run(work())


def test_answer_is_forgotten_with_its_log_file(tmp_path):
    options = ScoringOptions(limits=LogLimits(file_bytes=1, keep_bytes=1))

    async def work():
        async with open_gateway(tmp_path, options=options) as (gateway, _):
            _, first = await score_purchase(gateway)
            memory = gateway.scorers["fraud"].memory
            await memory.checkpoint()
            for number in range(3):
                await score_purchase(gateway, transaction_id=f"n{number}")
            assert len(read_logged_rows(tmp_path)) < 4
            response, again = await score_purchase(gateway)
            assert response.status == 200 and again["prediction_id"] != first["prediction_id"]
            await memory.checkpoint()
            entries = len(list(memory.store.requests.entries()))
            assert entries <= len(read_logged_rows(tmp_path)) + 1 and await count_purchases(gateway) == 4

    run(work())


async def score_picture(gateway, request_id: str = "", **changes):
    """Score the picture ``PICTURE`` with changes, in a request with this id."""
    headers = {"idempotency-key": request_id} if request_id else {}
    return await post(gateway, "/v1/image/score", PICTURE | changes, **headers)


def test_picture_without_an_idempotency_key_is_scored_again(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            replies = [await score_picture(gateway, key="a") for _ in range(2)]
            assert len({answer["prediction_id"] for _, answer in replies}) == 2 == len(backend.asked)
            assert not any(REPEATED in response.headers for response, _ in replies)

    run(work())
    assert not any({"served/answer", "served/request"} & set(record) for record in read_logged_rows(tmp_path, "image"))


def test_picture_with_an_idempotency_key_is_scored_once(tmp_path):
    same_pixels = {"pixels": [[[0, 0, 0], [255, 255, 255]], [[255, 255, 255], [0, 0, 0]]]}

    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            backend.delay = 0.05
            replies = await asyncio.gather(*(score_picture(gateway, "r1", key="a") for _ in range(4)))
            first = replies[0][1]
            assert [answer for _, answer in replies] == [first] * 4 and len(backend.asked) == 1
            assert [REPEATED in response.headers for response, _ in replies] == [False, True, True, True]
            for changes in ({"key": "b"}, {"key": "a", "pixels": [[0, 255], [255, 1]]}, {"key": "a"} | same_pixels):
                response, answer = await score_picture(gateway, "r1", **changes)
                assert response.status == 409 and "'r1' was sent before" in answer["error"]
            other = (await score_picture(gateway, "r2", key="a"))[1]  # another request about the same picture
            assert other["prediction_id"] != first["prediction_id"]
            response, answer = await score_picture(gateway, "r" * 257)
            assert response.status == 422 and "256 characters" in answer["error"]
        for _ in range(2):  # once after the log, once after the checkpoint
            async with open_gateway(tmp_path) as (gateway, backend):
                response, answer = await score_picture(gateway, "r1", key="a")
                assert answer == first and REPEATED in response.headers and not backend.asked

    run(work())
    records = read_logged_rows(tmp_path, "image")
    assert [(record["served/key"], record["served/request"]) for record in records] == [
        ([b"a"], [b"r1"]),
        ([b"a"], [b"r2"]),
    ]


def test_home_of_an_older_gateway_opens(tmp_path):
    """Its log has no answers to repeat, but its purchases, in the checkpoint and after it, still count once."""
    write_older_home(tmp_path)
    label = {"prediction_id": "fraud.1.0.99e0bd47", "label": 1, "label_time": "2026-01-06T00:00:00Z"}

    async def work():
        for _ in range(2):
            async with open_gateway(tmp_path) as (gateway, _):
                assert (await post(gateway, "/labels", label))[1]["outcome"] == "known"
                assert (await score_purchase(gateway))[0].status == 200
                assert await count_purchases(gateway) == 3
                assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 1]]

    run(work())
    keys = [record["served/key"][0] for record in read_logged_rows(tmp_path)]
    assert keys == [b"t1", b"t2", b"t3", b"t1", b"later"]
    assert orjson.loads(read_logged_rows(tmp_path)[3]["served/answer"][0])["score"] == pytest.approx(
        PURCHASE["amount"] / 1000 + 0.01
    )
