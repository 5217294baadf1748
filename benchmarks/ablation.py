"""What each method against overfitting does to the gap between train and valid, on few rows, with several seeds.

    python -m benchmarks.ablation [--home runs] [--seeds 3] [--out benchmarks/results/ablation.json]

Takes the transformed examples of the last pushed run of each case (`showcase demo` makes both), draws few rows of the train
split and trains the case's network again and again: with no method, with one, and with all. "None" keeps the weights of
the last epoch. All is measured in inference mode: on the rows trained on, on valid, and on eval, which no method looks at.
Then cross-validation: mean and deviation over folds beside the one figure of the valid split.
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

from benchmarks.runs import ROOT, write

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
    """Measures both cases, prints their tables and writes the report."""
    from models.catalog import CASES
    from pipeline.metadata.store_address import MetadataUnavailableError

    told, console = _arguments(), Console(width=None if sys.stdout.isatty() else 110)
    cases: dict[str, Any] = json.loads(told.out.read_text())["cases"] if told.out.is_file() else {}
    for case in told.cases or CASES:
        try:
            cases[case] = measure(told.home, case, told.seeds, console)
        except (ValueError, MetadataUnavailableError) as error:
            sys.exit(f"error: {error}")
        console.print(table(case, cases[case]))
        write(told.out, cases=cases)


def measure(home: Path, case: str, seeds: int, console: Console) -> dict[str, Any]:
    """All methods with all seeds, and the folds, of one case."""
    from models.rows import sample, specs
    from models.training.cross_validation import cross_validate, summary
    from tour.evidence.context import Context

    context = Context.of(home, case)
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    whole = {split: context.rows(split, keep, sys.maxsize) for split in ("train", "valid", "eval")}
    groups = (*context.case.settings.values(), *context.settings.values())  # the run may be older than a setting
    settings = {name: value for group in groups for name, value in group.items()}
    settings |= {"epochs": EPOCHS[case], "batch_size": BATCH[case], "patience": 0, "strategy": "none"}
    runs: dict[str, list[dict[str, float]]] = {}
    started = time.perf_counter()
    for name, seed, changed in trainings(network, settings, specs(whole["train"]), seeds):
        train = sample([whole["train"]], ROWS[case], seed)
        runs.setdefault(name, []).append(_trained(network, changed, name, train, whole))
        gap = runs[name][-1]["gap"]
        console.print(
            f"{time.perf_counter() - started:6.0f} s  {case} {name}, seed {seed}: gap {gap:.4f}", highlight=False
        )
    rows: dict[str, dict[str, Any]] = {name: dict(_over_seeds(found)) for name, found in runs.items()}
    for row in rows.values():
        row["ratio"] = row["gap"]["mean"] / rows["none"]["gap"]["mean"]
    train = sample([whole["train"]], ROWS[case], 1)
    cross = {**settings, "folds": FOLDS, "seed": 1}
    folds = cross_validate(network, cross, train, whole["valid"])
    single = _trained(network, cross, "early stopping", train, whole)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": seeds,
        "metric": network.MONITOR,
        "rows": ROWS[case],
        "epochs": EPOCHS[case],
        "methods": rows,
        "folds": {"folds": FOLDS, **summary(folds, network.MONITOR), "valid": single["valid"], "eval": single["eval"]},
        "seconds": round(time.perf_counter() - started, 1),
    }


def trainings(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, Any], seeds: int
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Method, seed and settings of every training; a method that the network does not know is left out."""
    none = {**settings, **{name: value for name, value in NONE.items() if name in settings}}
    known = {name: change for name, change in METHODS.items() if _knows(network, none, change, features)}
    known["all"] = {name: value for change in known.values() for name, value in change.items()}
    for name, change in known.items():
        for seed in range(1, seeds + 1):
            yield name, seed, {**none, **change, "seed": seed}


def _knows(network: Any, none: Mapping[str, Any], change: Mapping[str, Any], features: Mapping[str, Any]) -> bool:
    """Whether a change changes anything: its settings are the case's, and a penalty shows among the model's losses."""
    import keras

    if not set(change) <= set(none):
        return False
    if "weight_decay" in change:
        return none["optimizer"] == "adamw"
    known = "l2" not in change or bool(network.build({**none, **change}, features).losses)
    keras.backend.clear_session()
    return known


def _trained(network: Any, settings: Mapping[str, Any], name: str, train: Any, whole: Any) -> dict[str, float]:
    from models.training.entry_point import measured
    from models.training.refit import LastEpoch, fit_rows

    keeps_best = name in ("early stopping", "all")
    fitted = fit_rows(network if keeps_best else LastEpoch(network), settings, train, whole["valid"])
    found = {split: measured(network, settings, fitted.model, train, whole[split]) for split in ("valid", "eval")}
    train_, valid = found["valid"]["train"], found["valid"]["valid"]
    metric = network.MONITOR
    return {
        "train": train_[metric],
        "valid": valid[metric],
        "eval": found["eval"]["valid"][metric],
        "gap": train_[metric] - valid[metric],
        "loss_gap": valid["loss"] - train_["loss"],
    }


def _over_seeds(found: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}
        for name, values in ((name, [one[name] for one in found]) for name in FIGURES)
    }


def table(case: str, found: Mapping[str, Any]) -> Table:
    """Means over the seeds, deviations beside them."""
    shown = Table(title=f"{case}: {found['metric']} with {found['rows']} rows, {found['epochs']} epochs")
    for column in ("method", "train", "valid", "eval", "gap", "gap ÷ none", "loss gap"):
        shown.add_column(column, justify="left" if column == "method" else "right")
    for name, row in found["methods"].items():
        cells = [f"{row[figure]['mean']:.4f} ± {row[figure]['sd']:.4f}" for figure in FIGURES]
        shown.add_row(name, *cells[:4], f"{row['ratio']:.2f}", cells[4])
    folds = found["folds"]
    shown.caption = (
        f"{folds['folds']} folds: {folds['mean']:.4f} ± {folds['sd']:.4f}; "
        f"one training on all rows: valid {folds['valid']:.4f}, eval {folds['eval']:.4f}"
    )
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=ROOT / "runs", help="Home with a pushed run of every case.")
    parser.add_argument("--cases", nargs="+", help="All by default; what is known of the others stays.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "ablation.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
