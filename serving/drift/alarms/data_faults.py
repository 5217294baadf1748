"""Data faults, as opposed to drift: nulls, unseen or garbled categories, values out of range, wrong units.

Customers' behaviour changes slowly and by small amounts; a broken sender produces rows that no customer does. So a
fault needs a share of rows that matters and that undrifted days never have, and each kind of fault has a signature of
its own.
"""

import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from serving.drift.alarms import distribution_distances
from serving.drift.profiles.bins import RANKS, SIGN, CategoricalColumn, NumericColumn
from serving.drift.profiles.image_columns import COMPUTED_MAXIMA
from serving.drift.profiles.profile import ColumnCounts, Profile

Kind = Literal["nulls", "infinite", "unseen", "encoding", "range", "units", "empty"]

MIN_SHARE = 0.004  # smallest share of rows that counts as a fault
MAX_P_VALUE = 1e-6  # largest p-value of a change of a rate that counts as a fault
FACTORS = (100.0, 0.01, 1000.0, 0.001)  # of wrong units
# How much better a mixture with another unit has to explain the window, as twice the gain in log-likelihood; above what the
# variation from day to day reaches.
MIN_GAIN = 60.0
# Fraction of the window's deviation from the reference that the wrong unit has to explain. Halved prices do not reach it.
MIN_EXPLAINED = 0.7
CENTS_WHOLE = 0.5  # share of whole numbers that decides whether a column already held amounts in cents
ROUNDING_ERROR = 1e-5  # by how much a computed float32 value can exceed its possible range


@dataclass(frozen=True)
class Fault:
    """A fault of one column.

    Attributes:
        column, kind: Column, and kind of fault.
        share: Share of rows with the fault, approximately.
        usual: The same share in the reference.
        says: One sentence for a person.
    """

    column: str
    kind: Kind
    share: float
    usual: float
    says: str


def find_faults(reference: Profile, window: Profile) -> list[Fault]:
    """Return the faults of a window in the order of the columns; one column can have several.

    Raises:
        ValueError: if the window was counted with another layout than the reference.
    """
    if reference.layout != window.layout:
        raise ValueError("The window was counted with another layout than the reference; use the reference's layout.")
    if not window.rows:
        return []
    faults: list[Fault] = []
    for column in reference.layout:
        expected, actual = reference[column.name], window[column.name]
        faults += _check_rates(column.name, expected, actual, reference.rows, window.rows)
        if isinstance(column, CategoricalColumn):
            faults += _check_categories(column, expected, actual, reference.rows, window.rows)
        else:
            faults += _check_numbers(column, expected, actual)
    return faults


def _check_rates(name: str, expected: ColumnCounts, actual: ColumnCounts, past_rows: int, rows: int) -> list[Fault]:
    faults = []
    if _is_increase(actual.nulls, rows, expected.nulls, past_rows):
        kind: Kind = "empty" if actual.nulls == rows else "nulls"
        faults.append(_build_fault(name, kind, actual.nulls / rows, expected.nulls / past_rows, "rows have no value"))
    if _is_increase(actual.infinite, rows, expected.infinite, past_rows):
        faults.append(
            _build_fault(name, "infinite", actual.infinite / rows, expected.infinite / past_rows, "values are infinite")
        )
    return faults


def _is_increase(hits: int, rows: int, past_hits: int, past_rows: int) -> bool:
    """Whether a rate grew by a share that matters and, by Fisher's exact test, by more than chance."""
    if not past_rows or hits / rows - past_hits / past_rows < MIN_SHARE:
        return False
    return distribution_distances.fisher_exact(hits, rows, past_hits, past_rows) < MAX_P_VALUE


def _build_fault(name: str, kind: Kind, share: float, past_share: float, what: str) -> Fault:
    return Fault(name, kind, share, past_share, f"{share:.1%} of {what} (reference: {past_share:.1%}).")


def _check_categories(
    column: CategoricalColumn, expected: ColumnCounts, actual: ColumnCounts, past_rows: int, rows: int
) -> list[Fault]:
    """Unseen categories; those that match a known one after normalisation are garbled, not new."""
    if not _is_increase(int(actual.bins[-1]), rows, int(expected.bins[-1]), past_rows):
        return []
    expected_names = {_normalize_name(value) for value in column.values}
    sample = actual.unseen or {}
    garbled = {name: count for name, count in sample.items() if _normalize_name(name) in expected_names}
    garbled_fraction = sum(garbled.values()) / max(sum(sample.values()), 1)
    share, past_share = int(actual.bins[-1]) / rows, int(expected.bins[-1]) / past_rows
    faults = []
    if garbled and garbled_fraction * share >= MIN_SHARE:
        what = f"values are garbled, such as '{max(garbled, key=garbled.__getitem__)}'"
        faults.append(_build_fault(column.name, "encoding", garbled_fraction * share, past_share, what))
    others = {name: count for name, count in sample.items() if name not in garbled}
    if others and (1 - garbled_fraction) * share >= MIN_SHARE:
        what = f"values are unknown, such as '{max(others, key=others.__getitem__)}'"
        faults.append(_build_fault(column.name, "unseen", (1 - garbled_fraction) * share, past_share, what))
    return faults


def _normalize_name(name: str) -> str:
    """A name without case, accents, blanks and the artefacts of UTF-8 read as Latin-1."""
    split = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in split if letter.isascii() and letter.isalnum())
    # A no-break space or an accented letter in UTF-8, read as Latin-1, begins with one of these two letters.
    return plain.removesuffix("a") if name.rstrip()[-1:] in "ÂÃ" or "Â" in name or "Ã" in name else plain


def _check_numbers(column: NumericColumn, expected: ColumnCounts, actual: ColumnCounts) -> list[Fault]:
    if not actual.rows or not expected.rows:
        return []
    computed = column.name in COMPUTED_MAXIMA
    if computed and _is_possible(column.name, actual):
        return []
    if not computed and (fault := _check_units(column, expected, actual)):
        return [fault]
    outside, past_outside = (int(counts.bins[0] + counts.bins[-1]) for counts in (actual, expected))
    if not _is_increase(outside, actual.rows, past_outside, expected.rows):
        return []
    what = f"values lie outside what {'is possible' if computed else 'the reference held'}"
    return [_build_fault(column.name, "range", outside / actual.rows, past_outside / expected.rows, what)]


def _is_possible(name: str, actual: ColumnCounts) -> bool:
    """Whether all values of a computed column lie in its possible range.

    Only the extremes separate impossible from unusual values, since no bin edge lies between them; infinite values have
    no extremes.
    """
    if actual.least is None or actual.most is None:
        return False
    return actual.least >= -ROUNDING_ERROR and actual.most <= COMPUTED_MAXIMA[name] + ROUNDING_ERROR


def _check_units(column: NumericColumn, expected: ColumnCounts, actual: ColumnCounts) -> Fault | None:
    """Find the factor by which some rows may be multiplied: a mixture with such rows explains the window far better.

    Real growth moves all rows a little; a wrong unit moves some rows a hundredfold, to where the reference has hardly
    any. Values that can be negative, such as scores on a log scale, have no unit that a sender could get wrong like
    this.
    """
    if expected.least is None or expected.least < 0 or not expected.most:
        return None
    base = expected.bins + 0.5
    base = base / base.sum()
    best = (0.0, 1.0, 0.0)
    deviance = 2 * float(special.rel_entr(actual.bins, actual.rows * base).sum()) - column.size
    for factor in FACTORS:
        scaled = _scale_shares(column, base, expected, factor)
        share, gain = _fit_mixture(actual.bins, base, scaled)
        whole_increase = actual.whole / actual.rows - expected.whole / expected.rows
        # Amounts in cents are whole numbers, so the share of whole numbers rises too, unless it was high before.
        cents_plausible = (
            factor < 1 or expected.whole / expected.rows > CENTS_WHOLE or whole_increase > share * CENTS_WHOLE
        )
        if cents_plausible and share >= MIN_SHARE and gain > max(best[0], MIN_GAIN, MIN_EXPLAINED * deviance):
            best = (gain, factor, share)
    if not best[0]:
        return None
    what = f"values look multiplied by {best[1]:g}, as with a wrong unit"
    return _build_fault(column.name, "units", best[2], 0.0, what)


def _scale_shares(column: NumericColumn, base: np.ndarray, expected: ColumnCounts, factor: float) -> np.ndarray:
    """Shares of the bins ``[bins]`` after the reference's values are multiplied by a factor.

    Each bin is represented by 16 evenly spaced points.
    """
    edges = np.concatenate([[expected.least], edge_values(column), [expected.most]])
    edges = np.clip(edges, expected.least, expected.most)
    offsets = (np.arange(16) + 0.5) / 16
    points = edges[:-1, None] + np.diff(edges)[:, None] * offsets
    weights = np.repeat(base / 16, 16)
    scaled = np.bincount(column.bins(points.ravel() * factor), weights, minlength=column.size)
    return scaled / scaled.sum()


def edge_values(column: NumericColumn) -> np.ndarray:
    """The smallest value of each edge's rank, ``[edges]``."""
    ranks = np.array(column.edges)
    halves = np.where(ranks >= SIGN, ranks - SIGN, RANKS - 1 - ranks).astype(np.uint32)
    return (halves << 16).astype(np.uint32).view(np.float32).astype(np.float64) + column.centre


def _fit_mixture(counts: np.ndarray, base: np.ndarray, scaled: np.ndarray) -> tuple[float, float]:
    """Maximum-likelihood share of rows from ``scaled``, and twice the gain in log-likelihood over no such rows."""

    def loss(share: float) -> float:
        return -float(counts @ np.log(np.maximum((1 - share) * base + share * scaled, 1e-12)))

    share = float(optimize.minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x)
    return share, 2 * (loss(0.0) - loss(share))
