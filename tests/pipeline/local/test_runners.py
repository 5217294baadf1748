"""Who carries the Beam work: the same statistics, transform and evaluation by all cores and by Flink as in one process."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.command import ROOT, command_server, showcase
from support.flink_here import jars, left, watched
from support.repeated_run import repeat

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress


def test_runners_differ_by_their_arguments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    found = {name: local_runtime(tmp_path, runner=name) for name in ("direct", "multiprocess")}
    assert "--direct_num_workers=3" in found["multiprocess"].beam_args
    assert "--beam_plugins=tfx" in found["multiprocess"].beam_args
    assert found["direct"] == local_runtime(tmp_path)
    assert {(one.root, one.workers, one.metadata) for one in found.values()} == {
        (str(tmp_path), found["direct"].workers, MetadataAddress.of(tmp_path))
    }


@pytest.mark.system
def test_a_runner_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runner 'flnk'; there are direct, multiprocess, flink"):
        local_runtime(tmp_path, runner="flnk")
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


def judged(home: Path, run: str) -> tuple[int, dict[str, float]]:
    """Whether the Evaluator blessed the model, and every metric of every slice."""
    import tensorflow_model_analysis as tfma

    made = store.outputs(MetadataAddress.of(home), run)["Evaluator"]
    found = {
        f"{key}/{name}": value["doubleValue"]
        for key, by_output in tfma.load_eval_result(made["evaluation"].uri).slicing_metrics
        for by_class in by_output.values()
        for metrics in by_class.values()
        for name, value in metrics.items()
        if "doubleValue" in value
    }
    return made["blessing"].custom_properties["blessed"].int_value, found


def compare(run: tuple[Path, str], other: tuple[Path, str]) -> None:
    """Raises an error unless two runs have the same statistics, the same transform and the same evaluation."""
    left, right = described(*run), described(*other)
    assert set(left) == set(right) and len(left) > 10
    for name, numbers in left.items():
        assert right[name] == pytest.approx(numbers, rel=1e-6, abs=1e-9), name
    left, right = transformed(*run), transformed(*other)
    assert set(left) == set(right)
    for name, values in left.items():
        if np.issubdtype(values.dtype, np.integer):
            # A bucket's edge is a quantile by a sketch: parts merged in another order move a few rows to the next bucket.
            differs = np.abs(right[name] - values)
            assert differs.max() <= 1 and np.mean(differs) < 1e-3, name
        else:
            np.testing.assert_allclose(right[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    (blessed, left), (again, right) = judged(*run), judged(*other)
    assert blessed == again == 1 and len(left) > 10 and right == pytest.approx(left, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.fixture
def direct(pushed_home: Path) -> store.Run:
    """The run of the fraud case by one process."""
    (run,) = store.runs(MetadataAddress.of(pushed_home), "fraud")
    return run


@pytest.fixture
def part(pushed_home: Path, direct: store.Run) -> list[object]:
    """Program and words that run the stages that Beam carries as that run did, with the model that it trained."""
    model = store.outputs(MetadataAddress.of(pushed_home), direct.id)["Trainer"]["model"].uri
    return ["tests.support.part_of_graph", f"beam:{model}", *repeat(direct), "--json"]


@pytest.mark.slow
def test_all_cores_make_what_one_process_makes(
    pushed_home: Path, direct: store.Run, part: list[object], tmp_path: Path
) -> None:
    done = command_server().run(*part, "--runner", "multiprocess", "--home", tmp_path, cwd=ROOT, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    compare((pushed_home, direct.id), (tmp_path, json.loads(done.stdout)["id"]))


@pytest.mark.slow
def test_flink_makes_what_one_process_makes_and_shows_its_jobs_meanwhile(
    pushed_home: Path, direct: store.Run, part: list[object], tmp_path: Path
) -> None:
    jars()
    words = (*part, "--runner", "flink", "--home", tmp_path / "home")
    with (tmp_path / "said").open("w") as said:
        run = command_server().start(*words, cwd=ROOT, stdout=subprocess.PIPE, stderr=said)
        try:
            states = set(watched(run, tmp_path / "said"))
            told = run.stdout.read()
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(120)
    assert run.returncode == 0, (tmp_path / "said").read_text()
    assert "RUNNING" in states and "FAILED" not in states
    compare((pushed_home, direct.id), (tmp_path / "home", json.loads(told)["id"]))
    assert left(tmp_path) == []
