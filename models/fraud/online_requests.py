"""Card fraud at the gateway: request and response models, features from the online history, and answers."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.data.request_times import RequestTime, check_label_time
from models.fraud.history import shared_history
from models.fraud.history.online_history import LATE, OnlineHistory
from models.fraud.history.point_in_time import (
    DAY,
    LABEL_DELAY_DAYS,
    LONGEST,
    SECOND,
    customer_names,
    merchant_names,
    to_microseconds,
)
from models.fraud.identity import MAX_CATEGORY_LENGTH, MAX_ID_LENGTH, normalise_category, normalise_id
from models.fraud.raw.columns import LARGEST, NO_DISTANCE, NO_TEXT

Id = Annotated[
    str,
    BeforeValidator(normalise_id),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}],
            "description": f"Text of at most {MAX_ID_LENGTH} characters without surrounding blanks, or a whole number.",
        },
        mode="validation",
    ),
]
Category = Annotated[
    str,
    AfterValidator(normalise_category),
    WithJsonSchema(
        {
            "type": "string",
            "description": f"Text of at most {MAX_CATEGORY_LENGTH} characters; blank, or a word such as NaN, if missing.",
        },
        mode="validation",
    ),
]
JOURNAL = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount")


class Purchase(BaseModel):
    """A raw card purchase.

    A field that is left out has the value that stands in for a column that the data lacks; null is a missing value, as in a
    column.
    """

    model_config = ConfigDict(strict=True, extra="forbid", title="Purchase")

    transaction_id: Id
    event_time: RequestTime
    customer_id: Id
    merchant_id: Id
    amount: Annotated[float, Field(ge=0, le=LARGEST["amount"], allow_inf_nan=False)]
    category: Category | None = NO_TEXT
    channel: Category | None = NO_TEXT
    device: Category | None = NO_TEXT
    distance_km: Annotated[float, Field(ge=0, le=LARGEST["distance_km"], allow_inf_nan=False)] = NO_DISTANCE


class Verdict(BaseModel):
    """The model's answer for a purchase."""

    score: Annotated[float, Field(ge=0, le=1, description="Probability of fraud.")]
    decision: Literal["pass", "stop"]
    threshold: Annotated[float, Field(description="Purchases with at least this score are stopped.")]
    anomaly: Annotated[float, Field(description="Anomaly score: distance from honest purchases.")]


class Purchases:
    """The gateway's interface to card fraud; see ``serving.gateway.use_case_interface.Shareable``.

    A purchase may be at most a day ahead of the clock, or, if the loaded history is ahead of the clock, at most a window ahead
    of that history. Otherwise one purchase in the far future would evict its customer's whole past.
    """

    Request, Answer = Purchase, Verdict
    max_bytes = 16 << 10
    explained_features = (
        "amount",
        "category",
        "channel",
        "device",
        "distance_km",
        *customer_names(),
        *merchant_names(),
    )
    reads_files = False
    has_history = True

    def __init__(self, delay: int = LABEL_DELAY_DAYS) -> None:
        self.history, self._seeded = OnlineHistory(delay), 0

    def row(self, request: Purchase) -> dict[str, Any]:
        """Return the purchase; its time is in microseconds since 1970."""
        row = dict(request.__dict__)
        at = row["event_time"]
        if at < 0:
            raise ValueError("event_time: a purchase cannot be older than 1970.")
        if at > self._seeded + LONGEST and at > time.time() * SECOND + LATE:
            raise ValueError("event_time: the purchase lies more than a day in the future.")
        return row

    def key(self, row: Mapping[str, Any]) -> str:
        """Return the transaction id."""
        return row["transaction_id"]

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return raw features as in the training examples: times in seconds, purchase and past together."""
        return _features(row, self.history)

    def journal(self, row: Mapping[str, Any]) -> list[Any]:
        """Return id, time, customer, merchant and amount."""
        return [row[name] for name in JOURNAL]

    def remember(self, journal: list[Any]) -> None:
        """Add the purchase to the past of its customer and merchant."""
        self.history.add(dict(zip(JOURNAL, journal, strict=True)))

    def label(self, value: int | str) -> int:
        """Return the label: 1 for fraud, 0 for an honest purchase."""
        if value not in (0, 1):
            raise ValueError("label: give 1 for fraud or 0 for an honest purchase.")
        return int(value)

    def label_time(self, journal: list[Any], value: Any, now: int) -> int:
        """Return when the label became known: not before its purchase, and not in the future."""
        return check_label_time(value, now, journal[JOURNAL.index("event_time")])

    def learn(self, journal: list[Any], label: int, label_time: int) -> None:
        """Count a labelled fraud for its merchant."""
        self.history.label(journal[3], journal[1], label_time, label)

    def answer(
        self, outputs: Mapping[str, np.ndarray], point: Mapping[str, float], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return score and decision; without an operating point the model's own decision and a threshold of 0."""
        score, threshold = float(outputs["score"]), point.get("threshold", 0.0)
        # The model compares in float32; comparing likewise gives the same decision for a score at the threshold.
        stop = score >= float(np.float32(threshold)) if point else outputs["decision"] >= 0.5
        decision = "stop" if stop else "pass"
        return {"score": score, "decision": decision, "threshold": threshold, "anomaly": float(outputs["anomaly"])}

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Add the purchases and labels of folders of spans to the history; return their number."""
        from models.fraud import purchases
        from models.fraud.raw.outliers import select_period

        count = 0
        for table in purchases.read_spans(spans, {**settings, "label_delay_days": self.history.delay}):
            if "first_day" in settings:
                table = select_period(table, settings["first_day"], settings["last_day"])
            for row in table.select(SEEDS).sort_by([("event_time", "ascending")]).to_pylist():
                row["event_time"] = to_microseconds(row["event_time"])
                self.history.add(row)
                if row["is_fraud"] and row["label_time"]:
                    self.history.label(row["merchant_id"], row["event_time"], row["label_time"], 1)
                self._seeded = max(self._seeded, row["event_time"])
            count += table.num_rows
        return count

    def state(self) -> dict[str, Any]:
        """Return the history and the time of the last purchase that was seeded."""
        return {"seeded": self._seeded, **self.history.state()}

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """Yield the current state, some customers or merchants in each part."""
        seeded, parts = self._seeded, self.history.snapshot()
        return ({"seeded": seeded, **part} for part in parts)

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state or a part of a snapshot."""
        self._seeded = state["seeded"]
        self.history.load(state)

    @property
    def retention_seconds(self) -> float:
        """Seconds for which a record is needed: longest window, delay of merchant counts, and a day for late purchases."""
        return (LONGEST + LATE + self.history.delay * DAY) / SECOND

    def names(self, row: Mapping[str, Any]) -> Sequence[str]:
        """Return the names of the customer's and the merchant's record."""
        return shared_history.record_names(row)

    def features_from_records(
        self, row: Mapping[str, Any], records: Sequence[shared_history.Fields]
    ) -> tuple[dict[str, Any], shared_history.PurchaseChange]:
        """Return the features from a history of only these two records, and the change that adds the purchase."""
        history = shared_history.build_history(row, records, self.history.delay)
        return _features(row, history), shared_history.add_purchase(row, records, history)

    def label_counter(self, journal: list[Any], label: int, label_time: int) -> tuple[str, str]:
        """Return the record and field that count a labelled fraud for its merchant."""
        return shared_history.label_counter(journal[3], journal[1], label_time, label)

    def records(self) -> tuple[dict[str, Any], Iterator[tuple[str, shared_history.Fields]]]:
        """Return the time of the last seeded purchase with an empty history, and a record for each customer and merchant."""
        empty = OnlineHistory(self.history.delay).state()
        return {"seeded": self._seeded, **empty}, shared_history.records(self.history.state())


SEEDS = [*JOURNAL, "is_fraud", "label_time"]


def _features(row: Mapping[str, Any], history: OnlineHistory) -> dict[str, Any]:
    features = {**row, **history.features(row)}
    features["event_time"] = row["event_time"] // SECOND
    del features["past_length"]
    return features


def online() -> Purchases:
    """Create the gateway's interface to this case."""
    return Purchases()
