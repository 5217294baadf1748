"""The record of a run: what it was asked to do, and how it ended."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run of a use case.

    The metadata store keeps ``facts`` as text. The properties are the only place that parses them; a fact that a run does
    not have, because it was refused early or is of an older version, is empty, None or a ValueError.

    Attributes:
        id: Id of the run, also its pipeline run id in TFX.
        case: Name of the use case.
        state: running, pushed, refused, failed, interrupted, or stopped (its process no longer exists).
        reason: One sentence: what was pushed, or which gate refused the model.
        fingerprint: Hash of everything that determines the result.
        facts: Further values as text, by name.
    """

    id: str
    case: str
    state: str
    reason: str
    fingerprint: str
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Folder of the raw spans, or the name of a data set."""
        return self.facts.get("source", "")

    @property
    def window(self) -> tuple[int, int]:
        """First and last span of the data.

        Raises:
            ValueError: if the run has no record of its spans.
        """
        first, _, last = self.facts.get("spans", "").partition(":")
        if not (first.isdigit() and last.isdigit()):
            raise ValueError(f"The run {self.id} has no record of its spans.")
        return int(first), int(last)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings by group: data, training, gates."""
        return self._parse("settings")

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the candidate on the eval split."""
        return self._parse("metrics")

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """State, seconds, peak memory and message of every stage, by name."""
        return self._parse("stages")

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries, by package."""
        return self._parse("libraries")

    @property
    def space(self) -> dict[str, Any]:
        """Search space of the Tuner; empty without one."""
        return self._parse("space")

    @property
    def version(self) -> int | None:
        """Number of the pushed version; None if the run pushed none."""
        text = self.facts.get("version", "")
        return int(text) if text.isdigit() else None

    @property
    def pushed_folder(self) -> Path:
        """Folder of the pushed version.

        Raises:
            ValueError: if the run pushed none.
        """
        if not self.facts.get("pushed"):
            raise ValueError(f"The run {self.id} pushed no version.")
        return Path(self.facts["pushed"])

    @property
    def decision(self) -> str:
        """Id of the retraining decision that started the run; empty for a person's."""
        return self.facts.get("decision", "")

    @property
    def same_as(self) -> str:
        """Id of the earlier run whose result this run reuses; empty if it ran its stages itself."""
        return self.facts.get("same_as", "")

    def _parse(self, name: str) -> Any:
        return json.loads(self.facts.get(name) or "{}")
