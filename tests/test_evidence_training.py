"""Evidence of training on the demo's run: strategies, callbacks, loops, refreshes."""

import pytest

from models.catalog import CASES
from tour.evidence import kinds, loops, refresh, strategies, training
from tour.evidence.context import Context


def table(results, title):
    return next(one for one in results if isinstance(one, kinds.Table) and one.title.startswith(title))


def number(results, title):
    return next(one.value for one in results if isinstance(one, kinds.Number) and one.title.startswith(title))


@pytest.mark.slow
def test_one_device_and_two_replicas_agree_on_pictures(demo_home):
    agree(strategies.strategies_agree(Context.of(demo_home, "image")))


def agree(results):
    """The evidence of A29; that of purchases is looked at where all evidence is computed."""
    rows = table(results, f"{strategies.STEPS} steps").rows
    assert [row[:2] for row in rows] == [("none", 1), ("mirrored", 2)]
    assert rows[0][2] == pytest.approx(rows[1][2], rel=1e-4)
    assert number(results, "Largest difference") < 2e-4


def told_apart(results):
    """The evidence of B13."""
    rows = table(results, "Processes").rows
    assert [row[0] for row in rows] == ["worker 0", "worker 1"] and rows[0][1] != rows[1][1]
    assert '"task": {"type": "worker", "index": 1}' in rows[1][2]
    assert table(results, "Together").rows[0][0] == 2


@pytest.mark.parametrize("case", CASES)
def test_callbacks_and_event_files_are_those_of_the_run(demo_home, case):
    context = Context.of(demo_home, case)
    acted = table(training.callbacks_of_run(context), "What the callbacks did").rows
    kept = [epoch for epoch, callback, _ in acted if callback == "ModelCheckpoint"]
    assert kept[-1] == context.training["best_epoch"] + 1
    found = {row[0]: row[1] for row in table(training.event_files(context), "In the event files").rows}
    assert found["scalars"] >= 3 and found["histograms"] > 3 and found["graph"] == 1 and found["profiles"] >= 1


@pytest.mark.parametrize("case", CASES)
def test_the_loop_and_fit_end_with_the_same_weights_on_the_demos_run(demo_home, case):
    results = loops.loop_equals_fit(Context.of(demo_home, case))
    ours, theirs = table(results, "The same training").rows
    assert ours[1] == theirs[1] and ours[2] == pytest.approx(theirs[2], rel=1e-3)
    assert number(results, "Largest difference") < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_adapters_train_few_weights_and_still_lower_the_loss(demo_home, case):
    rows = {row[0]: row for row in table(refresh.adapters_measured(Context.of(demo_home, case)), f"{refresh.STEPS} steps").rows}
    whole, few = rows["all weights"], rows["adapters of rank 4"]
    assert few[1] < whole[1] and few[3] < whole[3]
    for row in rows.values():
        assert row[5] < row[4]
        assert row[4] == pytest.approx(whole[4], rel=1e-4)
