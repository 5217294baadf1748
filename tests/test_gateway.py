"""The gateway over a simple backend: every status, both sides of every limit, and a fuzzed document."""

import asyncio
import base64
import io
import math

import numpy as np
import orjson
import pytest
import schemathesis
from gateway_case import PICTURE, PURCHASE, Simple, made, opened, post, score, versions
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving import http, rollout
from serving.backend import Remote
from serving.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, Patience, TokenBucket
from serving.errors import ServingError
from serving.http import Request
from serving.log_files import read
from serving.prediction_log import UnwrittenError
from serving.reasons import reasons, variations
from serving.scoring import Options
from serving.wire import decode

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def run(work):
    return asyncio.run(work)


def logged(home, case="fraud", folder="predictions"):
    return [decode(data) for _, data in read(home / case / "online" / folder)]


# Answers.


def test_a_purchase_is_scored_decided_and_logged_with_what_the_model_saw(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            response, first = await score(gateway, amount=499.0)
            assert (response.status, first["version"], first["arm"]) == (200, 2, "stable")
            assert (first["decision"], first["threshold"]) == ("stop", 0.5) and first["score"] == pytest.approx(0.509)
            headers = {"traceparent": TRACE}
            response, second = await post(
                gateway, "/v1/fraud/score",
                PURCHASE | {"transaction_id": "t2", "event_time": "2026-01-05T12:00:10Z", "merchant_id": "m2"}, **headers,
            )  # fmt: skip
            assert dict(response.headers) == headers and second["decision"] == "pass"
            return first, second

    first, second = run(work())
    one, two = logged(tmp_path)
    assert one["served/id"] == [first["prediction_id"].encode()]
    assert [one["served/version"], one["served/decision"], one["served/arm"]] == [[2], [b"stop"], [b"stable"]]
    assert one["served/score"] == [first["score"]] == one["output/score"] and one["served/key"] == [b"t1"]
    # The second purchase saw the first, ten seconds before.
    assert two["seconds_since_last"] == [10.0] and two["customer_count_1d"] == [1.0]
    assert two["past_merchant"][-1] == b"m1" and two["past_amount"][-1] == 499.0
    assert two["served/trace"] == [TRACE.encode()] and "served/trace" not in one
    assert second["prediction_id"] != first["prediction_id"] and "category" not in one


@pytest.mark.parametrize("trace", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x" * 5000, TRACE + "\r\nset-cookie: a"])
def test_what_is_no_trace_goes_nowhere(tmp_path, trace):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            response, _ = await post(gateway, "/v1/fraud/score", PURCHASE, traceparent=trace)
            assert response.status == 200 and response.headers == ()

    run(work())
    assert "served/trace" not in logged(tmp_path)[0]


def png(size=(2, 2), mode="L", kind="PNG") -> str:
    stream = io.BytesIO()
    Image.new(mode, size, 255 if mode in ("L", "I;16") else (255, 0, 0)).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def test_a_picture_is_scored_as_a_file_or_as_pixels(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            for body, expected in (
                (PICTURE, 0.5), ({"image": png()}, 1.0), ({"pixels": [[[255, 0, 0], [0, 0, 0]]]}, 1 / 6),
                ({"image": png(mode="RGB", kind="JPEG")}, 1 / 3),
            ):  # fmt: skip
                response, told = await post(gateway, "/v1/image/score", body)
                assert response.status == 200 and told["probabilities"]["a"] == pytest.approx(expected, abs=0.01)
                assert told["decision"] == ("a" if expected >= 0.5 else "b")

    run(work())
    assert logged(tmp_path, "image")[0]["image"][0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "either image or pixels"),
        (PICTURE | {"image": png()}, "either image or pixels"),
        ({"image": "???"}, "not base64"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, "no PNG or JPEG"),
        ({"image": png()[:40]}, "no PNG or JPEG"),
        ({"image": png((8193, 1))}, "sides of 8192"),
        ({"image": png(mode="I;16")}, "8 bits"),
        ({"pixels": [[1, 2], [3]]}, "same length"),
        ({"pixels": [[1, [1, 2, 3]]]}, "same kind"),
        ({"pixels": [[256]]}, "less than or equal to 255"),
        ({"pixels": []}, "at least 1 item"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused(tmp_path, body, says):
    async def work():
        async with opened(tmp_path) as (gateway, backend):
            response, told = await post(gateway, "/v1/image/score", body)
            assert response.status == 422 and says in told["error"] and not backend.asked

    run(work())


def test_reasons_are_one_call_and_name_what_lowers_the_score_most(tmp_path, monkeypatch):
    from serving import scoring
    from serving.served import Served

    typical = {"amount": 50.0, "distance_km": 5.0, "category": "grocery"}
    monkeypatch.setattr(scoring, "served", lambda folder, version: Served({"threshold": 0.5}, {}, typical))

    async def work():
        async with opened(tmp_path) as (gateway, backend):
            response, told = await score(gateway, "reasons=true", amount=800.0, category="travel")
            assert response.status == 200 and backend.asked == [("fraud", None, 4)]
            (reason,) = told["reasons"]
            assert (reason["feature"], reason["value"], reason["typical"]) == ("amount", 800.0, 50.0)
            assert reason["lowers_by"] == pytest.approx(0.75)
            response, told = await score(gateway, "reasons=false")
            assert response.status == 200 and "reasons" not in told
            for query in ("reasons=maybe", "reasons=true&reasons=true", "colour=red"):
                assert (await score(gateway, query))[0].status == 422
            assert (await post(gateway, "/v1/image/score", PICTURE, "reasons=true"))[0].status == 422

    run(work())


def test_reasons_leave_out_what_is_typical_and_what_raises():
    varied = variations({"a": 1.0, "b": 2.0, "c": 3.0}, ("a", "b", "c", "d"), {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0})
    assert [name for name, _ in varied] == ["b", "c", "d"] and varied[0][1] == {"a": 1.0, "b": 0.0, "c": 3.0}
    found = reasons({"b": 2.0, "c": 3.0}, varied, 0.5, [0.6, 0.4, 0.1])
    assert [(one["feature"], one["value"], one["typical"]) for one in found] == [("d", None, 1.0), ("c", 3.0, 0.0)]


# Refusals.


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/fraud/score", b"", 400), ("POST", "/v1/fraud/score", b"{", 400),
        ("POST", "/v1/fraud/score", b"\xff\xfe", 400), ("POST", "/v1/fraud/score", b"[" * 10_000, 400),
        ("POST", "/v1/fraud/score", b"[]", 422), ("POST", "/v1/fraud/score", b"null", 422),
        ("POST", "/v1/fraud/score", orjson.dumps({k: v for k, v in PURCHASE.items() if k != "amount"}), 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE | {"amount": True}), 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE)[:-1] + b',"amount":NaN}', 422),
        ("POST", "/v1/fraud/score", orjson.dumps(PURCHASE).replace(b'"t1"', b'"\\ud800"'), 400),
        ("POST", "/v1/fraud/score", b" " * (16 << 10) + b"{}", 413),
        ("GET", "/v1/fraud/score", b"", 405), ("DELETE", "/labels", b"", 405), ("POST", "/healthz", b"", 405),
        ("POST", "/v1/nothing/score", b"{}", 404), ("GET", "/", b"", 404), ("POST", "/labels", b"x", 400),
        ("POST", "/labels", b" " * (16 << 10) + b"{}", 413), ("POST", "/labels", b"{}", 422),
    ],
)  # fmt: skip
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


def test_a_breaker_by_its_clock():
    now = 0.0
    breaker = Breaker(Patience(failures=2, seconds=10), lambda: now)
    assert breaker.wait() == 0
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.state == CLOSED
    breaker.failed()
    assert breaker.state == OPEN and breaker.wait() == 10
    now = 9.999
    assert breaker.wait() > 0
    now = 10
    assert breaker.wait() == 0 and breaker.state == HALF_OPEN and breaker.wait() == 10  # one at a time
    breaker.failed()
    assert breaker.state == OPEN and breaker.wait() == 10
    now = 20
    assert breaker.wait() == 0
    breaker.succeeded()
    assert breaker.state == CLOSED and breaker.wait() == 0


def test_a_token_bucket_by_its_clock():
    now = 0.0
    bucket = TokenBucket(2.0, 3, lambda: now)
    assert [bucket.wait() for _ in range(4)] == [0, 0, 0, 0.5]
    now = 0.5
    assert [bucket.wait() for _ in range(2)] == [0, 0.5]
    now = 100.0
    assert [bucket.wait() for _ in range(4)] == [0, 0, 0, 0.5]
    assert not any(TokenBucket(0, 1, lambda: now).wait() for _ in range(100))


def test_a_log_that_cannot_be_written_is_503_and_nothing_is_lost_that_was_answered(tmp_path, monkeypatch):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            log = gateway.scorers["fraud"].log
            assert (await score(gateway, transaction_id="kept"))[0].status == 200
            monkeypatch.setattr(log, "_write", lambda file, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
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


# Labels.


def test_a_late_label_joins_its_prediction_once(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            _, told = await score(gateway)
            label = {"prediction_id": told["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            found = await asyncio.gather(*(post(gateway, "/labels", label) for _ in range(5)))
            assert sorted(answer["outcome"] for _, answer in found) == ["kept", "known", "known", "known", "known"]
            assert (await post(gateway, "/labels", label | {"label": 0}))[0].status == 409
            for wrong, status in (
                ({"label": 2}, 422), ({"label": "fraud"}, 422), ({"label_time": "1960-01-01T00:00:00Z"}, 422),
                ({"prediction_id": "fraud.1.0.00000000"}, 404), ({"prediction_id": "nobody.1.0.00000000"}, 404),
                ({"prediction_id": "../../etc/passwd"}, 404), ({"prediction_id": "fraud.99.5.00000000"}, 404),
            ):  # fmt: skip
                response, answer = await post(gateway, "/labels", label | wrong)
                assert response.status == status and answer["error"], wrong
            history = gateway.scorers["fraud"].online.history
            assert history.state()["merchants"]["m1"][1] == [[20458, 20459, 1]]
        async with opened(tmp_path) as (gateway, _):  # and after a restart it is known still
            _, answer = await post(gateway, "/labels", label)
            assert answer["outcome"] == "known"
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 1]]

    run(work())
    assert [one["label/value"] for one in logged(tmp_path, folder="labels")] == [[1]]


# Rollout.


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_canary_answers_its_share_and_a_key_stays_with_one_version(tmp_path, share):
    count, folder = 1000, versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=1, canary=2, share=share))

    async def work():
        async with opened(tmp_path) as (gateway, _):
            twice = []
            for _ in range(2):
                answers = await asyncio.gather(*(score(gateway, transaction_id=f"t{n}") for n in range(count)))
                twice.append([(told["version"], told["arm"]) for _, told in answers])
            assert twice[0] == twice[1]
            return twice[0]

    found = run(work())
    assert set(found) == {(1, "stable"), (2, "canary")}
    # Five standard deviations of a binomial: by chance beyond once in a million.
    assert abs(found.count((2, "canary")) - share * count) < 5 * math.sqrt(count * share * (1 - share))


def test_a_shadow_is_asked_and_logged_and_changes_no_answer(tmp_path):
    folder = versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=1, shadow=2))

    async def work():
        async with opened(tmp_path) as (gateway, backend):
            _, told = await score(gateway)
            await asyncio.sleep(0.1)
            assert backend.asked == [("fraud", 1, 1), ("fraud", 2, 1)] and told["version"] == 1

            def fails(model, version):
                if version == 2:
                    raise ServingError("INTERNAL", "the shadow is broken")

            backend.fault = fails
            for n in range(10):
                response, again = await score(gateway, transaction_id=f"s{n}")
                assert response.status == 200 and again["score"] == told["score"] and again["version"] == 1
            assert gateway.scorers["fraud"].breaker.state == CLOSED
            await asyncio.sleep(0.05)
            text = (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()
            assert 'gateway_shadow_total{case="fraud",outcome="failed"} 10.0' in text
        return told

    told = run(work())
    (shadow,) = logged(tmp_path, folder="shadow")
    assert shadow["served/version"] == [2] and shadow["served/id"] == [told["prediction_id"].encode()]
    assert shadow["served/score"][0] == pytest.approx(told["score"] + 0.01)


def test_a_version_taken_away_is_answered_by_what_is_served_now(tmp_path):
    folder = versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=2))

    async def work():
        async with opened(tmp_path) as (gateway, backend):
            backend.live = {1}
            response, told = await score(gateway)
            assert response.status == 200 and told["version"] == 1
            backend.live = set()
            backend.fault = lambda model, version: (_ for _ in ()).throw(ServingError("NOT_FOUND", "nothing"))
            assert (await score(gateway))[0].status == 404

    run(work())


# The document and the metrics.


def test_metrics_count_what_happened(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            for amount in (10.0, 20.0, 900.0, -1.0):
                await score(gateway, amount=amount)
            return (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()

    text = run(work())
    for line in (
        'gateway_requests_total{case="fraud",status="200"} 3.0', 'gateway_requests_total{case="fraud",status="422"} 1.0',
        'gateway_decisions_total{arm="stable",case="fraud",decision="pass",version="2"} 2.0',
        'gateway_decisions_total{arm="stable",case="fraud",decision="stop",version="2"} 1.0',
        'gateway_request_seconds_count{case="fraud"} 3.0', 'gateway_log_records_total{case="fraud"} 3.0',
        'gateway_breaker{case="fraud"} 0.0', 'gateway_log_waiting{case="fraud"} 0.0',
        'gateway_version{arm="stable",case="fraud"} -1.0',
    ):  # fmt: skip
        assert line in text, line


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    gateway = made(tmp_path_factory.mktemp("fuzz"), Simple())
    for scorer in gateway.scorers.values():
        scorer.open()
    return schemathesis.openapi.from_asgi("/openapi.json", http.asgi(gateway))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/v1/fraud/score", "/v1/image/score", "/labels", "/healthz", "/readyz", "/metrics"])
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(document, path, mode):
    operation = next(iter(document[path].values()))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def each(case):
        # Some rules say more than types can, such as that a picture decodes: then 422 is right.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    try:
        each()
    except Unsatisfiable as error:
        assert mode == GenerationMode.NEGATIVE and path in ("/healthz", "/readyz", "/metrics"), error


def test_a_remote_tensorflow_serving_is_asked_by_grpc_with_a_deadline():
    """Against a server of the stock stubs that answers as one would."""
    import grpc.aio
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
        async def Predict(self, request, context):
            rows = tf.make_ndarray(request.inputs["examples"])
            if rows[0] == b"slow":
                await asyncio.sleep(5)
            if rows[0] == b"bad":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot parse")
            reply = predict_pb2.PredictResponse()
            reply.model_spec.version.value = request.model_spec.version.value or 7
            lengths = np.array([len(row) for row in rows], np.float32)
            # Both ways in which a server may send numbers.
            reply.outputs["score"].CopyFrom(tf.make_tensor_proto(lengths))
            reply.outputs["wide"].CopyFrom(tf.make_tensor_proto(np.stack([lengths, lengths], 1)))
            reply.outputs["same"].CopyFrom(tf.make_tensor_proto(2.0, shape=[len(rows)]))
            listed = reply.outputs["listed"]
            listed.dtype = 1
            listed.float_val.extend(lengths.tolist())
            listed.tensor_shape.dim.add(size=len(rows))
            return reply

    async def work():
        server = grpc.aio.server()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Server(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        backend = Remote(f"127.0.0.1:{port}")
        answered = await backend.predict("fraud", [b"a", b"bcd"], None, 5.0)
        assert answered.version == 7 and answered.outputs["wide"].tolist() == [[1, 1], [3, 3]]
        assert answered.outputs["score"].tolist() == answered.outputs["listed"].tolist() == [1, 3]
        assert answered.outputs["same"].tolist() == [2, 2]
        assert (await backend.predict("fraud", [b"a"], 3, 5.0)).version == 3
        for row, status in ((b"slow", "DEADLINE_EXCEEDED"), (b"bad", "INVALID_ARGUMENT")):
            with pytest.raises(ServingError) as caught:
                await backend.predict("fraud", [row], None, 0.2)
            assert caught.value.status == status
        await server.stop(0)
        with pytest.raises(ServingError) as caught:
            await backend.predict("fraud", [b"a"], None, 1.0)
        assert caught.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        await backend.close()

    run(work())
