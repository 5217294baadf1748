"""TFRecord and tf.Example encoding, compared with TensorFlow."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command import ROOT
from support.logged import append_and_wait, read_all_records, run

from serving.gateway.log import tfrecords
from serving.gateway.log.log_files import DONE
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import decode, encode_example

FLOATS = st.floats(width=32, allow_nan=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40),
    INTEGERS,
    FLOATS,
    st.lists(st.binary(max_size=300), min_size=1, max_size=9),
    st.lists(FLOATS, min_size=1, max_size=9),
    st.lists(INTEGERS, min_size=1, max_size=9),
)


@settings(deadline=None)  # the first call imports TensorFlow
@given(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=8))
def test_example_is_read_by_tensorflow(features):
    import tensorflow as tf

    data = encode_example(features)
    parsed = tf.train.Example.FromString(data).features.feature
    decoded = {name: list(getattr(value, value.WhichOneof("kind")).value) for name, value in parsed.items()}
    assert decoded == decode(data)
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        assert decoded[name] == [item.encode() if isinstance(item, str) else item for item in values]


def test_concatenated_examples_are_one_example():
    data = encode_example({"a": 1.5, "b": None, "c": "first"}) + encode_example({"c": "last", "d": [1, -1]})
    assert decode(data) == {"a": [1.5], "c": [b"last"], "d": [1, -1]}
    assert decode(data, ("d", "e")) == {"d": [1, -1]}


@pytest.mark.system
def test_example_needs_no_tensorflow():
    program = "import sys, serving.gateway.log.tf_example; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT).stdout == b"False\n"


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x0a", b"\xff" * 20, b"\x0a\x03\x0a\x01\x08"])
def test_invalid_example_is_an_error(data):
    with pytest.raises(ValueError, match=r"not a serialized tf\.Example"):
        decode(data)


def test_log_files_and_tensorflow_files_are_interchangeable(tmp_path):
    import tensorflow as tf

    data = [os.urandom(size) for size in (0, 1, 100, 70_000)]

    async def write():
        log = PredictionLog(tmp_path / "log").open()
        await append_and_wait(log, *data)
        await log.close()

    run(write())
    files = [str(path) for path in sorted((tmp_path / "log").glob(f"*{DONE}"))]
    assert [record.numpy() for record in tf.data.TFRecordDataset(files)] == data == read_all_records(tmp_path / "log")
    with tf.io.TFRecordWriter(str(tmp_path / "tensorflow")) as writer:
        for record in data:
            writer.write(record)
    assert [record for _, record in tfrecords.read(tmp_path / "tensorflow")] == data
