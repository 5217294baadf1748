"""Evidence on the training of a run: callbacks, training loops, LoRA adapters."""

import pytest
from support.training_evidence import find_number, find_table

from models.catalog import CASES
from tour.evidence.context import Context
from tour.evidence.training import trainer_output

pytestmark = pytest.mark.system


@pytest.mark.parametrize("case", CASES)
def test_callbacks_and_event_files_are_those_of_the_run(pushed_home, case):
    context = Context.of(pushed_home, case)
    actions = find_table(trainer_output.callbacks_of_run(context), "What the callbacks did").rows
    checkpoint_epochs = [epoch for epoch, callback, _ in actions if callback == "ModelCheckpoint"]
    assert checkpoint_epochs[-1] == context.training["best_epoch"] + 1
    contents = {
        row[0]: row[1] for row in find_table(trainer_output.event_files(context), "Contents of the event files").rows
    }
    assert (
        contents["scalars"] >= 3 and contents["histograms"] > 3 and contents["graph"] == 1 and contents["profiles"] >= 1
    )


def test_the_loop_and_fit_end_with_the_same_weights_on_a_run(proofs):
    results = proofs.prove("A27")
    ours, theirs = find_table(results, "The same training").rows
    assert ours[1] == theirs[1] and ours[2] == pytest.approx(theirs[2], rel=1e-3)
    assert find_number(results, "Largest difference") < 1e-3


@pytest.mark.slow
def test_adapters_train_few_weights_and_still_lower_the_loss(proofs):
    rows = {row[0]: row for row in proofs.prove("B20")[0].rows}
    all_weights, adapters = rows["all weights"], rows["adapters of rank 4"]
    assert adapters[1] < all_weights[1] and adapters[3] < all_weights[3]
    for row in rows.values():
        assert row[5] < row[4]
        assert row[4] == pytest.approx(all_weights[4], rel=1e-4)
