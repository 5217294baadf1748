"""What the benchmarks of a pushed run share: finding it, printing a table, writing the report."""

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

from pipeline.local.local_runtime import local_runtime

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


def artifacts(home: Path, case: str) -> tuple[dict[str, Path], Path]:
    """Folders of the last pushed run by output, and of the model that it pushed.

    Raises:
        SystemExit: if there is none, or the home's metadata store does not answer.
    """
    from pipeline.metadata import store
    from pipeline.metadata.store_address import MetadataUnavailableError

    metadata = local_runtime(home).metadata
    try:
        pushed = [run for run in store.runs(metadata, case) if run.state == "pushed"]
    except MetadataUnavailableError as error:
        sys.exit(f"error: {error}")
    if not pushed:
        sys.exit(
            f"error: there is no pushed run of {case} under {home}; `showcase run {case} --home {home}` makes one."
        )
    folders = {
        key: Path(artifact.uri)
        for outputs in store.outputs(metadata, pushed[-1].id).values()
        for key, artifact in outputs.items()
    }
    return folders, Path(pushed[-1].facts["pushed"])


@contextmanager
def home_of(home: Path | None, cases: Sequence[str]) -> Iterator[Path]:
    """The home, or a temporary one in which each case has been run."""
    if home:
        yield home.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            subprocess.run([sys.executable, "-m", "cli.main", "run", case, "--home", folder], cwd=ROOT, check=True)
        yield Path(folder)


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on the terminal."""
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
    # Written to a file, a table would be cut at 80 columns.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def write(path: Path, **parts: Any) -> None:
    """The report with what it was measured on; no path of this machine is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **parts}, indent=1) + "\n")
    print(f"written to {path.name}", flush=True)


def machine() -> dict[str, Any]:
    """Date, cores, load, memory, commit and versions."""
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
    """The middle of the values."""
    return float(statistics.median(values))


def arguments(doc: str, name: str) -> argparse.Namespace:
    """What the command line says, the same for every benchmark that looks at a run."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument(
        "--home", type=Path, help="Folder of runs; without it the pipeline is run into a temporary one."
    )
    parser.add_argument("--cases", nargs="+", default=["fraud", "image"], help="Use cases to look at.")
    parser.add_argument("--seconds", type=float, default=1.0, help="Time of one measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each, in turns.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results" / name, help="JSON to write.")
    return parser.parse_args()
