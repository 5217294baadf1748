"""TFX's Pusher with an atomic push: a version folder appears complete or not at all.

In a bucket, a version is there once its manifest is, which is uploaded last. Its number is claimed before, since a bucket has
no rename that fails. A push that finds another claim on a number withdraws its own and takes the next number.
"""

import json
import os
import random
import shutil
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import Artifact, artifact_utils
from tfx.utils import proto_utils

from serving import bucket, bucket_folders

EXTRA = "assets.extra"
ORIGIN = "origin.json"
GRAPH = "saved_model.pb"
CLAIMS = ".claims"
PAUSE = 2.0  # longest wait, in seconds, after two pushes have claimed the same number


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
    if not bucket.uri_of(base):
        return _push_to_folder(model, base)
    origin = bucket.to_uris(str(model))
    version = base / str(_claim_number(base, origin))
    if _read_origin(version) != origin:
        shutil.rmtree(version, ignore_errors=True)
        _copy(model, base, version.name)
    # A server that knows no manifest cannot load a version before its graph is there.
    bucket_folders.push(version, last=GRAPH)
    return version


def _push_to_folder(model: Path, base: Path) -> Path:
    versions = sorted((path for path in base.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    for version in versions:
        if _read_origin(version) == str(model):
            return version
    return _copy(model, base, str(int(versions[-1].name) + 1 if versions else 1))


def _copy(model: Path, base: Path, name: str) -> Path:
    """Copy a model into a version folder, which appears complete."""
    incoming = base / f".incoming-{os.getpid()}"
    try:
        shutil.copytree(model, incoming)
        (incoming / EXTRA).mkdir(exist_ok=True)
        (incoming / EXTRA / ORIGIN).write_text(json.dumps({"model": bucket.to_uris(str(model))}))
        os.rename(incoming, version := base / name)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    return version


def _read_origin(version: Path) -> str | None:
    path = version / EXTRA / ORIGIN
    return json.loads(path.read_text())["model"] if path.exists() else None


def _claim_number(base: Path, origin: str) -> int:
    """Return the number of a model's version in a bucket: the one claimed by an earlier attempt, or the next."""
    owner = blake2b(origin.encode(), digest_size=8).hexdigest()
    while True:
        claims = [name.split("-") for name in bucket.list_names(base / CLAIMS)]
        pushed = [int(name) for name in bucket_folders.list_folders(base) if name.isdecimal()]
        if own := [int(number) for number, other in claims if other == owner]:
            number = own[0]
            if number in pushed and _is_from(bucket.read_file(base / str(number) / EXTRA / ORIGIN), origin):
                return number
        else:
            number = max([0, *pushed, *(int(number) for number, _ in claims)]) + 1
            bucket.write_file(base / CLAIMS / f"{number}-{owner}", b"")
        if [name for name in bucket.list_names(base / CLAIMS) if name.startswith(f"{number}-")] == [
            f"{number}-{owner}"
        ]:
            return number
        bucket.delete(base / CLAIMS / f"{number}-{owner}")
        time.sleep(random.uniform(0, PAUSE))


def _is_from(content: bytes | None, origin: str) -> bool:
    return content is not None and json.loads(content)["model"] == origin
