"""A small world whose rows are served: what is usual of it, its records in a prediction log, and drift of known size."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from serving.drift.profiles.watched_columns import Watched
from serving.drift.profiles.windows import Cut
from serving.drift.reference import reference_profile
from serving.drift.reference.reference_profile import EPOCH, Normal
from serving.gateway.history.online_store import journal
from serving.gateway.log import tfrecords
from serving.gateway.log.tf_example import decode, entry, example

FIRST = (date(2026, 1, 5) - EPOCH).days  # a Monday
WATCHED = Watched(("amount", "channel"), ("usual",), "score", time="event_time")
CUT = Cut("event_time", behind=4)
ROWS = 400


def day(number: int, rows: int = ROWS, factor: float = 1.0) -> dict[str, Any]:
    """The rows of a day, counted from ``FIRST``: columns ``[rows]``, scores and labels that they give the chance of."""
    rng = np.random.default_rng([7, 1000 + number])
    usual = np.exp(rng.normal(3, 0.8, rows))
    scores = rng.beta(1, 8, rows)
    return {
        "event_time": (FIRST + number) * 86_400 + np.sort(rng.integers(0, 86_400, rows)),
        "amount": usual * np.exp(rng.normal(0, 0.4, rows)) * factor,
        "usual": usual,
        "channel": np.where(rng.random(rows) < 0.3, "online", "till"),
        "score": scores,
        "label": (rng.random(rows) < scores).astype(int),
    }


def usual(days: int = 21) -> Normal:
    """What is usual, from so many days before the first."""
    parts = [day(number) for number in range(-days, 0)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    frame, _ = WATCHED.frame(whole, whole["score"])
    estimator, measured = reference_profile.measured("pr_auc", whole["score"], whole["label"].astype(float))
    days_of = whole["event_time"] // 86_400
    return reference_profile.fit(WATCHED, {"amount": ("usual",)}, frame, days_of, estimator, measured)


def pushed(versions: Path, known: Normal, *numbers: int) -> Path:
    """A folder of versions that each call that normal."""
    for number in numbers or (1,):
        known.save(versions / str(number) / "assets.extra" / "normal")
    return versions


def record(rows: dict[str, Any], n: int, version: int = 1) -> bytes:
    """A row as the gateway logs it."""
    return example(
        *(entry(name, float(rows[name][n])) for name in ("amount", "usual")),
        entry("event_time", int(rows["event_time"][n])),
        entry("channel", str(rows["channel"][n])),
        entry("served/id", f"tiny.1.0.{n:08x}"),
        entry("served/key", f"{rows['event_time'][0]}-{n}"),
        entry("served/version", version),
        entry("output/score", float(rows["score"][n])),
        journal([n]),
    )


def append(folder: Path, rows: list[bytes], file: int = 1, suffix: str = ".open") -> None:
    """Puts records behind those of a log file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{file:08d}{suffix}").open("ab") as stream:
        stream.write(b"".join(tfrecords.framed(row) for row in rows))


def served(folder: Path, *days: int, version: int = 1, factor: float = 1.0, **more: Any) -> None:
    """Whole days in a prediction log."""
    for number in days:
        rows = day(number, factor=factor)
        append(folder, [record(rows, n, version) for n in range(len(rows["score"]))], **more)


__all__ = [
    "CUT",
    "FIRST",
    "ROWS",
    "WATCHED",
    "append",
    "day",
    "decode",
    "pushed",
    "record",
    "replace",
    "served",
    "usual",
]
