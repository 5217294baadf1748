"""The gateway with a simple backend: every error response, and both sides of every limit."""

import asyncio

import orjson
import pytest
from support.gateway_case import PICTURE, PURCHASE, open_gateway, post, read_logged_rows, run, score_purchase

from serving.gateway.log import prediction_log
from serving.gateway.log.prediction_log import LogWriteError
from serving.gateway.model_calls.circuit_breaker import BreakerPolicy
from serving.gateway.scoring import ScoringOptions
from serving.http.asyncio_server import Request
from serving.status_errors import ServingError


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
def test_bad_request_gets_a_one_line_error(tmp_path, method, path, body, status):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response = await gateway(Request(method, path, "", {}, body))
            answer = orjson.loads(response.body)
            assert response.status == status and list(answer) == ["error"] and "\n" not in answer["error"]
            assert 10 < len(answer["error"]) < 400 and not backend.asked
            assert (status == 405) == any(name == "allow" for name, _ in response.headers)

    run(work())
    assert read_logged_rows(tmp_path) == []


def test_body_of_the_maximum_size_is_accepted(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            data = orjson.dumps(PURCHASE)
            assert (await post(gateway, "/v1/fraud/score", data + b" " * ((16 << 10) - len(data))))[0].status == 200
            assert (await post(gateway, "/v1/fraud/score", data + b" " * ((16 << 10) - len(data) + 1)))[0].status == 413

    run(work())


def test_request_over_the_rate_limit_is_429_with_retry_after(tmp_path):
    async def work():
        async with open_gateway(tmp_path, options=ScoringOptions(rate=0.1, burst=3)) as (gateway, _):
            responses = [(await score_purchase(gateway, transaction_id=f"t{n}"))[0] for n in range(4)]
            assert [response.status for response in responses] == [200, 200, 200, 429]
            assert 1 <= int(dict(responses[-1].headers)["retry-after"]) <= 10

    run(work())


def test_request_over_the_in_flight_limit_is_503(tmp_path):
    async def work():
        async with open_gateway(tmp_path, options=ScoringOptions(max_in_flight=3)) as (gateway, backend):
            backend.delay = 0.05
            replies = await asyncio.gather(*(score_purchase(gateway, transaction_id=f"t{n}") for n in range(5)))
            assert sorted(response.status for response, _ in replies) == [200, 200, 200, 503, 503]

    run(work())


def test_backend_timeout_is_504(tmp_path):
    async def work():
        async with open_gateway(tmp_path, options=ScoringOptions(timeout=0.2)) as (gateway, backend):
            backend.delay = 0.21
            response, answer = await score_purchase(gateway)
            assert response.status == 504 and answer["error"] == "Deadline Exceeded"
            backend.delay = 0.001
            assert (await score_purchase(gateway))[0].status == 200

    run(work())


def test_failing_backend_opens_the_breaker_and_one_success_closes_it(tmp_path):
    def fail(model, version):
        raise ServingError("UNAVAILABLE", "gone")

    async def work():
        breaker_policy = BreakerPolicy(failures=3, seconds=0.1)
        async with open_gateway(tmp_path, options=ScoringOptions(breaker_policy=breaker_policy)) as (gateway, backend):
            backend.fault = fail
            assert [(await score_purchase(gateway))[0].status for _ in range(5)] == [503] * 5
            assert len(backend.asked) == 3
            ready = await gateway(Request("GET", "/readyz", "", {}, b""))
            assert ready.status == 503 and orjson.loads(ready.body)["cases"]["fraud"] == "breaker open"
            assert (await post(gateway, "/v1/image/score", PICTURE))[0].status == 503  # each case has its own breaker
            backend.fault = lambda model, version: None
            await asyncio.sleep(0.11)
            ready = await gateway(Request("GET", "/readyz", "", {}, b""))
            assert b"open" not in ready.body  # no load balancer sends the trial to a gateway that is not ready
            assert [(await score_purchase(gateway))[0].status for _ in range(2)] == [200, 200]
            assert (await gateway(Request("GET", "/readyz", "", {}, b""))).status == 200

    run(work())


def test_client_errors_of_the_backend_do_not_open_the_breaker(tmp_path):
    def reject(model, version):
        raise ServingError("INVALID_ARGUMENT", "no")

    async def work():
        async with open_gateway(tmp_path, options=ScoringOptions(breaker_policy=BreakerPolicy(failures=2))) as (
            gateway,
            backend,
        ):
            backend.fault = reject
            assert [(await score_purchase(gateway))[0].status for _ in range(5)] == [400] * 5
            assert len(backend.asked) == 5

    run(work())


def test_unwritable_log_is_503_and_loses_no_acknowledged_prediction(tmp_path, monkeypatch):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            log = gateway.scorers["fraud"].log
            assert (await score_purchase(gateway, transaction_id="kept"))[0].status == 200
            monkeypatch.setattr(
                log, "_write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            response, answer = await score_purchase(gateway, transaction_id="rejected")
            assert (
                response.status == 503 and "No space left" in answer["error"] and dict(response.headers)["retry-after"]
            )
            monkeypatch.undo()
            assert (await score_purchase(gateway, transaction_id="later"))[0].status == 200

    run(work())
    assert [record["served/key"] for record in read_logged_rows(tmp_path)] == [[b"kept"], [b"later"]]
    assert issubclass(LogWriteError, OSError)


async def read_readiness(gateway) -> tuple[int, str]:
    ready = await gateway(Request("GET", "/readyz", "", {}, b""))
    return ready.status, orjson.loads(ready.body)["cases"]["fraud"]


@pytest.mark.parametrize("folder", ["predictions", "labels"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_gateway_is_not_ready_while_a_log_cannot_be_written(tmp_path, monkeypatch, folder, error):
    monkeypatch.setattr(prediction_log, "CHECK_SECONDS", 0.0)

    def fail(file, data):
        raise error

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            scorer = gateway.scorers["fraud"]
            log = {"predictions": scorer.log, "labels": scorer.labels}[folder]
            assert await read_readiness(gateway) == (200, "ready")
            with monkeypatch.context() as patch:
                patch.setattr(log, "_write", fail)
                problem = f"the log of {folder} cannot be written: {error.strerror}"
                assert await read_readiness(gateway) == (503, problem)
            assert await read_readiness(gateway) == (200, "ready")  # no request was needed

    run(work())
    assert not read_logged_rows(tmp_path) and not read_logged_rows(tmp_path, folder="labels")


def test_failed_write_ends_readiness_at_once_until_the_next_check(tmp_path, monkeypatch):
    def fail(file, data):
        raise OSError(28, "No space left on device")

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            assert (await read_readiness(gateway))[0] == 200
            monkeypatch.setattr(gateway.scorers["fraud"].log, "_write", fail)
            assert (await read_readiness(gateway))[0] == 200  # the last check still holds
            assert (await score_purchase(gateway))[0].status == 503
            assert (await read_readiness(gateway))[0] == 503
            monkeypatch.undo()
            assert (await read_readiness(gateway))[0] == 503
            monkeypatch.setattr(prediction_log, "CHECK_SECONDS", 0.0)
            assert (await read_readiness(gateway))[0] == 200 and (await score_purchase(gateway))[0].status == 200

    run(work())


def test_gateway_is_not_ready_without_the_folder_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "CHECK_SECONDS", 0.0)

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            folder = tmp_path / "fraud" / "online" / "labels"
            folder.rename(tmp_path / "away")
            assert (await read_readiness(gateway))[0] == 503
            (tmp_path / "away").rename(folder)
            assert (await read_readiness(gateway))[0] == 200
            assert {path.name for path in folder.iterdir()} == {".lock", "00000001.open"}

    run(work())


@pytest.mark.parametrize("output", ["score", "decision", "anomaly"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_output_that_is_not_a_number_gets_no_decision(tmp_path, caplog, output, value):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            predict = backend.predict

            async def predict_invalid(*arguments):
                result = await predict(*arguments)
                result.outputs[output][:] = value
                return result

            backend.predict = predict_invalid
            for _ in range(8):  # the circuit breaker stays closed: the backend answers
                response, answer = await score_purchase(gateway)
                assert response.status == 500 and list(answer) == ["error"]
                assert (
                    f"Version 2 of the model returned '{output}' with a value that is not a number" in answer["error"]
                )
            metrics = (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()
            assert 'gateway_invalid_outputs_total{case="fraud",version="2"} 8.0' in metrics
            assert 'decision="pass"' not in metrics
            backend.predict = predict
            response, answer = await score_purchase(gateway)
            assert response.status == 200 and answer["decision"] == "pass"
            assert len(gateway.scorers["fraud"].online.history.state()["customers"]["c1"][0]) == 1

    run(work())
    assert f"fraud version 2 returned '{output}' with a value that is not a number" in caplog.text
    assert len(read_logged_rows(tmp_path)) == 1


def test_picture_with_a_probability_that_is_not_a_number_gets_no_class(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            predict = backend.predict

            async def predict_invalid(*arguments):
                result = await predict(*arguments)
                result.outputs["probabilities"][0, 1] = float("nan")
                return result

            backend.predict = predict_invalid
            response, answer = await post(gateway, "/v1/image/score", PICTURE)
            assert response.status == 500 and "'probabilities' with a value that is not a number" in answer["error"]

    run(work())
    assert read_logged_rows(tmp_path, "image") == []


def test_internal_error_is_500_and_the_next_request_is_answered(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            backend.fault = lambda model, version: 1 / 0
            response, answer = await score_purchase(gateway)
            assert response.status == 500 and "ZeroDivision" not in answer["error"]
            backend.fault = lambda model, version: None
            assert (await score_purchase(gateway))[0].status == 200

    run(work())
