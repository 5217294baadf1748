"""Rollout commands: which version is stable, canary or shadow; and the record of a running server."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from models.catalog import CASES, find_use_case
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.terminal import make_console
from serving import bucket, bucket_folders, rollout
from serving.atomic_file import write_atomically

SERVER_RECORD_FILE = "serve.json"
CONFIG = "models.config"


def find_running_server(home: Path) -> dict[str, Any] | None:
    """Return the record of this home's running server: process id, host and ports; None if there is none."""
    try:
        server = json.loads((home / SERVER_RECORD_FILE).read_text())
        os.kill(server["pid"], 0)
    except (OSError, ValueError):
        return None
    return server


def write_config(home: Path) -> None:
    """Write TensorFlow Serving's model config file for the home's cases, which an external server can poll."""
    runtime = local_runtime(home)
    folders = {name: runtime.case(name).versions for name in CASES}
    text = rollout.model_config({name: folder for name, folder in folders.items() if rollout.list_versions(folder)})
    write_atomically(home / CONFIG, text.encode())
    bucket.push_file(home / CONFIG)


def promote(case: str, version: str, share: float | None, shadow: bool, home: Path, as_json: bool) -> None:
    """Make a version stable, canary or shadow.

    Raises:
        ValueError: if the version does not exist.
    """
    if version != "latest" and not version.isdigit():
        raise ValueError(f"A version is a number or 'latest', not '{version}'.")
    number = None if version == "latest" else int(version)
    _report_change(case, rollout.promote(_versions_folder(case, home), number, share, shadow), home, as_json)


def rollback(case: str, home: Path, as_json: bool) -> None:
    """Roll back to the previous version, or end a canary.

    Raises:
        ValueError: if there is no previous version.
    """
    _report_change(case, rollout.rollback(_versions_folder(case, home)), home, as_json)


def _versions_folder(case: str, home: Path) -> Path:
    return Home(home).case(find_use_case(case).name).versions


def _report_change(case: str, changed: rollout.Rollout, home: Path, as_json: bool) -> None:
    write_config(home)
    if as_json:
        print(json.dumps(dataclasses.asdict(changed), indent=1))
        return
    effect = (
        "the running server follows within two seconds" if find_running_server(home) else "no server is running now"
    )
    make_console().print(f"{case}: {describe_rollout(_versions_folder(case, home), changed)}; {effect}", soft_wrap=True)


def describe_rollout(folder: Path, current: rollout.Rollout) -> str:
    parts = [f"stable {rollout.stable_version(folder, current)}" + ("" if current.stable else " (the newest)")]
    if current.canary:
        parts.append(f"canary {current.canary} for {current.share:.0%}")
    return ", ".join(parts + ([f"shadow {current.shadow}"] if current.shadow else []))


def served_version(home: Path, case: str) -> Path | None:
    """Return the folder of the stable version: the one promoted or rolled back to, otherwise the newest; None for none."""
    folder = _versions_folder(case, home)
    version = rollout.stable_version(folder, rollout.read(folder))
    if version is None:
        return None
    bucket_folders.pull(folder / str(version))
    return folder / str(version)
