"""TFX's Pusher with an atomic push: a version folder appears complete or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import Artifact, artifact_utils
from tfx.utils import proto_utils

ORIGIN = "origin.json"


class Executor(executor.Executor):
    """Copies into a hidden folder and renames it; a model server reads only numbered folders.

    Versions count up from 1. A push that was killed after the rename and runs again finds its version by the origin
    recorded in it, and does not push twice.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Push the model if it is blessed; otherwise mark it as not pushed."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        version = push(Path(self.GetModelPath(input_dict)), Path(destination.filesystem.base_directory))
        self._MarkPushed(pushed, str(version), version.name)


def push(model: Path, base: Path) -> Path:
    """Copy a model folder into the next version folder of ``base``; return that folder.

    Raises:
        OSError: if the folder cannot be written; no partial version is left that a server would load.
    """
    base.mkdir(parents=True, exist_ok=True)
    for stale in base.glob(".incoming-*"):
        shutil.rmtree(stale, ignore_errors=True)
    versions = sorted((path for path in base.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    for version in versions:
        if _read_origin(version) == str(model):
            return version
    incoming = base / f".incoming-{os.getpid()}"
    try:
        shutil.copytree(model, incoming)
        (incoming / "assets.extra").mkdir(exist_ok=True)
        (incoming / "assets.extra" / ORIGIN).write_text(json.dumps({"model": str(model)}))
        version = base / str(int(versions[-1].name) + 1 if versions else 1)
        os.rename(incoming, version)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    return version


def _read_origin(version: Path) -> str | None:
    path = version / "assets.extra" / ORIGIN
    return json.loads(path.read_text())["model"] if path.exists() else None
