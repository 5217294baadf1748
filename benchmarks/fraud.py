"""Compare the fraud network with LightGBM and logistic regression over generator seeds, and ablate its parts.

All decisions about the network were made on the seeds of ``CHOICE``, none on those of ``ACCEPTANCE``: their eval splits
are used only here. Intervals are a bootstrap over customers, since frauds come in episodes of one card.

    python -m benchmarks.fraud [--work FOLDER] [--only acceptance|choice]
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tfx  # noqa: F401  puts a stand-in where TFDV looks for a part of tfx-bsl that is gone
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from sklearn.metrics import average_precision_score
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public.tfxio import TFExampleRecord

from benchmarks.score_calibration import BINS, expected_calibration_error
from components.training.extended_trainer import align_embedding
from components.training.span_example_gen import Write
from models import spans
from models.evaluation.baselines import FeatureTable, fit_boosted_trees, fit_logistic_regression
from models.evaluation.intervals import LEVEL, average_precision, interval
from models.fraud import data, features, sentences
from models.fraud import model as network
from models.fraud.case import CASE
from models.input import Transform, list_shards
from models.sequences import skip_gram
from models.training import entry_point
from pipeline.local.local_runtime import local_runtime

ACCEPTANCE = (7, 1, 2, 3)
CHOICE = (101, 102, 103)
# The starting point of the choice; the encoder with the best metric on valid has become the use case's default.
START = {"past_encoder": "dense"}
VARIANTS: dict[str, dict[str, Any]] = {
    "dense layers over the sequence": {},
    "no sequence": {"past_encoder": "none"},
    "GRU over the sequence": {"past_encoder": "gru"},
    "attention over the sequence": {"past_encoder": "attention"},
    "no merchant vectors": {"merchant_vectors": "none"},
    "merchant vectors fine-tuned": {"merchant_vectors": "tuned"},
    "one member": {"members": 1},
    "16 members": {"members": 16},
    "no periodic features": {"frequencies": 0},
    "focal loss": {"loss": "focal"},
}
DRAWS, CHUNK = 1000, 100
RESULT = Path(__file__).parent / "results" / "fraud.json"
Arrays = dict[str, np.ndarray]


def main() -> None:
    """Run both parts, print their tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="Folder for data, reused by later runs; by default a temporary one.")
    parser.add_argument(
        "--only", choices=("acceptance", "choice"), help="Run only this part; the report keeps the other."
    )
    options = parser.parse_args()
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        for name, part in (("acceptance", measure_acceptance), ("choice", measure_variants)):
            for result in part(work) if options.only in (None, name) else ():
                # Written after every row, so that an error at the end does not lose hours.
                report[name] = {"date": date.today().isoformat(), **result}
                RESULT.write_text(json.dumps(report, indent=1) + "\n")


def measure_acceptance(work: Path) -> Iterator[dict[str, Any]]:
    """Score all models on eval for each seed of ``ACCEPTANCE``, with intervals; yields the report after each seed."""
    rows = []
    for seed in ACCEPTANCE:
        prepared_data = prepare_data(seed, work)
        row = {
            "seed": seed,
            "frauds": int(prepared_data.splits["eval"][network.LABEL].sum()),
            **score_models(prepared_data),
        }
        rows.append(row)
        yield {"split": "eval", "bins": BINS, "draws": DRAWS, "level": LEVEL, "rows": rows}
        print(_format_rows([row]), flush=True)


def measure_variants(work: Path) -> Iterator[dict[str, Any]]:
    """Score every variant on valid, which decides, and on eval for each seed of ``CHOICE``; yields the report."""
    rows = []
    for name, change in VARIANTS.items():
        changes, runs = {**START, **change}, []
        for seed in CHOICE:
            prepared_data = prepare_data(seed, work)
            scores, facts = score_network(prepared_data, changes)
            areas = {split: _compute_pr_auc(prepared_data.splits[split], scores[split]) for split in ("valid", "eval")}
            runs.append({"seed": seed, **areas, **facts})
        means = {key: float(np.mean([run[key] for run in runs])) for key in ("valid", "eval", "seconds")}
        rows.append({"variant": name, "changes": changes, **means, "parameters": runs[0]["parameters"], "runs": runs})
        print(f"{name:30} valid {means['valid']:.4f} eval {means['eval']:.4f} {means['seconds']:.1f} s", flush=True)
        yield {"seeds": list(CHOICE), "rows": rows}


def score_models(prepared_data: SimpleNamespace) -> dict[str, Any]:
    """Return PR-AUC with interval, calibration error and seconds of every model on eval, and the network's lead."""
    eval_rows = prepared_data.splits["eval"]
    truth, report = eval_rows[network.LABEL][:, 0], {}
    scores, facts = score_network(prepared_data, {})
    answers = {"network": (scores["eval"], facts["seconds"])}
    for name, (fit, table) in BASELINES.items():
        started = time.perf_counter()
        fitted = fit(table(prepared_data, "train"), table(prepared_data, "valid"))
        seconds = time.perf_counter() - started
        answers[name] = (fitted.scores(table(prepared_data, "eval").x, 1)[:, 0], seconds)
    counts = list(_resample_customers(eval_rows["customer"], prepared_data.seed))
    measures = {
        name: average_precision(truth[:, None], model_scores[:, None]) for name, (model_scores, _) in answers.items()
    }
    areas = {name: np.concatenate([measure(drawn) for drawn in counts]) for name, measure in measures.items()}
    for name, (model_scores, seconds) in answers.items():
        report[name] = {
            "pr_auc": float(average_precision_score(truth, model_scores)),
            "interval": interval(areas[name]),
            "calibration_error": expected_calibration_error(truth, model_scores),
            "seconds": seconds,
        }
    leads = {name: interval(areas["network"] - areas[name]) for name in BASELINES}
    return {"models": report, "lead": leads, "parameters": facts["parameters"], "anomaly_pr_auc": facts["anomaly"]}


def score_network(prepared_data: SimpleNamespace, changes: Mapping[str, Any]) -> tuple[Arrays, dict[str, Any]]:
    """Train the network with the Trainer's function; return the export's scores on valid and eval, and facts."""
    settings = {**prepared_data.settings, **changes}
    unknown = set(changes) - set(CASE.settings["training"])
    if unknown:
        raise ValueError(f"The fraud use case has no training setting '{unknown.pop()}'.")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        fn_args = SimpleNamespace(
            train_files=[str(prepared_data.folder / "examples" / "Split-train" / "*")],
            transform_graph_path=str(prepared_data.folder / "graph"),
            serving_model_dir=f"{folder}/model",
            model_run_dir=f"{folder}/model_run/1",
            hyperparameters=None,
            custom_config={
                "case": CASE.name,
                "settings": settings,
                "pretrained": str(prepared_data.folder / "aligned"),
            },
        )
        entry_point.run_fn(fn_args)
        record = json.loads(Path(folder, "model_run", "1", "training.json").read_text())
        signature = tf.saved_model.load(fn_args.serving_model_dir).signatures["dense"]
        answers = {
            split: signature(**{name: tf.constant(prepared_data.splits[split][name]) for name in network.INPUTS})
            for split in ("valid", "eval")
        }
    scores = {split: answer[network.SCORE].numpy() for split, answer in answers.items()}
    facts = {
        "seconds": sum(curve["seconds"] for curve in record["curves"]),
        "epochs": len(record["curves"]),
        "parameters": record["parameters"],
        "anomaly": _compute_pr_auc(prepared_data.splits["eval"], answers["eval"]["anomaly"].numpy()),
    }
    return scores, facts


def prepare_data(seed: int, work: Path) -> SimpleNamespace:
    """Build examples, transform graph and embedding of a seed with the pipeline's code; cached in ``work``."""
    if seed in _PREPARED:
        return _PREPARED[seed]
    groups = CASE.configure({"data_seed": str(seed)})
    window = spans.select_window(data.prepare(None, work / "raw", groups["data"]), -1, -1)
    groups["data"] |= data.check(window, groups["data"]).settings
    settings = {name: value for group in groups.values() for name, value in group.items()}
    folder = work / f"prepared-{seed}"
    if not (folder / "aligned" / "matrix.npy").exists():
        with _make_pipeline() as pipeline:
            _ = data.examples(pipeline, window, groups["data"]) | beam.ParDo(Write(str(folder / "examples")))
        _analyze(folder / "examples", folder / "graph")
        embedding = skip_gram.train(sentences.sentences(str(folder / "examples"), settings), settings)
        embedding.facts["vocabulary"] = sentences.VOCABULARY
        embedding.save(folder / "embedding")
        align_embedding(str(folder / "embedding"), str(folder / "graph"), folder / "aligned")
    transform = Transform(str(folder / "graph"))
    splits = {split: _load_split(folder, split, transform) for split in ("train", "valid", "eval")}
    matrix = np.load(folder / "aligned" / "matrix.npy")
    _PREPARED[seed] = SimpleNamespace(seed=seed, folder=folder, settings=settings, splits=splits, matrix=matrix)
    return _PREPARED[seed]


_PREPARED: dict[int, SimpleNamespace] = {}


def _resample_customers(customers: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, ``[CHUNK, rows]`` at a time; customers are drawn with all their rows."""
    names, owner = np.unique(customers, return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS // CHUNK):
        yield rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=CHUNK)[:, owner]


def _build_table(prepared_data: SimpleNamespace, split: str) -> FeatureTable:
    """Return the table that the Baseline component gives its models: all inputs as columns."""
    return FeatureTable.of(network.INPUTS, network.LABEL, prepared_data.splits[split])


def _build_similarity_table(prepared_data: SimpleNamespace, split: str) -> FeatureTable:
    """Return the table with merchant similarity, as the network computes it, instead of merchant codes.

    Trees can learn little from the codes.
    """
    rows = prepared_data.splits[split]
    unit_vectors = prepared_data.matrix / np.maximum(np.linalg.norm(prepared_data.matrix, axis=1, keepdims=True), 1e-9)
    merchant, past = rows["merchants"][:, 0], rows["merchants"][:, 1:]
    cosine = np.einsum("rd,rpd->rp", unit_vectors[merchant], unit_vectors[past]) * rows["past"][:, :, 3]
    inputs = [name for name in network.INPUTS if name != "merchants"]
    return FeatureTable.of([*inputs, "likeness"], network.LABEL, {**rows, "likeness": cosine})


BASELINES = {
    "LightGBM": (fit_boosted_trees, _build_table),
    "LightGBM with likeness": (fit_boosted_trees, _build_similarity_table),
    "logistic regression": (fit_logistic_regression, _build_table),
}


def _load_split(folder: Path, split: str, transform: Transform) -> Arrays:
    examples = tf.constant(
        list(tf.data.TFRecordDataset(list_shards(str(folder / "examples"), split)).as_numpy_iterator())
    )
    rows = {name: value.numpy() for name, value in transform.parse(examples).items()}
    customer = tf.io.parse_example(examples, {"customer_id": tf.io.FixedLenFeature([], tf.string)})["customer_id"]
    return rows | {"customer": customer.numpy()}


def _compute_pr_auc(rows: Arrays, scores: np.ndarray) -> float:
    return float(average_precision_score(rows[network.LABEL][:, 0], scores))


def _make_pipeline() -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions(list(local_runtime(Path("/nowhere")).beam_args)))


def _analyze(examples: Path, graph: Path) -> None:
    """Fit the transform graph on the train split and write it, as the Transform component does."""
    schema = text_format.Parse(CASE.schema_path.read_text(), schema_pb2.Schema())
    source = TFExampleRecord(str(examples / "Split-train" / "*"), schema=schema)
    with tempfile.TemporaryDirectory() as scratch, tft_beam.Context(scratch), _make_pipeline() as pipeline:
        raw = (pipeline | source.BeamSource(), source.TensorAdapterConfig())
        _ = raw | tft_beam.AnalyzeDataset(features.preprocessing_fn) | tft_beam.WriteTransformFn(str(graph))
        metadata_dir = str(graph / tft.TFTransformOutput.RAW_METADATA_DIR)
        _ = tft.DatasetMetadata(schema) | tft_beam.WriteMetadata(metadata_dir, pipeline)


def _format_rows(rows: list[dict[str, Any]]) -> str:
    lines = ["seed  frauds  model                     PR-AUC  95%            ECE     seconds  network's lead, 95%"]
    for row in rows:
        for name, result in row["models"].items():
            low, high = result["interval"]
            lead = row["lead"].get(name)
            tail = f"{lead[0]:+.3f} to {lead[1]:+.3f}" if lead else ""
            lines.append(
                f"{row['seed']:4}  {row['frauds']:6}  {name:24}  {result['pr_auc']:.4f}  {low:.3f} to {high:.3f}  "
                f"{result['calibration_error']:.4f}  {result['seconds']:7.1f}  {tail}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
