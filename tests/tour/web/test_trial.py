"""The rows of the Try page's form, and the worker process that computes input tensors."""

import asyncio
import sys
from pathlib import Path

import pytest
from support import edge_models
from support.tried_home import create_tensor_process, flatten_first_row

from serving.gateway.log.tf_example import encode_example
from tour.web import logged_tensors, trial

pytestmark = pytest.mark.system


def test_form_rows_are_from_the_newest_span_with_the_most_unusual_first(tried_home: Path) -> None:
    form_rows = trial.load_form_rows(tried_home, "fraud")
    assert (form_rows.span, form_rows.key, form_rows.problem) == (1, "transaction_id", "")
    assert [row["amount"] for row in form_rows.unusual] == [5000.0, 10.07] and len(form_rows.typical) == 5
    assert form_rows.choices == {}  # no choice among a single value, or among values that never repeat
    form_rows = trial.load_form_rows(tried_home, "image")
    assert set(form_rows.samples) == {"flat", "upright", "third"} and form_rows.key == "key"


def test_ended_worker_process_is_reported_and_restarted_for_the_next_request(tried_home: Path) -> None:
    async def work() -> None:
        comparer = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0], "import sys; sys.exit(3)")
        for _ in range(2):
            with pytest.raises((ValueError, ConnectionError)):
                await comparer._compute_tensors(Path("transform_graph"), b"x")
        comparer.worker.command = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0]).worker.command
        assert await comparer._compute_tensors(Path("transform_graph"), b"x") == flatten_first_row(
            edge_models.draw_mixed_rows(3)[0]
        )
        comparer.worker.command = [sys.executable, "-c", 'print(\'{"error": "no graph"}\')']
        await comparer.worker.kill()
        with pytest.raises(ValueError, match="cannot be applied: no graph"):
            await comparer._compute_tensors(Path("transform_graph"), b"x")
        await comparer.worker.kill()

    asyncio.run(work())


def test_compute_tensors_applies_the_transform_graph_without_the_missing_label() -> None:
    import tensorflow as tf

    class DoublingTransform:
        raw = {"amount": tf.io.FixedLenFeature([1], tf.float32), "is_fraud": tf.io.FixedLenFeature([1], tf.int64)}

        def apply(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {f"{name}_twice": 2 * value for name, value in raw.items()}

    record = encode_example({"amount": 1.5, "served/id": "x"})
    assert logged_tensors.compute_tensors(DoublingTransform(), record) == {"amount_twice": [3.0]}
