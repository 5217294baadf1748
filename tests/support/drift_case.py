"""A small data generator for drift tests: reference profile, records in a prediction log, and drift of a known size."""

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
from serving.gateway.log.tf_example import entry, example

FIRST = (date(2026, 1, 5) - EPOCH).days  # a Monday
WATCHED = Watched(("amount", "channel"), ("usual",), "score", time="event_time")
CUT = Cut("event_time", behind=4)
ROWS = 400


def day(number: int, rows: int = ROWS, factor: float = 1.0) -> dict[str, Any]:
    """Generate the rows of a day, counted from ``FIRST``: columns ``[rows]`` with scores and labels drawn from the scores."""
    rng = np.random.default_rng([7, 1000 + number])
    typical = np.exp(rng.normal(3, 0.8, rows))
    scores = rng.beta(1, 8, rows)
    return {
        "event_time": (FIRST + number) * 86_400 + np.sort(rng.integers(0, 86_400, rows)),
        "amount": typical * np.exp(rng.normal(0, 0.4, rows)) * factor,
        "usual": typical,
        "channel": np.where(rng.random(rows) < 0.3, "online", "till"),
        "score": scores,
        "label": (rng.random(rows) < scores).astype(int),
    }


def usual(days: int = 21) -> Normal:
    """Fit the reference profile on the ``days`` days before the first."""
    parts = [day(number) for number in range(-days, 0)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    frame, _ = WATCHED.frame(columns, columns["score"])
    estimator, metric = reference_profile.measured("pr_auc", columns["score"], columns["label"].astype(float))
    row_days = columns["event_time"] // 86_400
    return reference_profile.fit(WATCHED, {"amount": ("usual",)}, frame, row_days, estimator, metric)


def pushed(versions: Path, profile: Normal, *numbers: int) -> Path:
    """Save the reference profile in each of the versions."""
    for number in numbers or (1,):
        profile.save(versions / str(number) / "assets.extra" / "normal")
    return versions


def record(rows: dict[str, Any], n: int, version: int = 1) -> bytes:
    """Encode a row as the gateway logs it."""
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
    """Append records to a log file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{file:08d}{suffix}").open("ab") as stream:
        stream.write(b"".join(tfrecords.framed(row) for row in rows))


def served(folder: Path, *days: int, version: int = 1, factor: float = 1.0, **options: Any) -> None:
    """Append complete days to a prediction log."""
    for number in days:
        rows = day(number, factor=factor)
        append(folder, [record(rows, n, version) for n in range(len(rows["score"]))], **options)
