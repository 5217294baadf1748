"""The commands that say which version answers, and what is known of a running server."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from models.catalog import CASES, find
from pipeline.local.local_runtime import local_runtime
from serving import rollout

RUNNING = "serve.json"
CONFIG = "models.config"


def running(home: Path) -> dict[str, Any] | None:
    """Where a server of this home listens; None if there is none."""
    try:
        told = json.loads((home / RUNNING).read_text())
        os.kill(told["pid"], 0)
    except (OSError, ValueError):
        return None
    return told


def write_config(home: Path) -> None:
    """Writes TensorFlow Serving's model config file for the home's cases, which a server elsewhere can poll."""
    runtime = local_runtime(home)
    folders = {name: Path(runtime.versions(name)) for name in CASES}
    text = rollout.model_config({name: folder for name, folder in folders.items() if rollout.versions(folder)})
    beside = home / f".{CONFIG}.{os.getpid()}"
    beside.write_text(text)
    os.replace(beside, home / CONFIG)


def promote(case: str, version: str, share: float | None, shadow: bool, home: Path, as_json: bool) -> None:
    """Makes a version stable, canary or shadow.

    Raises:
        ValueError: if it is not there.
    """
    if version != "latest" and not version.isdigit():
        raise ValueError(f"A version is a number or 'latest', not '{version}'.")
    number = None if version == "latest" else int(version)
    _changed(case, rollout.promote(_folder(case, home), number, share, shadow), home, as_json)


def rollback(case: str, home: Path, as_json: bool) -> None:
    """Goes back to the version before, or ends a canary.

    Raises:
        ValueError: if there is none.
    """
    _changed(case, rollout.rollback(_folder(case, home)), home, as_json)


def _folder(case: str, home: Path) -> Path:
    return Path(local_runtime(home).versions(find(case).name))


def _changed(case: str, now: rollout.Rollout, home: Path, as_json: bool) -> None:
    write_config(home)
    if as_json:
        print(json.dumps(dataclasses.asdict(now), indent=1))
        return
    seen = "the running server follows within two seconds" if running(home) else "no server is running now"
    Console().print(f"{case}: {told(_folder(case, home), now)}; {seen}", highlight=False, soft_wrap=True)


def told(folder: Path, now: rollout.Rollout) -> str:
    """A rollout in words."""
    words = [f"stable {rollout.stable(folder, now)}" + ("" if now.stable else " (the newest)")]
    if now.canary:
        words.append(f"canary {now.canary} for {now.share:.0%}")
    return ", ".join(words + ([f"shadow {now.shadow}"] if now.shadow else []))


def served_version(home: Path, case: str) -> Path | None:
    """Return the folder of the version that answers: the one promoted or rolled back to, else the newest."""
    folder = _folder(case, home)
    version = rollout.stable(folder, rollout.read(folder))
    return None if version is None else folder / str(version)
