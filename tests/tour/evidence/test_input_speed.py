"""Ways of reading: equal rows, measured waiting and rates, growth of memory, benchmark reports."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import BuiltCase, get_built_case
from support.clock import Clock

from models import input as reading
from models.catalog import CASES
from tour.evidence import benchmark_reports, result_types
from tour.evidence.data import input_speed
from tour.measure import reading_ladder

pytestmark = pytest.mark.system

SHARDS, ROWS, WIDE = 4, 2048, 1024


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> reading_ladder.Split:
    case: BuiltCase = get_built_case(CASES["image"], tmp_path_factory)
    paths = reading.list_shards(str(case.examples), "train")
    return reading_ladder.Split(paths, reading.Transform(str(case.graph)), ("pixels", "label_id"), 64)


class Rows:
    """Replacement for a transform: a record is a row of ``WIDE`` numbers."""

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"x": tf.reshape(tf.io.decode_raw(serialized, tf.float32), [-1, WIDE])}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, record = tmp_path_factory.mktemp("wide"), np.arange(WIDE, dtype=np.float32).tobytes()
    for number in range(SHARDS):
        with tf.io.TFRecordWriter(str(folder / f"shard-{number}")) as writer:
            for _ in range(ROWS):
                writer.write(record)
    return sorted(map(str, folder.iterdir()))


def rows_of(batches) -> Counter:
    rows: Counter = Counter()
    for batch in batches:
        values = {name: np.asarray(batch[name]) for name in ("pixels", "label_id")}
        rows.update((pixels.tobytes(), int(label[0])) for pixels, label in zip(*values.values(), strict=True))
    return rows


@pytest.mark.parametrize("name", reading_ladder.WAYS)
def test_every_way_gives_the_same_rows(split: reading_ladder.Split, name: str) -> None:
    expected = rows_of([reading.load(split.paths, split.transform, split.keep)])
    actual = rows_of(reading_ladder.WAYS[name](split))
    if name in ("streamed", "full"):  # the last incomplete batch of an epoch is dropped
        assert actual.total() == expected.total() // split.batch_size * split.batch_size
        assert actual <= expected
    else:
        assert actual == expected


def test_arrays_are_the_same_rows_shuffled(split: reading_ladder.Split) -> None:
    expected = rows_of([reading.load(split.paths, split.transform, split.keep)])
    actual = rows_of(reading_ladder.load_all_into_numpy(split))
    assert actual <= expected and actual.total() == expected.total() // 64 * 64


class SlowInput:
    """Iterable over three batches of a hundred rows, each of which takes ``seconds`` of a simulated clock."""

    def __init__(self, clock: Clock, seconds: float):
        self.clock, self.seconds = clock, seconds

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for _ in range(3):
            self.clock.sleep(self.seconds)
            yield {"x": np.zeros((100, 1))}


def test_a_slow_input_is_seen_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(reading_ladder, "time", clock)
    for delay in (0.0, 0.01):
        wait, work = reading_ladder.measure_waiting(SlowInput(clock, delay), lambda: clock.sleep(0.002), 10)
        assert (wait, work) == (pytest.approx(1000 * delay), pytest.approx(2))


def test_rate_is_rows_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(reading_ladder, "time", clock)
    assert reading_ladder.measure_rate(SlowInput(clock, 0.02), 0.3) == pytest.approx(5000)
    assert 0.3 <= clock.now < 0.36  # one warm-up batch, and fifteen or sixteen that count


def test_arrays_grow_with_the_data_and_streams_do_not(wide: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHUFFLE", 256)
    growth = {}
    for name, way in (("streamed", reading_ladder.streamed), ("numpy", reading_ladder.load_all_into_numpy)):
        input_speed.measure_growth(lambda way=way: way(reading_ladder.Split(wide, Rows(), ("x",), 256)))
        for times in (1, 8):
            split = reading_ladder.Split(wide * times, Rows(), ("x",), 256)
            rows, first, seconds, growth[name, times] = input_speed.measure_growth(
                lambda way=way, split=split: way(split)
            )
            assert rows == times * SHARDS * ROWS and 0 < first <= seconds
    additional_bytes = 7 * SHARDS * ROWS * WIDE * 4
    # Half of the additional data is a clear limit between both: the allocator keeps only the size of a few batches.
    assert (
        growth["numpy", 8] - growth["numpy", 1] > additional_bytes / 2 > growth["streamed", 8] - growth["streamed", 1]
    )


def test_autotune_choices_are_read_from_the_running_input(split: reading_ladder.Split) -> None:
    iterator = iter(reading_ladder.prefetched(split).repeat())
    for _ in range(30):
        next(iterator)
    parts = {name: settings for name, _, _, settings in input_speed.read_autotune_choices(iterator)}
    assert "buffer_size" in parts["Prefetch"] and "parallelism" in parts["ParallelMapV2"]


def test_benchmark_tables_have_a_date_or_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    (missing,) = benchmark_reports.tables("input", "speeds", "fraud", tmp_path)
    assert isinstance(missing, result_types.NotHere) and "benchmarks.input" in missing.reason
    machine = {"date": "2026-11-21T10:00:00+00:00", "cores": 2}
    path.write_text(json.dumps({"machine": machine, "cases": {"fraud": {"speeds": [{"way": "naive", "rate": 7}]}}}))
    (table,) = benchmark_reports.tables("input", "speeds", "fraud", tmp_path)
    assert "2026-11-21 on 2 cores" in table.title and table.rows == (("naive", 7),)
    assert isinstance(benchmark_reports.tables("input", "speeds", "image", tmp_path)[0], result_types.NotHere)
