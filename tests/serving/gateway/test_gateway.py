"""The gateway with a simple backend: scores, decisions, pictures, feature attributions."""

import base64
import io

import pytest
from PIL import Image
from support.gateway_case import PICTURE, PURCHASE, TRACE, open_gateway, post, read_logged_rows, run, score_purchase

from serving.gateway.feature_attribution import rank_attributions, vary_features


def test_purchase_is_scored_and_logged_with_the_model_inputs(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            response, first = await score_purchase(gateway, amount=499.0)
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
    record, next_record = read_logged_rows(tmp_path)
    assert record["served/id"] == [first["prediction_id"].encode()]
    assert [record["served/version"], record["served/decision"], record["served/arm"]] == [[2], [b"stop"], [b"stable"]]
    assert record["served/score"] == [first["score"]] == record["output/score"] and record["served/key"] == [b"t1"]
    # The features of the second purchase include the first, ten seconds before.
    assert next_record["seconds_since_last"] == [10.0] and next_record["customer_count_1d"] == [1.0]
    assert next_record["past_merchant"][-1] == b"m1" and next_record["past_amount"][-1] == 499.0
    assert next_record["served/trace"] == [TRACE.encode()] and "served/trace" not in record
    assert second["prediction_id"] != first["prediction_id"] and record["category"] == [b"none"]


@pytest.mark.parametrize(
    "trace", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x" * 5000, TRACE + "\r\nset-cookie: a"]
)
def test_invalid_trace_is_neither_returned_nor_logged(tmp_path, trace):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            response, _ = await post(gateway, "/v1/fraud/score", PURCHASE, traceparent=trace)
            assert response.status == 200 and response.headers == ()

    run(work())
    assert "served/trace" not in read_logged_rows(tmp_path)[0]


def encode_image(size=(2, 2), mode="L", kind="PNG") -> str:
    stream = io.BytesIO()
    Image.new(mode, size, (255, 0, 0) if mode == "RGB" else 255).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def test_picture_is_scored_from_a_file_or_from_pixels(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            for body, expected in (
                (PICTURE, 0.5),
                ({"image": encode_image()}, 1.0),
                ({"pixels": [[[255, 0, 0], [0, 0, 0]]]}, 1 / 6),
                ({"image": encode_image(mode="RGB", kind="JPEG")}, 1 / 3),
                ({"image": encode_image(mode="RGB", kind="BMP")}, 1 / 3),
            ):
                response, answer = await post(gateway, "/v1/image/score", body)
                assert response.status == 200 and answer["probabilities"]["a"] == pytest.approx(expected, abs=0.01)
                assert answer["decision"] == ("a" if expected >= 0.5 else "b")

    run(work())
    assert read_logged_rows(tmp_path, "image")[0]["image"][0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "either image or pixels"),
        (PICTURE | {"image": encode_image()}, "either image or pixels"),
        (PICTURE | {"image": None}, "valid string"),
        ({"image": "???"}, "not valid base64"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, "its header is damaged"),
        ({"image": encode_image()[:40]}, "its header is damaged"),
        ({"image": encode_image((65_536, 1))}, "sides of at most 65,535"),
        ({"image": encode_image(mode="F", kind="TIFF")}, "save it with 8 or 16 bits"),
        ({"pixels": [[1, 2], [3]]}, "same length"),
        ({"pixels": [[1, [1, 2, 3]]]}, "same type"),
        ({"pixels": [[256]]}, "less than or equal to 255"),
        ({"pixels": []}, "at least 1 item"),
    ],
)
def test_invalid_picture_is_rejected(tmp_path, body, message):
    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response, answer = await post(gateway, "/v1/image/score", body)
            assert response.status == 422 and message in answer["error"] and not backend.asked

    run(work())


def test_reasons_use_one_call_and_name_the_feature_that_lowers_the_score_most(tmp_path, monkeypatch):
    from serving.gateway import scoring
    from serving.gateway.version_files import VersionFiles

    typical = {"amount": 50.0, "distance_km": 5.0, "category": "grocery"}
    monkeypatch.setattr(
        scoring, "read_version_files", lambda folder, version: VersionFiles({"threshold": 0.5}, {}, typical)
    )

    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            response, answer = await score_purchase(gateway, "reasons=true", amount=800.0, category="travel")
            assert response.status == 200 and backend.asked == [("fraud", None, 4)]
            (reason,) = answer["reasons"]
            assert (reason["feature"], reason["value"], reason["typical"]) == ("amount", 800.0, 50.0)
            assert reason["lowers_by"] == pytest.approx(0.75)
            response, answer = await score_purchase(gateway, "reasons=false", transaction_id="t2")
            assert response.status == 200 and "reasons" not in answer
            for query in ("reasons=maybe", "reasons=true&reasons=true", "colour=red"):
                assert (await score_purchase(gateway, query))[0].status == 422
            assert (await post(gateway, "/v1/image/score", PICTURE, "reasons=true"))[0].status == 422

    run(work())


def test_reasons_skip_typical_features_and_features_that_raise_the_score():
    varied = vary_features(
        {"a": 1.0, "b": 2.0, "c": 3.0}, ("a", "b", "c", "d"), {"a": 1.0, "b": 0.0, "c": 0.0, "d": 1.0}
    )
    assert [name for name, _ in varied] == ["b", "c", "d"] and varied[0][1] == {"a": 1.0, "b": 0.0, "c": 3.0}
    attributions = rank_attributions({"b": 2.0, "c": 3.0}, varied, 0.5, [0.6, 0.4, 0.1])
    assert [(row["feature"], row["value"], row["typical"]) for row in attributions] == [
        ("d", None, 1.0),
        ("c", 3.0, 0.0),
    ]
