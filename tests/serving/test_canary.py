"""Canary and shadow: shares, what stays with a key, and what changes no answer."""

import asyncio
import math

import pytest
from support.gateway_case import logged, opened, run, score, versions

from serving import rollout
from serving.errors import ServingError
from serving.gateway.circuit_breaker import CLOSED
from serving.http.asyncio_server import Request


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
