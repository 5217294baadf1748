"""Ids and times of requests at a gateway: what is accepted, how it is normalised, and what is refused."""

import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from support.gateway_case import PURCHASE, open_gateway, post, read_logged_rows, run, score_purchase


@pytest.mark.parametrize(
    ("raw", "identity"),
    [
        (b'"  c1\\t"', b"c1"),
        (b"4000000000000000", b"4000000000000000"),
        (b"4e15", b"4000000000000000"),
        (b"4000000000000000.0", b"4000000000000000"),
        (b'"4000000000000000.0"', b"4000000000000000"),
        (b'"' + b"x" * 128 + b'"', b"x" * 128),
    ],
)
def test_ids_are_normalised_before_anything_uses_them(tmp_path, raw, identity):
    body = orjson.dumps(PURCHASE)
    first = body.replace(b'"c1"', raw).replace(b'"m1"', raw).replace(b'"t1"', raw)

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            assert (await post(gateway, "/v1/fraud/score", first))[0].status == 200
            response, _ = await score_purchase(
                gateway, transaction_id="t2", customer_id=identity.decode(), event_time="2026-01-05T12:00:10Z"
            )
            assert response.status == 200

    run(work())
    record, later = read_logged_rows(tmp_path)
    assert [record[name] for name in ("served/key", "transaction_id", "customer_id", "merchant_id")] == [[identity]] * 4
    assert later["customer_count_1d"] == [1.0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'""', "customer_id: the id is empty"),
        (b'" \\t "', "customer_id: the id is empty"),
        (b"null", "customer_id: the id is missing"),
        (b"1.5", "customer_id: 1.5 is not a whole number"),
        (b"1e300", "customer_id: 1e+300 is a float, which holds whole numbers exactly only below 2^53"),
        (b"true", "customer_id: an id must be a text or a whole number, not bool"),
        (b'["c1"]', "customer_id: an id must be a text or a whole number, not list"),
        (b'"' + b"x" * 129 + b'"', "customer_id: the id has 129 characters; at most 128 are allowed"),
        (b"9" * 129, "customer_id: the id has 129 characters"),
        (b"9" * 5000, "number out of range"),
    ],
)
def test_value_that_is_no_id_is_refused(tmp_path, raw, message):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response, answer = await post(gateway, "/v1/fraud/score", orjson.dumps(PURCHASE).replace(b'"c1"', raw))
            assert response.status in (400, 422) and message in answer["error"] and not backend.asked

    run(work())


def test_time_as_number_and_as_text_is_the_same_time(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            for number, when in enumerate(("2026-01-05T12:00:00Z", "2026-01-05 14:00+02:00", 1767614400, 1767614400.0)):
                response, _ = await score_purchase(gateway, transaction_id=f"t{number}", event_time=when)
                assert response.status == 200

    run(work())
    assert [record["event_time"] for record in read_logged_rows(tmp_path)] == [[1_767_614_400]] * 4


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (
            1767614400000,
            "event_time: 1767614400000 looks like milliseconds since 1970; divide it by 1000 to give seconds.",
        ),
        (1767614400000000, "event_time: 1767614400000000 looks like microseconds"),
        (1767614400000000000, "looks like nanoseconds"),
        (20458, "not a time from 1990 to 2100"),
        ("1767614400", "event_time: '1767614400' is not a time; give ISO 8601 text"),
        ("5.1.2026", "is not a time"),
        (None, "event_time: this is not a time"),
        ("1969-12-31T23:59:59Z", "older than 1970"),
    ],
)
def test_other_time_is_refused_with_the_remedy(tmp_path, when, message):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response, answer = await score_purchase(gateway, event_time=when)
            assert response.status == 422 and message in answer["error"] and not backend.asked

    run(work())


def test_label_time_must_be_after_its_purchase_and_not_in_the_future(tmp_path):
    now, second = datetime.now(UTC), timedelta(seconds=1)

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            _, scored = await score_purchase(gateway, event_time="2026-01-05T12:00:00Z")
            label = {"prediction_id": scored["prediction_id"], "label": 1}
            for when, message in (
                ("2026-01-05T11:59:59Z", "2026-01-05T11:59:59Z is before its row's time, 2026-01-05T12:00:00Z"),
                ((now + 70 * second).isoformat(), "is in the future"),
                ((now + 70 * second).timestamp(), "is in the future"),
                (1767614400000, "looks like milliseconds"),
                ("soon", "label_time: 'soon' is not a time"),
                (True, "label_time"),
            ):
                response, answer = await post(gateway, "/labels", label | {"label_time": when})
                assert response.status == 422 and message in answer["error"], answer
            assert not read_logged_rows(tmp_path, folder="labels")
            for when, outcome in ((1767614400, "kept"), ((now + 30 * second).isoformat(), "known"), (None, "known")):
                response, answer = await post(gateway, "/labels", label | {"label_time": when})
                assert response.status == 200 and answer["outcome"] == outcome
            # A purchase that is ahead of the clock, as in a replay, cannot be labelled before it.
            ahead = now + timedelta(hours=1)
            _, scored = await score_purchase(gateway, transaction_id="t2", event_time=ahead.isoformat())
            late = {"prediction_id": scored["prediction_id"], "label": 0}
            earlier = await post(gateway, "/labels", late | {"label_time": now.isoformat()})
            later = await post(gateway, "/labels", late | {"label_time": (ahead + timedelta(days=8)).isoformat()})
            assert (earlier[0].status, later[0].status) == (422, 200)

    run(work())
    assert [record["label/time"] for record in read_logged_rows(tmp_path, folder="labels")][0] == [1767614400 * 10**6]


def test_label_of_a_picture_is_not_in_the_future(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            _, scored = await post(gateway, "/v1/image/score", {"pixels": [[0]]})
            label = {"prediction_id": scored["prediction_id"], "label": "a"}
            future = await post(gateway, "/labels", label | {"label_time": time.time() + 70})
            past = await post(gateway, "/labels", label | {"label_time": "2020-01-01"})
            assert (future[0].status, past[0].status) == (422, 200)

    run(work())
