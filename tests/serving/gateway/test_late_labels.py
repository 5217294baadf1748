"""Late labels: joined once, and refused where they contradict."""

import asyncio

from support.gateway_case import PICTURE, logged, opened, post, run, score


def test_a_late_label_joins_its_prediction_once(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            _, told = await score(gateway)
            label = {"prediction_id": told["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            found = await asyncio.gather(*(post(gateway, "/labels", label) for _ in range(5)))
            assert sorted(answer["outcome"] for _, answer in found) == ["kept", "known", "known", "known", "known"]
            assert (await post(gateway, "/labels", label | {"label": 0}))[0].status == 409
            for wrong, status in (
                ({"label": 2}, 422),
                ({"label": "fraud"}, 422),
                ({"label_time": "1960-01-01T00:00:00Z"}, 422),
                ({"prediction_id": "fraud.1.0.00000000"}, 404),
                ({"prediction_id": "nobody.1.0.00000000"}, 404),
                ({"prediction_id": "../../etc/passwd"}, 404),
                ({"prediction_id": "fraud.99.5.00000000"}, 404),
            ):
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


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path):
    async def work():
        async with opened(tmp_path) as (gateway, _):
            told = [(await score(gateway, transaction_id=f"t{n}"))[1]["prediction_id"] for n in range(60)]
            picture = (await post(gateway, "/v1/image/score", PICTURE))[1]["prediction_id"]
            when = {"label_time": "2026-01-06T00:00:00Z"}
            labels = [{"prediction_id": one, "label": n % 2, **when} for n, one in enumerate(told)]
            refused = (
                (labels[:5] + [labels[0] | {"label": 1}], 409),
                (labels[:5] + [labels[0] | {"label": 2}], 422),
                (labels[:5] + [labels[0] | {"prediction_id": "fraud.1.0.00000000"}], 404),
                ([], 422),
                (labels * 20, 422),
                (labels[:5] + [{"prediction_id": picture, "label": "a"}], 422),
            )
            for some, status in refused:
                response, answer = await post(gateway, "/labels/batch", {"labels": some})
                assert response.status == status and answer["error"]
            assert not list((tmp_path / "fraud/online/labels").glob("*.tfrecord")) and not logged(
                tmp_path, folder="labels"
            )
            assert (await post(gateway, "/labels", labels[0]))[1]["outcome"] == "kept"
            groups = gateway.scorers["fraud"].labels.groups
            _, answer = await post(gateway, "/labels/batch", {"labels": [*labels, labels[3]]})
            assert [one["prediction_id"] for one in answer["labels"]] == [*told, told[3]]
            assert [one["outcome"] for one in answer["labels"]] == ["known", *["kept"] * 59, "known"]
            assert gateway.scorers["fraud"].labels.groups == groups + 1
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 30]]
        async with opened(tmp_path) as (gateway, _):
            _, answer = await post(gateway, "/labels/batch", {"labels": labels})
            assert {one["outcome"] for one in answer["labels"]} == {"known"}
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 30]]

    run(work())
    assert [one["label/value"] for one in logged(tmp_path, folder="labels")] == [[n % 2] for n in range(60)]
