"""Beam runners: multiprocess and Flink give the same statistics, transform and evaluation as the direct runner."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.command import ROOT, command_server, showcase
from support.flink_here import find_leftover_processes, require_jars, watch_job_states
from support.repeated_run import repeat

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run


def test_runners_differ_in_arguments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    runtimes = {name: local_runtime(tmp_path, runner=name) for name in ("direct", "multiprocess")}
    assert "--direct_num_workers=3" in runtimes["multiprocess"].beam_args
    assert "--beam_plugins=tfx" in runtimes["multiprocess"].beam_args
    assert runtimes["direct"] == local_runtime(tmp_path)
    assert {(runtime.root, runtime.workers, runtime.metadata) for runtime in runtimes.values()} == {
        (str(tmp_path), runtimes["direct"].workers, MetadataAddress.of(tmp_path))
    }


@pytest.mark.system
def test_unknown_runner_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runner 'flnk'; there are direct, multiprocess, flink"):
        local_runtime(tmp_path, runner="flnk")
    process = showcase("run", "fraud", "--runner", "flnk", "--home", tmp_path)
    assert process.returncode == 2 and "no runner 'flnk'" in process.stderr and "Traceback" not in process.stderr


def read_statistics(home: Path, run: str) -> dict[str, dict[str, float]]:
    """Return counts, and for numeric features moments and extremes, of every feature of every split."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    folder = Path(store.outputs(MetadataAddress.of(home), run)["StatisticsGen"]["statistics"].uri)
    statistics_by_feature = {}
    for path in sorted(folder.glob("Split-*/FeatureStats.pb")):
        (data,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
        for feature in data.features:
            common = (
                feature.num_stats.common_stats if feature.HasField("num_stats") else feature.string_stats.common_stats
            )
            numbers = {"rows": data.num_examples, "present": common.num_non_missing, "values": common.tot_num_values}
            if feature.HasField("num_stats"):
                numbers |= {
                    name: getattr(feature.num_stats, name) for name in ("mean", "std_dev", "min", "max", "num_zeros")
                }
            statistics_by_feature[f"{path.parent.name}/{'.'.join(feature.path.step)}"] = numbers
    return statistics_by_feature


def apply_transform(home: Path, run: str) -> dict[str, np.ndarray]:
    """Return the transformed eval split, each column sorted because the order of rows is not guaranteed."""
    from models.input import Transform, list_shards, load

    outputs = store.outputs(MetadataAddress.of(home), run)
    transform = Transform(outputs["Transform"]["transform_graph"].uri)
    rows = load(list_shards(outputs["SpanExampleGen"]["examples"].uri, "eval"), transform, tuple(transform.features))
    return {name: np.sort(np.reshape(column, (len(column), -1)), axis=0) for name, column in rows.items()}


def read_evaluation(home: Path, run: str) -> tuple[int, dict[str, float]]:
    """Return whether the Evaluator blessed the model, and every metric of every slice."""
    import tensorflow_model_analysis as tfma

    outputs = store.outputs(MetadataAddress.of(home), run)["Evaluator"]
    metric_values = {
        f"{key}/{name}": value["doubleValue"]
        for key, outputs_of_slice in tfma.load_eval_result(outputs["evaluation"].uri).slicing_metrics
        for classes in outputs_of_slice.values()
        for metrics in classes.values()
        for name, value in metrics.items()
        if "doubleValue" in value
    }
    return outputs["blessing"].custom_properties["blessed"].int_value, metric_values


def assert_same_results(run: tuple[Path, str], other: tuple[Path, str]) -> None:
    """Assert that two runs have the same statistics, transformed examples and evaluation."""
    left, right = read_statistics(*run), read_statistics(*other)
    assert set(left) == set(right) and len(left) > 10
    for name, numbers in left.items():
        assert right[name] == pytest.approx(numbers, rel=1e-6, abs=1e-9), name
    left, right = apply_transform(*run), apply_transform(*other)
    assert set(left) == set(right)
    for name, values in left.items():
        if np.issubdtype(values.dtype, np.integer):
            # A bucket boundary is an approximate quantile; another merge order moves a few rows to the next bucket.
            differs = np.abs(right[name] - values)
            assert differs.max() <= 1 and np.mean(differs) < 1e-3, name
        else:
            np.testing.assert_allclose(right[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    (blessed, left), (again, right) = read_evaluation(*run), read_evaluation(*other)
    assert blessed == again == 1 and len(left) > 10 and right == pytest.approx(left, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.fixture
def direct_run(pushed_home: Path) -> Run:
    """The fraud run with the direct runner."""
    (run,) = store.runs(MetadataAddress.of(pushed_home), "fraud")
    return run


@pytest.fixture
def beam_arguments(pushed_home: Path, direct_run: Run) -> list[object]:
    """Command that repeats the direct run's Beam stages with the model that it trained."""
    model = store.outputs(MetadataAddress.of(pushed_home), direct_run.id)["Trainer"]["model"].uri
    return ["tests.support.part_of_graph", f"beam:{model}", *repeat(direct_run), "--json"]


@pytest.mark.slow
def test_multiprocess_runner_reproduces_the_direct_runner(
    pushed_home: Path, direct_run: Run, beam_arguments: list[object], tmp_path: Path
) -> None:
    process = command_server().run(
        *beam_arguments, "--runner", "multiprocess", "--home", tmp_path, cwd=ROOT, timeout=1200
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert_same_results((pushed_home, direct_run.id), (tmp_path, json.loads(process.stdout)["id"]))


@pytest.mark.slow
def test_flink_runner_reproduces_the_direct_runner_and_shows_running_jobs(
    pushed_home: Path, direct_run: Run, beam_arguments: list[object], tmp_path: Path
) -> None:
    require_jars()
    arguments = (*beam_arguments, "--runner", "flink", "--home", tmp_path / "home")
    with (tmp_path / "said").open("w") as log:
        run = command_server().start(*arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        try:
            states = set(watch_job_states(run, tmp_path / "said"))
            output = run.stdout.read()
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(120)
    assert run.returncode == 0, (tmp_path / "said").read_text()
    assert "RUNNING" in states and "FAILED" not in states
    assert_same_results((pushed_home, direct_run.id), (tmp_path / "home", json.loads(output)["id"]))
    assert find_leftover_processes(tmp_path) == []
