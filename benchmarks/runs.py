"""Shared code of the benchmarks: find a pushed run, print a table, write the report."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.home import Home

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "tfx",
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "apache-beam",
    "numpy",
    "lightgbm",
    "scikit-learn",
    "polars",
)


def find_artifacts(home: Path, case: str) -> tuple[dict[str, Path], Path]:
    """Return the folders of the last pushed run's artifacts by output name, and that of the pushed model.

    Raises:
        SystemExit: if there is no pushed run, or the home's metadata store does not answer.
    """
    from pipeline.metadata import store
    from pipeline.metadata.store_address import MetadataUnavailableError

    metadata = Home(home).metadata
    try:
        pushed = store.pushed_runs(metadata, case)
    except MetadataUnavailableError as error:
        sys.exit(f"error: {error}")
    if not pushed:
        sys.exit(
            f"error: there is no pushed run of {case} under {home}; run `showcase run {case} --home {home}` first."
        )
    folders = {
        key: Path(artifact.uri)
        for outputs in store.outputs(metadata, pushed[-1].id).values()
        for key, artifact in outputs.items()
    }
    return folders, Path(pushed[-1].facts["pushed"])


def showcase_command(*words: object) -> list[str]:
    """Return the command that runs ``showcase WORDS`` of this checkout; run it in ``ROOT``."""
    return [sys.executable, "-m", "cli.main", *map(str, words)]


@contextmanager
def provide_home(home: Path | None, cases: Sequence[str]) -> Iterator[Path]:
    """Yield the home, or a temporary one in which each use case was run."""
    if home:
        yield home.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            subprocess.run(showcase_command("run", case, "--home", folder), cwd=ROOT, check=True)
        yield Path(folder)


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(
            *(
                f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
                for value in row.values()
            )
        )
    # In a file, a table would be cut at 80 columns.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def write_report(path: Path, **parts: Any) -> None:
    """Write the report with a description of the machine; it contains no path of this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe_machine(), **parts}, indent=1) + "\n")
    print(f"written to {path.name}", flush=True)


def describe_machine() -> dict[str, Any]:
    """Return date, cores, load, CPU, memory, commit and package versions."""
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "memory_gb": round(int(memory["MemTotal"].split()[0]) / 2**20, 1),
        "commit": commit.stdout.strip(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def median(values: Sequence[float]) -> float:
    """Return the median of the values."""
    return float(statistics.median(values))


def parse_arguments(doc: str, name: str) -> argparse.Namespace:
    """Parse the command line that all benchmarks of a pushed run share."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--home", type=Path, help="Folder of all state; by default the pipeline is run in a temporary one."
    )
    parser.add_argument("--cases", nargs="+", default=["fraud", "image"], help="Use cases to measure.")
    parser.add_argument("--seconds", type=float, default=1.0, help="Duration of one measurement, in seconds.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of interleaved measurements of each.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results" / name, help="JSON to write.")
    return parser.parse_args()
