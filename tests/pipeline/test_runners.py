"""Who carries the Beam work: the same statistics, transform and blessing by all cores and by Flink as in one process."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command import ROOT, showcase
from support.flink_here import jars, left, watched
from support.small_runs import FEW

from pipeline import runtime, store
from pipeline.metadata import MetadataAddress
from pipeline.runtime import local


def test_runners_differ_by_their_arguments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: {0, 1, 2})
    found = {name: local(tmp_path, runner=name) for name in ("direct", "multiprocess")}
    assert "--direct_num_workers=3" in found["multiprocess"].beam_args
    assert "--beam_plugins=tfx" in found["multiprocess"].beam_args
    assert found["direct"] == local(tmp_path)
    assert {(one.root, one.workers, one.metadata) for one in found.values()} == {
        (str(tmp_path), found["direct"].workers, MetadataAddress.of(tmp_path))
    }


def test_a_runner_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runner 'flnk'; there are direct, multiprocess, flink"):
        local(tmp_path, runner="flnk")
    done = showcase("run", "fraud", "--runner", "flnk", "--home", tmp_path)
    assert done.returncode == 2 and "no runner 'flnk'" in done.stderr and "Traceback" not in done.stderr


def described(home: Path, run: str) -> dict[str, dict[str, float]]:
    """Of every feature of every split what the statistics say: counts, means, deviations, distinct words."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    folder = Path(store.outputs(MetadataAddress.of(home), run)["StatisticsGen"]["statistics"].uri)
    found = {}
    for path in sorted(folder.glob("Split-*/FeatureStats.pb")):
        (data,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
        for one in data.features:
            common = one.num_stats.common_stats if one.HasField("num_stats") else one.string_stats.common_stats
            numbers = {"rows": data.num_examples, "present": common.num_non_missing, "values": common.tot_num_values}
            if one.HasField("num_stats"):
                numbers |= {
                    name: getattr(one.num_stats, name) for name in ("mean", "std_dev", "min", "max", "num_zeros")
                }
            found[f"{path.parent.name}/{'.'.join(one.path.step)}"] = numbers
    return found


def transformed(home: Path, run: str) -> dict[str, np.ndarray]:
    """The eval split through the run's transform graph, each column sorted: the order of rows is nobody's promise."""
    from models.input import Transform, files, load

    made = store.outputs(MetadataAddress.of(home), run)
    transform = Transform(made["Transform"]["transform_graph"].uri)
    rows = load(files(made["SpanExampleGen"]["examples"].uri, "eval"), transform, tuple(transform.features))
    return {name: np.sort(np.reshape(one, (len(one), -1)), axis=0) for name, one in rows.items()}


def equal(one: Path, other: Path, runs: tuple[str, str]) -> None:
    """Raises an error unless two homes' runs have the same statistics and the same transform."""
    left, right = described(one, runs[0]), described(other, runs[1])
    assert set(left) == set(right) and len(left) > 10
    for name, numbers in left.items():
        assert right[name] == pytest.approx(numbers, rel=1e-6, abs=1e-9), name
    left, right = transformed(one, runs[0]), transformed(other, runs[1])
    assert set(left) == set(right)
    for name, values in left.items():
        np.testing.assert_allclose(right[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


WORDS = [word for name, value in FEW["fraud"].items() for word in ("--set", f"{name}={value}")]


def command(runner: str, home: Path) -> list[object]:
    """A run on few rows, all the same but for who carries the Beam work."""
    return ["run", "fraud", "--runner", runner, "--home", home, "--json", "--tracking", "none", *WORDS]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Home and id of the run by one process."""
    home = tmp_path_factory.mktemp("direct")
    done = showcase(*command("direct", home))
    assert done.returncode == 0, done.stdout + done.stderr
    return home, pushed(done.stdout)


def pushed(told: str) -> str:
    """A run's id, if its model was blessed and pushed."""
    run = json.loads(told)
    assert run["state"] == "pushed"
    return run["id"]


@pytest.mark.slow
def test_all_cores_make_what_one_process_makes(direct: tuple[Path, str], tmp_path: Path) -> None:
    done = showcase(*command("multiprocess", tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    equal(direct[0], tmp_path, (direct[1], pushed(done.stdout)))


@pytest.mark.slow
def test_flink_makes_what_one_process_makes_and_shows_its_jobs_meanwhile(
    direct: tuple[Path, str], tmp_path: Path
) -> None:
    jars()
    line = [sys.executable, "-m", "pipeline.cli", *map(str, command("flink", tmp_path / "home"))]
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            states = set(watched(run, tmp_path / "said"))
            told = run.communicate()[0]
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(120)
    assert run.returncode == 0, (tmp_path / "said").read_text()
    assert "RUNNING" in states and "FAILED" not in states
    equal(direct[0], tmp_path / "home", (direct[1], pushed(told)))
    assert left(tmp_path) == []
