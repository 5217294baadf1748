"""Pictures to send to the gateway: those of the last run that it has not learnt, or anybody's folder."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from models import spans
from models.errors import DataError
from models.image import readers
from models.image.data import places


def requests(
    data: str | None, source: str, cache: Path, first: int, last: int, drift: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Bodies, each with its label; see ``models.fraud.traffic``.

    Without ``data`` the train split is left out: what was learnt is answered more surely than anything new, and a monitor
    would take that for drift.

    Raises:
        DataError: for spans that are not there, or any drift.
    """
    if drift:
        raise DataError("The image case has no generator, hence no --drift.")
    for folder in spans.window(Path(data or source), first, last).values():
        for batch in readers.read(folder):
            if not data:
                batch = batch.filter(pa.array(places(batch, settings) != "train"))
            for row in batch.select(["key", "image", "label"]).to_pylist():
                body = {"key": row["key"], "image": base64.b64encode(row["image"]).decode()}
                yield body, {"label": row["label"]}


def check(answer: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer: its probabilities have to be some, and its decision the greatest."""
    probabilities = answer["probabilities"]
    if abs(sum(probabilities.values()) - 1) > 1e-3:
        return "probabilities that do not sum to 1"
    if probabilities[answer["decision"]] != max(probabilities.values()):
        return "a decision that is not the likeliest class"
    return None
