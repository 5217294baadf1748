"""``DataReport``: what a use case will use, convert, skip, drop and refuse of the data it was given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

# Names and messages that a report lists before it only counts the rest.
LISTED = 5


@dataclass(frozen=True)
class SplitCount:
    """Size of a split.

    Attributes:
        rows: Number of rows or images.
        labels: Number of rows by label, for labels that are few; empty if they are not counted.
        period: First and last day, as ISO dates; empty for rows without a time.
    """

    rows: int
    labels: Mapping[str, int] = field(default_factory=dict)
    period: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataReport:
    """Account of every file, row and column that was given: used, converted, skipped, dropped or refused.

    Attributes:
        settings: The data settings that the data determines.
        unit: Plural noun of a row, such as "purchases" or "images".
        files: Number of files used.
        rows: Number of rows used, in a split or outside all splits.
        period: First and last day, as ISO dates; empty for rows without a time.
        splits: Size of each split by name.
        skipped: Paths of files that are not read, relative to the data, by reason ("hidden", ".docx is not read").
        dropped: Number of rows that are read and not used, by reason ("repeated exactly").
        unused: Columns that are in the files and not used.
        defaults: For each optional column that files lack, the value that stands in for it, as text.
        absent: Number of files that lack each of these columns.
        converted: Number of values or files by the conversion that is applied to them.
        notes: Sentences about what the reader should know and the run does not refuse.
        refused: Messages of faults, each with place and remedy; a run with any is not started.
        files_refused: Number of files with a fault.
        rows_refused: Number of rows of these files, as far as they can be read.
    """

    settings: Mapping[str, Any]
    unit: str
    files: int = 0
    rows: int = 0
    period: tuple[str, ...] = ()
    splits: Mapping[str, SplitCount] = field(default_factory=dict)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    unused: Sequence[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    refused: Sequence[str] = ()
    files_refused: int = 0
    rows_refused: int = 0

    @property
    def files_given(self) -> int:
        """Number of files used, skipped or refused."""
        return self.files + sum(map(len, self.skipped.values())) + self.files_refused

    @property
    def rows_given(self) -> int:
        """Number of rows used, dropped or refused."""
        return self.rows + sum(self.dropped.values()) + self.rows_refused

    def summary(self) -> list[str]:
        """Return the lines that a run prints: what is not used as given; none if everything is."""
        lines = []
        if self.skipped:
            count = sum(map(len, self.skipped.values()))
            reasons = ", ".join(f"{len(paths)} {reason}" for reason, paths in self.skipped.items())
            lines.append(f"skipped {count} file{'s' * (count > 1)}: {reasons}")
        if self.dropped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
            count = sum(self.dropped.values())
            lines.append(f"dropped {count:,} {self.unit.removesuffix('s') if count == 1 else self.unit}: {reasons}")
        if self.unused:
            lines.append(f"unused columns: {list_some(self.unused)}")
        if self.converted:
            lines.append("converted: " + ", ".join(f"{text} ({count:,})" for text, count in self.converted.items()))
        return [*lines, *self.notes]

    def describe(self) -> list[str]:
        """Return all lines of the report, for ``showcase check``."""
        lines = [f"{self.rows:,} {self.unit} in {self.files:,} files" + _format_period(self.period)]
        for name, split in self.splits.items():
            labels = "".join(f", {label}: {count:,}" for label, count in split.labels.items())
            lines.append(f"{name}: {split.rows:,}{labels}{_format_period(split.period)}")
        lines += self.summary()
        lines += [f"  {reason}: {list_some(paths)}" for reason, paths in self.skipped.items()]
        lines += [
            f"column {name} is absent{self._describe_absence(name)}; {value} stands in for it"
            for name, value in self.defaults.items()
        ]
        if self.files_refused:
            lines.append(f"{self.rows_refused:,} {self.unit} in {self.files_refused:,} files are refused")
        return lines + [f"refused: {message}" for message in self.refused]

    def _describe_absence(self, name: str) -> str:
        files = self.files + self.files_refused
        return f" from {self.absent[name]:,} of {files:,} files" if self.absent.get(name, files) < files else ""

    def error(self) -> str:
        """Return the message of an error that names the first faults."""
        rest = len(self.refused) - LISTED
        return "\n".join(
            [*self.refused[:LISTED], *([f"{rest} more faults: see `showcase check`."] if rest > 0 else [])]
        )


def list_some(names: Sequence[str]) -> str:
    """Join the first names and count the rest."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _format_period(period: Sequence[str]) -> str:
    if not period:
        return ""
    days = (date.fromisoformat(period[-1]) - date.fromisoformat(period[0])).days + 1
    return f", {period[0]} to {period[-1]} ({days:,} day{'s' * (days > 1)})"
