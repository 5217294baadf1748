"""Broken data, told apart from drift: nulls, unknown or garbled names, values out of range, wrong units.

Customers change slowly and a little; a broken sender does what no customer does. So a fault needs both a share of rows
that matters and one that days never have, and each kind has a mark of its own.
"""

import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from serving.drift.alarms import distribution_distances
from serving.drift.profiles.bins import RANKS, SIGN, Category, Number
from serving.drift.profiles.image_columns import DERIVED
from serving.drift.profiles.profile import Counts, Profile

Kind = Literal["nulls", "infinite", "unseen", "encoding", "range", "units", "empty"]

LEAST = 0.004  # share of rows that a fault has to touch
SURE = 1e-6
FACTORS = (100.0, 0.01, 1000.0, 0.001)
# How much better a mixture with another unit has to explain the window: twice the log-likelihood, over the noise of days.
BETTER = 60.0
# The part of all that is unusual about a window which the wrong unit has to account for: prices that halve are none.
EXPLAINS = 0.7
CENTS_WHOLE = 0.5
ROUNDED = 1e-5  # by which a computed value in float32 can leave its possible range


@dataclass(frozen=True)
class Fault:
    """Something broken in a column.

    Attributes:
        column, kind: Where, and what.
        share: Of the rows concerned, about.
        usual: The same share in the reference.
        says: One sentence for people.
    """

    column: str
    kind: Kind
    share: float
    usual: float
    says: str


def check(reference: Profile, window: Profile) -> list[Fault]:
    """Faults of a window, by column; one column can have several.

    Raises:
        ValueError: if the window was counted by another layout.
    """
    if reference.layout != window.layout:
        raise ValueError("The window was counted by another layout than the reference; use the model's own.")
    if not window.rows:
        return []
    found: list[Fault] = []
    for column in reference.layout:
        usual, now = reference[column.name], window[column.name]
        found += _rates(column.name, usual, now, reference.rows, window.rows)
        if isinstance(column, Category):
            found += _names(column, usual, now, reference.rows, window.rows)
        else:
            found += _numbers(column, usual, now)
    return found


def _rates(name: str, usual: Counts, now: Counts, past_rows: int, rows: int) -> list[Fault]:
    found = []
    if _more(now.nulls, rows, usual.nulls, past_rows):
        kind: Kind = "empty" if now.nulls == rows else "nulls"
        found.append(_fault(name, kind, now.nulls / rows, usual.nulls / past_rows, "rows have no value"))
    if _more(now.infinite, rows, usual.infinite, past_rows):
        found.append(_fault(name, "infinite", now.infinite / rows, usual.infinite / past_rows, "values are infinite"))
    return found


def _more(hits: int, rows: int, past_hits: int, past_rows: int) -> bool:
    """Whether a rate has grown by what matters and, exactly, by more than chance."""
    if not past_rows or hits / rows - past_hits / past_rows < LEAST:
        return False
    return distribution_distances.same_rate(hits, rows, past_hits, past_rows) < SURE


def _fault(name: str, kind: Kind, share: float, usual: float, what: str) -> Fault:
    return Fault(name, kind, share, usual, f"{share:.1%} of {name}'s {what}; in the reference {usual:.1%}.")


def _names(column: Category, usual: Counts, now: Counts, past_rows: int, rows: int) -> list[Fault]:
    """Unknown names; those that are known ones once spelling is mended are garbled, not new."""
    if not _more(int(now.bins[-1]), rows, int(usual.bins[-1]), past_rows):
        return []
    known = {_plain(value) for value in column.values}
    sample = now.unseen or {}
    garbled = {name: count for name, count in sample.items() if _plain(name) in known}
    part = sum(garbled.values()) / max(sum(sample.values()), 1)
    share, past = int(now.bins[-1]) / rows, int(usual.bins[-1]) / past_rows
    found = []
    if garbled and part * share >= LEAST:
        what = f"values are garbled, such as '{max(garbled, key=garbled.__getitem__)}'"
        found.append(_fault(column.name, "encoding", part * share, past, what))
    others = {name: count for name, count in sample.items() if name not in garbled}
    if others and (1 - part) * share >= LEAST:
        what = f"values are unknown, such as '{max(others, key=others.__getitem__)}'"
        found.append(_fault(column.name, "unseen", (1 - part) * share, past, what))
    return found


def _plain(name: str) -> str:
    """A name without case, accents, blanks and what comes of reading UTF-8 as Latin-1."""
    split = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in split if letter.isascii() and letter.isalnum())
    # UTF-8 of a no-break space or an accent, read as Latin-1, begins with one of these two letters.
    return plain.removesuffix("a") if name.rstrip()[-1:] in "ÂÃ" or "Â" in name or "Ã" in name else plain


def _numbers(column: Number, usual: Counts, now: Counts) -> list[Fault]:
    if not now.rows or not usual.rows:
        return []
    computed = column.name in DERIVED
    if computed and _is_possible(column.name, now):
        return []
    if not computed and (wrong := _units(column, usual, now)):
        return [wrong]
    outside, past = (int(counts.bins[0] + counts.bins[-1]) for counts in (now, usual))
    if not _more(outside, now.rows, past, usual.rows):
        return []
    what = f"values lie outside what {'is possible' if computed else 'the reference held'}"
    return [_fault(column.name, "range", outside / now.rows, past / usual.rows, what)]


def _is_possible(name: str, now: Counts) -> bool:
    """Whether a computed column can have such values.

    Only the extremes tell the impossible from the unusual, since no bin lies between them; infinite values have none.
    """
    if now.least is None or now.most is None:
        return False
    return now.least >= -ROUNDED and now.most <= DERIVED[name] + ROUNDED


def _units(column: Number, usual: Counts, now: Counts) -> Fault | None:
    """The factor by which some rows may be multiplied, if a mixture with such rows explains the window far better.

    Honest growth moves all rows a little; a wrong unit moves some rows a hundredfold, to where hardly any were. Values that
    can be negative, such as scores of a log scale, have no unit that a sender could get wrong like that.
    """
    if usual.least is None or usual.least < 0 or not usual.most:
        return None
    base = usual.bins + 0.5
    base = base / base.sum()
    best = (0.0, 1.0, 0.0)
    unusual = 2 * float(special.rel_entr(now.bins, now.rows * base).sum()) - column.size
    for factor in FACTORS:
        moved = _scaled(column, base, usual, factor)
        share, gain = _mixture(now.bins, base, moved)
        whole = now.whole / now.rows - usual.whole / usual.rows
        # Cents are whole numbers, so a share of them shows in the share of whole numbers too, unless all were whole before.
        cents = factor < 1 or usual.whole / usual.rows > CENTS_WHOLE or whole > share * CENTS_WHOLE
        if cents and share >= LEAST and gain > max(best[0], BETTER, EXPLAINS * unusual):
            best = (gain, factor, share)
    if not best[0]:
        return None
    what = f"values look multiplied by {best[1]:g}, as with a wrong unit"
    return _fault(column.name, "units", best[2], 0.0, what)


def _scaled(column: Number, base: np.ndarray, usual: Counts, factor: float) -> np.ndarray:
    """Shares a bin of the reference's values times a factor: each bin as points spread over its width, ``[bins]``."""
    edges = np.concatenate([[usual.least], least_values(column), [usual.most]])
    edges = np.clip(edges, usual.least, usual.most)
    inside = (np.arange(16) + 0.5) / 16
    points = edges[:-1, None] + np.diff(edges)[:, None] * inside
    weights = np.repeat(base / 16, 16)
    found = np.bincount(column.bins(points.ravel() * factor), weights, minlength=column.size)
    return found / found.sum()


def least_values(column: Number) -> np.ndarray:
    """The least value of each edge's rank, ``[edges]``."""
    ranks = np.array(column.edges)
    halves = np.where(ranks >= SIGN, ranks - SIGN, RANKS - 1 - ranks).astype(np.uint32)
    return (halves << 16).astype(np.uint32).view(np.float32).astype(np.float64) + column.centre


def _mixture(counts: np.ndarray, base: np.ndarray, moved: np.ndarray) -> tuple[float, float]:
    """The likeliest share of rows from ``moved``, and twice the gain in log-likelihood over none."""

    def loss(share: float) -> float:
        return -float(counts @ np.log(np.maximum((1 - share) * base + share * moved, 1e-12)))

    share = float(optimize.minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x)
    return share, 2 * (loss(0.0) - loss(share))
