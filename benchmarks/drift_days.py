"""Days for the drift benchmark: generated purchases with history and scores, clean and drifted, as profiles.

Each seed gives a world. Its days are, in order: a warm-up that fills customers' histories, days on which a model is
fitted, reference days, and judged days. The rest is discarded, since long fraud episodes end before the data do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.label_rate import count_sources
from models.evaluation.costs import decision_threshold
from models.fraud.case import CASE
from models.fraud.generator import span_generator
from models.fraud.generator.drift import CATEGORY_NAMES, Drift, inject
from models.fraud.generator.world import CATEGORIES, CHANNELS, DAY, DEVICES, ONLINE, Rows, World
from models.fraud.history import point_in_time
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import ReferenceBaseline, kind_of_day
from serving.drift.reference.explained_columns import ExplainedColumn

ROWS = 9_600
WARM, FIT, REFERENCE, TAIL = 30, 14, 56, 26
START = date(2026, 1, 5)
HOLIDAY_INTERVAL = 23  # days between holidays, so that they fall on all weekdays
# Share of the usual purchases on a holiday.
HOLIDAY_SHARES = {"grocery": 0.3, "pharmacy": 0.4, "home": 0.4, "clothing": 0.5, "transport": 0.6, "electronics": 0.5}
WINDOWS = (1, 7, 30)
SUMS = tuple(f"customer_{what}_{w}d" for w in WINDOWS for what in ("count", "amount"))
AGES = 8


def is_holiday(day: int) -> bool:
    """Return whether a day of a world is a holiday."""
    return day % HOLIDAY_INTERVAL == 11


@dataclass
class GeneratedDays:
    """A world's purchases, sorted by time.

    Attributes:
        seed: Seed of the world.
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
        """Days at whose start a window of ``AGES`` days ends that lies in the reference."""
        return range(self.first - REFERENCE + AGES, self.first + 1)

    @property
    def total(self) -> int:
        """Number of days in all."""
        return self.first + self.judged + TAIL

    @cached_property
    def world(self) -> World:
        """Customers and merchants."""
        return World.of(self.seed, customers=ROWS, merchants=ROWS // 4)

    @cached_property
    def purchases(self) -> Rows:
        """All purchases with the generator's columns; holidays have fewer of them."""
        rows, _ = span_generator.generate_rows(
            self.world, ROWS * self.total, self.total, self.seed, START.weekday(), []
        )
        rng = np.random.default_rng(self.seed)
        holiday_share = np.array([HOLIDAY_SHARES.get(name, 1.0) for name in CATEGORIES])[rows["category"]]
        is_day_off = np.array([is_holiday(day) for day in range(self.total)])[rows["time"] // DAY]
        rows = _take(rows, ~is_day_off | (rng.random(len(is_day_off)) < holiday_share))
        return _take(rows, np.argsort(rows["time"], kind="stable"))

    @cached_property
    def rows(self) -> Rows:
        """All purchases with their history features."""
        rows = self.purchases
        distance = self.world.distance_km(rows["customer"], rows["merchant"])
        return rows | {"distance_km": distance} | self._compute_history(rows)

    def _compute_history(self, rows: Rows) -> Rows:
        table = pa.table(
            {
                "transaction_id": rows["id"],
                "event_time": rows["time"],
                "amount": rows["amount"],
                "customer_id": span_generator.take_names(
                    [f"c{i}" for i in range(len(self.world.rate))], rows["customer"]
                ),
                "merchant_id": span_generator.take_names(
                    [f"m{i}" for i in range(len(self.world.where))], rows["merchant"]
                ),
            }
        )
        features: Rows = {name: np.empty(len(rows["id"]), np.float32) for name in (*SUMS, "seconds_since_last")}
        # In four parts, each with all rows of its customers: the whole would need several times the memory.
        for part in range(4):
            selected = np.flatnonzero(rows["customer"] % 4 == part)
            computed = point_in_time.customer_features(table.take(pa.array(selected)))
            order = np.argsort(rows["id"][selected])
            target = selected[
                order[np.searchsorted(rows["id"][selected], np.asarray(computed["transaction_id"]), sorter=order)]
            ]
            for name in features:
                features[name][target] = np.asarray(computed[name])
        return features

    def add_label_days(self, rows: Rows) -> Rows:
        """Add ``known``, ``[n]``: the (fractional) day on which a fraud's label arrives; infinite without one."""
        delays = span_generator.draw_labels(rows, self.seed)
        label_day = rows["time"] / DAY + delays["delay"]
        return rows | {"known": np.where((rows["scenario"] > 0) & ~delays["never"], label_day, np.inf)}

    def select_days(self, first: int, last: int) -> Rows:
        """Return the rows of the days from ``first`` up to, but not including, ``last``."""
        low, high = np.searchsorted(self.rows["time"], [first * DAY, last * DAY])
        return {name: column[low:high] for name, column in self.rows.items()}

    @cached_property
    def expected(self) -> ExplainedColumn:
        """Model of the expected amount, fitted on the days before the reference."""
        return ExplainedColumn.fit(_to_frame(self.select_days(WARM, WARM + FIT)), "amount", CASE.explained["amount"])

    @cached_property
    def model(self) -> Any:
        """A small LightGBM model on the inputs of the fraud model, fitted on the days before the reference."""
        import lightgbm

        rows = self.select_days(WARM, WARM + FIT)
        data = lightgbm.Dataset(self._build_inputs(rows), rows["scenario"] > 0)
        settings = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "num_threads": 1, "verbosity": -1}
        return lightgbm.train({**settings, "seed": self.seed, "deterministic": True}, data, 80)

    def _build_inputs(self, rows: Rows) -> np.ndarray:
        logs = [np.log1p(rows[name]) for name in ("amount", "distance_km", "seconds_since_last", *SUMS)]
        return np.column_stack([*logs, rows["category"], rows["channel"], rows["device"]]).astype(np.float32)

    def score(self, rows: Rows) -> np.ndarray:
        """Return the probability of fraud, ``[n]``; an unknown category counts as missing."""
        category = np.where((rows["category"] >= 0) & (rows["category"] < len(CATEGORIES)), rows["category"], -1)
        return self.model.predict(self._build_inputs(rows | {"category": category}), num_threads=1)

    def build_frame(self, rows: Rows) -> pl.DataFrame:
        """Return the monitored columns."""
        scores = self.score(rows)
        threshold = decision_threshold(
            {name: value for group in CASE.settings.values() for name, value in group.items()}
        )
        decision = pl.Series("predicted", np.where(scores >= threshold, "positive", "negative"))
        frame = self.expected.with_residuals(_to_frame(rows)).with_columns(pl.Series("score", scores), decision)
        return frame.select(*CASE.watch, self.expected.column, "score", "predicted")

    def build_profiles(self, rows: Rows, days: Iterable[int]) -> list[tuple[str, Profile]]:
        """Return the kind and profile of each day."""
        return self._profile_days(self.build_frame(rows), rows["time"], days)

    def _profile_days(self, frame: pl.DataFrame, time: np.ndarray, days: Iterable[int]) -> list[tuple[str, Profile]]:
        bounds = [np.searchsorted(time, [day * DAY, (day + 1) * DAY]) for day in days]
        profiles = [Profile.of(self.layout, frame[int(start) : int(end)]) for start, end in bounds]
        return [(self.find_kind(day), part) for day, part in zip(days, profiles, strict=True)]

    def find_kind(self, day: int) -> str:
        """Return the kind of a day, such as a weekend or a holiday."""
        calendar_day = START + timedelta(day)
        return kind_of_day(calendar_day, frozenset([calendar_day]) if is_holiday(day) else frozenset())

    @cached_property
    def layout(self) -> bins.Layout:
        """Bins fitted on the reference."""
        return bins.fit_layout(self._reference)

    @cached_property
    def _reference(self) -> pl.DataFrame:
        return self.build_frame(self.select_days(WARM + FIT, self.first))

    @cached_property
    def baseline(self) -> ReferenceBaseline:
        """Baseline fitted on the reference days."""
        days = range(WARM + FIT, self.first)
        return ReferenceBaseline.of_days(
            self._profile_days(self._reference, self.select_days(days[0], self.first)["time"], days)
        )

    def profile_clean_days(self) -> list[tuple[str, Profile]]:
        """Return the judged days without drift."""
        return self.build_profiles(
            self.select_days(self.first, self.first + self.judged), range(self.first, self.first + self.judged)
        )

    def profile_drifted_days(self, kind: str, size: float, start: int, length: int) -> list[tuple[str, Profile]]:
        """Return ``length`` days from ``start`` on, with a drift that begins on ``start``."""
        return self.build_profiles(self.make_drifted_rows(kind, size, start, length), range(start, start + length))

    def make_drifted_rows(self, kind: str, size: float, start: int, length: int) -> Rows:
        """Return the rows of these days with the drift.

        Drifted amounts also enter later histories: sums over w days grow in proportion to the days since the start.
        """
        rows, _ = inject(
            Drift(kind, size, start), self.select_days(start, start + length), self.world, self.total, self.seed
        )
        if kind.startswith("amount"):
            since = rows["time"] / DAY - start
            reach = np.clip(since / 14, 0, 1) / 2 if kind == "amount-ramp" else 1.0
            for w in WINDOWS:
                name = f"customer_amount_{w}d"
                rows = rows | {name: rows[name] * (1 + (size - 1) * reach * np.minimum(since / w, 1))}
        return rows


def drop_half(rows: Rows, kind: str, seed: int) -> Rows:
    """Drop half of some rows, so that the inputs drift but their relation to the label stays (covariate shift).

    Args:
        kind: ``online`` drops half of the other purchases, ``large`` half of those below the median amount.
    """
    thinned = rows["channel"] != ONLINE if kind == "online" else rows["amount"] < np.median(rows["amount"])
    return _take(rows, ~thinned | (np.random.default_rng(seed).random(len(thinned)) < 0.5))


def count_reports(rows: Rows, today: int) -> tuple[int, np.ndarray]:
    """Count the rows of the ``AGES`` days before today; return also the sources of the frauds known by then."""
    recent = (rows["time"] >= (today - AGES) * DAY) & (rows["time"] < today * DAY)
    labelled = recent & (rows["known"] < today)
    return int(recent.sum()), count_sources(rows["customer"][labelled], rows["merchant"][labelled])


def _to_frame(rows: Rows) -> pl.DataFrame:
    texts = {"category": CATEGORY_NAMES, "channel": CHANNELS, "device": DEVICES}
    named = {
        name: pl.Series([*values, None], dtype=pl.String).gather(np.where(rows[name] < 0, len(values), rows[name]))
        for name, values in texts.items()
    }
    merchant = {"merchant_id": pl.Series(rows["merchant"]).cast(pl.String)}
    return pl.DataFrame({name: rows[name] for name in ("amount", "distance_km", *SUMS)} | named | merchant)


def _take(rows: Rows, chosen: np.ndarray) -> Rows:
    return {name: column[chosen] for name, column in rows.items()}
