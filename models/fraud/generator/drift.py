"""Drift of a known kind, size and day in generated purchases, so that the alarms of a monitor can be checked."""

import re
from dataclasses import dataclass

import numpy as np

from models.fraud.generator.fraud_scenarios import CHANCE, SCENARIOS, apply_new_pattern
from models.fraud.generator.world import CATEGORIES, DAY, ONLINE, Rows, World, random_stream

RAMP_DAYS = 14
CENTS = 100
# Names of a category in the data: its name, two corrupted spellings, and one that is in no training data.
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
    """One change of the data that starts on a given day.

    Attributes:
        kind: A key of ``KINDS``, which defines the meaning of ``size``.
        size: A factor above 0, or a share in (0, 1].
        day: First day with the drift, from 0; the drift lasts to the end.

    Raises:
        ValueError: for a kind, size or day that is not allowed; names the allowed values.
    """

    kind: str
    size: float
    day: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"There is no drift '{self.kind}'; there are {', '.join(KINDS)}.")
        maximum = 100.0 if self.kind in FACTORS else 1.0
        if not 0 < self.size <= maximum:
            raise ValueError(f"The size of '{self.kind}' is a {KINDS[self.kind]}, above 0 and at most {maximum:g}.")
        if self.day < 0:
            raise ValueError(f"A drift begins on day 0 or later, not on day {self.day}.")

    @staticmethod
    def parse(text: str) -> "Drift":
        """Parse ``KIND:SIZE@DAY``, such as ``amount:1.05@30``.

        Raises:
            ValueError: for any other text; names the syntax and the kinds.
        """
        match = re.fullmatch(r"([^:@]+):([0-9]*\.?[0-9]+)@([0-9]+)", text.strip())
        if not match:
            syntax = "KIND:SIZE@DAY, such as amount:1.05@30"
            raise ValueError(f"'{text}' is not a drift; write {syntax}, where KIND is one of {', '.join(KINDS)}.")
        return Drift(match[1], float(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.kind}:{self.size:g}@{self.day}"


def inject(drift: Drift, rows: Rows, world: World, days: int, seed: int) -> tuple[Rows, int]:
    """Return the rows with the drift applied, and the number of rows that were changed, added or removed.

    Each drift has its own random stream, with one number for each row id. So the other rows and the rows before the day do not
    change, and the result does not depend on other drifts.
    """
    if drift.kind == "prior":
        return _prior(drift, rows, world, days, seed)
    after = rows["time"] >= drift.day * DAY
    draws = random_stream(seed, str(drift)).random(rows["id"].max() + 1)[rows["id"]]
    changed = _change(drift, rows, after, after & (draws < drift.size), world, seed)
    touched = np.zeros(len(after), bool)
    for name in changed:
        touched |= changed[name] != rows[name]
    return rows | changed, int(touched.sum())


def _change(drift: Drift, rows: Rows, after: np.ndarray, chosen: np.ndarray, world: World, seed: int) -> Rows:
    """Return the changed columns; ``chosen`` marks the share ``size`` of the rows ``after`` the day, both bool ``[n]``."""
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
    """Give whole fraud episodes the new pattern; frauds by chance follow no pattern and do not change."""
    rng = random_stream(seed, f"{drift} pattern")
    fraud = (rows["scenario"] > 0) & (rows["scenario"] < CHANCE) & (rows["time"] >= drift.day * DAY)
    fraud[fraud] = rng.random(rows["episode"].max() + 1)[rows["episode"][fraud]] < drift.size
    new = apply_new_pattern(world, {name: column[fraud] for name, column in rows.items()}, rng)
    changed = {name: rows[name].copy() for name in ("merchant", "amount", "channel", "device")}
    for name, column in changed.items():
        column[fraud] = new[name]
    return changed | {"category": world.category[changed["merchant"]]}


def _prior(drift: Drift, rows: Rows, world: World, days: int, seed: int) -> tuple[Rows, int]:
    """Add frauds with new ids, or remove whole episodes of existing fraud; honest rows do not change.

    Frauds by chance are the exception, as they are relabelled honest rows: there labels are flipped.
    """
    rng, after = random_stream(seed, f"{drift} prior"), rows["time"] >= drift.day * DAY
    scenario = rows["scenario"].copy()
    flipped = _flip(drift, scenario, after, rng)
    rows = rows | {"scenario": scenario}
    if drift.size < 1:
        removed = np.zeros(len(after), bool)
        for code in range(1, CHANCE):
            removed |= _choose_episodes(rows["episode"], after & (scenario == code), 1 - drift.size, rng)
        return {name: column[~removed] for name, column in rows.items()}, flipped + int(removed.sum())
    parts = [rows]
    for code, kind in enumerate(SCENARIOS[:-1], 1):
        count = round((drift.size - 1) * (after & (scenario == code)).sum())
        if count:
            added = kind.purchases(world, count, drift.day * DAY, days * DAY, rng)
            parts.append(assign_ids(added, code, parts[-1], world))
    combined = {name: np.concatenate([part[name] for part in parts]) for name in rows}
    return combined, flipped + len(combined["id"]) - len(rows["id"])


def _choose_episodes(episode: np.ndarray, present: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mark the rows in random episodes that together hold about ``share`` of the rows ``present``, bool ``[n]``."""
    episodes, count = np.unique(episode[present], return_counts=True)
    order = rng.permutation(len(episodes))
    ends = np.cumsum(count[order])
    removed = episodes[order[ends - count[order] / 2 < share * count.sum()]]
    return present & np.isin(episode, removed)


def _flip(drift: Drift, scenario: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> int:
    """Flip frauds by chance in ``scenario``, in place, and return their number."""
    present = after & (scenario == CHANCE)
    pool = np.flatnonzero(present if drift.size < 1 else after & (scenario == 0))
    count = min(round(abs(drift.size - 1) * present.sum()), len(pool))
    scenario[rng.choice(pool, count, replace=False)] = 0 if drift.size < 1 else CHANCE
    return count


def assign_ids(rows: Rows, code: int, before: Rows, world: World) -> Rows:
    """Add ids and episodes that continue those of ``before``, the scenario code and categories to purchases."""
    return rows | {
        "id": before["id"].max() + 1 + np.arange(len(rows["time"])),
        "episode": before["episode"].max() + 1 + rows["episode"],
        "scenario": np.full(len(rows["time"]), code),
        "category": world.category[rows["merchant"]],
        "amount": np.maximum(np.round(rows["amount"], 2), 0.5),
    }
