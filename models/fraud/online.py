"""A purchase at the gateway: what a client sends, what is known of its past, and what is answered."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.fraud.history import shared_history
from models.fraud.history.online_history import LATE, OnlineHistory
from models.fraud.history.point_in_time import (
    DAY,
    LABEL_DELAY_DAYS,
    LONGEST,
    PAST,
    SECOND,
    customer_names,
    merchant_names,
    moment,
)

Name = Annotated[str, Field(min_length=1, max_length=64)]
Word = Annotated[str, Field(max_length=64)]
LARGEST_AMOUNT, FARTHEST_KM = 1e6, 25_000.0  # as the curated schema has them
JOURNAL = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount")


class Purchase(BaseModel):
    """A raw card purchase."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Purchase")

    transaction_id: Name
    event_time: Annotated[datetime, Field(description="ISO 8601; without a zone it is UTC.")]
    customer_id: Name
    merchant_id: Name
    amount: Annotated[float, Field(ge=0, le=LARGEST_AMOUNT, allow_inf_nan=False)]
    category: Word | None = None
    channel: Word | None = None
    device: Word | None = None
    distance_km: Annotated[float, Field(ge=0, le=FARTHEST_KM, allow_inf_nan=False)] = 0.0


class Verdict(BaseModel):
    """What the model says of it."""

    score: Annotated[float, Field(ge=0, le=1, description="Probability of fraud.")]
    decision: Literal["pass", "stop"]
    threshold: Annotated[float, Field(description="Scores from here on are stopped.")]
    anomaly: Annotated[float, Field(description="How unlike honest purchases it is.")]


class Purchases:
    """The gateway's view of card fraud; see ``serving.gateway.use_case_interface.Shareable``.

    A purchase may be at most a day ahead of the clock, or, where the history that was loaded lies ahead of the clock
    itself, a window ahead of that: one purchase in the far future would make its customer's whole past forgotten.
    """

    Request, Answer = Purchase, Verdict
    most_bytes = 16 << 10
    floats = {
        **dict.fromkeys(("amount", "distance_km", *customer_names(), *merchant_names()), 1),
        **dict.fromkeys(("past_amount", "past_age"), PAST),
    }
    hints = ("amount", "category", "channel", "device", "distance_km", *customer_names(), *merchant_names())
    remembers = True

    def __init__(self, delay: int = LABEL_DELAY_DAYS) -> None:
        self.history, self._seeded = OnlineHistory(delay), 0

    def row(self, asked: Purchase) -> dict[str, Any]:
        """The purchase with its time in microseconds since 1970."""
        row = dict(asked.__dict__)
        at = row["event_time"] = moment(row["event_time"])
        if at < 0:
            raise ValueError("event_time: a purchase cannot be older than 1970.")
        if at > self._seeded + LONGEST and at > time.time() * SECOND + LATE:
            raise ValueError("event_time: the purchase lies more than a day in the future.")
        return row

    def key(self, row: Mapping[str, Any]) -> str:
        """The transaction's id."""
        return row["transaction_id"]

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Raw features as the training examples have them: times in seconds, the past beside the purchase."""
        return _features(row, self.history)

    def journal(self, row: Mapping[str, Any]) -> list[Any]:
        """Id, time, customer, merchant and amount."""
        return [row[name] for name in JOURNAL]

    def remember(self, journal: list[Any]) -> None:
        """Adds the purchase to its customer's and merchant's past."""
        self.history.add(dict(zip(JOURNAL, journal, strict=True)))

    def label(self, told: int | str) -> int:
        """1 for fraud, 0 for none."""
        if told not in (0, 1):
            raise ValueError("label: this is 1 for fraud or 0 for none.")
        return int(told)

    def learn(self, journal: list[Any], label: int, known: int) -> None:
        """Counts a known fraud for its merchant."""
        self.history.label(journal[3], journal[1], known, label)

    def answer(
        self, outputs: Mapping[str, np.ndarray], point: Mapping[str, float], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Score and decision; without an operating point the model's own decision, and a threshold of 0."""
        score, threshold = float(outputs["score"]), point.get("threshold", 0.0)
        # The model compares in float32: so that both say the same on the very edge.
        stop = score >= float(np.float32(threshold)) if point else outputs["decision"] >= 0.5
        decision = "stop" if stop else "pass"
        return {"score": score, "decision": decision, "threshold": threshold, "anomaly": float(outputs["anomaly"])}

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Remembers the purchases and known labels of folders of spans."""
        from models.fraud import purchases

        count = 0
        for span in spans:
            table = purchases.read(span, settings.get("columns", ""), self.history.delay)
            for row in table.select(SEEDS).sort_by([("event_time", "ascending")]).to_pylist():
                row["event_time"] = moment(row["event_time"])
                self.history.add(row)
                if row["is_fraud"] and row["label_time"]:
                    self.history.label(row["merchant_id"], row["event_time"], row["label_time"], 1)
                self._seeded = max(self._seeded, row["event_time"])
            count += table.num_rows
        return count

    def state(self) -> dict[str, Any]:
        """The history and how far the loaded part of it reaches."""
        return {"seeded": self._seeded, **self.history.state()}

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """The state at this moment, some customers or merchants at a time."""
        seeded, parts = self._seeded, self.history.snapshot()
        return ({"seeded": seeded, **part} for part in parts)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes the history back."""
        self._seeded = state["seeded"]
        self.history.load(state)

    @property
    def keeps(self) -> float:
        """The longest window, the delay before merchants are counted, and the day that a purchase may be late."""
        return (LONGEST + LATE + self.history.delay * DAY) / SECOND

    def names(self, row: Mapping[str, Any]) -> Sequence[str]:
        """The customer's record and the merchant's."""
        return shared_history.names(row)

    def recalled(
        self, row: Mapping[str, Any], records: Sequence[shared_history.Fields]
    ) -> tuple[dict[str, Any], shared_history.Change]:
        """Features from a history of these two records alone, by the same module."""
        history = shared_history.history(row, records, self.history.delay)
        return _features(row, history), shared_history.change(row, records, history)

    def learned(self, journal: list[Any], label: int, known: int) -> tuple[str, str]:
        """A known fraud counts for its merchant."""
        return shared_history.learned(journal[3], journal[1], known, label)

    def records(self) -> tuple[dict[str, Any], Iterator[tuple[str, shared_history.Fields]]]:
        """How far the loaded history reaches, and a record a customer and a merchant."""
        nobody = OnlineHistory(self.history.delay).state()
        return {"seeded": self._seeded, **nobody}, shared_history.records(self.history.state())


SEEDS = [*JOURNAL, "is_fraud", "label_time"]


def _features(row: Mapping[str, Any], history: OnlineHistory) -> dict[str, Any]:
    features = {**row, **history.features(row)}
    features["event_time"] = row["event_time"] // SECOND
    del features["past_length"]
    return features


def online() -> Purchases:
    """The case's object for the gateway."""
    return Purchases()
