"""The whole loop without a hand: what is served drifts, that is seen, decided, trained and served, for both cases."""

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
import pytest
import tensorflow as tf
from PIL import Image
from support.command import showcase, start_showcase

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from serving.drift.reference.metric_estimate import pr_auc
from serving.gateway.log.log_files import read
from serving.gateway.log.tf_example import decode

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROWS, BEGINS, KNOWN, DAYS = 1500, 93, 136, 170


def generated(out: Path, day: int) -> Path:
    """Purchases whose frauds take up a new pattern on a day, and whose amounts rise."""
    words = ("generate", "fraud", "--rows", ROWS * DAYS, "--days", DAYS, "--drift", f"concept:0.8@{day}")
    done = showcase(*words, "--drift", f"amount:1.3@{day}", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@contextmanager
def serving(home: Path, case: str = "fraud") -> Iterator[str]:
    """The gateway of a home; its address."""
    words = ("serve", case, "--home", home, "--port", 0, "--rest-port", -1, "--grpc-port", -1, "--json")
    process = start_showcase(*words, stdout=subprocess.PIPE)
    try:
        yield json.loads(process.stdout.readline())["gateway"]
    finally:
        process.terminate()
        assert process.wait(120) == 0


def sent(home: Path, data: Path, first: int, last: int, rate: float = 0, case: str = "fraud") -> dict:
    """What became of some spans of traffic."""
    words = ("traffic", case, "--home", home, "--data", data, "--spans", f"{first}:{last}", "--rate", rate, "--json")
    done = showcase(*words, timeout=3600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return json.loads(done.stdout)


def killed(home: Path, stage: str) -> None:
    """Starts the monitor and kills it, all its stages with it, while one stage runs."""
    process = start_showcase("monitor", "fraud", "--home", home)
    logs, deadline = home / "fraud" / "logs", time.monotonic() + 1800
    known = set(logs.glob(f"*/{stage}.log"))
    while not set(logs.glob(f"*/{stage}.log")) - known:
        assert process.poll() is None and time.monotonic() < deadline, f"{stage} was not reached"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def labelled(home: Path, first: int) -> tuple[list[bytes], np.ndarray, np.ndarray, np.ndarray]:
    """Served rows from a day of the traffic on that have a label: records, scores, labels, versions."""
    folder = home / "fraud" / "online"
    truth = {
        told["label/key"][0]: told["label/value"][0] for told in (decode(one) for _, one in read(folder / "labels"))
    }
    rows = [(one, decode(one)) for _, one in read(folder / "predictions")]
    start = min(told["event_time"][0] for _, told in rows) // 86_400 + first - 90
    kept = [
        (one, told) for one, told in rows if told["event_time"][0] // 86_400 >= start and told["served/key"][0] in truth
    ]
    columns = [[told["output/score"][0], truth[told["served/key"][0]], told["served/version"][0]] for _, told in kept]
    return [one for one, _ in kept], *np.array(columns).T


def answered(home: Path, first: int) -> list[int]:
    """Versions that answered the rows from a day of the traffic on, in the order of the log."""
    rows = [decode(one) for _, one in read(home / "fraud" / "online" / "predictions")]
    start = min(told["event_time"][0] for told in rows) // 86_400 + first - 90
    return [told["served/version"][0] for told in rows if told["event_time"][0] // 86_400 >= start]


def test_from_drift_to_the_new_model_without_a_hand(tmp_path: Path) -> None:
    home, data = tmp_path / "home", generated(tmp_path / "data", BEGINS)
    runtime = local_runtime(home)
    done = showcase(
        "run", "fraud", "--home", home, "--data", data, "--spans", "0:89", "--tracking", "none", timeout=3600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(home) as address:
        # The clean twin: nothing is triggered.
        sent(home, data, 90, 92)
        done = showcase("monitor", "fraud", "--home", home, "--json", timeout=3600)
        clean = json.loads(done.stdout)["decision"]
        assert (
            clean["action"] == "none" and not json.loads(Path(clean["report"], "report.json").read_text())["incidents"]
        )
        sent(home, data, BEGINS, KNOWN - 1)
        until = time.monotonic() + 300
        while (
            "drift_incidents" not in (said := httpx.get(f"{address}/metrics").text) or 'kind="drift"} 1.0' not in said
        ):
            assert time.monotonic() < until, said[-3000:]
            time.sleep(1)
        words = ("traffic", "fraud", "--home", home, "--data", data, "--spans", f"{KNOWN}:{DAYS - 1}", "--rate", 25)
        constant = start_showcase(*words, "--json", stdout=subprocess.PIPE)
        killed(home, "DriftMonitor")
        killed(home, "Trainer")
        done = showcase("monitor", "fraud", "--home", home, "--json", timeout=3600)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert told["run"]["state"] == "pushed" and told["run"]["facts"]["version"] == "2"
        until = time.monotonic() + 300
        while 2 not in answered(home, KNOWN):
            assert time.monotonic() < until and constant.poll() is None
            time.sleep(2)
        constant.terminate()  # it reports what it has sent
        report = json.loads(constant.stdout.read())
        constant.wait(60)
        assert report["failed"] == 0 and not report["wrong"] and set(report["versions"]) == {"1", "2"}
    past = decisions.all_of(runtime, "fraud")
    assert len({one.id for one in past}) == len(past)
    (asked,) = [one for one in past if one.record["action"] in decisions.ACTS]
    assert asked.record["loss"]["how"] == "realised" and (asked.folder / decisions.PAGE).stat().st_size < 500_000
    (run,) = [one for one in store.runs(runtime.metadata, "fraud") if one.facts.get("decision") == asked.id]
    assert run.id == told["run"]["id"]
    versions = answered(home, KNOWN)
    assert len(versions) == sum(report["statuses"].values()) and set(versions) == {1, 2}
    records, scores, labels, versions = labelled(home, KNOWN)
    # On rows that neither was trained on.
    found = {}
    for name in ("1", "2"):
        serve = tf.saved_model.load(str(home / "fraud/versions" / name)).signatures["serving_default"]
        found[name] = pr_auc(serve(examples=tf.constant(records))["score"].numpy().reshape(-1), labels)
    assert found["2"] > found["1"], (found, asked.record["reasons"])


def split(home: Path, name: str) -> list[tuple[Image.Image, str]]:
    """Pictures of a split of the image case's only run, with their classes."""
    runtime = local_runtime(home)
    (run,) = store.runs(runtime.metadata, "image")
    shards = Path(store.outputs(runtime.metadata, run.id)["SpanExampleGen"]["examples"].uri, f"Split-{name}").iterdir()
    rows = [decode(one.numpy()) for one in tf.data.TFRecordDataset([str(path) for path in sorted(shards)])]
    return [(Image.open(io.BytesIO(row["image"][0])).convert("L"), row["label"][0].decode()) for row in rows]


def written(folder: Path, pictures: list[tuple[Image.Image, str]]) -> None:
    """A span: a folder a class."""
    for number, (picture, label) in enumerate(pictures):
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture.save(folder / label / f"{folder.name}-{number:04d}.png")


def accuracy(model: Path, pictures: list[tuple[Image.Image, str]]) -> float:
    """Share of the digits that a pushed version names rightly."""
    texts = [picture_file(picture) for picture, _ in pictures]
    empty = {
        name: tf.zeros((len(texts), 1), kind) for name, kind in (("brightness", tf.float32), ("contrast", tf.float32))
    }
    empty |= {name: tf.fill((len(texts), 1), "") for name in ("key", "label")}
    served = tf.saved_model.load(str(model)).signatures["raw"](image=tf.constant(texts)[:, None], **empty)
    return float(np.mean(served["probabilities"].numpy().argmax(axis=1) == [int(label) for _, label in pictures]))


def picture_file(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    picture.save(held := io.BytesIO(), "PNG")
    return held.getvalue()


def test_pictures_that_come_turned_and_darker_are_seen_decided_on_and_learnt(pushed_home: Path, tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    shutil.copytree(pushed_home, home, symlinks=True, ignore=lambda folder, names: {"fraud", "online"} & set(names))
    runtime, random = local_runtime(home), np.random.default_rng(7)
    # Usual are pictures that training has not looked at, since on others the model is surer of itself.
    usual = [*split(home, "eval"), *split(home, "valid")]
    turned = [(picture.rotate(90).point(lambda grey: 0.9 * grey), label) for picture, label in split(home, "train")]
    for part in (usual, turned):
        random.shuffle(part)
    for number, part in enumerate((usual[:500], turned[:1000], turned[1000:1200])):
        written(data / f"span-{number:03d}", part)

    def looked() -> dict:
        done = showcase("monitor", "image", "--home", home, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    with serving(home, "image"):
        sent(home, data, 0, 0, case="image")
        clean = looked()["decision"]
        assert (
            clean["action"] == "none" and not json.loads(Path(clean["report"], "report.json").read_text())["incidents"]
        )
        sent(home, data, 1, 1, case="image")
        told = looked()
        assert told["decision"]["action"] == "retrain" and told["decision"]["loss"]["how"] == "realised", told
        report = json.loads(Path(told["decision"]["report"], "report.json").read_text())
        assert [one["rows"] for one in report["windows"]] == [500, 500, 500]
        moved = {one["column"] for one in report["windows"][1]["findings"] if one["moved"]}
        assert {"brightness", "confidence"} <= moved  # pixels and softmax outputs alike
        assert told["run"]["state"] == "pushed" and told["run"]["facts"]["version"] == "2", told["run"]
        until = time.monotonic() + 60
        while sent(home, data, 2, 2, case="image")["versions"].keys() != {"2"}:
            assert time.monotonic() < until
    assert [one.record["action"] for one in decisions.all_of(runtime, "image")] == ["none", "retrain"]
    # On pictures that neither was trained on.
    right = [accuracy(Path(runtime.versions("image"), version), turned[1000:1200]) for version in ("1", "2")]
    assert right[0] < 0.6 < 0.9 < right[1], right
