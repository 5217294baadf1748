"""The raw signature in LiteRT: every case converts with built-in kernels, and gives the SavedModel's answers."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from ai_edge_litert import interpreter
from support.built_case import BuiltCase, get_built_case
from support.operation_lines import find_operation_lines
from support.tiny_case.case import EVERY_CASE

from components.training.edge import raw_signature
from components.training.edge.raw_signature import MissingKernelError, convert_raw, parse_raw
from models.image.features import decode
from models.input import Transform, list_shards
from models.use_case import UseCase
from serving.edge.interpreter import Interpreter

pytestmark = pytest.mark.system

ROWS = 10_000
TOLERANCE = 1e-5
# What LiteRT cannot do. The edge models of such a case start after it, at the transformed tensors.
WITHOUT_KERNEL = {"image": ("DecodeImage", decode)}


@pytest.fixture(scope="module", params=EVERY_CASE, ids=lambda case: case.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def content(built: BuiltCase) -> bytes | None:
    """The file of the case; None if it cannot be converted for the reason that is known."""
    try:
        return convert_raw(str(built.export))
    except MissingKernelError as error:
        lines = name_lines(built.case, built, error)
        kind, function = WITHOUT_KERNEL.get(built.case.name, ("", None))
        assert function and [line.partition(" ")[0] for line in lines] == [kind], f"LiteRT has no kernel for {lines}"
        place, _, number = lines[0].removeprefix(f"{kind} at ").partition(":")
        source, first = inspect.getsourcelines(function)
        assert Path(inspect.getfile(function)).match(place) and first <= int(number) < first + len(source)
        return None


def name_lines(case: UseCase, built: BuiltCase, error: MissingKernelError) -> list[str]:
    function, config = case.load("features").preprocessing_fn, {"settings": built.settings}
    return find_operation_lines(lambda raw: function(raw, config), Transform(str(built.graph)).raw, error.operations)


def test_the_graph_converts_with_built_in_kernels(built: BuiltCase, content: bytes | None) -> None:
    assert (content is None) == (built.case.name in WITHOUT_KERNEL)


def test_raw_rows_get_the_saved_models_answers(built: BuiltCase, content: bytes | None) -> None:
    if content is None:
        return
    loaded = tf.saved_model.load(str(built.export))
    serialized = draw_examples(built)
    expected = loaded.signatures["serving_default"](examples=tf.constant(serialized))
    rows = parse_raw(loaded.signatures["raw"].structured_input_signature[1], serialized)
    answers = Interpreter(content, signature="raw").answer(rows)
    assert answers.keys() == expected.keys()
    for name, values in expected.items():
        assert np.abs(answers[name] - values.numpy()).max() <= TOLERANCE, name


def draw_examples(built: BuiltCase) -> list[bytes]:
    """Draw rows of all splits; in a third of them a word is unknown, empty, or missing as a null is."""
    rng = np.random.default_rng(7)
    paths = [path for split in ("train", "valid", "eval") for path in list_shards(str(built.examples), split)]
    records = list(tf.data.TFRecordDataset(paths).as_numpy_iterator())
    raw = Transform(str(built.graph)).raw
    words = [name for name, spec in raw.items() if spec.dtype == tf.string and name != built.case.key]
    serialized = []
    for index in rng.integers(0, len(records), ROWS):
        example = tf.train.Example.FromString(records[index])
        if words and rng.random() < 1 / 3:
            spoil(example.features.feature, str(rng.choice(words)), raw, int(rng.integers(3)))
        serialized.append(example.SerializeToString())
    return serialized


def spoil(features: Any, name: str, raw: dict[str, Any], how: int) -> None:
    """Make a word unknown or empty, or remove the value of a feature that may be missing."""
    if how == 2 and raw[name].default_value is not None:
        del features[name]
    elif features[name].bytes_list.value:
        features[name].bytes_list.value[0] = b"" if how else "nie gesehen é".encode()


def bucketized(raw: dict[str, Any]) -> dict[str, Any]:
    """Preprocessing with a search, for which LiteRT has no kernel."""
    return {"bucket": tft.bucketize(raw["amount"], 4)}


class Searching(tf.Module):
    """A raw signature whose graph has the operation of :func:`bucketized`, named as an export names it."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "amount")])
    def raw(self, amount: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("bucketize"), tf.name_scope("apply_buckets"), tf.name_scope("assign_buckets"):
            bucket = tf.searchsorted(tf.constant([1.0, 2.0]), amount[:, 0], side="right", out_type=tf.int64)
        return {"bucket": bucket}


def test_an_operation_without_a_kernel_is_named_with_its_line(tmp_path: Path) -> None:
    module = Searching()
    tf.saved_model.save(module, str(tmp_path), signatures={"raw": module.raw})
    with pytest.raises(MissingKernelError, match="LiteRT has no kernel for UpperBound") as caught:
        convert_raw(str(tmp_path))
    spec = {"amount": tf.io.FixedLenFeature([1], tf.float32)}
    _, first = inspect.getsourcelines(bucketized)
    assert find_operation_lines(bucketized, spec, caught.value.operations) == [
        f"UpperBound at tests/components/training/edge/test_raw_signature.py:{first + 2}"
    ]


class Words(tf.Module):
    """A raw signature with two tables of one file, as a vocabulary that two columns share gives them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables = [
            tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    str(path),
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                ),
                9,
            )
            for _ in range(2)
        ]

    @tf.function(
        input_signature=[tf.TensorSpec([None, 1], tf.string, "word"), tf.TensorSpec([None, 2], tf.string, "past")]
    )
    def raw(self, word: tf.Tensor, past: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"ids": tf.concat([self.tables[0].lookup(word), self.tables[1].lookup(past)], axis=1)}


def test_tables_keep_their_words_after_a_second_export_and_are_stored_once(tmp_path: Path) -> None:
    words = [f"word number {number}" for number in range(1000)]
    (tmp_path / "words").write_text("\n".join(words) + "\n")
    module = Words(tmp_path / "words")
    tf.saved_model.save(module, str(tmp_path / "first"), signatures={"raw": module.raw})
    again = tf.Module()
    again.loaded = tf.saved_model.load(str(tmp_path / "first"))
    again.raw = tf.function(
        lambda word, past: again.loaded.signatures["raw"](word=word, past=past), module.raw.input_signature
    )
    tf.saved_model.save(again, str(tmp_path / "second"), signatures={"raw": again.raw})
    content = convert_raw(str(tmp_path / "second"))
    rows = {
        "word": np.array([[words[4]], ["unheard"]], object),
        "past": np.array([[words[999], ""], [words[0], words[1]]], object),
    }
    run = interpreter.Interpreter(model_content=content).get_signature_runner("raw")
    assert run(**rows)["ids"].tolist() == [[4, 999, 9], [9, 0, 1]]
    assert content.count(b"word number 999") == 1


def test_unseen_words_triple_the_rows() -> None:
    rows = {"word": np.array([[b"a"], [b"b"]], object), "number": np.array([[1.0], [2.0]])}
    tripled = raw_signature.add_unseen_words(rows)
    assert tripled["number"][:, 0].tolist() == [1.0, 2.0] * 3
    assert tripled["word"][:, 0].tolist() == [b"a", b"b", b"", b"", *[raw_signature.UNKNOWN_WORD] * 2]
