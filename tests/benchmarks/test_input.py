"""The benchmark of the input: peak memory in a forked process, and the rate of bytes."""

from pathlib import Path

import pytest
from support.built_case import get_built_case
from support.clock import Clock

from benchmarks import input as benchmark
from benchmarks import peak_memory
from models import input as reading
from models.catalog import CASES
from tour.measure import reading_ladder

pytestmark = pytest.mark.system


def test_bytes_per_second_counts_all_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "time", Clock(tick=2.0))
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(bytes(3000))
    assert benchmark.bytes_per_second(list(map(str, paths)), passes=3) == pytest.approx(3 * 6000 / 2)


def test_fork_returns_its_result_or_raises() -> None:
    assert peak_memory.run_in_fork(lambda: {"rows": 3}) == {"rows": 3}
    with pytest.raises(RuntimeError, match="status 1"):
        peak_memory.run_in_fork(lambda: {}["missing"])


def test_error_has_the_last_line_of_standard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Traceback >&2\necho 'OSError: there is no such graph' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(peak_memory.sys, "executable", str(program))
    with pytest.raises(RuntimeError, match=r"Memory could not be measured: OSError: there is no such graph$"):
        peak_memory.measure_peaks(str(tmp_path), ["shard"], ["x"], 64, ["numpy"], [1])


@pytest.mark.slow
def test_peaks_are_measured_for_every_way_and_size(tmp_path_factory: pytest.TempPathFactory) -> None:
    case = get_built_case(CASES["image"], tmp_path_factory)
    paths, keep = reading.list_shards(str(case.examples), "train"), ("pixels", "label_id")
    peaks = peak_memory.measure_peaks(str(case.graph), paths, keep, 64, peak_memory.WAYS, (1, 2))
    rows = reading_ladder.count_rows(reading.load(paths, reading.Transform(str(case.graph)), keep))
    assert [(peak.way, peak.times) for peak in peaks] == [(way, times) for way in peak_memory.WAYS for times in (1, 2)]
    assert all(
        peak.rows == peak.times * rows // 64 * 64 and peak.bytes >= 0 and 0 < peak.first <= peak.seconds
        for peak in peaks
    )
