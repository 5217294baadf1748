"""What a page shows of an artifact, beside the kinds of evidence; ``stage_parts.html`` has a macro for each."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tour.trace import Artifact

MOST_JSON = 4 << 20


@dataclass(frozen=True)
class Chart:
    """A drawing with a title, and what to know of it."""

    title: str
    drawn: Markup
    note: str = ""


@dataclass(frozen=True)
class Features:
    """Features by split; see ``tour.artifacts.statistics.features``."""

    title: str
    splits: Sequence[str]
    features: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Threshold:
    """Two classes: counts by threshold, which a person can move along; see ``tour.artifacts.curves.table``."""

    title: str
    told: Mapping[str, Any]
    prices: Mapping[str, float]
    served: Mapping[str, float]
    roc: Markup
    pr: Markup


@dataclass(frozen=True)
class Classes:
    """Several classes: rows answered by confidence, and the matrix; see ``tour.artifacts.curves.confidence``."""

    title: str
    names: Sequence[str]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Later:
    """What is computed in another process and put here when it is there."""

    title: str
    address: str


@dataclass(frozen=True)
class Sight:
    """What a reader may look at beside the artifact.

    Attributes:
        case: Name of the use case.
        run: The run's id.
        facts: The run's record.
        outputs: All artifacts of the run by key.
        metric: What the case is judged by.
    """

    case: str
    run: str
    facts: Mapping[str, str]
    outputs: Mapping[str, Artifact]
    metric: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Part = Any  # one of these, or one of ``tour.evidence.result_types``
Reader = Callable[[Artifact, Sight], Iterator[Part]]


def loaded(path: Path) -> Any:
    """A JSON file of ours.

    Raises:
        ValueError: for one that is none, or too large to be shown.
    """
    if path.stat().st_size > MOST_JSON:
        raise ValueError(f"{path.name} is larger than {MOST_JSON >> 20} MB")
    return json.loads(path.read_text())
