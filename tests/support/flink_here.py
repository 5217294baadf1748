"""Flink on this machine: its jars, what its REST API shows, and what is left of it."""

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.flink import cluster
from support.command_server import ForkedCommand


def jars() -> Path:
    """Flink's jars, which `make flink` fetches; elsewhere its tests are skipped, under CI they fail."""
    if not cluster.JARS.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("There are no jars of Flink: run make flink.")
    return cluster.JARS


def left(folder: Path) -> list[str]:
    """Living processes that name a folder in their command line, or whose output lies in it."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            line = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line or os.readlink(one / "fd" / "1").startswith(str(folder)):
                found.append(line)
        except OSError:
            continue
    return found


def watched(run: ForkedCommand, said: Path) -> Iterator[str]:
    """The states in which Flink's REST API shows jobs of Beam while a run goes on, whose output names its address."""
    while run.poll() is None:
        time.sleep(0.3)
        if found := re.search(r"http://[\d.:]+", said.read_text()):
            try:
                with urllib.request.urlopen(f"{found[0]}/jobs/overview", timeout=10) as answer:
                    yield from (job["state"] for job in json.load(answer)["jobs"] if job["name"].startswith("BeamApp"))
            except OSError:
                continue
