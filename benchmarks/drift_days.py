"""Days for the drift benchmark: generated purchases with history and scores, clean and drifted, as profiles.

A world a seed. Its days are cut into: a warm-up that fills customers' histories, days on which a model is fitted, reference
days, and days that are judged. What follows is thrown away, since long fraud episodes end before the data do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from models.fraud.case import CASE
from models.fraud.costs import served_threshold
from models.fraud.generator import span_generator
from models.fraud.generator.drift import CATEGORY_NAMES, Drift, inject
from models.fraud.generator.world import CATEGORIES, CHANNELS, DAY, DEVICES, ONLINE, Rows, World
from models.fraud.history import point_in_time
from serving.drift.alarms.label_rate import sources
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import Baseline, kind_of_day
from serving.drift.reference.explained_columns import Expected

ROWS = 9_600
WARM, FIT, REFERENCE, TAIL = 30, 14, 56, 26
START = date(2026, 1, 5)
EVERY = 23  # days from one holiday to the next, so that they fall on all weekdays
# Share of purchases that a holiday leaves.
OPEN = {"grocery": 0.3, "pharmacy": 0.4, "home": 0.4, "clothing": 0.5, "transport": 0.6, "electronics": 0.5}
WINDOWS = (1, 7, 30)
SUMS = tuple(f"customer_{what}_{w}d" for w in WINDOWS for what in ("count", "amount"))
AGES = 8


def is_holiday(day: int) -> bool:
    """Whether the day of a world is one."""
    return day % EVERY == 11


@dataclass
class Days:
    """A world's purchases, sorted by time.

    Attributes:
        seed: Of the world.
        judged: Number of days that are judged.
    """

    seed: int
    judged: int

    @property
    def first(self) -> int:
        """First judged day."""
        return WARM + FIT + REFERENCE

    @property
    def settled(self) -> range:
        """Days by whose start the windows of ``AGES`` days end that lie in the reference."""
        return range(self.first - REFERENCE + AGES, self.first + 1)

    @property
    def total(self) -> int:
        """Days in all."""
        return self.first + self.judged + TAIL

    @cached_property
    def world(self) -> World:
        """Customers and merchants."""
        return World.of(self.seed, customers=ROWS, merchants=ROWS // 4)

    @cached_property
    def purchases(self) -> Rows:
        """All purchases, holidays thinned: what the generator knows of each."""
        rows, _ = span_generator.drifted(self.world, ROWS * self.total, self.total, self.seed, START.weekday(), [])
        rng = np.random.default_rng(self.seed)
        kept = np.array([OPEN.get(name, 1.0) for name in CATEGORIES])[rows["category"]]
        free = np.array([is_holiday(day) for day in range(self.total)])[rows["time"] // DAY]
        rows = _take(rows, ~free | (rng.random(len(free)) < kept))
        return _take(rows, np.argsort(rows["time"], kind="stable"))

    @cached_property
    def rows(self) -> Rows:
        """All purchases, each with its history."""
        rows = self.purchases
        distance = self.world.distance_km(rows["customer"], rows["merchant"])
        return rows | {"distance_km": distance} | self._history(rows)

    def _history(self, rows: Rows) -> Rows:
        table = pa.table(
            {
                "transaction_id": rows["id"],
                "event_time": rows["time"],
                "amount": rows["amount"],
                "customer_id": span_generator._named([f"c{i}" for i in range(len(self.world.rate))], rows["customer"]),
                "merchant_id": span_generator._named([f"m{i}" for i in range(len(self.world.where))], rows["merchant"]),
            }
        )
        found: Rows = {name: np.empty(len(rows["id"]), np.float32) for name in (*SUMS, "seconds_since_last")}
        # Customer by customer in a few parts: the whole would need several times the memory.
        for part in range(4):
            at = np.flatnonzero(rows["customer"] % 4 == part)
            done = point_in_time.customer_features(table.take(pa.array(at)))
            order = np.argsort(rows["id"][at])
            place = at[order[np.searchsorted(rows["id"][at], np.asarray(done["transaction_id"]), sorter=order)]]
            for name in found:
                found[name][place] = np.asarray(done[name])
        return found

    def labels(self, rows: Rows) -> Rows:
        """``known``: day on which a fraud's label comes, as a fraction; infinite for others and where none comes, ``[n]``."""
        found = span_generator.label(rows, self.seed)
        known = rows["time"] / DAY + found["delay"]
        return rows | {"known": np.where((rows["scenario"] > 0) & ~found["never"], known, np.inf)}

    def between(self, first: int, last: int) -> Rows:
        """Rows of the days from ``first`` up to before ``last``."""
        low, high = np.searchsorted(self.rows["time"], [first * DAY, last * DAY])
        return {name: column[low:high] for name, column in self.rows.items()}

    @cached_property
    def expected(self) -> Expected:
        """What an amount would be, fitted before the reference."""
        return Expected.fit(_frame(self.between(WARM, WARM + FIT)), "amount", CASE.explained["amount"])

    @cached_property
    def model(self) -> Any:
        """A small forest on what the fraud model gets, fitted before the reference."""
        import lightgbm

        rows = self.between(WARM, WARM + FIT)
        data = lightgbm.Dataset(self._inputs(rows), rows["scenario"] > 0)
        settings = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "num_threads": 1, "verbosity": -1}
        return lightgbm.train({**settings, "seed": self.seed, "deterministic": True}, data, 80)

    def _inputs(self, rows: Rows) -> np.ndarray:
        logs = [np.log1p(rows[name]) for name in ("amount", "distance_km", "seconds_since_last", *SUMS)]
        return np.column_stack([*logs, rows["category"], rows["channel"], rows["device"]]).astype(np.float32)

    def scores(self, rows: Rows) -> np.ndarray:
        """Chance of fraud, ``[n]``; a category that is not known counts as missing."""
        known = np.where((rows["category"] >= 0) & (rows["category"] < len(CATEGORIES)), rows["category"], -1)
        return self.model.predict(self._inputs(rows | {"category": known}), num_threads=1)

    def frame(self, rows: Rows) -> pl.DataFrame:
        """The watched columns."""
        scores = self.scores(rows)
        point = served_threshold({name: value for group in CASE.settings.values() for name, value in group.items()})
        decided = pl.Series("predicted", np.where(scores >= point, "positive", "negative"))
        frame = self.expected.added(_frame(rows)).with_columns(pl.Series("score", scores), decided)
        return frame.select(*CASE.watch, self.expected.column, "score", "predicted")

    def profiles(self, rows: Rows, days: Iterable[int]) -> list[tuple[str, Profile]]:
        """Kind and profile of each day."""
        return self._cut(self.frame(rows), rows["time"], days)

    def _cut(self, frame: pl.DataFrame, time: np.ndarray, days: Iterable[int]) -> list[tuple[str, Profile]]:
        bounds = [np.searchsorted(time, [one * DAY, (one + 1) * DAY]) for one in days]
        parts = [Profile.of(self.layout, frame[int(low) : int(high)]) for low, high in bounds]
        return [(self.kind(one), part) for one, part in zip(days, parts, strict=True)]

    def kind(self, day: int) -> str:
        """The day's kind."""
        when = START + timedelta(day)
        return kind_of_day(when, frozenset([when]) if is_holiday(day) else frozenset())

    @cached_property
    def layout(self) -> bins.Layout:
        """Bins from the reference."""
        return bins.fit(self._reference)

    @cached_property
    def _reference(self) -> pl.DataFrame:
        return self.frame(self.between(WARM + FIT, self.first))

    @cached_property
    def baseline(self) -> Baseline:
        """From the reference days."""
        days = range(WARM + FIT, self.first)
        return Baseline.of_days(self._cut(self._reference, self.between(days[0], self.first)["time"], days))

    def clean(self) -> list[tuple[str, Profile]]:
        """The judged days."""
        return self.profiles(
            self.between(self.first, self.first + self.judged), range(self.first, self.first + self.judged)
        )

    def drifted(self, kind: str, size: float, start: int, length: int) -> list[tuple[str, Profile]]:
        """Days from ``start`` on with a drift that begins there."""
        return self.profiles(self.drifted_rows(kind, size, start, length), range(start, start + length))

    def drifted_rows(self, kind: str, size: float, start: int, length: int) -> Rows:
        """Rows of these days with the drift in them.

        Amounts also enter the histories that follow: sums over w days grow in proportion to the days since the start.
        """
        rows, _ = inject(
            Drift(kind, size, start), self.between(start, start + length), self.world, self.total, self.seed
        )
        if kind.startswith("amount"):
            since = rows["time"] / DAY - start
            reached = np.clip(since / 14, 0, 1) / 2 if kind == "amount-ramp" else 1.0
            for w in WINDOWS:
                name = f"customer_amount_{w}d"
                rows = rows | {name: rows[name] * (1 + (size - 1) * reached * np.minimum(since / w, 1))}
        return rows


def selected(rows: Rows, kind: str, seed: int) -> Rows:
    """Rows of which some kinds come half as often as before: their inputs drift, and what inputs mean stays.

    Args:
        kind: ``online``, fewer purchases elsewhere, or ``large``, fewer below the middle amount.
    """
    seldom = rows["channel"] != ONLINE if kind == "online" else rows["amount"] < np.median(rows["amount"])
    return _take(rows, ~seldom | (np.random.default_rng(seed).random(len(seldom)) < 0.5))


def reports(rows: Rows, today: int) -> tuple[int, np.ndarray]:
    """Rows of the ``AGES`` days before today, and the sources of the frauds among them that are known by today's start."""
    there = (rows["time"] >= (today - AGES) * DAY) & (rows["time"] < today * DAY)
    known = there & (rows["known"] < today)
    return int(there.sum()), sources(rows["customer"][known], rows["merchant"][known])


def _frame(rows: Rows) -> pl.DataFrame:
    texts = {"category": CATEGORY_NAMES, "channel": CHANNELS, "device": DEVICES}
    named = {
        name: pl.Series([*values, None], dtype=pl.String).gather(np.where(rows[name] < 0, len(values), rows[name]))
        for name, values in texts.items()
    }
    merchant = {"merchant_id": pl.Series(rows["merchant"]).cast(pl.String)}
    return pl.DataFrame({name: rows[name] for name in ("amount", "distance_km", *SUMS)} | named | merchant)


def _take(rows: Rows, chosen: np.ndarray) -> Rows:
    return {name: column[chosen] for name, column in rows.items()}
