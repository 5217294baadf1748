"""What a refresh begins from: the model that is served, and what its run left."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.saved_model.files import EXTRA, WEIGHTS
from models.use_case import UseCase
from pipeline.metadata import store
from pipeline.runtime import Runtime


@dataclass(frozen=True)
class Base:
    """A served model.

    Attributes:
        run: Name of the run that pushed it.
        first: First span of the window that it was trained on.
        last: Last span of it.
        source: Folder of those spans.
        weights: File of its weights.
        settings: The training settings that it was built with.
        artifacts: Folders of its run's artifacts that go with the weights, by output key.
    """

    run: str
    first: int
    last: int
    source: str
    weights: str
    settings: Mapping[str, Any]
    artifacts: Mapping[str, str]

    @classmethod
    def of(cls, case: UseCase, runtime: Runtime) -> "Base":
        """The last version that was pushed.

        Raises:
            ValueError: if nothing is served, or it was pushed before versions carried their weights.
        """
        pushed = [run for run in store.runs(runtime.metadata, case.name) if run.state == "pushed"]
        if not pushed or not Path(pushed[-1].facts["pushed"]).is_dir():
            raise ValueError(
                f"Nothing is served that could be refreshed; `showcase run {case.name}` makes the first model."
            )
        run = pushed[-1]
        extra = Path(run.facts["pushed"], EXTRA)
        if not (extra / WEIGHTS).is_file():
            raise ValueError(
                f"Version {run.facts['version']} of {case.name} has no {WEIGHTS} in it: push a new one first."
            )
        kept = {
            key: artifact.uri
            for outputs in store.outputs(runtime.metadata, run.id).values()
            for key, artifact in outputs.items()
            if key in ("transform_graph", "embedding")
        }
        first, _, last = run.facts["spans"].partition(":")
        told = json.loads((extra / "model.json").read_text())["settings"]
        training = {name: value for name, value in told.items() if name in case.settings["training"]}
        return cls(run.id, int(first), int(last), run.facts["source"], str((extra / WEIGHTS).resolve()), training, kept)

    def window(self, case: str, source: str, newest: int) -> tuple[int, int]:
        """As many spans as the model was trained on, up to the newest.

        Raises:
            ValueError: if there is no newer span than those it knows.
        """
        if source == self.source and newest <= self.last:
            raise ValueError(
                f"There is no span newer than {self.last}, the last that the served model was trained on, in {source}: "
                f"give newer ones with --data, or train anew with `showcase run {case}`."
            )
        return max(0, newest - (self.last - self.first)), newest
