"""Canary and shadow: the canary's share, stable assignment of keys, and answers unaffected by a shadow."""

import asyncio
import math

import pytest
from support.gateway_case import create_versions, open_gateway, read_logged_rows, run, score_purchase

from serving import rollout
from serving.gateway.model_calls.circuit_breaker import CLOSED
from serving.http.asyncio_server import Request
from serving.status_errors import ServingError


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_canary_answers_its_share_and_a_key_keeps_its_version(tmp_path, share):
    count, folder = 1000, create_versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=1, canary=2, share=share))

    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            rounds = []
            for _ in range(2):
                answers = await asyncio.gather(*(score_purchase(gateway, transaction_id=f"t{n}") for n in range(count)))
                rounds.append([(answer["version"], answer["arm"]) for _, answer in answers])
            assert rounds[0] == rounds[1]
            return rounds[0]

    arms = run(work())
    assert set(arms) == {(1, "stable"), (2, "canary")}
    # Five standard deviations of a binomial distribution: exceeded by chance less than once in a million runs.
    assert abs(arms.count((2, "canary")) - share * count) < 5 * math.sqrt(count * share * (1 - share))


def test_shadow_is_scored_and_logged_and_changes_no_answer(tmp_path):
    folder = create_versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=1, shadow=2))

    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            _, answer = await score_purchase(gateway)
            await asyncio.sleep(0.1)
            assert backend.asked == [("fraud", 1, 1), ("fraud", 2, 1)] and answer["version"] == 1

            def fail_shadow(model, version):
                if version == 2:
                    raise ServingError("INTERNAL", "the shadow is broken")

            backend.fault = fail_shadow
            for n in range(10):
                response, later = await score_purchase(gateway, transaction_id=f"s{n}")
                assert response.status == 200 and later["score"] == answer["score"] and later["version"] == 1
            assert gateway.scorers["fraud"].breaker.state == CLOSED
            await asyncio.sleep(0.05)
            text = (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()
            assert 'gateway_shadow_total{case="fraud",outcome="failed"} 10.0' in text
        return answer

    answer = run(work())
    (shadow,) = read_logged_rows(tmp_path, folder="shadow")
    assert shadow["served/version"] == [2] and shadow["served/id"] == [answer["prediction_id"].encode()]
    assert shadow["served/score"][0] == pytest.approx(answer["score"] + 0.01)


def test_shadow_output_that_is_not_a_number_counts_as_failed(tmp_path):
    folder = create_versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=1, shadow=2))

    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            predict = backend.predict

            async def predict_invalid(model, examples, version, timeout):
                result = await predict(model, examples, version, timeout)
                result.outputs["score"][:] = float("nan") if version == 2 else 0.25
                return result

            backend.predict = predict_invalid
            assert (await score_purchase(gateway))[0].status == 200
            await asyncio.gather(*gateway.scorers["fraud"].shadow._tasks)
            return (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()

    metrics = run(work())
    assert 'gateway_shadow_total{case="fraud",outcome="failed"} 1.0' in metrics
    assert "gateway_shadow_difference_sum" not in metrics and not read_logged_rows(tmp_path, folder="shadow")


def test_unloaded_version_falls_back_to_the_served_one(tmp_path):
    folder = create_versions(tmp_path / "fraud" / "versions")
    rollout.write(folder, rollout.Rollout(stable=2))

    async def work():
        async with open_gateway(tmp_path) as (gateway, backend):
            backend.live = {1}
            response, answer = await score_purchase(gateway)
            assert response.status == 200 and answer["version"] == 1
            backend.live = set()
            backend.fault = lambda model, version: (_ for _ in ()).throw(ServingError("NOT_FOUND", "nothing"))
            assert (await score_purchase(gateway, transaction_id="t2"))[0].status == 404

    run(work())
