"""The gateway over a simple backend: every refusal, and both sides of every limit."""

import asyncio

import orjson
import pytest
from support.gateway_case import PICTURE, PURCHASE, logged, opened, post, run, score

from serving.errors import ServingError
from serving.gateway.circuit_breaker import Patience
from serving.gateway.log.prediction_log import UnwrittenError
from serving.gateway.scoring import Options
from serving.http.asyncio_server import Request


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/fraud/score", b"", 400),
        ("POST", "/v1/fraud/score", b"{", 400),
        ("POST", "/v1/fraud/score", b"\xff\xfe", 400),
        ("POST", "/v1/fraud/score", b"[" * 10_000, 400),
        ("POST", "/v1/fraud/score", b"[]", 422),
        ("POST", "/v1/fraud/score", b"null", 422),
        ("POST", "/v1/fraud/score", orjson.dumps({k: v for k, v in PURCHASE.items() if k != "amount"}), 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE | {"amount": True}), 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE)[:-1] + b',"amount":NaN}', 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE).replace(b'"t1"', b'"\\ud800"'), 400),
        ("POST", "/v1/fraud/score", b" " * (16 << 10) + b"{}", 413),
        ("GET", "/v1/fraud/score", b"", 405),
        ("DELETE", "/labels", b"", 405),
        ("POST", "/healthz", b"", 405),
        ("POST", "/v1/nothing/score", b"{}", 404),
        ("GET", "/", b"", 404),
        ("POST", "/labels", b"x", 400),
        ("POST", "/labels", b" " * (16 << 10) + b"{}", 413),
        ("POST", "/labels", b"{}", 422),
        ("POST", "/labels/batch", b" " * (1 << 20) + b"{}", 413),
        ("POST", "/labels/batch", b'{"labels": []}', 422),
    ],
)
def test_a_bad_request_is_told_in_one_sentence(tmp_path, method, path, body, status):
    async def work():
        async with opened(tmp_path) as (gateway, backend):
            response = await gateway(Request(method, path, "", {}, body))
            told = orjson.loads(response.body)
            assert response.status == status and list(told) == ["error"] and "\n" not in told["error"]
            assert 10 < len(told["error"]) < 400 and not backend.asked
            assert (status == 405) == any(name == "allow" for name, _ in response.headers)

    run(work())
    assert logged(tmp_path) == []


def test_the_largest_body_that_is_let_in_is_read(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            data = orjson.dumps(PURCHASE)
            assert (await post(gateway, "/v1/fraud/score", data + b" " * ((16 << 10) - len(data))))[0].status == 200
            assert (await post(gateway, "/v1/fraud/score", data + b" " * ((16 << 10) - len(data) + 1)))[0].status == 413

    run(work())


def test_more_than_the_rate_is_429_and_says_when(tmp_path):
    async def work():
        async with opened(tmp_path, options=Options(rate=0.1, burst=3)) as (gateway, _):
            statuses = [(await score(gateway, transaction_id=f"t{n}"))[0] for n in range(4)]
            assert [one.status for one in statuses] == [200, 200, 200, 429]
            assert 1 <= int(dict(statuses[-1].headers)["retry-after"]) <= 10

    run(work())


def test_more_than_may_wait_is_503(tmp_path):
    async def work():
        async with opened(tmp_path, options=Options(waiting=3)) as (gateway, backend):
            backend.delay = 0.05
            found = await asyncio.gather(*(score(gateway, transaction_id=f"t{n}") for n in range(5)))
            assert sorted(response.status for response, _ in found) == [200, 200, 200, 503, 503]

    run(work())


def test_a_slow_backend_is_504_and_one_in_time_is_answered(tmp_path):
    async def work():
        async with opened(tmp_path, options=Options(timeout=0.2)) as (gateway, backend):
            backend.delay = 0.21
            response, told = await score(gateway)
            assert response.status == 504 and told["error"] == "Deadline Exceeded"
            backend.delay = 0.001
            assert (await score(gateway))[0].status == 200

    run(work())


def test_a_failing_backend_opens_the_breaker_and_one_success_closes_it(tmp_path):
    def broken(model, version):
        raise ServingError("UNAVAILABLE", "gone")

    async def work():
        patience = Patience(failures=3, seconds=0.1)
        async with opened(tmp_path, options=Options(patience=patience)) as (gateway, backend):
            backend.fault = broken
            assert [(await score(gateway))[0].status for _ in range(5)] == [503] * 5
            assert len(backend.asked) == 3
            ready = await gateway(Request("GET", "/readyz", "", {}, b""))
            assert ready.status == 503 and orjson.loads(ready.body)["cases"]["fraud"] == "breaker open"
            assert (await post(gateway, "/v1/image/score", PICTURE))[0].status == 503  # its own breaker counts
            backend.fault = lambda model, version: None
            await asyncio.sleep(0.11)
            assert [(await score(gateway))[0].status for _ in range(2)] == [200, 200]
            assert (await gateway(Request("GET", "/readyz", "", {}, b""))).status == 200

    run(work())


def test_refusals_of_the_backend_do_not_open_the_breaker(tmp_path):
    def refuses(model, version):
        raise ServingError("INVALID_ARGUMENT", "no")

    async def work():
        async with opened(tmp_path, options=Options(patience=Patience(failures=2))) as (gateway, backend):
            backend.fault = refuses
            assert [(await score(gateway))[0].status for _ in range(5)] == [400] * 5
            assert len(backend.asked) == 5

    run(work())


def test_a_log_that_cannot_be_written_is_503_and_nothing_is_lost_that_was_answered(tmp_path, monkeypatch):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            log = gateway.scorers["fraud"].log
            assert (await score(gateway, transaction_id="kept"))[0].status == 200
            monkeypatch.setattr(
                log, "_write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            response, told = await score(gateway, transaction_id="refused")
            assert response.status == 503 and "No space left" in told["error"] and dict(response.headers)["retry-after"]
            monkeypatch.undo()
            assert (await score(gateway, transaction_id="later"))[0].status == 200

    run(work())
    assert [one["served/key"] for one in logged(tmp_path)] == [[b"kept"], [b"later"]]
    assert issubclass(UnwrittenError, OSError)


def test_a_fault_of_ours_is_500_and_the_next_request_is_answered(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, backend):
            backend.fault = lambda model, version: 1 / 0
            response, told = await score(gateway)
            assert response.status == 500 and "ZeroDivision" not in told["error"]
            backend.fault = lambda model, version: None
            assert (await score(gateway))[0].status == 200

    run(work())
