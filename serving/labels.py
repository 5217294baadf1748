"""Late labels: what a prediction turned out to be, joined to its record, counted once."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from serving.log_files import Place, find
from serving.memory import UnreachedError
from serving.online_store import JOURNAL, Conflict, journal
from serving.prediction_log import UnwrittenError
from serving.refused import Refused
from serving.scoring import Scorer
from serving.wire import decode, entry, example

IDENTITY = re.compile(r"([a-z0-9_-]+)\.([0-9a-f]{1,8})\.([0-9a-f]{1,12})\.[0-9a-f]{8}")


class Label(BaseModel):
    """What became of a prediction."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Label")

    prediction_id: Annotated[str, Field(max_length=128, description="As the answer gave it.")]
    label: Annotated[int | str, Field(description="The case's label.")]
    label_time: Annotated[
        datetime | None, Field(description="When it became known, ISO 8601, without a zone UTC; by default now.")
    ] = None


class Labelled(BaseModel):
    """A label that is kept."""

    prediction_id: str
    outcome: Annotated[Literal["kept", "known"], Field(description="known where the same label was there already.")]


async def take(scorers: Mapping[str, Scorer], told: Label) -> Labelled:
    """Keeps a label; on disk when this returns.

    Raises:
        Refused: for a prediction that is not kept, a label that the case does not have, or another than was given before.
    """
    scorer, record = _record(scorers, told.prediction_id)
    try:
        label = scorer.online.label(told.label)
        known = _microseconds(told.label_time)
        key, row = record["served/key"][0].decode(), orjson.loads(record[JOURNAL][0])
        outcome = "kept" if await _kept(scorer, told.prediction_id, key, label, known, row) else "known"
    except Conflict as error:
        raise Refused(409, str(error)) from None
    except ValueError as error:
        raise Refused(422, str(error)) from None
    except UnwrittenError as error:
        raise Refused(503, str(error), 1.0) from None
    except UnreachedError as error:
        raise Refused(503, str(error), error.after) from None
    scorer.metrics.labels.labels(scorer.name, outcome).inc()
    return Labelled(prediction_id=told.prediction_id, outcome=outcome)


async def _kept(scorer: Scorer, identity: str, key: str, label: int | str, known: int, row: list) -> bool:
    """Whether the label was new. Two that come at once wait for each other."""
    async with scorer.labelling:
        if not await scorer.memory.takes(key, label):
            return False
        entries = (entry("label/id", identity), entry("label/key", key), entry("label/value", label))
        record = example(*entries, entry("label/time", known), journal([key, label, known, row]))
        await scorer.labels.append(record)
        return await scorer.memory.learn(key, label, known, row)


def _record(scorers: Mapping[str, Scorer], identity: str) -> tuple[Scorer, dict[str, list]]:
    """The scorer and the record of a prediction: its id says where it lies."""
    parts = IDENTITY.fullmatch(identity)
    scorer = scorers.get(parts[1]) if parts else None
    if scorer is None:
        raise Refused(404, "prediction_id: this gateway has made no such prediction.")
    data = find(scorer.log.folder, Place(int(parts[2], 16), int(parts[3], 16)))
    record = decode(data) if data else {}
    if record.get("served/id") != [identity.encode()]:
        raise Refused(404, "prediction_id: this gateway has made no such prediction, or does not keep it any more.")
    return scorer, record


def _microseconds(when: datetime | None) -> int:
    if when is None:
        return time.time_ns() // 1000
    known = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e6)
    if known < 0:
        raise ValueError("label_time: a label cannot be older than 1970.")
    return known
