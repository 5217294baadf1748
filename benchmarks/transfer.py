"""Accuracy from few pictures of new classes: from scratch, on a frozen base, and with the base thawed.

    python -m benchmarks.transfer [--data PATH] [--seeds 1 2 3] [--shots 1 2 5 10 20] [--out benchmarks/results/transfer.json]

For each seed half of the classes are drawn as known; the case's network learns them from all their pictures. Then it
learns the other half from a few pictures each, in the three ways of ``models/image/transfer.py``, and is measured on
pictures of those classes that nobody learnt from.
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

from benchmarks.runs import ROOT, write
from models.catalog import CASES
from models.image import model as network
from models.image import readers, sources, transfer

WAYS = ("scratch", "frozen", "thawed")
HELD = 0.3
RATE = 0.003


def main() -> None:
    """Measures, prints the table and writes the file."""
    told = _arguments()
    folder = told.data or sources.embedded(told.work / "digits")
    train, held = pictures(folder)
    changes = {"dropout": 0.0, "filters": told.filters}
    settings = {**CASES["image"].settings["training"], **changes}
    started, outcomes = time.process_time(), []
    for seed in told.seeds:
        outcomes += measure(train, held, settings, told, seed)
    rows = [row(shots, [one for one in outcomes if one["shots"] == shots]) for shots in told.shots]
    report = {
        "data": folder.name if told.data else "digits of scikit-learn",
        "pictures": len(train[1]),
        "held": len(held[1]),
        "seeds": told.seeds,
        "steps": told.steps,
        "base_steps": told.base_steps,
        "filters": told.filters,
        "rate": RATE,
        "cpu_seconds": time.process_time() - started,
        "known_accuracy": statistics.mean({one["seed"]: one["known"] for one in outcomes}.values()),
        "rows": rows,
        "outcomes": outcomes,
    }
    Console().print(table(report))
    write(told.out, **report)


def measure(
    train: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    told: argparse.Namespace,
    seed: int,
) -> list[dict[str, Any]]:
    """One base, and the three ways at each number of pictures."""
    keras.utils.set_random_seed(seed)
    make = transfer.maker(network, settings, train[0].shape[1:])
    found: list[dict[str, Any]] = []
    # Which classes are new, and so what is known, does not depend on the shots.
    parts = transfer.split(train, held, told.shots[0], seed)
    learnt = transfer.trained(make(len(np.unique(parts.known[1]))), parts.known, told.base_steps, RATE)
    known = np.setdiff1d(np.unique(held[1]), parts.names)
    rows = np.isin(held[1], known)
    score = transfer.accuracy(learnt, (held[0][rows], np.searchsorted(known, held[1][rows])))
    base = transfer.without_head(learnt)
    weights = base.get_weights()
    for shots in told.shots:
        parts = transfer.split(train, held, shots, seed)
        base.set_weights(weights)
        ways = transfer.compared(
            base, make, parts, told.steps, RATE, lambda pixels: network.augmented(pixels, settings)
        )
        found.append({"seed": seed, "shots": shots, "known": score, **ways})
        print(json.dumps(found[-1]), flush=True)
    return found


def pictures(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pixels in 0..1 and numbers of classes, to learn from and to measure on: as the source splits, or by chance."""
    import io

    from PIL import Image

    batches = [batch for span in readers.spans(folder).values() for batch in readers.read(span)]
    labels = np.concatenate([batch["label"].to_numpy(zero_copy_only=False) for batch in batches])
    parts = np.concatenate([batch["part"].to_numpy(zero_copy_only=False) for batch in batches])
    decoded = [np.asarray(Image.open(io.BytesIO(one))) for batch in batches for one in batch["image"].to_pylist()]
    pixels = np.stack(decoded).astype(np.float32) / 255
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    numbers = np.unique(labels, return_inverse=True)[1]
    held = parts == "test" if (parts == "test").any() else np.random.default_rng(0).random(len(labels)) < HELD
    return (pixels[~held], numbers[~held]), (pixels[held], numbers[held])


def row(shots: int, outcomes: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, of each way and of the gain of the better one over scratch."""
    found: dict[str, Any] = {"shots": shots}
    for way in WAYS:
        found[way] = _spread([one[way] for one in outcomes])
    found["gain"] = _spread([one["thawed"] - one["scratch"] for one in outcomes])
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0}


def table(report: Mapping[str, Any]) -> Table:
    """The report for people."""
    shown = Table(title=f"{report['data']}: accuracy on new classes, mean ± sd of {len(report['seeds'])} seeds")
    for column in ("pictures a class", *WAYS, "thawed - scratch"):
        shown.add_column(column, justify="right")
    for one in report["rows"]:
        cells = (f"{one[way]['mean']:.3f} ± {one[way]['deviation']:.3f}" for way in (*WAYS, "gain"))
        shown.add_row(str(one["shots"]), *cells)
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of pictures; the digits if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--steps", type=int, default=100, help="frozen, and as many thawed; twice that from scratch")
    parser.add_argument("--base-steps", type=int, default=400)
    parser.add_argument("--filters", type=int, default=CASES["image"].settings["training"]["filters"])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "transfer.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
