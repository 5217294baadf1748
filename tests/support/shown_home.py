"""A home with everything that the tour shows, written without a run: small artifacts of every type, and a log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from pipeline.home import Home
from pipeline.metadata import store
from pipeline.run import Run
from support.gateway_case import open_gateway, run, score_purchase

RUN = "fraud-20260102-030405-006"
MONITORING_RUN = "fraud-monitor-20260103-000000-000"
THRESHOLD = 0.4
HOSTILE = "<img src=x onerror=alert(1)>"
SCHEMA = """
feature { name: "amount" type: FLOAT float_domain { min: 0 } }
feature { name: "channel" type: BYTES domain: "channel" }
"""
# Stage, keys of its inputs, and its outputs by key and type.
STAGES: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]], ...] = (
    ("CuratedSchema", (), (("schema", "Schema"),)),
    ("SpanExampleGen", (), (("examples", "Examples"),)),
    ("StatisticsGen", ("examples",), (("statistics", "ExampleStatistics"),)),
    ("ExampleValidator", ("statistics", "schema"), (("anomalies", "ExampleAnomalies"),)),
    ("DataGate", ("anomalies",), ()),
    ("Transform", ("examples", "schema"), (("transform_graph", "TransformGraph"),)),
    ("Trainer", ("examples", "transform_graph"), (("model", "Model"), ("model_run", "ModelRun"))),
    ("Baseline", ("examples", "model"), (("comparison", "Comparison"),)),
    ("Evaluator", ("examples", "model"), (("evaluation", "ModelEvaluation"), ("blessing", "ModelBlessing"))),
    ("LiteExporter", ("model",), (("lite_model", "LiteModel"),)),
    ("Pusher", ("model", "blessing"), (("pushed_model", "PushedModel"),)),
)
WATCHING = (("DriftMonitor", (), (("report", "DriftReport"),)), ("Decide", ("report",), (("decision", "Decision"),)))


def truth_and_scores(rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels of a rare positive class, and scores with ties."""
    rng = np.random.default_rng(5)
    truth = (rng.random(rows) < 0.1).astype(np.float32)
    return truth, np.clip(rng.normal(0.3 + 0.25 * truth, 0.15), 0, 1).round(3).astype(np.float32)


def plant_home(home: Path, run_id: str = RUN, hostile: bool = False) -> Path:
    """Write the home; with ``hostile`` every text that comes from data is markup."""
    word = HOSTILE if hostile else "online"
    folder = home / "artifacts"
    _files(folder, word)
    plant_artifacts(home, run_id, STAGES, folder)
    source = home / "raw"
    for span in (0, 1):
        (source / f"span-{span:03d}").mkdir(parents=True, exist_ok=True)
        (source / f"span-{span:03d}" / "rows.csv").write_text("a,b\n")
    facts = {
        "source": str(source),
        "spans": "0:1",
        "commit": "abc1234",
        "lock": "f" * 64,
        "data_version": "d1",
        "version": "2",
        "headline": "pr_auc 0.5",
        "metrics": json.dumps({"pr_auc": 0.5, "example_count": 900.0}),
        "settings": json.dumps(
            {
                "data": {},
                "gates": {"min_pr_auc": 0.2, "lite_tolerance": 1e-4},
                "training": {"miss_cost": 120.0, "review_cost": 12.0},
            }
        ),
        "stages": json.dumps({"Trainer": {"state": "done", "seconds": 1.5, "peak_mb": 10.0, "message": ""}}),
    }
    store.save(Home(home).metadata, Run(run_id, "fraud", "pushed", f"version 2, {word}", "f", facts))
    return home


def plant_monitoring_run(home: Path) -> Path:
    """Write a run of the drift monitor with a decision."""
    plant_artifacts(home, MONITORING_RUN, WATCHING, home / "artifacts")
    return home


def score_purchases(home: Path, count: int = 3) -> list[str]:
    """Score purchases with a fake gateway; return the prediction ids, oldest first."""
    ids = []

    async def work() -> None:
        async with open_gateway(home) as (gateway, _):
            for number in range(count):
                _, answer = await score_purchase(gateway, transaction_id=f"t{number}", amount=100.0 * (number + 1))
                ids.append(answer["prediction_id"])

    run(work())
    return ids


def plant_artifacts(home: Path, run_id: str, stages: Any, folder: Path) -> None:
    """Write the executions and artifacts of a run to the store."""
    with store.open_for_writing(Home(home).metadata) as connection:
        kind = connection.put_context_type(mlmd.ContextType(name="pipeline_run"), can_add_fields=True)
        context = mlmd.Context(type_id=kind, name=run_id)
        existing = connection.get_context_by_type_and_name("pipeline_run", run_id)
        context.id = existing.id if existing else connection.put_contexts([context])[0]
        artifacts: dict[str, mlmd.Artifact] = {}
        for node, inputs, outputs in stages:
            type_of_node = connection.put_execution_type(mlmd.ExecutionType(name=f"tfx.{node}"))
            pairs = [(artifacts[key], _event(mlmd.Event.INPUT, key)) for key in inputs if key in artifacts]
            for key, name in outputs:
                type_id = connection.put_artifact_type(mlmd.ArtifactType(name=name), can_add_fields=True)
                artifact = mlmd.Artifact(type_id=type_id, uri=str(folder / key))
                artifact.custom_properties["blessed"].int_value = 1
                if name == "Decision":
                    artifact.state = mlmd.Artifact.LIVE
                    artifact.custom_properties["case"].string_value = "fraud"
                    artifact.custom_properties["window"].int_value = 20500
                pairs.append((artifact, _event(mlmd.Event.OUTPUT, key)))
            execution = mlmd.Execution(type_id=type_of_node, last_known_state=mlmd.Execution.COMPLETE)
            _, ids, _ = connection.put_execution(execution, pairs, [context])
            for (key, _), artifact_id in zip(outputs, ids[len(ids) - len(outputs) :], strict=True):
                artifacts[key] = connection.get_artifacts_by_id([artifact_id])[0]


def _event(kind: int, key: str) -> mlmd.Event:
    return mlmd.Event(type=kind, path=mlmd.Event.Path(steps=[mlmd.Event.Path.Step(key=key)]))


def _files(folder: Path, word: str) -> None:
    for split, count in (("train", 80), ("eval", 20)):
        _write(folder / "statistics" / f"Split-{split}" / "FeatureStats.pb", _statistics(count, word))
        _write(folder / "examples" / f"Split-{split}" / "part", b"12345")
        _write(folder / "anomalies" / f"Split-{split}" / "SchemaDiff.pb", _anomalies(word) if split == "eval" else b"")
    _write(folder / "schema" / "schema.pbtxt", SCHEMA.encode())
    _write(folder / "transform_graph" / "transformed_metadata" / "schema.pbtxt", SCHEMA.encode())
    _write(folder / "transform_graph" / "transform_fn" / "assets" / "channel", f"{word}\nchip\n".encode())
    _write(
        folder / "model" / "Format-Serving" / "assets.extra" / "model.json",
        {"operating_point": {"threshold": THRESHOLD}},
    )
    curves = [{"loss": 1.0 / (n + 1), "valid_loss": 1.1 / (n + 1), "pr_auc": 0.1 * n, "seconds": 1.0} for n in range(4)]
    journal = [{"epoch": 2, "callback": "ModelCheckpoint", "what": word}]
    _write(folder / "model_run" / "training.json", {"curves": curves, "best_epoch": 3, "journal": journal, "rows": 80})
    truth, scores = truth_and_scores()
    (folder / "comparison").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "comparison" / "scores.npz", truth=truth[:, None], network=scores[:, None])
    row = {
        "model": word,
        "metric": 0.5,
        "interval": [0.4, 0.6],
        "seconds": 1.0,
        "bytes": 9,
        "slices": [{"slice": [["channel", word]], "rows": 7, "metric": 0.5}],
    }
    _write(
        folder / "comparison" / "comparison.json", {"metric": "pr_auc", "evaluated": 900, "level": 0.95, "rows": [row]}
    )
    _write(folder / "evaluation" / "x", b"")
    _write(folder / "blessing" / "BLESSED", b"")
    variant = {"variant": word, "bytes": 10, "latency_us": 1.0, "difference": 0.0, "metric": 0.5, "metric_loss": 0.0}
    _write(folder / "lite_model" / "lite.json", {"chosen": word, "variants": [variant]})
    _write(folder / "pushed_model" / "x", b"")
    window = {"window": 20500, "rows": 9, "version": 1, "skipped": "", "moved": [word]}
    window |= {"estimate": {"value": 0.4}, "usual": {"value": 0.5}}
    incident = {"id": 1, "kind": "drift", "opened": 20500, "last": 20500, "state": "open", "causes": [word]}
    report = {"windows": [window], "realised": {"20500": {"value": 0.3}}, "incidents": [incident]}
    _write(folder / "report" / "report.json", report)
    decision = {"id": "fraud-20500", "action": "retrain", "window": 20500, "reasons": [word], "policy": {"loss": 0.05}}
    decision |= {"version": 2, "served": 2, "report": "", "reading": {"next": [0, 0], "labels_to": [0, 0], "last": -1}}
    _write(folder / "decision" / "decision.json", decision)
    _write(folder / "decision" / "report.html", b"<p>drift</p>")


def _write(path: Path, content: bytes | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def _statistics(rows: int, word: str) -> bytes:
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = statistics.datasets.add(num_examples=rows)
    amount = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    amount.path.step.append("amount")
    amount.num_stats.common_stats.num_non_missing = rows
    amount.num_stats.mean, amount.num_stats.max = 5.0, 10.0
    for kind in (statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram.QUANTILES):
        histogram = amount.num_stats.histograms.add(type=kind)
        for low in range(0, 10, 2):
            histogram.buckets.add(low_value=low, high_value=low + 2, sample_count=rows / 5)
    channel = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    channel.path.step.append("channel")
    channel.string_stats.common_stats.num_non_missing = rows
    channel.string_stats.unique = 2
    channel.string_stats.rank_histogram.buckets.add(label=word, sample_count=rows)
    return statistics.SerializeToString()


def _anomalies(word: str) -> bytes:
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["channel"].short_description = "Unexpected string values"
    anomalies.anomaly_info["channel"].description = word
    return anomalies.SerializeToString()
