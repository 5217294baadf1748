"""A small data generator for drift tests: reference profile, records in a prediction log, and drift of a known size."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from serving.drift.profiles.watched_columns import WatchedColumns
from serving.drift.profiles.windows import Windowing
from serving.drift.reference import reference_profile
from serving.drift.reference.reference_profile import EPOCH, ReferenceProfile
from serving.gateway.history.online_store import JOURNAL
from serving.gateway.log import tfrecords
from serving.gateway.log.tf_example import encode_example

FIRST = (date(2026, 1, 5) - EPOCH).days  # a Monday
WATCHED = WatchedColumns(("amount", "channel"), ("usual",), "score", time="event_time")
CUT = Windowing("event_time", behind=4)
ROWS = 400


def generate_day(number: int, rows: int = ROWS, factor: float = 1.0) -> dict[str, Any]:
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


def fit_reference_profile(days: int = 21) -> ReferenceProfile:
    """Fit the reference profile on the ``days`` days before the first."""
    parts = [generate_day(number) for number in range(-days, 0)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    frame, _ = WATCHED.frame(columns, columns["score"])
    estimator, metric = reference_profile.fit_estimator("pr_auc", columns["score"], columns["label"].astype(float))
    row_days = columns["event_time"] // 86_400
    return reference_profile.fit(WATCHED, {"amount": ("usual",)}, frame, row_days, estimator, metric)


def save_profiles(versions: Path, profile: ReferenceProfile, *numbers: int) -> Path:
    """Save the reference profile in each of the versions."""
    for number in numbers or (1,):
        profile.save(versions / str(number) / "assets.extra" / "normal")
    return versions


def encode_record(rows: dict[str, Any], n: int, version: int = 1) -> bytes:
    """Encode a row as the gateway logs it."""
    return encode_example(
        {
            **{name: float(rows[name][n]) for name in ("amount", "usual")},
            "event_time": int(rows["event_time"][n]),
            "channel": str(rows["channel"][n]),
            "served/id": f"tiny.1.0.{n:08x}",
            "served/key": f"{rows['event_time'][0]}-{n}",
            "served/version": version,
            "output/score": float(rows["score"][n]),
            JOURNAL: f"[{n}]",
        }
    )


def append_records(folder: Path, rows: list[bytes], file: int = 1, suffix: str = ".open") -> None:
    """Append records to a log file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{file:08d}{suffix}").open("ab") as stream:
        stream.write(b"".join(tfrecords.frame_record(row) for row in rows))


def log_days(folder: Path, *days: int, version: int = 1, factor: float = 1.0, **options: Any) -> None:
    """Append complete days to a prediction log."""
    for number in days:
        rows = generate_day(number, factor=factor)
        append_records(folder, [encode_record(rows, n, version) for n in range(len(rows["score"]))], **options)
