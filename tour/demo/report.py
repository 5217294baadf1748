"""Printed progress and the JSON summary of the demonstration."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text


@dataclass
class DemoReport:
    """Progress and results of one playthrough.

    Attributes:
        console: Where progress is printed.
        started: Value of the monotonic clock at the start.
        seconds: Duration of each part, by its title.
        summary: Results, in the format of the JSON summary.
        addresses: Address and remark of each running server, by its name.
    """

    console: Console
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=lambda: {"runs": [], "traffic": {}, "drift": {}, "failed": 0})
    addresses: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @contextmanager
    def time_part(self, title: str) -> Iterator[None]:
        """Print the title of a part and record how long the block takes, also if it is interrupted."""
        self.console.print(f"\n{title}", style="bold")
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[title] = round(self.seconds.get(title, 0.0) + time.monotonic() - started, 1)

    def print_line(self, text: str) -> None:
        """Print text without adding line breaks."""
        self.console.print(text, soft_wrap=True)

    def print_summary(self, succeeded: bool) -> None:
        """Print the duration of each part, then the verdict with a row for each served use case."""
        self.console.print()
        self.console.print(_tabulate_parts(self.seconds))
        verdict = ("Every part succeeded", "bold green") if succeeded else ("A part failed", "bold red")
        detail = f" in {self.elapsed:.0f} s; failed requests: {self.summary['failed']}"
        self.console.print(Text.assemble("\n", verdict, detail))
        self.console.print(_tabulate_cases(self.summary))

    def print_addresses(self) -> None:
        """Print a row for each running server; a terminal that can open links makes the address one."""
        table = Table.grid(padding=(0, 2, 0, 0))
        for name, (address, remark) in self.addresses.items():
            link = Style(link=address) if "//" in address else ""
            table.add_row(name, Text(address, link, no_wrap=True, overflow="fold"), Text(remark, "dim"))
        self.console.print(table)


def _tabulate_cases(summary: Mapping[str, Any]) -> Table:
    table = _make_table("use case", "served", "requests", "failed", "outcome")
    for name, version in summary["served"].items():
        traffic = summary["traffic"].get(name, {"sent": 0, "failed": 0})
        outcomes = [_describe_drift(summary["drift"][name])] if name in summary["drift"] else []
        if summary.get("refused", {}).get("case") == name:
            outcomes.append(f"candidate after one training step: {summary['refused']['state']}")
        table.add_row(name, f"version {version}", str(traffic["sent"]), str(traffic["failed"]), "\n".join(outcomes))
    return table


def _describe_drift(drift: Mapping[str, Any]) -> str:
    """Return a short outcome of the drift: decision, state of the run, metric before and after."""
    if "run" not in drift:
        return drift.get("line", "the drift part was not completed")
    text = f"drift: {drift['decision']['action']}, {drift['run']['state']}"
    if metric := drift.get("metric"):
        text += f"; {metric['name']} {metric['before']:.4f} before, {metric['after']:.4f} now"
    return text


def _tabulate_parts(seconds: Mapping[str, float]) -> Table:
    table = _make_table("seconds", "part")
    for title, duration in seconds.items():
        table.add_row(f"{duration:.1f}", title)
    return table


def _make_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in ("requests", "failed", "seconds") else "left")
    return table
