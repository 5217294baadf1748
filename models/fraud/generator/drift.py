"""Drift put into generated purchases: of known kind, size and day, so that a monitor's alarms can be checked."""

import re
from dataclasses import dataclass

import numpy as np

from models.fraud.generator.fraud_scenarios import CHANCE, SCENARIOS, switched
from models.fraud.generator.world import CATEGORIES, DAY, ONLINE, Rows, World, stream

RAMP_DAYS = 14
CENTS = 100
# What a category may be called: its name, two ways of garbling it, and one that no model has seen.
CATEGORY_NAMES = (*CATEGORIES, *(c.upper() for c in CATEGORIES), *(f"{c}\u00c2\u00a0" for c in CATEGORIES), "crypto")
UNSEEN = len(CATEGORY_NAMES) - 1

KINDS = {
    "prior": "factor on the rate of fraud",
    "concept": "share of frauds that take up a new pattern",
    "online": "share of purchases at the till that move online",
    "amount": "factor on amounts, at once",
    "amount-ramp": f"factor on amounts, reached over {RAMP_DAYS} days",
    "units": "share of amounts given in cents",
    "nulls": "share of categories missing",
    "unseen": "share of categories replaced by an unknown one",
    "encoding": "share of categories garbled",
}
FACTORS = ("prior", "amount", "amount-ramp")


@dataclass(frozen=True)
class Drift:
    """One change of the data from a day on.

    Attributes:
        kind: One of ``KINDS``, which says what ``size`` means.
        size: A factor above 0, or a share in (0, 1].
        day: First day with it, from 0; it stays to the end.

    Raises:
        ValueError: naming what is allowed.
    """

    kind: str
    size: float
    day: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"There is no drift '{self.kind}'; there are {', '.join(KINDS)}.")
        most = 100.0 if self.kind in FACTORS else 1.0
        if not 0 < self.size <= most:
            raise ValueError(f"The size of '{self.kind}' is a {KINDS[self.kind]}, above 0 and at most {most:g}.")
        if self.day < 0:
            raise ValueError(f"A drift begins on day 0 or later, not on day {self.day}.")

    @staticmethod
    def parse(text: str) -> "Drift":
        """Reads ``KIND:SIZE@DAY``, such as ``amount:1.05@30``.

        Raises:
            ValueError: naming what is allowed.
        """
        found = re.fullmatch(r"([^:@]+):([0-9]*\.?[0-9]+)@([0-9]+)", text.strip())
        if not found:
            form = "KIND:SIZE@DAY, such as amount:1.05@30"
            raise ValueError(f"'{text}' is no drift; write {form}, where KIND is one of {', '.join(KINDS)}.")
        return Drift(found[1], float(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.kind}:{self.size:g}@{self.day}"


def inject(drift: Drift, rows: Rows, world: World, days: int, seed: int) -> tuple[Rows, int]:
    """The rows with the drift in them, and how many were changed, added or removed.

    Random numbers come from a stream of the drift's own, one a row id: the other rows, and those before the day, stay
    as they are, and other drifts do not shift what this one does.
    """
    if drift.kind == "prior":
        return _prior(drift, rows, world, days, seed)
    after = rows["time"] >= drift.day * DAY
    draws = stream(seed, str(drift)).random(rows["id"].max() + 1)[rows["id"]]
    changed = _change(drift, rows, after, after & (draws < drift.size), world, seed)
    touched = np.zeros(len(after), bool)
    for name in changed:
        touched |= changed[name] != rows[name]
    return rows | changed, int(touched.sum())


def _change(drift: Drift, rows: Rows, after: np.ndarray, chosen: np.ndarray, world: World, seed: int) -> Rows:
    """The changed columns; ``chosen`` is the share ``size`` of the rows ``after`` the day, both bool ``[n]``."""
    amount, category = rows["amount"], rows["category"]
    match drift.kind:
        case "concept":
            return _concept(drift, rows, world, seed)
        case "online":
            chosen = chosen & (rows["channel"] != ONLINE)
            device = np.where(chosen, world.device[rows["customer"]], rows["device"])
            return {"channel": np.where(chosen, ONLINE, rows["channel"]), "device": device}
        case "amount":
            return {"amount": np.where(after, np.round(amount * drift.size, 2), amount)}
        case "amount-ramp":
            reached = np.clip((rows["time"] / DAY - drift.day) / RAMP_DAYS, 0, 1)
            return {"amount": np.where(after, np.round(amount * (1 + (drift.size - 1) * reached), 2), amount)}
        case "units":
            return {"amount": np.where(chosen, np.round(amount * CENTS), amount)}
        case "nulls":
            return {"category": np.where(chosen, -1, category)}
        case "unseen":
            return {"category": np.where(chosen, UNSEEN, category)}
    garbled = category + len(CATEGORIES) * (1 + rows["id"] % 2)
    return {"category": np.where(chosen & (category >= 0) & (category < len(CATEGORIES)), garbled, category)}


def _concept(drift: Drift, rows: Rows, world: World, seed: int) -> Rows:
    """Whole episodes take up the new pattern; those by chance follow none and stay."""
    rng = stream(seed, f"{drift} pattern")
    fraud = (rows["scenario"] > 0) & (rows["scenario"] < CHANCE) & (rows["time"] >= drift.day * DAY)
    fraud[fraud] = rng.random(rows["episode"].max() + 1)[rows["episode"][fraud]] < drift.size
    new = switched(world, {name: column[fraud] for name, column in rows.items()}, rng)
    changed = {name: rows[name].copy() for name in ("merchant", "amount", "channel", "device")}
    for name, column in changed.items():
        column[fraud] = new[name]
    return changed | {"category": world.category[changed["merchant"]]}


def _prior(drift: Drift, rows: Rows, world: World, days: int, seed: int) -> tuple[Rows, int]:
    """More fraud is added with new ids, or whole episodes of the present fraud are taken away; honest rows stay.

    Only frauds by chance are no rows of their own: there honest rows become fraud, or the other way round.
    """
    rng, after = stream(seed, f"{drift} prior"), rows["time"] >= drift.day * DAY
    scenario = rows["scenario"].copy()
    flipped = _flip(drift, scenario, after, rng)
    rows = rows | {"scenario": scenario}
    if drift.size < 1:
        gone = np.zeros(len(after), bool)
        for code in range(1, CHANCE):
            gone |= _dropped(rows["episode"], after & (scenario == code), 1 - drift.size, rng)
        return {name: column[~gone] for name, column in rows.items()}, flipped + int(gone.sum())
    parts = [rows]
    for code, kind in enumerate(SCENARIOS[:-1], 1):
        count = round((drift.size - 1) * (after & (scenario == code)).sum())
        if count:
            more = kind.purchases(world, count, drift.day * DAY, days * DAY, rng)
            parts.append(numbered(more, code, parts[-1], world))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in rows}
    return whole, flipped + len(whole["id"]) - len(rows["id"])


def _dropped(episode: np.ndarray, present: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which of the rows ``present``, bool ``[n]``, lie in random episodes that hold about that share of them."""
    found, count = np.unique(episode[present], return_counts=True)
    order = rng.permutation(len(found))
    ends = np.cumsum(count[order])
    gone = found[order[ends - count[order] / 2 < share * count.sum()]]
    return present & np.isin(episode, gone)


def _flip(drift: Drift, scenario: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> int:
    """Changes frauds by chance in ``scenario``, in place, and returns how many."""
    present = after & (scenario == CHANCE)
    pool = np.flatnonzero(present if drift.size < 1 else after & (scenario == 0))
    count = min(round(abs(drift.size - 1) * present.sum()), len(pool))
    scenario[rng.choice(pool, count, replace=False)] = 0 if drift.size < 1 else CHANCE
    return count


def numbered(rows: Rows, code: int, before: Rows, world: World) -> Rows:
    """Purchases of a scenario with ids and episodes that follow those of ``before``, and with categories."""
    return rows | {
        "id": before["id"].max() + 1 + np.arange(len(rows["time"])),
        "episode": before["episode"].max() + 1 + rows["episode"],
        "scenario": np.full(len(rows["time"]), code),
        "category": world.category[rows["merchant"]],
        "amount": np.maximum(np.round(rows["amount"], 2), 0.5),
    }
