"""Late labels: joined once, and rejected if they contradict an earlier label."""

import asyncio

from support.gateway_case import PICTURE, open_gateway, post, read_logged_rows, run, score_purchase


def test_late_label_is_joined_to_its_prediction_once(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            _, scored = await score_purchase(gateway)
            label = {"prediction_id": scored["prediction_id"], "label": 1, "label_time": "2026-01-06T00:00:00Z"}
            replies = await asyncio.gather(*(post(gateway, "/labels", label) for _ in range(5)))
            assert sorted(answer["outcome"] for _, answer in replies) == ["kept", "known", "known", "known", "known"]
            assert (await post(gateway, "/labels", label | {"label": 0}))[0].status == 409
            for change, status in (
                ({"label": 2}, 422),
                ({"label": "fraud"}, 422),
                ({"label_time": "1960-01-01T00:00:00Z"}, 422),
                ({"prediction_id": "fraud.1.0.00000000"}, 404),
                ({"prediction_id": "nobody.1.0.00000000"}, 404),
                ({"prediction_id": "../../etc/passwd"}, 404),
                ({"prediction_id": "fraud.99.5.00000000"}, 404),
            ):
                response, answer = await post(gateway, "/labels", label | change)
                assert response.status == status and answer["error"], change
            history = gateway.scorers["fraud"].online.history
            assert history.state()["merchants"]["m1"][1] == [[20458, 20459, 1]]
        async with open_gateway(tmp_path) as (gateway, _):  # the label is still known after a restart
            _, answer = await post(gateway, "/labels", label)
            assert answer["outcome"] == "known"
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 1]]

    run(work())
    assert [record["label/value"] for record in read_logged_rows(tmp_path, folder="labels")] == [[1]]


def test_batch_of_labels_is_stored_completely_or_not_at_all(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            identities = [
                (await score_purchase(gateway, transaction_id=f"t{n}"))[1]["prediction_id"] for n in range(60)
            ]
            picture = (await post(gateway, "/v1/image/score", PICTURE))[1]["prediction_id"]
            when = {"label_time": "2026-01-06T00:00:00Z"}
            labels = [{"prediction_id": identity, "label": n % 2, **when} for n, identity in enumerate(identities)]
            rejected = (
                (labels[:5] + [labels[0] | {"label": 1}], 409),
                (labels[:5] + [labels[0] | {"label": 2}], 422),
                (labels[:5] + [labels[0] | {"prediction_id": "fraud.1.0.00000000"}], 404),
                ([], 422),
                (labels * 20, 422),
                (labels[:5] + [{"prediction_id": picture, "label": "a"}], 422),
            )
            for batch, status in rejected:
                response, answer = await post(gateway, "/labels/batch", {"labels": batch})
                assert response.status == status and answer["error"]
            assert not list((tmp_path / "fraud/online/labels").glob("*.tfrecord")) and not read_logged_rows(
                tmp_path, folder="labels"
            )
            assert (await post(gateway, "/labels", labels[0]))[1]["outcome"] == "kept"
            groups = gateway.scorers["fraud"].labels.groups
            _, answer = await post(gateway, "/labels/batch", {"labels": [*labels, labels[3]]})
            assert [label["prediction_id"] for label in answer["labels"]] == [*identities, identities[3]]
            assert [label["outcome"] for label in answer["labels"]] == ["known", *["kept"] * 59, "known"]
            assert gateway.scorers["fraud"].labels.groups == groups + 1
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 30]]
        async with open_gateway(tmp_path) as (gateway, _):
            _, answer = await post(gateway, "/labels/batch", {"labels": labels})
            assert {label["outcome"] for label in answer["labels"]} == {"known"}
            assert gateway.scorers["fraud"].online.history.state()["merchants"]["m1"][1] == [[20458, 20459, 30]]

    run(work())
    assert [record["label/value"] for record in read_logged_rows(tmp_path, folder="labels")] == [
        [n % 2] for n in range(60)
    ]
