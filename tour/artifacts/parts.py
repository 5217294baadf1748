"""Parts of a page about an artifact, in addition to the kinds of evidence; ``stage_parts.html`` has a macro for each."""

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
    title: str
    drawn: Markup
    note: str = ""


@dataclass(frozen=True)
class Features:
    """Statistics of features by split; see ``tour.artifacts.statistics.features``."""

    title: str
    splits: Sequence[str]
    features: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Threshold:
    """Threshold slider for two classes; ``table`` holds the counts of ``tour.artifacts.curves.threshold_table``."""

    title: str
    table: Mapping[str, Any]
    prices: Mapping[str, float]
    served: Mapping[str, float]
    roc: Markup
    pr: Markup


@dataclass(frozen=True)
class Classes:
    """Confidence slider and confusion matrix; ``table`` holds the counts of ``tour.artifacts.curves.confidence_table``."""

    title: str
    names: Sequence[str]
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Later:
    """Placeholder for a part that another process computes; the page loads it from ``address``."""

    title: str
    address: str


@dataclass(frozen=True)
class RunContext:
    """The run of an artifact, for its reader.

    Attributes:
        case: Name of the use case.
        run: Id of the run.
        facts: Record of the run.
        outputs: All artifacts of the run by output key.
        metric: Metric of the case.
        settings: Settings of the case by section.
    """

    case: str
    run: str
    facts: Mapping[str, str]
    outputs: Mapping[str, Artifact]
    metric: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Part = Any  # one of the classes above, or of ``tour.evidence.result_types``
Reader = Callable[[Artifact, RunContext], Iterator[Part]]


def load_json(path: Path) -> Any:
    """Load a JSON file.

    Raises:
        ValueError: if the file is not JSON, or too large to be shown.
    """
    if path.stat().st_size > MOST_JSON:
        raise ValueError(f"{path.name} is larger than {MOST_JSON >> 20} MiB, the most that a page shows")
    return json.loads(path.read_text())
