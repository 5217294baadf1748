"""The gateway over a simple backend: answers, decisions, pictures, reasons."""

import base64
import io

import pytest
from PIL import Image
from support.gateway_case import PICTURE, PURCHASE, TRACE, logged, opened, post, run, score

from serving.gateway.feature_attribution import reasons, variations


def test_a_purchase_is_scored_decided_and_logged_with_what_the_model_saw(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            response, first = await score(gateway, amount=499.0)
            assert (response.status, first["version"], first["arm"]) == (200, 2, "stable")
            assert (first["decision"], first["threshold"]) == ("stop", 0.5) and first["score"] == pytest.approx(0.509)
            headers = {"traceparent": TRACE}
            response, second = await post(
                gateway,
                "/v1/fraud/score",
                PURCHASE | {"transaction_id": "t2", "event_time": "2026-01-05T12:00:10Z", "merchant_id": "m2"},
                **headers,
            )
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


@pytest.mark.parametrize(
    "trace", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x" * 5000, TRACE + "\r\nset-cookie: a"]
)
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
                (PICTURE, 0.5),
                ({"image": png()}, 1.0),
                ({"pixels": [[[255, 0, 0], [0, 0, 0]]]}, 1 / 6),
                ({"image": png(mode="RGB", kind="JPEG")}, 1 / 3),
            ):
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
        (PICTURE | {"image": None}, "valid string"),
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
    from serving.gateway import scoring
    from serving.gateway.version_files import Served

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
