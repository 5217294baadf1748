"""Late labels: the true outcomes of predictions, joined to the logged records, each counted once."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from serving.gateway.history.memory import StoreUnavailableError
from serving.gateway.history.online_store import JOURNAL, LabelConflictError
from serving.gateway.log.log_files import LogPosition, find_record
from serving.gateway.log.prediction_log import LogWriteError
from serving.gateway.log.tf_example import decode, encode_example
from serving.gateway.scoring import Scorer
from serving.http.request_errors import RequestError

MAX_LABELS, YIELD_EVERY = 1000, 20  # labels per request; lookups between two yields to the event loop
PREDICTION_ID = re.compile(r"([a-z0-9_-]+)\.([0-9a-f]{1,8})\.([0-9a-f]{1,12})\.[0-9a-f]{8}")


class Label(BaseModel):
    """The true outcome of one prediction."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Label")

    prediction_id: Annotated[str, Field(max_length=128, description="The prediction_id of the score response.")]
    label: Annotated[int | str, Field(description="The true label, as the use case defines it.")]
    label_time: Annotated[
        str | int | float | None,
        WithJsonSchema(
            {
                "anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}],
                "description": "When the label became known: ISO 8601 text, UTC if it has no time zone, or seconds since 1970 "
                "as a number; neither before its row nor in the future; default: now.",
            },
            mode="validation",
        ),
    ] = None


Outcome = Literal["kept", "known"]


class Labelled(BaseModel):
    """A stored label."""

    prediction_id: str
    outcome: Annotated[
        Outcome, Field(description="'kept' for a new label; 'known' if the same label was stored before.")
    ]


class Labels(BaseModel):
    """The true outcomes of several predictions of one case."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Labels")

    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)]


class AllLabelled(BaseModel):
    """Stored labels, in the order of the request."""

    labels: list[Labelled]


@dataclass(frozen=True)
class JoinedLabel:
    """A label joined with its prediction's record: everything that the label's own record needs.

    Attributes:
        identity: The prediction's id.
        key: The row's key.
        label: The label, in the case's own form.
        known_at: When it became known, in microseconds since 1970.
        row: The row's journal, as ``Online.journal`` returned it.
    """

    identity: str
    key: str
    label: int | str
    known_at: int
    row: list[Any]

    def record(self) -> bytes:
        """Return the record for the log of labels."""
        return encode_example(
            {
                "label/id": self.identity,
                "label/key": self.key,
                "label/value": self.label,
                "label/time": self.known_at,
                JOURNAL: orjson.dumps([self.key, self.label, self.known_at, self.row]),
            }
        )


async def store_labels(scorers: Mapping[str, Scorer], labels: Sequence[Label]) -> list[Labelled]:
    """Store labels of one case; when this returns they are on disk, as one group. If one is rejected, none is stored.

    Raises:
        RequestError: for a prediction that is not in the log, a label that the case does not define or that contradicts an
            earlier label, or predictions of several cases.
    """
    predictions = []
    for label in labels:
        predictions.append(_find_prediction(scorers, label.prediction_id))
        if not len(predictions) % YIELD_EVERY:
            await asyncio.sleep(0)  # each lookup reads a file; let other requests run in between
    scorer = predictions[0][0]
    if any(other is not scorer for other, _ in predictions):
        raise RequestError(422, "labels: all predictions of one request must belong to one case.")
    try:
        joined = [_join(scorer, label, record) for label, (_, record) in zip(labels, predictions, strict=True)]
        is_new = await _store(scorer, joined)
    except LabelConflictError as error:
        raise RequestError(409, str(error)) from None
    except ValueError as error:
        raise RequestError(422, str(error)) from None
    except LogWriteError as error:
        raise RequestError(503, str(error), 1.0) from None
    except StoreUnavailableError as error:
        raise RequestError(503, str(error), error.retry_after) from None
    outcomes: list[Outcome] = ["kept" if new else "known" for new in is_new]
    for outcome in outcomes:
        scorer.metrics.labels.labels(scorer.name, outcome).inc()
    return [
        Labelled(prediction_id=label.identity, outcome=outcome) for label, outcome in zip(joined, outcomes, strict=True)
    ]


def _join(scorer: Scorer, label: Label, record: Mapping[str, list[Any]]) -> JoinedLabel:
    key, row = record["served/key"][0].decode(), orjson.loads(record[JOURNAL][0])
    known_at = scorer.online.label_time(row, label.label_time, time.time_ns() // 1000)
    return JoinedLabel(label.prediction_id, key, scorer.online.label(label.label), known_at, row)


async def _store(scorer: Scorer, labels: Sequence[JoinedLabel]) -> list[bool]:
    """Store the labels and return which of them were new. A lock serializes concurrent requests."""
    async with scorer.label_lock:
        first: dict[str, JoinedLabel] = {}
        for label in labels:
            if first.setdefault(label.key, label).label != label.label:
                raise LabelConflictError(
                    f"'{label.key}' is labelled {first[label.key].label} and {label.label} in the same request."
                )
        fresh = [label for label in first.values() if await scorer.memory.is_new_label(label.key, label.label)]
        await asyncio.gather(*(scorer.labels.append(label.record()) for label in fresh))
        learnt = {
            label.key for label in fresh if await scorer.memory.learn(label.key, label.label, label.known_at, label.row)
        }
    return [label.key in learnt and first[label.key] is label for label in labels]


def _find_prediction(scorers: Mapping[str, Scorer], identity: str) -> tuple[Scorer, dict[str, list[Any]]]:
    """Return the scorer and the record of a prediction; its id encodes the record's position in the log."""
    parts = PREDICTION_ID.fullmatch(identity)
    scorer = scorers.get(parts[1]) if parts else None
    if parts is None or scorer is None:
        raise RequestError(404, "prediction_id: this gateway made no prediction with this id.")
    data = find_record(scorer.log.folder, LogPosition(int(parts[2], 16), int(parts[3], 16)))
    record = decode(data) if data else {}
    if record.get("served/id") != [identity.encode()]:
        raise RequestError(404, "prediction_id: this gateway made no prediction with this id, or no longer keeps it.")
    return scorer, record
