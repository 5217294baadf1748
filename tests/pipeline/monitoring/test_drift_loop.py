"""The whole loop for both cases: served data drifts, drift is detected, a retraining is decided, run and served."""

import io
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support.command import showcase, start_showcase

from models.fraud.raw.columns import REQUIRED
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from serving.drift.reference.metric_estimate import pr_auc
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROWS, BEGINS, KNOWN, DAYS = 1500, 93, 136, 170


def generate_purchases(out: Path, day: int) -> Path:
    """Generate purchases with concept drift of the frauds and rising amounts from a day on."""
    arguments = ("generate", "fraud", "--rows", ROWS * DAYS, "--days", DAYS, "--drift", f"concept:0.8@{day}")
    process = showcase(*arguments, "--drift", f"amount:1.3@{day}", "--out", out)
    assert process.returncode == 0, process.stderr
    return out


@contextmanager
def run_gateway(home: Path, case: str = "fraud") -> Iterator[str]:
    """Run the gateway of a home; yield its address."""
    arguments = ("serve", case, "--home", home, "--port", 0, "--rest-port", -1, "--grpc-port", -1, "--json")
    process = start_showcase(*arguments, stdout=subprocess.PIPE)
    try:
        yield json.loads(process.stdout.readline())["gateway"]
    finally:
        process.terminate()
        assert process.wait(120) == 0


def send_traffic(home: Path, data: Path, first: int, last: int, rate: float = 0, case: str = "fraud") -> dict:
    """Send some spans of traffic; return the report."""
    arguments = (
        "traffic",
        case,
        "--home",
        home,
        "--data",
        data,
        "--spans",
        f"{first}:{last}",
        "--rate",
        rate,
        "--json",
    )
    process = showcase(*arguments, timeout=3600)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr
    return json.loads(process.stdout)


def kill_monitor_in(home: Path, stage: str) -> None:
    """Start the monitor and kill it with all its stages while one stage runs."""
    process = start_showcase("monitor", "fraud", "--home", home)
    logs, deadline = home / "fraud" / "logs", time.monotonic() + 1800
    earlier_logs = set(logs.glob(f"*/{stage}.log"))
    while not set(logs.glob(f"*/{stage}.log")) - earlier_logs:
        assert process.poll() is None and time.monotonic() < deadline, f"{stage} was not reached"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def read_labelled_rows(home: Path, first: int) -> tuple[list[bytes], np.ndarray, np.ndarray, np.ndarray]:
    """Return records, scores, labels and versions of the labelled rows that were served from a day on."""
    folder = home / "fraud" / "online"
    labels = {
        values["label/key"][0]: values["label/value"][0]
        for values in (decode(record) for _, record in read_log(folder / "labels"))
    }
    rows = [(record, decode(record)) for _, record in read_log(folder / "predictions")]
    start = min(values["event_time"][0] for _, values in rows) // 86_400 + first - 90
    labelled = [
        (record, values)
        for record, values in rows
        if values["event_time"][0] // 86_400 >= start and values["served/key"][0] in labels
    ]
    columns = [
        [values["output/score"][0], labels[values["served/key"][0]], values["served/version"][0]]
        for _, values in labelled
    ]
    return [record for record, _ in labelled], *np.array(columns).T


def read_versions(home: Path, first: int) -> list[int]:
    """Return the versions that answered the rows from a day on, in the order of the log."""
    rows = [decode(record) for _, record in read_log(home / "fraud" / "online" / "predictions")]
    start = min(values["event_time"][0] for values in rows) // 86_400 + first - 90
    return [values["served/version"][0] for values in rows if values["event_time"][0] // 86_400 >= start]


def test_fraud_drift_leads_to_a_retrained_model_despite_kills(tmp_path: Path) -> None:
    home, data = tmp_path / "home", generate_purchases(tmp_path / "data", BEGINS)
    runtime = local_runtime(home)
    process = showcase(
        "run", "fraud", "--home", home, "--data", data, "--spans", "0:89", "--tracking", "none", timeout=3600
    )
    assert process.returncode == 0, process.stdout + process.stderr
    with run_gateway(home) as address:
        # Control: without drift, nothing is triggered.
        send_traffic(home, data, 90, 92)
        process = showcase("monitor", "fraud", "--home", home, "--json", timeout=3600)
        clean = json.loads(process.stdout)["decision"]
        assert (
            clean["action"] == "none" and not json.loads(Path(clean["report"], "report.json").read_text())["incidents"]
        )
        send_traffic(home, data, BEGINS, KNOWN - 1)
        deadline = time.monotonic() + 300
        while (
            "drift_incidents" not in (metrics := httpx.get(f"{address}/metrics").text)
            or 'kind="drift"} 1.0' not in metrics
        ):
            assert time.monotonic() < deadline, metrics[-3000:]
            time.sleep(1)
        arguments = ("traffic", "fraud", "--home", home, "--data", data, "--spans", f"{KNOWN}:{DAYS - 1}", "--rate", 25)
        traffic = start_showcase(*arguments, "--json", stdout=subprocess.PIPE)
        kill_monitor_in(home, "DriftMonitor")
        kill_monitor_in(home, "Trainer")
        process = showcase("monitor", "fraud", "--home", home, "--json", timeout=3600)
        assert process.returncode == 0, process.stdout + process.stderr
        result = json.loads(process.stdout)
        assert result["run"]["state"] == "pushed" and result["run"]["facts"]["version"] == "2"
        deadline = time.monotonic() + 300
        while 2 not in read_versions(home, KNOWN):
            assert time.monotonic() < deadline and traffic.poll() is None
            time.sleep(2)
        traffic.terminate()  # it prints its report
        report = json.loads(traffic.stdout.read())
        traffic.wait(60)
        assert report["failed"] == 0 and not report["wrong"] and set(report["versions"]) == {"1", "2"}
    past_decisions = decisions.list_decisions(runtime, "fraud")
    assert len({decision.id for decision in past_decisions}) == len(past_decisions)
    (triggering,) = [decision for decision in past_decisions if decision.record["action"] in decisions.TRAINING_ACTIONS]
    assert (
        triggering.record["loss"]["how"] == "realised" and (triggering.folder / decisions.PAGE).stat().st_size < 500_000
    )
    (run,) = [run for run in store.runs(runtime.metadata, "fraud") if run.facts.get("decision") == triggering.id]
    assert run.id == result["run"]["id"]
    versions = read_versions(home, KNOWN)
    assert len(versions) == sum(report["statuses"].values()) and set(versions) == {1, 2}
    records, scores, labels, versions = read_labelled_rows(home, KNOWN)
    # On rows that neither version was trained on.
    metric_by_version = {}
    for name in ("1", "2"):
        serve = tf.saved_model.load(str(home / "fraud/versions" / name)).signatures["serving_default"]
        metric_by_version[name] = pr_auc(serve(examples=tf.constant(records))["score"].numpy().reshape(-1), labels)
    assert metric_by_version["2"] > metric_by_version["1"], (metric_by_version, triggering.record["reasons"])


# Rows, days and settings with which data of six columns gives a model in a few minutes.
SIX_ROWS, SIX_DAYS, SIX_TRAINED = 12_000, 52, 40
SIX_SETTINGS = {
    "warmup_days": 3,
    "valid_days": 4,
    "eval_days": 8,
    "label_delay_days": 2,
    "epochs": 4,
    "width": 24,
    "batch_size": 128,
    "learning_rate": 0.01,
    "embedding_epochs": 1,
    "min_pr_auc": 0.01,
    "max_gap": 0,
}


def generate_six_columns(out: Path) -> Path:
    """Generate purchases without any optional column."""
    arguments = ("generate", "fraud", "--rows", SIX_ROWS, "--days", SIX_DAYS, "--seed", 3, "--out", out)
    process = showcase(*arguments)
    assert process.returncode == 0, process.stderr
    for path in out.glob("span-*/*.parquet"):
        pq.write_table(pq.read_table(path).select(list(REQUIRED)), path)
    return out


def test_purchases_of_six_columns_are_served_without_drift(tmp_path: Path) -> None:
    """The stand-ins of absent columns are the same in training, at the gateway and in the drift monitor."""
    home, data = tmp_path / "home", generate_six_columns(tmp_path / "data")
    settings = [word for name, value in SIX_SETTINGS.items() for word in ("--set", f"{name}={value}")]
    arguments = ("run", "fraud", "--home", home, "--data", data, "--spans", f"0:{SIX_TRAINED - 1}")
    process = showcase(*arguments, "--tracking", "none", *settings, timeout=3600)
    assert process.returncode == 0, process.stdout + process.stderr
    with run_gateway(home):
        report = send_traffic(home, data, SIX_TRAINED, SIX_DAYS - 1)
        assert report["failed"] == 0 and not report["wrong"]
        process = showcase("monitor", "fraud", "--home", home, "--json", timeout=3600)
    assert process.returncode == 0, process.stdout + process.stderr
    decision = json.loads(process.stdout)["decision"]
    findings = json.loads(Path(decision["report"], "report.json").read_text())
    assert decision["action"] == "none" and not findings["incidents"] and len(findings["windows"]) > 5


def read_split(home: Path, name: str) -> list[tuple[Image.Image, str]]:
    """Return the pictures and classes of a split of the image case's only run."""
    runtime = local_runtime(home)
    (run,) = store.runs(runtime.metadata, "image")
    shards = Path(store.outputs(runtime.metadata, run.id)["SpanExampleGen"]["examples"].uri, f"Split-{name}").iterdir()
    rows = [decode(record.numpy()) for record in tf.data.TFRecordDataset([str(path) for path in sorted(shards)])]
    return [(Image.open(io.BytesIO(row["image"][0])).convert("L"), row["label"][0].decode()) for row in rows]


def write_span(folder: Path, pictures: list[tuple[Image.Image, str]]) -> None:
    """Write a span with one folder per class."""
    for number, (picture, label) in enumerate(pictures):
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture.save(folder / label / f"{folder.name}-{number:04d}.png")


def measure_accuracy(model: Path, pictures: list[tuple[Image.Image, str]]) -> float:
    """Return a pushed version's accuracy on the pictures."""
    files = [encode_png(picture) for picture, _ in pictures]
    other_inputs = {
        name: tf.zeros((len(files), 1), kind) for name, kind in (("brightness", tf.float32), ("contrast", tf.float32))
    }
    other_inputs |= {name: tf.fill((len(files), 1), "") for name in ("key", "label")}
    predictions = tf.saved_model.load(str(model)).signatures["raw"](image=tf.constant(files)[:, None], **other_inputs)
    return float(np.mean(predictions["probabilities"].numpy().argmax(axis=1) == [int(label) for _, label in pictures]))


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as the content of a PNG file."""
    picture.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_rotated_and_darker_pictures_lead_to_a_retrained_model(pushed_home: Path, tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    shutil.copytree(pushed_home, home, symlinks=True, ignore=lambda folder, names: {"fraud", "online"} & set(names))
    runtime, random = local_runtime(home), np.random.default_rng(7)
    # Undrifted pictures are from splits without training data, where the model is less confident.
    undrifted = [*read_split(home, "eval"), *read_split(home, "valid")]
    rotated = [
        (picture.rotate(90).point(lambda grey: 0.9 * grey), label) for picture, label in read_split(home, "train")
    ]
    for part in (undrifted, rotated):
        random.shuffle(part)
    for number, part in enumerate((undrifted[:500], rotated[:1000], rotated[1000:1200])):
        write_span(data / f"span-{number:03d}", part)

    def run_monitor() -> dict:
        done = showcase("monitor", "image", "--home", home, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    with run_gateway(home, "image"):
        send_traffic(home, data, 0, 0, case="image")
        clean = run_monitor()["decision"]
        assert (
            clean["action"] == "none" and not json.loads(Path(clean["report"], "report.json").read_text())["incidents"]
        )
        send_traffic(home, data, 1, 1, case="image")
        result = run_monitor()
        assert result["decision"]["action"] == "retrain" and result["decision"]["loss"]["how"] == "realised", result
        report = json.loads(Path(result["decision"]["report"], "report.json").read_text())
        assert [entry["rows"] for entry in report["windows"]] == [500, 500, 500]
        drifted = {entry["column"] for entry in report["windows"][1]["findings"] if entry["moved"]}
        assert {"brightness", "confidence"} <= drifted  # pixels and softmax outputs alike
        assert result["run"]["state"] == "pushed" and result["run"]["facts"]["version"] == "2", result["run"]
        deadline = time.monotonic() + 60
        while send_traffic(home, data, 2, 2, case="image")["versions"].keys() != {"2"}:
            assert time.monotonic() < deadline
    assert [entry.record["action"] for entry in decisions.list_decisions(runtime, "image")] == ["none", "retrain"]
    # On pictures that neither version was trained on.
    accuracies = [
        measure_accuracy(runtime.case("image").versions / version, rotated[1000:1200]) for version in ("1", "2")
    ]
    assert accuracies[0] < 0.6 < 0.9 < accuracies[1], accuracies
