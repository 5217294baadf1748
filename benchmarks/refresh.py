"""Measure cost and gain of a refresh with adapters on drifted data, against no change and against a full retraining.

    python -m benchmarks.refresh [--rows 180000] [--out benchmarks/results/refresh.json]

A fraud model is trained on the first 90 of 120 generated days. From day 85 on, which is after its train split, the data
drifts. Then the window moves to the last 90 days, and three responses are compared on the same eval split, a week near
its end: the old model unchanged, a refresh with low-rank adapters (``showcase refresh``), and a training from scratch
(``showcase run``).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, find_artifacts, print_table, showcase_command, write_report

CASE, DAYS, WINDOW = "fraud", 120, 90
DRIFT = ("amount:1.3@85", "concept:0.5@85")
# Gates are disabled, so that every model is pushed and can be compared.
DISABLED_GATES = (
    "--set",
    "min_pr_auc=0",
    "--set",
    "max_pr_auc_loss=1",
    "--set",
    "max_gap=0",
    "--tracking",
    "none",
    "--json",
)


def main() -> None:
    """Measure the three responses, print the table and write the JSON."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        raw, base = Path(folder, "raw"), Path(folder, "base")
        drift = [word for drift_text in options.drift for word in ("--drift", drift_text)]
        run_showcase(
            "generate", CASE, "--rows", options.rows, "--days", DAYS, "--seed", options.seed, *drift, "--out", raw
        )
        run_showcase("run", CASE, "--home", base, "--data", raw, "--spans", f"0:{WINDOW - 1}", *DISABLED_GATES)
        rows = [describe_old_model(base)]
        newest = f"{DAYS - WINDOW}:{DAYS - 1}"
        for name, words in (("refresh", ("refresh", CASE)), ("training anew", ("run", CASE, "--spans", newest))):
            home = Path(folder, name.replace(" ", "-"))
            shutil.copytree(base, home)
            ended = json.loads(run_showcase(*words, "--home", home, "--data", raw, *DISABLED_GATES))
            rows.append(describe_run(name, home, ended))
        # The old model on the split that the other two were measured on.
        rows[0]["pr_auc"] = evaluate_old_model(base, Path(folder, "refresh"))
    for row in rows:
        row["to doing nothing"] = row["pr_auc"] - rows[0]["pr_auc"]
    print_table(f"{CASE}: after {', '.join(options.drift)}", rows)
    write_report(options.out, cases={CASE: {"drift": options.drift, "rows": options.rows, "refresh": rows}})


def run_showcase(*words: object) -> str:
    """Run a command of ``showcase``; return its standard output.

    Raises:
        SystemExit: if it failed.
    """
    process = subprocess.run(showcase_command(*words), cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"error: showcase {words[0]} failed: {process.stderr.strip().splitlines()[-1]}")
    return process.stdout


def describe_old_model(home: Path) -> dict[str, Any]:
    """Return the row of the old model, which costs nothing."""
    parameters = read_training_record(home)["parameters"]
    return {
        "answer": "nothing",
        "weights trained": 0,
        "of": parameters,
        "trainer s": 0.0,
        "run s": 0.0,
        "trainer peak MB": 0.0,
        "optimizer bytes": 0,
        "pr_auc": 0.0,
    }


def describe_run(name: str, home: Path, ended: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a run: its cost, and the metric of the Evaluator."""
    record, stage = read_training_record(home), json.loads(ended["facts"]["stages"])["Trainer"]
    return {
        "answer": name,
        "weights trained": record["trainable"],
        "of": record["parameters"],
        "trainer s": stage["seconds"],
        "run s": ended["seconds"],
        "trainer peak MB": stage["peak_mb"],
        "optimizer bytes": 3 * 4 * record["trainable"],  # gradient and two moments, float32
        "pr_auc": json.loads(ended["facts"]["metrics"])["pr_auc"],
    }


def read_training_record(home: Path) -> dict[str, Any]:
    """Read the training record of the last pushed run."""
    return json.loads((find_artifacts(home, CASE)[0]["model_run"] / "training.json").read_text())


def evaluate_old_model(old: Path, new: Path) -> float:
    """Compute the old model's metric on the new run's eval split, as the Evaluator does."""
    import tensorflow as tf

    from models.catalog import find_use_case
    from models.input import list_shards

    _, served = find_artifacts(old, CASE)
    examples = list_shards(str(find_artifacts(new, CASE)[0]["examples"]), "eval")
    answer = tf.saved_model.load(str(served)).signatures["serving_default"]
    metric, label = tf.keras.metrics.AUC(curve="PR", num_thresholds=1000), find_use_case(CASE).label
    for batch in tf.data.TFRecordDataset(examples).batch(2048):
        truth = tf.io.parse_example(batch, {label: tf.io.FixedLenFeature([1], tf.int64)})[label]
        metric.update_state(truth[:, 0], answer(examples=batch)["score"])
    return float(metric.result())


def _parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=180_000, help="Number of generated purchases.")
    parser.add_argument("--seed", type=int, default=7, help="Seed of the generator.")
    parser.add_argument("--drift", nargs="+", default=list(DRIFT), help="KIND:SIZE@DAY of each drift.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/refresh.json", help="JSON to write.")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
