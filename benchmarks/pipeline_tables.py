"""Tables of ``benchmarks.pipeline``: stages beside the steps of the script, and totals by size."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

# Steps of the script that do the work of each stage; its schema check is part of the step "statistics".
PEERS = {
    "CuratedSchema": (),
    "Resolver": (),
    "SpanExampleGen": ("read", "history"),
    "StatisticsGen": ("statistics",),
    "ExampleValidator": (),
    "DataGate": (),
    "Transform": ("transform",),
    "Trainer": ("train", "export"),
    "Baseline": ("baselines",),
    "Evaluator": ("evaluate",),
    "LiteExporter": ("lite",),
    "Normal": (),
    "ServingCheck": ("check",),
    "Pusher": ("push",),
}


def format_stages(size: Mapping[str, Any]) -> Table:
    """Return a table of stages and the script's steps; the ratio is the stage's time over the step's."""
    table = Table(title=f"{size['rows']:,} rows", title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("stage")
    for name in ("seconds", "rows/s", "peak MB", "bare step", "seconds", "rows/s", "ratio"):
        table.add_column(name, justify="left" if name == "bare step" else "right")
    for name, stage in size["pipeline"]["stages"].items():
        steps = [size["bare"]["steps"][step] for step in PEERS.get(name, ())]
        table.add_row(name, *_format_cells(stage), f"{stage['peak_mb']:,.0f}", *_format_peer(name, stage, steps))
    for name, label in (("work", "without imports"), ("wall", "whole process"), ("cpu", "CPU seconds")):
        ours, bare = size["pipeline"][name], size["bare"][name]
        table.add_row(label, f"{ours:.1f}", "", "", "", f"{bare:.1f}", "", f"{ours / bare:.1f}", style="bold")
    return table


def _format_peer(name: str, stage: Mapping[str, float], steps: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    if not steps:
        return ("", "", "", "")
    seconds = sum(step["seconds"] for step in steps)
    both = {"seconds": seconds, "rows_per_second": compute_rate(steps[0]["rows"], seconds)}
    ratio = f"{stage['seconds'] / seconds:,.1f}" if seconds >= 0.05 else ""
    return (" + ".join(PEERS[name]), *_format_cells(both), ratio)


def _format_cells(step: Mapping[str, float]) -> tuple[str, str]:
    rate = step["rows_per_second"]
    return f"{step['seconds']:.1f}", f"{rate:,.0f}" if rate else ""


def format_totals(sizes: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with a line per size that compares the whole processes."""
    table = Table(title="Totals", title_justify="left", box=None, header_style="dim", pad_edge=False)
    columns = (
        "rows",
        "pipeline s",
        "again s",
        "bare s",
        "ratio",
        "without imports",
        "CPU",
        "peak MB",
        "bare MB",
        "PR-AUC",
        "bare PR-AUC",
    )
    for name in columns:
        table.add_column(name, justify="right")
    for size in sizes:
        ours, bare, ratios = size["pipeline"], size["bare"], size["ratios"]
        seconds = [f"{run['wall']:.1f}" for run in (ours, size["cached"], bare)]
        times = [f"{ratios[name]:.1f}" for name in ("wall", "work", "cpu")]
        memory = [f"{run['peak_mb']:,.0f}" for run in (ours, bare)]
        table.add_row(f"{size['rows']:,}", *seconds, *times, *memory, *(f"{run['pr_auc']:.3f}" for run in (ours, bare)))
    return table


def compute_rate(rows: float, seconds: float) -> float:
    """Return rows per second; 0 for no time."""
    return rows / seconds if seconds else 0.0
