"""Flink on this machine: its jars, the jobs in its REST API, and its leftover processes."""

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.flink import flink_cluster
from support.command_server import ForkedCommand


def require_jars() -> Path:
    """Return the folder of Flink's jars, which `make flink` fetches; without them skip, or fail under CI."""
    if not flink_cluster.JARS.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("The jars of Flink are missing: run make flink.")
    return flink_cluster.JARS


def find_leftover_processes(folder: Path) -> list[str]:
    """Return command lines of running processes that name a folder or write their output to it."""
    command_lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line or os.readlink(process / "fd" / "1").startswith(str(folder)):
                command_lines.append(line)
        except OSError:
            continue
    return command_lines


def watch_job_states(run: ForkedCommand, output: Path) -> Iterator[str]:
    """Yield the states of Beam jobs in Flink's REST API while a run executes; its output contains the address."""
    while run.poll() is None:
        time.sleep(0.3)
        if address := re.search(r"http://[\d.:]+", output.read_text()):
            try:
                with urllib.request.urlopen(f"{address[0]}/jobs/overview", timeout=10) as response:
                    yield from (
                        job["state"] for job in json.load(response)["jobs"] if job["name"].startswith("BeamApp")
                    )
            except OSError:
                continue
