"""The bare script: the work of ``showcase run fraud`` as plain Python, without TFX, Beam or their libraries.

It reads the same spans, derives the same features with its own code, fits the same network and baselines, evaluates,
exports, checks and copies, all in memory and in one process. It lacks what the pipeline is for: artifacts, a cache,
lineage, resuming, and splits larger than memory. ``benchmarks/pipeline.py`` compares the times of the two.

    python -m benchmarks.bare --data FOLDER [--out FOLDER]
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The module with the feature formulas imports TFT for a function that is not called here; a stub saves the import.
sys.modules["tensorflow_transform"] = ModuleType("tensorflow_transform")

import polars as pl  # noqa: E402

from benchmarks.bare.clock import Clock, peak_mb, process_age  # noqa: E402
from benchmarks.bare.columns import LABEL  # noqa: E402
from benchmarks.bare.export import REQUESTS, check_session, export, push, serialize_rows  # noqa: E402
from benchmarks.bare.lite import CHECKED, convert_variants  # noqa: E402
from benchmarks.bare.preparation import Preparation  # noqa: E402
from benchmarks.bare.purchases import add_history, read, split  # noqa: E402
from benchmarks.bare.schema import check_schema, describe  # noqa: E402
from benchmarks.bare.training import BASELINES, evaluate, fit, predict, score_baseline  # noqa: E402
from models.fraud import model as network  # noqa: E402
from models.fraud.case import CASE  # noqa: E402


def main() -> None:
    """Run all steps and print a JSON of their times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare")
    parser.add_argument("--data", type=Path, required=True, help="Folder of span-NNN folders with Parquet files.")
    parser.add_argument("--out", type=Path, help="Folder for the model and its versions; a temporary one by default.")
    parser.add_argument(
        "--min-pr-auc",
        type=float,
        default=CASE.settings["gates"]["min_pr_auc"],
        help="Minimum PR-AUC of a pushed model.",
    )
    options = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            report = run_steps(options.data, options.out or Path(scratch), options.min_pr_auc, clock)
        except (ValueError, OSError, pl.exceptions.PolarsError) as error:
            sys.exit(f"error: {str(error).splitlines()[0]}")
        except KeyboardInterrupt:
            sys.exit(130)
    report |= {"seconds": clock.seconds, "rows": clock.rows, "total": process_age(), "peak_mb": peak_mb()}
    print(json.dumps(report, indent=1))


def run_steps(data: Path, out: Path, least: float, clock: Clock) -> dict[str, Any]:
    """Run all steps from spans to a version folder, written if PR-AUC is at least ``least``; return the results.

    Raises:
        ValueError: if a gate refuses the data or the model; the message names it.
    """
    settings = {name: value for group in CASE.settings.values() for name, value in group.items()}
    with clock.step("read"):
        raw = read(data, settings["label_delay_days"])
    clock.rows["read"] = raw.height
    with clock.step("history", raw.height):
        splits = split(add_history(raw, settings["label_delay_days"]), settings)
    sizes = {name: frame.height for name, frame in splits.items()}
    with clock.step("statistics", sum(sizes.values())):
        check_schema({name: describe(frame) for name, frame in splits.items()})
    with clock.step("transform", sizes["train"]):
        preparation = Preparation(splits["train"], raw["merchant_id"].unique().sort().to_list())
        features = {name: preparation.arrays(frame) for name, frame in splits.items()}
    with clock.step("train"):
        model, epochs = fit(settings, features["train"], features["valid"])
        valid = features["valid"]
        point = network.operating_point(settings, valid[LABEL], predict(model, valid))
    clock.rows["train"] = sizes["train"] * epochs
    with clock.step("baselines", sizes["train"]):
        baselines = {name: score_baseline(make, features) for name, make in BASELINES.items()}
    with clock.step("evaluate", sizes["eval"]):
        metrics = evaluate(model, point, settings, splits["eval"], features["eval"])
    with clock.step("export", sizes["eval"]):
        export(out / "model", model, preparation, point, settings)
    with clock.step("lite", min(CHECKED, sizes["eval"])):
        variants = convert_variants(
            out / "model", {name: values[:CHECKED] for name, values in features["eval"].items()}, settings
        )
    with clock.step("check", REQUESTS):
        names = raw["merchant_id"].unique().sort().to_list()
        check_session(out / "model", serialize_rows(splits["eval"].head(REQUESTS), names), features["eval"])
    pr_auc = metrics["overall"]["pr_auc"]
    with clock.step("push"):
        version = push(out / "model", out / "versions") if pr_auc >= least else None
    return {
        "splits": sizes,
        "epochs": epochs,
        "pr_auc": pr_auc,
        "metrics": metrics,
        "baselines": baselines,
        "lite": variants,
        "version": version and version.name,
    }


if __name__ == "__main__":
    main()
