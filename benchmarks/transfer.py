"""Measure accuracy on new classes from few pictures: from scratch, with a frozen base, and with the base fine-tuned.

    python -m benchmarks.transfer [--data PATH] [--seeds 1 2 3] [--shots 1 2 5 10 20] [--out FILE]

For each seed half of the classes are drawn as base classes, and the use case's network is trained on all their
pictures. Then it is trained on a few pictures of each of the other classes, with the three methods of
``models/image/transfer.py``, and evaluated on held-out pictures of those classes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.runs import ROOT, write_report
from models.catalog import CASES
from models.image import model as network
from models.image import transfer
from models.image.raw import readers, sources
from models.spans import find_spans

WAYS = ("scratch", "frozen", "thawed")
HELD = 0.3
RATE = 0.003


def main() -> None:
    """Measure every seed and number of pictures, print the table and write the JSON."""
    options = _parse_arguments()
    folder = options.data or sources.store_digits(options.work / "digits")
    train, held = load_pictures(folder)
    changes = {"dropout": 0.0, "filters": options.filters}
    settings = {**CASES["image"].settings["training"], **changes}
    started, outcomes = time.process_time(), []
    for seed in options.seeds:
        outcomes += measure(train, held, settings, options, seed)
    rows = [
        summarise_shots(shots, [outcome for outcome in outcomes if outcome["shots"] == shots])
        for shots in options.shots
    ]
    report = {
        "data": folder.name if options.data else "digits of scikit-learn",
        "pictures": len(train[1]),
        "held": len(held[1]),
        "seeds": options.seeds,
        "steps": options.steps,
        "base_steps": options.base_steps,
        "filters": options.filters,
        "rate": RATE,
        "cpu_seconds": time.process_time() - started,
        "known_accuracy": statistics.mean({outcome["seed"]: outcome["known"] for outcome in outcomes}.values()),
        "rows": rows,
        "outcomes": outcomes,
    }
    Console().print(format_table(report))
    write_report(options.out, **report)


def measure(
    train: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    options: argparse.Namespace,
    seed: int,
) -> list[dict[str, Any]]:
    """Train one base, then apply the three methods with each number of pictures."""
    keras.utils.set_random_seed(seed)
    make = transfer.network_builder(network, settings, train[0].shape[1:])
    outcomes: list[dict[str, Any]] = []
    # The choice of the new classes, and so of the base classes, does not depend on the shots.
    split = transfer.split_classes(train, held, options.shots[0], seed)
    base_model = transfer.fit(make(len(np.unique(split.base[1]))), split.base, options.base_steps, RATE)
    known_classes = np.setdiff1d(np.unique(held[1]), split.names)
    rows = np.isin(held[1], known_classes)
    score = transfer.measure_accuracy(base_model, (held[0][rows], np.searchsorted(known_classes, held[1][rows])))
    base = transfer.remove_head(base_model)
    weights = base.get_weights()
    for shots in options.shots:
        split = transfer.split_classes(train, held, shots, seed)
        base.set_weights(weights)
        ways = transfer.compare_methods(
            base, make, split, options.steps, RATE, lambda pixels: network.augment(pixels, settings)
        )
        outcomes.append({"seed": seed, "shots": shots, "known": score, **ways})
        print(json.dumps(outcomes[-1]), flush=True)
    return outcomes


def load_pictures(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return pixels in 0..1 and class numbers for training and for evaluation: the source's split, or a random one."""
    import io

    from PIL import Image

    batches = [batch for span in find_spans(folder).values() for batch in readers.read(span)]
    labels = np.concatenate([batch["label"].to_numpy(zero_copy_only=False) for batch in batches])
    parts = np.concatenate([batch["part"].to_numpy(zero_copy_only=False) for batch in batches])
    decoded = [np.asarray(Image.open(io.BytesIO(image))) for batch in batches for image in batch["image"].to_pylist()]
    pixels = np.stack(decoded).astype(np.float32) / 255
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    numbers = np.unique(labels, return_inverse=True)[1]
    held = parts == "test" if (parts == "test").any() else np.random.default_rng(0).random(len(labels)) < HELD
    return (pixels[~held], numbers[~held]), (pixels[held], numbers[held])


def summarise_shots(shots: int, outcomes: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds of each method, and of the gain of fine-tuning over scratch."""
    summary: dict[str, Any] = {"shots": shots}
    for way in WAYS:
        summary[way] = _summarise([outcome[way] for outcome in outcomes])
    summary["gain"] = _summarise([outcome["thawed"] - outcome["scratch"] for outcome in outcomes])
    return summary


def _summarise(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0}


def format_table(report: Mapping[str, Any]) -> Table:
    """Return the report as a table."""
    result_table = Table(title=f"{report['data']}: accuracy on new classes, mean ± sd of {len(report['seeds'])} seeds")
    for column in ("pictures a class", *WAYS, "thawed - scratch"):
        result_table.add_column(column, justify="right")
    for line in report["rows"]:
        cells = (f"{line[way]['mean']:.3f} ± {line[way]['deviation']:.3f}" for way in (*WAYS, "gain"))
        result_table.add_row(str(line["shots"]), *cells)
    return result_table


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of pictures; by default the digits of scikit-learn.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="Seeds of the choice of classes.")
    parser.add_argument(
        "--shots", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="Numbers of pictures per new class."
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=100,
        help="Steps frozen, then unfrozen; twice as many from scratch.",
    )
    parser.add_argument("--base-steps", type=int, default=400, help="Training steps of the base.")
    parser.add_argument("--filters", type=int, default=CASES["image"].settings["training"]["filters"])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "transfer.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
