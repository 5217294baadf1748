"""The starting point of a refresh: the served model and the artifacts of its run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.saved_model.files import EXTRA, WEIGHTS
from models.use_case import UseCase
from pipeline.metadata import store
from pipeline.runtime import Runtime
from serving import bucket_folders


@dataclass(frozen=True)
class RefreshBase:
    """The served model that a refresh refines.

    Attributes:
        run: Id of the run that pushed it.
        first: First span of the window that it was trained on.
        last: Last span of that window.
        source: Folder of those spans.
        weights: File of its weights.
        settings: The training settings that it was built with.
        artifacts: Folders of its run's artifacts that the weights depend on, by output key.
    """

    run: str
    first: int
    last: int
    source: str
    weights: str
    settings: Mapping[str, Any]
    artifacts: Mapping[str, str]

    @classmethod
    def of(cls, case: UseCase, runtime: Runtime) -> "RefreshBase":
        """Return the version that was pushed last.

        Raises:
            ValueError: if no version has been pushed, or the last one carries no weights.
        """
        pushed = store.pushed_runs(runtime.metadata, case.name)
        if pushed:
            bucket_folders.pull(pushed[-1].pushed_folder)
        if not pushed or not pushed[-1].pushed_folder.is_dir():
            raise ValueError(
                f"There is no pushed model of {case.name} to refresh; `showcase run {case.name}` trains the first one."
            )
        run = pushed[-1]
        extra = run.pushed_folder / EXTRA
        if not (extra / WEIGHTS).is_file():
            raise ValueError(f"Version {run.version} of {case.name} contains no {WEIGHTS}: push a new version first.")
        artifacts = {
            key: artifact.uri
            for outputs in store.outputs(runtime.metadata, run.id).values()
            for key, artifact in outputs.items()
            if key in ("transform_graph", "embedding")
        }
        exported_settings = json.loads((extra / "model.json").read_text())["settings"]
        training = {name: value for name, value in exported_settings.items() if name in case.settings["training"]}
        return cls(run.id, *run.window, run.source, str((extra / WEIGHTS).resolve()), training, artifacts)

    def window(self, case: str, source: str, newest: int) -> tuple[int, int]:
        """Return a window as long as the one that the model was trained on, ending at the newest span.

        Raises:
            ValueError: if no span is newer than the model's window.
        """
        if source == self.source and newest <= self.last:
            raise ValueError(
                f"There is no span newer than {self.last}, the last that the served model was trained on, in {source}: "
                f"give newer ones with --data, or train from scratch with `showcase run {case}`."
            )
        return max(0, newest - (self.last - self.first)), newest
