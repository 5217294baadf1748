"""Generate card purchases with known fraud and known drift: a folder for each day, and a manifest of the ground truth.

Columns are drawn from random streams, one stream for each part. So a data set with drift and the one without (same rows, days
and seed) differ only in the drifted values.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.fraud.generator.drift import CATEGORY_NAMES, Drift, assign_ids, inject
from models.fraud.generator.fraud_scenarios import CHANCE, SCENARIOS
from models.fraud.generator.world import CHANNELS, DAY, DEVICES, TOWNS, Rows, World, draw_purchases, random_stream

FRAUD_SHARE = 0.013
LABEL_DELAY_DAYS = 7
LATE_SHARE, LATEST_DAYS = 0.08, 21
NEVER_SHARE = 0.025
TEXTS = ["customer_id", "merchant_id", "category", "channel", "device"]


@dataclass(frozen=True)
class Truth:
    """Ground truth of the data, as stored in ``truth.json``; counts are of true frauds, with or without a label.

    Attributes:
        rows, days, seed, start: Arguments of the generator; ``rows`` is the number written.
        customers, merchants: Number of customers and of merchants.
        frauds, fraud_share: True frauds, and their share of all rows.
        scenarios: Per scenario its id, rows, share of all frauds and episodes (0 where there are none).
        labels: ``never_share``, ``late_share`` (of frauds, later than a week), ``delay_days`` of honest labels.
        drift: Per drift its kind, size, day, date and number of rows changed, added or removed.
    """

    rows: int
    days: int
    seed: int
    start: str
    customers: int
    merchants: int
    frauds: int
    fraud_share: float
    scenarios: list[dict[str, Any]]
    labels: dict[str, float]
    drift: list[dict[str, Any]]

    @staticmethod
    def read(folder: Path) -> "Truth":
        """Read the manifest of generated data."""
        return Truth(**json.loads((folder / "truth.json").read_text()))


def generate(
    out: Path,
    *,
    rows: int,
    days: int,
    seed: int,
    drift: Sequence[Drift] = (),
    start: date = date(2026, 1, 5),
    id_prefix: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Truth:
    """Write ``out/span-NNN/transactions.parquet`` for each day and ``out/truth.json``, atomically.

    Args:
        out: A folder that does not exist yet or is empty.
        rows: Exact number of rows, unless a drift of kind ``prior`` adds or removes frauds.
        days: Number of spans, counted from 0; a row lies in its UTC day's span.
        seed: The same seed and arguments give the same bytes, whatever the order of ``drift``.
        start: Date of span 0.
        id_prefix: Begins every ``transaction_id``. Data sets of one seed need different ones where they meet, since they
            have equal ids otherwise.
        progress: Called with the number of days written and the number of all days.

    Raises:
        ValueError: for less than one row a day, or a drift that begins after the last day.
        FileExistsError: if ``out`` is not empty.
    """
    if days < 1 or rows < days or seed < 0:
        raise ValueError(
            f"The generator needs at least a day, a row a day and a seed of 0, not {rows=}, {days=}, {seed=}."
        )
    if late := [str(d) for d in drift if d.day >= days]:
        raise ValueError(f"Drift {', '.join(late)} begins after the last day, {days - 1}.")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; remove it or choose another folder.")
    world = World.of(seed, customers=max(20, rows // days), merchants=max(2 * TOWNS, rows // days // 4))
    columns, affected = generate_rows(world, rows, days, seed, start.weekday(), drift)
    labels = draw_labels(columns, seed)
    truth = _truth(world, columns, labels, days, seed, start, [(d, start, count) for d, count in affected])
    _write(out, _table(world, columns, labels, seed, start, id_prefix), days, start, truth, progress)
    return truth


def generate_rows(
    world: World, rows: int, days: int, seed: int, weekday: int, drift: Sequence[Drift]
) -> tuple[Rows, list[tuple[Drift, int]]]:
    """Return all purchases with their drift, and each drift with the number of rows that it affected.

    Drifts are applied by kind, then by day, so that the order of the arguments does not matter: new frauds also get the new
    amounts, and categories are corrupted last.
    """
    columns, affected = _draw_clean_rows(world, rows, days, seed, weekday), []
    kinds = ("concept", "prior", "online", "amount", "amount-ramp", "units", "unseen", "encoding", "nulls")
    for change in sorted(drift, key=lambda d: (kinds.index(d.kind), d.day, d.size)):
        columns, count = inject(change, columns, world, days, seed)
        affected.append((change, count))
    return columns, affected


def _draw_clean_rows(world: World, count: int, days: int, seed: int, weekday: int) -> Rows:
    """Draw ``count`` purchases without drift: honest ones first, then those of each scenario."""
    frauds = [round(count * FRAUD_SHARE * kind.share) for kind in SCENARIOS]
    honest = draw_purchases(world, count - sum(frauds[:-1]), days, weekday, random_stream(seed, "purchases"))
    nothing = {"id": np.array([-1]), "episode": np.array([-1])}
    parts = [assign_ids(honest | {"episode": np.zeros(len(honest["time"]), np.int64)}, 0, nothing, world)]
    parts[0]["episode"] = np.full(len(honest["time"]), -1)
    for code, (kind, number) in enumerate(zip(SCENARIOS[:-1], frauds, strict=False), 1):
        if number:
            fraud = kind.purchases(world, number, 0, days * DAY, random_stream(seed, kind.name))
            parts.append(assign_ids(fraud, code, parts[-1], world))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    chance = random_stream(seed, "chance").choice(len(honest["time"]), frauds[-1], replace=False)
    columns["scenario"][chance] = CHANCE
    return columns


def draw_labels(rows: Rows, seed: int) -> Rows:
    """Draw ``never`` (bool ``[n]``: no label arrives) and ``delay`` (days from purchase to label, ``[n]``).

    A purchase is labelled honest when nobody has complained for a week. Frauds are reported after 1 to 7 days, some much
    later. Random numbers are drawn by row id, so that added rows do not change those of other rows.
    """
    size, fraud = rows["id"].max() + 1, rows["scenario"] > 0
    never, late, wait = (
        random_stream(seed, f"label {name}").random(size)[rows["id"]] for name in ("never", "late", "wait")
    )
    soon = 1 + (LABEL_DELAY_DAYS - 1) * wait**1.5
    delay = np.where(late < LATE_SHARE, LABEL_DELAY_DAYS + (LATEST_DAYS - LABEL_DELAY_DAYS) * wait, soon)
    return {"never": never < NEVER_SHARE, "delay": np.where(fraud, delay, float(LABEL_DELAY_DAYS))}


def _table(world: World, rows: Rows, labels: Rows, seed: int, start: date, id_prefix: str) -> pa.Table:
    """Return the columns of the data, sorted by time and id."""
    name, time = _scramble(rows["id"], seed), rows["time"] // 1000 * 1000 + _origin(start)
    order = np.lexsort((name, time))
    rows, never = {key: column[order] for key, column in rows.items()}, labels["never"][order]
    time, label_time = time[order], time[order] + (labels["delay"][order] * 86_400).astype(np.int64) * 1_000_000
    return pa.table(
        {
            "transaction_id": pc.binary_join_element_wise(id_prefix, _hex(name[order]), ""),
            "event_time": pa.array(time).cast(pa.timestamp("us")),
            "customer_id": take_names([f"c{i:06d}" for i in range(len(world.rate))], rows["customer"]),
            "merchant_id": take_names([f"m{i:05d}" for i in range(len(world.where))], rows["merchant"]),
            "amount": rows["amount"],
            "is_fraud": pa.array((rows["scenario"] > 0).astype(np.int8), mask=never),
            "label_time": pa.array(label_time, mask=never).cast(pa.timestamp("us")),
            "category": take_names(CATEGORY_NAMES, rows["category"]),
            "channel": take_names(CHANNELS, rows["channel"]),
            "device": take_names(DEVICES, rows["device"]),
            "distance_km": world.distance_km(rows["customer"], rows["merchant"]),
        }
    )


def _origin(start: date) -> int:
    return int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1_000_000


def _scramble(number: np.ndarray, seed: int) -> np.ndarray:
    """Map each number to another one below 2**40, one to one, so that an id does not reveal a generated fraud."""
    mask, mixed = np.uint64(2**40 - 1), number.astype(np.uint64) + np.uint64(seed % 2**20 * 2**20)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        mixed = (mixed * np.uint64(factor)) & mask
        mixed ^= mixed >> np.uint64(20)
    return mixed


def _hex(numbers: np.ndarray) -> pa.Array:
    """Format each as ten hexadecimal digits, built as one buffer, as a million Python strings would be slower."""
    nibbles = (numbers[:, None] >> np.arange(36, -1, -4, dtype=np.uint64)) & np.uint64(15)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles.astype(np.int64)]
    offsets = np.arange(0, 10 * len(numbers) + 1, 10, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))


def take_names(names: Sequence[str], codes: np.ndarray) -> pa.Array:
    """Look up strings by code; null for -1."""
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int32), mask=codes < 0))


def _truth(
    world: World, rows: Rows, labels: Rows, days: int, seed: int, start: date, drift: list[tuple[Drift, date, int]]
) -> Truth:
    fraud = rows["scenario"] > 0
    total = int(fraud.sum())
    return Truth(
        rows=len(fraud),
        days=days,
        seed=seed,
        start=start.isoformat(),
        customers=len(world.rate),
        merchants=len(world.where),
        frauds=total,
        fraud_share=total / len(fraud),
        scenarios=[
            _scenario(kind.name, rows, rows["scenario"] == code, total) for code, kind in enumerate(SCENARIOS, 1)
        ],
        labels={
            "never_share": float(labels["never"].mean()),
            "late_share": float((labels["delay"][fraud] > LABEL_DELAY_DAYS).sum() / max(total, 1)),
            "delay_days": float(LABEL_DELAY_DAYS),
        },
        drift=[asdict(d) | {"date": (begin + timedelta(d.day)).isoformat(), "rows": n} for d, begin, n in drift],
    )


def _scenario(name: str, rows: Rows, chosen: np.ndarray, total: int) -> dict[str, Any]:
    episodes = np.unique(rows["episode"][chosen & (rows["episode"] >= 0)])
    count = int(chosen.sum())
    return {"id": name, "rows": count, "share": count / max(total, 1), "episodes": len(episodes)}


def _write(
    out: Path, table: pa.Table, days: int, start: date, truth: Truth, progress: Callable[[int, int], None] | None
) -> None:
    """Write a temporary folder next to ``out`` and rename it, so that ``out`` is never incomplete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder.chmod(0o755)
        bounds = np.searchsorted(
            np.asarray(table["event_time"].cast(pa.int64())), _origin(start) + np.arange(days + 1) * DAY
        )
        for day in range(days):
            span = folder / f"span-{day:03d}"
            span.mkdir()
            part = table.slice(bounds[day], bounds[day + 1] - bounds[day])
            pq.write_table(part, span / "transactions.parquet", use_dictionary=TEXTS, store_schema=False)
            if progress:
                progress(day + 1, days)
        (folder / "truth.json").write_text(json.dumps(asdict(truth), indent=2) + "\n")
        os.replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
