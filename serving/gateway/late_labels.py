"""Late labels: what a prediction turned out to be, joined to its record, counted once."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from serving.gateway.history.memory import UnreachedError
from serving.gateway.history.online_store import JOURNAL, Conflict, journal
from serving.gateway.log.log_files import Place, find
from serving.gateway.log.prediction_log import UnwrittenError
from serving.gateway.log.tf_example import decode, entry, example
from serving.gateway.request_errors import Refused
from serving.gateway.scoring import Scorer

MOST, PAUSE = 1000, 20  # labels of a request; after so many of them others have their turn
IDENTITY = re.compile(r"([a-z0-9_-]+)\.([0-9a-f]{1,8})\.([0-9a-f]{1,12})\.[0-9a-f]{8}")


class Label(BaseModel):
    """What became of a prediction."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Label")

    prediction_id: Annotated[str, Field(max_length=128, description="As the answer gave it.")]
    label: Annotated[int | str, Field(description="The case's label.")]
    label_time: Annotated[
        datetime | None, Field(description="When it became known, ISO 8601, without a zone UTC; by default now.")
    ] = None


Outcome = Literal["kept", "known"]


class Labelled(BaseModel):
    """A label that is kept."""

    prediction_id: str
    outcome: Annotated[Outcome, Field(description="known where the same label was there already.")]


class Labels(BaseModel):
    """What became of several predictions of one case."""

    model_config = ConfigDict(strict=True, extra="forbid", title="Labels")

    labels: Annotated[list[Label], Field(min_length=1, max_length=MOST)]


class AllLabelled(BaseModel):
    """Labels that are kept, in the order in which they came."""

    labels: list[Labelled]


@dataclass(frozen=True)
class Told:
    """A label with what the prediction's record says: everything that its own record needs."""

    identity: str
    key: str
    label: int | str
    known: int
    row: list[Any]

    def record(self) -> bytes:
        """As the log of labels has it."""
        entries = (entry("label/id", self.identity), entry("label/key", self.key), entry("label/value", self.label))
        return example(*entries, entry("label/time", self.known), journal([self.key, self.label, self.known, self.row]))


async def take(scorers: Mapping[str, Scorer], told: Sequence[Label]) -> list[Labelled]:
    """Keeps labels of one case; on disk, in one group, when this returns. None of them is kept where one is refused.

    Raises:
        Refused: for a prediction that is not kept, a label that the case does not have, another than was given before, or
            predictions of several cases.
    """
    found = []
    for one in told:
        found.append(_record(scorers, one.prediction_id))
        if not len(found) % PAUSE:
            await asyncio.sleep(0)  # each is read from a file, and others wait for answers
    scorer = found[0][0]
    if any(other is not scorer for other, _ in found):
        raise Refused(422, "labels: those of one request belong to one case.")
    try:
        known = [_told(scorer, one, record) for one, (_, record) in zip(told, found, strict=True)]
        new = await _kept(scorer, known)
    except Conflict as error:
        raise Refused(409, str(error)) from None
    except ValueError as error:
        raise Refused(422, str(error)) from None
    except UnwrittenError as error:
        raise Refused(503, str(error), 1.0) from None
    except UnreachedError as error:
        raise Refused(503, str(error), error.after) from None
    outcomes: list[Outcome] = ["kept" if one else "known" for one in new]
    for outcome in outcomes:
        scorer.metrics.labels.labels(scorer.name, outcome).inc()
    return [Labelled(prediction_id=one.identity, outcome=outcome) for one, outcome in zip(known, outcomes, strict=True)]


def _told(scorer: Scorer, told: Label, record: Mapping[str, list[Any]]) -> Told:
    key, row = record["served/key"][0].decode(), orjson.loads(record[JOURNAL][0])
    return Told(told.prediction_id, key, scorer.online.label(told.label), _microseconds(told.label_time), row)


async def _kept(scorer: Scorer, told: Sequence[Told]) -> list[bool]:
    """Which labels were new. Two requests that come at once wait for each other."""
    async with scorer.labelling:
        first: dict[str, Told] = {}
        for one in told:
            if first.setdefault(one.key, one).label != one.label:
                raise Conflict(f"'{one.key}' is labelled {first[one.key].label} and {one.label} in one request.")
        fresh = [one for one in first.values() if await scorer.memory.takes(one.key, one.label)]
        await asyncio.gather(*(scorer.labels.append(one.record()) for one in fresh))
        learnt = {one.key for one in fresh if await scorer.memory.learn(one.key, one.label, one.known, one.row)}
    return [one.key in learnt and first[one.key] is one for one in told]


def _record(scorers: Mapping[str, Scorer], identity: str) -> tuple[Scorer, dict[str, list[Any]]]:
    """The scorer and the record of a prediction: its id says where it lies."""
    parts = IDENTITY.fullmatch(identity)
    scorer = scorers.get(parts[1]) if parts else None
    if parts is None or scorer is None:
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
