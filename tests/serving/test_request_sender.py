"""The load generator against a gateway on a real port: counts, checks and errors, and the traffic of both cases."""

import asyncio
import itertools
import json
from datetime import date, datetime

import orjson
import pytest
from support.gateway_case import PURCHASE, FakeBackend, open_gateway
from support.in_process import run_in_process

from models.errors import DataError
from models.fraud import traffic as purchases
from models.fraud.data import unseen
from models.fraud.generator.drift import Drift
from models.fraud.generator.span_generator import generate
from models.image import traffic as pictures
from models.image.data import _share
from models.image.raw import readers
from models.image.raw.sources import store_digits
from serving.http import asyncio_server
from serving.http.asyncio_server import Response
from serving.request_sender import Sender, TrafficReport
from serving.status_errors import ServingError

pytestmark = pytest.mark.system

SETTINGS = {"rows": 2000, "days": 10, "data_seed": 3, "columns": "", "label_delay_days": 7}


def bodies(count):
    return [orjson.dumps(PURCHASE | {"transaction_id": f"t{n}"}) for n in range(count)]


def run_against_gateway(tmp_path, work, backend=None):
    """Call ``work`` with the port of a running gateway; return its result."""

    async def main():
        async with open_gateway(tmp_path, backend) as (gateway, _):
            server = await asyncio_server.serve(gateway, "127.0.0.1", 0)
            try:
                return await work(server.port)
            finally:
                await server.close()

    return asyncio.run(main())


def sender(port, check=lambda answer: None, **options):
    return Sender("127.0.0.1", port, "/v1/fraud/score", check, **options)


def test_every_body_is_sent_once_and_answers_are_counted(tmp_path):
    sent = []
    report = run_against_gateway(
        tmp_path, lambda port: sender(port, on_answer=lambda body, answer: sent.append(body)).run(bodies(200), 0, 8)
    )
    assert (report.sent, report.failed, report.statuses, report.versions) == (200, 0, {200: 200}, {2: 200})
    assert sorted(sent) == sorted(bodies(200)) and len(report.latencies) == 200
    assert report.decisions == {"pass": 200} and json.dumps(report.plain())


def test_replayed_answers_are_counted_and_no_other_may_repeat_a_prediction_id(tmp_path):
    async def send_twice(port):
        await sender(port).run(bodies(3), 0, 1)
        return await sender(port).run(bodies(5) + bodies(1), 0, 1)

    report = run_against_gateway(tmp_path, send_twice)
    assert (report.sent, report.failed, report.replayed, report.plain()["replayed"]) == (6, 0, 4, 4)

    async def answer_always_the_same(request):
        return Response(200, b'{"prediction_id":"a"}')

    async def work():
        server = await asyncio_server.serve(answer_always_the_same, "127.0.0.1", 0)
        try:
            return await sender(server.port).run(bodies(3), 0, 1)
        finally:
            await server.close()

    assert asyncio.run(work()).wrong == {"a repeated prediction id": 2}


def test_error_statuses_and_wrong_answers_are_failures(tmp_path):
    def fault(model, version):
        if len(backend.asked) % 4 == 0:
            raise ServingError("INVALID_ARGUMENT", "every fourth")

    backend = FakeBackend()
    backend.fault = fault
    check = iter(itertools.cycle([None, "odd"]))
    report = run_against_gateway(
        tmp_path, lambda port: sender(port, lambda answer: next(check)).run(bodies(40), 0, 1), backend
    )
    assert report.statuses == {200: 30, 400: 10} and report.wrong == {"odd": 15} and report.failed == 25
    assert "every fourth" in report.refusals[400]


def test_requests_follow_the_rate_and_end_after_the_duration(tmp_path):
    report = run_against_gateway(tmp_path, lambda port: sender(port).run(bodies(30), 300, 4))
    assert report.sent == 30 and report.seconds >= 29 / 300
    report = run_against_gateway(
        tmp_path / "more", lambda port: sender(port).run(itertools.cycle(bodies(9)), 200, 4, seconds=0.3)
    )
    assert 0 < report.sent <= 200 * report.seconds + 1  # the first is sent at once


def test_latency_includes_waiting_behind_a_slow_answer(tmp_path):
    """Ten requests are due at once on one connection: the last waits for the nine before it."""
    backend = FakeBackend()
    backend.delay = 0.02
    report = run_against_gateway(tmp_path, lambda port: sender(port).run(bodies(10), 10_000, 1), backend)
    assert max(report.latencies) > 0.15 and report.percentiles()["p50"] > 50


def test_broken_connection_is_counted_and_the_sender_continues(tmp_path):
    async def work():
        async def hang_up(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        report = await sender(port).run(bodies(3), 0, 1)
        server.close()
        return report

    report = asyncio.run(work())
    assert report.statuses == {0: 3} and report.failed == 3 and "closed" in report.refusals[0]


def test_percentiles_equal_those_of_the_sorted_latencies():
    assert TrafficReport(latencies=[n / 1000 for n in range(1000, 0, -1)]).percentiles() == pytest.approx(
        {"p50": 501, "p90": 901, "p95": 951, "p99": 991, "p99.9": 1000}
    )
    assert TrafficReport().percentiles() == {}


# The traffic of both cases.


@pytest.fixture
def source(tmp_path):
    """Generated training data: 2,000 purchases in 10 days."""
    generate(tmp_path / "source", rows=2000, days=10, seed=3)
    return str(tmp_path / "source")


def test_generated_purchases_are_continued_in_order_of_time(tmp_path, source):
    requests = list(purchases.requests(None, source, tmp_path, (-1, -1), [], SETTINGS))
    times = [datetime.fromisoformat(body["event_time"]) for body, _ in requests]
    assert times == sorted(times) and {time.date().isoformat() for time in times} == {
        "2026-01-15",
        "2026-01-16",
        "2026-01-17",
    }
    assert 400 < len(requests) < 800 and set(requests[0][0]) == set(purchases.SENT)
    labels = [label for _, label in requests if label]
    assert {label["label"] for label in labels} == {0, 1} and all("T" in label["label_time"] for label in labels)


def test_continued_purchases_have_ids_of_their_own(tmp_path, source):
    """What the gateway has answered joins the training data at a retraining, where an id is one purchase."""
    tables = [purchases.requests(source, source, tmp_path, (0, 9), [], SETTINGS)]
    tables += [purchases.requests(None, source, tmp_path, (10, last), [], SETTINGS) for last in (10, 11)]
    tables += [purchases.requests(None, source, tmp_path, (10, 10), ["amount:2@10"], SETTINGS)]
    ids = [body["transaction_id"] for table in tables for body, _ in table]
    assert len(set(ids)) == len(ids)


def test_purchases_continue_what_the_source_was_generated_with_and_not_the_settings(tmp_path, source):
    bodies = [body for body, _ in purchases.requests(None, source, tmp_path, (10, 10), [], SETTINGS | {"data_seed": 8})]
    again = [body for body, _ in purchases.requests(None, source, tmp_path / "other", (10, 10), [], SETTINGS)]
    assert bodies == again
    drifted, clean = tmp_path / "drifted", sum(body["amount"] for body in bodies)
    generate(drifted, rows=2000, days=10, seed=3, drift=[Drift("amount", 2.0, 5)])
    rows = list(purchases.requests(None, str(drifted), tmp_path, (10, 10), [], SETTINGS))
    assert sum(body["amount"] for body, _ in rows) == pytest.approx(2 * clean, rel=1e-4)


def write_own_purchases(folder, days, per_span=1):
    """Write five purchases a day from 2026-02-01 on, without the generator's manifest."""
    for span in range(days // per_span):
        lines = ["transaction_id,event_time,customer_id,merchant_id,amount,is_fraud"]
        for day in range(span * per_span, (span + 1) * per_span):
            lines += [f"own-{day}-{n},2026-02-{day + 1:02d}T{20 - n:02d}:00:00,c{n},m{n},5.0,{n % 2}" for n in range(5)]
        (folder / f"span-{span:03d}").mkdir(parents=True)
        (folder / f"span-{span:03d}" / "rows.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.mark.parametrize(("per_span", "window"), [(1, (0, 19)), (20, (0, 0))])
def test_own_purchases_are_replayed_from_the_days_that_training_held_out(tmp_path, per_span, window):
    source = write_own_purchases(tmp_path / "own", 20 if per_span == 20 else 25, per_span)
    settings = own_settings(19)
    requests = list(purchases.requests(None, source, tmp_path, (-1, -1), [], settings, window))
    days = sorted({int(body["transaction_id"].split("-")[1]) for body, _ in requests})
    assert days == list(range(20 - unseen(settings), 20)) and len(requests) == 5 * len(days)
    times = [body["event_time"] for body, _ in requests]
    assert times == sorted(times) and not (tmp_path / "traffic").exists()
    assert [label["label"] for _, label in requests[:5]] == [int(b["transaction_id"][-1]) % 2 for b, _ in requests[:5]]


def test_named_spans_of_own_purchases_are_replayed_whole(tmp_path):
    source = write_own_purchases(tmp_path / "own", 25)
    requests = list(purchases.requests(None, source, tmp_path, (2, 3), [], own_settings(19), (0, 19)))
    assert {body["transaction_id"].split("-")[1] for body, _ in requests} == {"2", "3"} and len(requests) == 10
    with pytest.raises(DataError, match="--drift works only with generated"):
        list(purchases.requests(None, source, tmp_path, (-1, -1), ["amount:2@1"], own_settings(19), (0, 19)))
    (tmp_path / "own" / "truth.json").write_text('{"rows": 3}')
    assert purchases.read_generator_settings(source) is None


def own_settings(last):
    """Data settings of a run on the first days of :func:`write_own_purchases`."""
    first = (date(2026, 2, 1) - date(1970, 1, 1)).days
    lengths = {"warmup_days": 2, "valid_days": 2, "eval_days": 2, "label_delay_days": 3}
    return {"columns": "", "first_day": first, "last_day": first + last, **lengths}


def test_drift_changes_the_named_column_from_its_day_on(tmp_path, source):
    def amounts(drift):
        return [body["amount"] for body, _ in purchases.requests(None, source, tmp_path, (9, 11), drift, SETTINGS)]

    clean, drifted = amounts([]), amounts(["amount:2@10"])
    changed = [before != after for before, after in zip(clean, drifted, strict=True)]
    first = changed.index(True)
    assert 0 < first < len(changed) and all(changed[first:]) and drifted[-1] == pytest.approx(2 * clean[-1])


def test_invalid_traffic_options_are_data_errors(tmp_path, source):
    cases = ((None, -1, ["colour:1@1"]), (None, -1, ["amount:2@99"]), ("x", -1, ["amount:2@1"]), ("x", 0, []))
    for data, first, drift in cases:
        with pytest.raises(DataError):
            list(purchases.requests(data, source, tmp_path, (first, -1), drift, SETTINGS))
    with pytest.raises(DataError, match="no generator"):
        list(pictures.requests(None, "", tmp_path, (-1, -1), ["amount:2@1"], {}))


def test_pictures_exclude_the_train_split_of_the_source(tmp_path):
    source, shares = store_digits(tmp_path / "digits"), {"eval_share": 0.2, "valid_share": 0.1}
    requests = list(pictures.requests(None, str(source), tmp_path, (-1, -1), [], shares))
    assert 480 < len(requests) < 600 and {label["label"] for _, label in requests} == set("0123456789")
    trained_on = {
        row["key"]
        for batch in readers.read(source / "span-000")
        for row in batch.to_pylist()
        if _share(row["key"]) >= 0.3
    }
    assert not trained_on & {body["key"] for body, _ in requests} and len(trained_on) + len(requests) == 1797
    assert len(list(pictures.requests(str(source), "", tmp_path, (-1, -1), [], shares))) == 1797


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((0.4, "pass"), None),
        ((0.5, "stop"), None),
        ((0.5, "pass"), "does not follow"),
        ((1.1, "stop"), "outside"),
        ((0.4, "stop"), "does not follow"),
    ],
)
def test_purchase_answer_is_checked(answer, problem):
    answer = {"score": answer[0], "decision": answer[1], "threshold": 0.5}
    assert (purchases.check(answer) is None) if problem is None else (problem in purchases.check(answer))


@pytest.mark.parametrize(
    ("probabilities", "decision", "problem"),
    [
        ({"a": 0.4, "b": 0.6}, "b", None),
        ({"a": 0.4, "b": 0.6}, "a", "most probable"),
        ({"a": 0.4, "b": 0.5}, "b", "sum"),
    ],
)
def test_picture_answer_is_checked(probabilities, decision, problem):
    reported = pictures.check({"probabilities": probabilities, "decision": decision})
    assert (reported is None) if problem is None else (problem in reported)


def test_traffic_without_a_gateway_names_the_command_to_start_one(tmp_path):
    done = run_in_process("traffic", "fraud", "--home", tmp_path)
    assert done.returncode == 2 and "showcase serve" in done.stderr and len(done.stderr.splitlines()) == 1
    assert run_in_process("traffic", "fraud", "--home", tmp_path, "--gateway", "nowhere").returncode == 2
    assert run_in_process("serve", "--home", tmp_path).returncode == 2
