"""Pictures to send to the gateway: those that the last run did not train on, or any folder."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from models import spans
from models.errors import DataError
from models.image.data import assign_splits
from models.image.raw import readers


def requests(
    data: str | None,
    source: str,
    cache: Path,
    bounds: tuple[int, int],
    drift: Sequence[str],
    settings: Mapping[str, Any],
    window: tuple[int, int] = (-1, -1),
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield request bodies, each with its label; see ``models.fraud.traffic``.

    Without ``data`` the train split is left out, as the model is more confident on training examples than on new pictures,
    which a monitor would report as drift.

    Raises:
        DataError: for spans that do not exist, or for any drift.
    """
    if drift:
        raise DataError("The image case has no generator, so it does not support --drift.")
    first, last = window if not data and bounds == (-1, -1) else bounds
    for folder in spans.select_window(Path(data or source), first, last).values():
        for batch in readers.read(folder):
            if not data:
                splits = assign_splits(batch["key"].to_pylist(), batch["part"].to_pylist(), settings)
                batch = batch.filter(pa.array(splits != "train"))
            for row in batch.select(["key", "image", "label"]).to_pylist():
                body = {"key": row["key"], "image": base64.b64encode(row["image"]).decode()}
                yield body, {"label": row["label"]}


def renew(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the picture, which may be sent any number of times; see ``models.fraud.traffic``."""
    return body


def check(answer: Mapping[str, Any]) -> str | None:
    """Describe the error of an answer, or None; probabilities have to sum to 1, and the decision has to be the largest."""
    probabilities = answer["probabilities"]
    if abs(sum(probabilities.values()) - 1) > 1e-3:
        return "probabilities that do not sum to 1"
    if probabilities[answer["decision"]] != max(probabilities.values()):
        return "a decision that is not the most probable class"
    return None
