"""What the Try page begins with, and the process that makes tensors of what a request has."""

import asyncio
import sys
from pathlib import Path

import pytest
from support import edge_models
from support.tried_home import create_tensor_process, flatten_first_row

from serving.gateway.log.tf_example import encode_entry, encode_example
from tour.web import tensors, trial

pytestmark = pytest.mark.system


def test_the_form_begins_with_rows_of_the_newest_span_the_oddest_first(tried_home: Path) -> None:
    begin = trial.start(tried_home, "fraud")
    assert (begin.span, begin.key, begin.problem) == (1, "transaction_id", "")
    assert [row["amount"] for row in begin.odd] == [5000.0, 10.07] and len(begin.usual) == 5
    assert begin.choices == {}  # one value is no choice, and one that never comes again is none either
    pictures = trial.start(tried_home, "image")
    assert set(pictures.every) == {"flat", "upright", "third"} and pictures.key == "key"


def test_a_process_that_ends_is_told_and_the_next_request_has_a_new_one(tried_home: Path) -> None:
    async def work() -> None:
        made = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0], "import sys; sys.exit(3)")
        for _ in range(2):
            with pytest.raises((ValueError, ConnectionError)):
                await made._dense(Path("transform_graph"), b"x")
        made.command = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0]).command
        assert await made._dense(Path("transform_graph"), b"x") == flatten_first_row(edge_models.draw_mixed_rows(3)[0])
        made.command = [sys.executable, "-c", 'print(\'{"error": "no graph"}\')']
        await made.close()
        with pytest.raises(ValueError, match="cannot be applied: no graph"):
            await made._dense(Path("transform_graph"), b"x")
        await made.close()

    asyncio.run(work())


def test_tensors_come_of_what_a_request_has_by_the_models_own_graph() -> None:
    import tensorflow as tf

    class Doubled:
        raw = {"amount": tf.io.FixedLenFeature([1], tf.float32), "is_fraud": tf.io.FixedLenFeature([1], tf.int64)}

        def apply(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {f"{name}_twice": 2 * value for name, value in raw.items()}

    record = encode_example(encode_entry("amount", 1.5), encode_entry("served/id", "x"))
    assert tensors.tensors(Doubled(), record) == {"amount_twice": [3.0]}
