"""Measure how each method against overfitting changes the gap between train and valid, on few rows and several seeds.

    python -m benchmarks.ablation [--home runs] [--seeds 3] [--out benchmarks/results/ablation.json]

Takes the transformed examples of the last pushed run of each use case (`showcase demo` makes both), draws few rows of
the train split and trains the use case's network with no method, with each alone, and with all. "None" keeps the
weights of the last epoch. Metrics are computed in inference mode on the training rows, on valid, and on eval, which
no method uses. Then cross-validation: mean and deviation over folds, to compare with the single figure of the valid
split.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.runs import ROOT, write_report

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROWS = {"image": 150, "fraud": 6000}
EPOCHS = {"image": 40, "fraud": 20}
BATCH = {"image": 25, "fraud": 250}
FOLDS = 5
NONE = {"dropout": 0.0, "l2": 0.0, "weight_decay": 0.0, "augment": False, "batch_norm": False}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "dropout": {"dropout": 0.3},
    "L2": {"l2": 0.001},
    "weight decay": {"weight_decay": 0.01},
    "augmentation": {"augment": True},
    "batch normalisation": {"batch_norm": True},
    "early stopping": {"patience": 5},
}
FIGURES = ("train", "valid", "eval", "gap", "loss_gap")


def main() -> None:
    """Measure both use cases, print their tables and write the report."""
    from models.catalog import CASES
    from pipeline.metadata.store_address import MetadataUnavailableError

    options, console = _parse_arguments(), Console(width=None if sys.stdout.isatty() else 110)
    cases: dict[str, Any] = json.loads(options.out.read_text())["cases"] if options.out.is_file() else {}
    for case in options.cases or CASES:
        try:
            cases[case] = measure(options.home, case, options.seeds, console)
        except (ValueError, MetadataUnavailableError) as error:
            sys.exit(f"error: {error}")
        console.print(format_table(case, cases[case]))
        write_report(options.out, cases=cases)


def measure(home: Path, case: str, seeds: int, console: Console) -> dict[str, Any]:
    """Train one use case with every method and seed, then cross-validate it."""
    from models.rows import sample, specs
    from models.training.model_selection.cross_validation import cross_validate, summarize
    from tour.evidence.context import Context

    context = Context.of(home, case)
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    whole = {split: context.rows(split, keep, sys.maxsize) for split in ("train", "valid", "eval")}
    # Defaults first, since the run may be older than a setting.
    groups = (*context.case.settings.values(), *context.settings.values())
    settings = {name: value for group in groups for name, value in group.items()}
    settings |= {"epochs": EPOCHS[case], "batch_size": BATCH[case], "patience": 0, "strategy": "none"}
    runs: dict[str, list[dict[str, float]]] = {}
    started = time.perf_counter()
    for name, seed, changed in list_trainings(network, settings, specs(whole["train"]), seeds):
        train = sample([whole["train"]], ROWS[case], seed)
        runs.setdefault(name, []).append(_train(network, changed, name, train, whole))
        gap = runs[name][-1]["gap"]
        console.print(
            f"{time.perf_counter() - started:6.0f} s  {case} {name}, seed {seed}: gap {gap:.4f}", highlight=False
        )
    rows: dict[str, dict[str, Any]] = {
        name: dict(_aggregate_seeds(measurements)) for name, measurements in runs.items()
    }
    for row in rows.values():
        row["ratio"] = row["gap"]["mean"] / rows["none"]["gap"]["mean"]
    train = sample([whole["train"]], ROWS[case], 1)
    cross = {**settings, "folds": FOLDS, "seed": 1}
    folds = cross_validate(network, cross, train, whole["valid"])
    single = _train(network, cross, "early stopping", train, whole)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": seeds,
        "metric": network.MONITOR,
        "rows": ROWS[case],
        "epochs": EPOCHS[case],
        "methods": rows,
        "folds": {
            "folds": FOLDS,
            **summarize(folds, network.MONITOR),
            "valid": single["valid"],
            "eval": single["eval"],
        },
        "seconds": round(time.perf_counter() - started, 1),
    }


def list_trainings(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, Any], seeds: int
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield method, seed and settings of every training; methods without effect on the network are skipped."""
    none = {**settings, **{name: value for name, value in NONE.items() if name in settings}}
    methods = {name: change for name, change in METHODS.items() if _has_effect(network, none, change, features)}
    methods["all"] = {name: value for change in methods.values() for name, value in change.items()}
    for name, change in methods.items():
        for seed in range(1, seeds + 1):
            yield name, seed, {**none, **change, "seed": seed}


def _has_effect(network: Any, none: Mapping[str, Any], change: Mapping[str, Any], features: Mapping[str, Any]) -> bool:
    """Return whether a change has an effect: its settings exist, and a penalty appears among the model's losses."""
    import keras

    if not set(change) <= set(none):
        return False
    if "weight_decay" in change:
        return none["optimizer"] == "adamw"
    has_effect = "l2" not in change or bool(network.build({**none, **change}, features).losses)
    keras.backend.clear_session()
    return has_effect


def _train(network: Any, settings: Mapping[str, Any], name: str, train: Any, whole: Any) -> dict[str, float]:
    from models.training.entry_point import measure_fit
    from models.training.model_selection.refit import LastEpoch, fit_rows

    keeps_best = name in ("early stopping", "all")
    fitted = fit_rows(network if keeps_best else LastEpoch(network), settings, train, whole["valid"])
    figures = {split: measure_fit(network, settings, fitted.model, train, whole[split]) for split in ("valid", "eval")}
    train_, valid = figures["valid"]["train"], figures["valid"]["valid"]
    metric = network.MONITOR
    return {
        "train": train_[metric],
        "valid": valid[metric],
        "eval": figures["eval"]["valid"][metric],
        "gap": train_[metric] - valid[metric],
        "loss_gap": valid["loss"] - train_["loss"],
    }


def _aggregate_seeds(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}
        for name, values in ((name, [run[name] for run in runs]) for name in FIGURES)
    }


def format_table(case: str, report: Mapping[str, Any]) -> Table:
    """Return a table of means and standard deviations over the seeds."""
    result_table = Table(title=f"{case}: {report['metric']} with {report['rows']} rows, {report['epochs']} epochs")
    for column in ("method", "train", "valid", "eval", "gap", "gap ÷ none", "loss gap"):
        result_table.add_column(column, justify="left" if column == "method" else "right")
    for name, row in report["methods"].items():
        cells = [f"{row[figure]['mean']:.4f} ± {row[figure]['sd']:.4f}" for figure in FIGURES]
        result_table.add_row(name, *cells[:4], f"{row['ratio']:.2f}", cells[4])
    folds = report["folds"]
    result_table.caption = (
        f"{folds['folds']} folds: {folds['mean']:.4f} ± {folds['sd']:.4f}; "
        f"one training on all rows: valid {folds['valid']:.4f}, eval {folds['eval']:.4f}"
    )
    return result_table


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=ROOT / "runs", help="Home with a pushed run of every use case.")
    parser.add_argument(
        "--cases", nargs="+", help="Use cases, by default all; the report keeps the figures of the others."
    )
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds per method.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "ablation.json", help="JSON to write."
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
