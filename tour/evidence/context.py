"""Where evidence comes from: the last pushed run of a case under a home."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalog import find
from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

if TYPE_CHECKING:
    import numpy as np

    from models.input import Transform


@dataclass(frozen=True)
class Context:
    """One pushed run, and what it left.

    Attributes:
        home: Folder of all state.
        case: The use case.
        run: Its last run that ended in a push.
    """

    home: Path
    case: UseCase
    run: store.Run

    @classmethod
    def of(cls, home: Path, case: str) -> "Context":
        """The last pushed run of a case.

        Raises:
            ValueError: if there is none, naming the command that makes one.
        """
        use_case = find(case)
        pushed = [run for run in store.runs(local_runtime(home).metadata, use_case.name) if run.state == "pushed"]
        if not pushed:
            raise ValueError(
                f"There is no pushed run of {use_case.name} under {home}; "
                f"`showcase run {use_case.name} --home {home}` makes one."
            )
        return cls(home, use_case, pushed[-1])

    @classmethod
    def has(cls, home: Path, case: str) -> bool:
        """Whether a run of the case has been pushed."""
        return any(run.state == "pushed" for run in store.runs(local_runtime(home).metadata, case))

    @property
    def metadata(self) -> MetadataAddress:
        """Where the metadata store is."""
        return local_runtime(self.home).metadata

    @cached_property
    def runs(self) -> list[store.Run]:
        """All runs of the case, the oldest first."""
        return store.runs(self.metadata, self.case.name)

    @cached_property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """Artifacts of the run by stage and key."""
        return store.outputs(self.metadata, self.run.id)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The run's settings by group."""
        return json.loads(self.run.facts["settings"])

    @property
    def served(self) -> Path:
        """Folder of the pushed version."""
        return Path(self.run.facts["pushed"])

    @cached_property
    def point(self) -> dict[str, float]:
        """The operating point that is served with the model."""
        return json.loads((self.served / "assets.extra" / "model.json").read_text())["operating_point"]

    @cached_property
    def training(self) -> dict[str, Any]:
        """What the Trainer wrote of its run."""
        return json.loads((self.artifact("model_run") / "training.json").read_text())

    @property
    def pretrained(self) -> str:
        """Folder of what the network was built with; empty for none."""
        from models.saved_model import restore

        return restore.pretrained(self.artifact("model_run"))

    @cached_property
    def transform(self) -> "Transform":
        """The run's transform graph, loaded."""
        from models.input import Transform

        return Transform(str(self.artifact("transform_graph")))

    def artifact(self, key: str) -> Path:
        """Where the run's artifact of that output key lies, whichever stage made it.

        Raises:
            ValueError: if the run has no such output.
        """
        for outputs in self.outputs.values():
            if key in outputs:
                return Path(outputs[key].uri)
        raise ValueError(f"The run {self.run.id} has no artifact '{key}'.")

    def shards(self, split: str) -> list[str]:
        """Files of a split."""
        from models.input import files

        return files(str(self.artifact("examples")), split)

    def rows(self, split: str, keep: Sequence[str], most: int) -> dict[str, "np.ndarray"]:
        """Transformed features of the first rows of a split, ``[rows, ...]`` a feature; read once, as parsing takes seconds."""
        import numpy as np

        from models.input import dataset

        rows, whole = self._read.get((split, *keep), ({}, False))
        if not whole and (not rows or len(rows[keep[0]]) < most):
            parts, count, whole = [], 0, True
            for batch in dataset(self.shards(split), self.transform, keep).as_numpy_iterator():
                parts.append(batch)
                count += len(batch[keep[0]])
                if count >= most:
                    whole = False
                    break
            rows = {name: np.concatenate([part[name] for part in parts]) for name in keep}
            self._read[split, *keep] = rows, whole
        return {name: rows[name][:most] for name in keep}

    @cached_property
    def _read(self) -> dict[tuple[str, ...], tuple[dict[str, "np.ndarray"], bool]]:
        """First rows of splits that were read so far, by split and features, and whether they are the whole split."""
        return {}
