"""Fake of the process that computes evidence."""

import sys
from pathlib import Path


def write_worker(folder: Path, body: str) -> list[str]:
    """Write a program that replaces the worker; return its command."""
    path = folder / "worker.py"
    path.write_text(f"import json, os, sys, time\nfor line in sys.stdin:\n    asked = json.loads(line)\n{body}")
    return [sys.executable, str(path)]


ANSWERS = """
    response = {"case": asked["case"] or "fraud", "seconds": 0.5, "results": [
        {"kind": "Number", "title": "process " + asked["id"], "value": os.getpid(), "unit": ""}]}
    print(json.dumps(response), flush=True)
"""
