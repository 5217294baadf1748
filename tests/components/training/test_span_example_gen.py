"""Shards of examples: equal rows give equal file names in every process."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from support.command import ROOT

PROGRAM = """
import sys
import pyarrow as pa
from components.training.span_example_gen import Write

columns = {f"column_{n}": pa.array([[float(n)], [n + 0.5]], pa.list_(pa.float32())) for n in range(20)}
batch = pa.record_batch({**columns, "number": pa.array([[int(sys.argv[2])], [2]], pa.list_(pa.int64()))})
Write(sys.argv[1]).process(("train", batch))
"""


def write_shard(folder: Path, number: int) -> Path:
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder), str(number)], check=True, cwd=ROOT)
    (shard,) = folder.glob("Split-train/*")
    return shard


@pytest.mark.slow
def test_a_shard_is_named_by_its_rows_in_every_process(tmp_path: Path) -> None:
    # The order of the features in a serialized example differs from process to process, and must not matter.
    shard, again, other = (write_shard(tmp_path / name, number) for name, number in (("a", 1), ("b", 1), ("c", 7)))
    assert shard.name == again.name != other.name
    examples = [tf.train.Example.FromString(data) for data in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()]
    assert [example.features.feature["number"].int64_list.value[0] for example in examples] == [1, 2]
    assert [example.features.feature["column_3"].float_list.value[0] for example in examples] == [3.0, 3.5]
