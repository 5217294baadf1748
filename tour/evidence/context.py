"""The run that evidence is computed from: the last pushed run of a use case in a home."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalog import CASES, find_use_case
from models.use_case import UseCase
from pipeline.home import Home
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from serving import bucket_folders
from tour.evidence.result_types import NotHere

if TYPE_CHECKING:
    import numpy as np

    from models.input import Transform


@dataclass(frozen=True)
class Context:
    """A pushed run and its artifacts.

    Attributes:
        home: Folder of all state.
        case: The use case.
        run: Its last run whose model was pushed.
    """

    home: Path
    case: UseCase
    run: Run

    @classmethod
    def of(cls, home: Path, case: str) -> "Context":
        """Create the context of a use case's last pushed run.

        Raises:
            ValueError: if no run was pushed; the message names the command that produces one.
        """
        use_case = find_use_case(case)
        pushed = Home(home).pushed_runs(use_case.name)
        if not pushed:
            raise ValueError(
                f"There is no pushed run of {use_case.name} under {home}. "
                f"To produce one: `showcase run {use_case.name} --home {home}`."
            )
        return cls(home, use_case, pushed[-1])

    @classmethod
    def has(cls, home: Path, case: str) -> bool:
        """Whether a run of the use case has been pushed."""
        return any(run.state == "pushed" for run in Home(home).runs(case))

    @property
    def metadata(self) -> MetadataAddress:
        return Home(self.home).metadata

    @cached_property
    def runs(self) -> list[Run]:
        """All runs of the use case, oldest first."""
        return store.runs(self.metadata, self.case.name)

    @cached_property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """Artifacts of the run by stage and output key."""
        return store.outputs(self.metadata, self.run.id)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        return self.run.settings

    @property
    def served(self) -> Path:
        """Folder of the pushed model version."""
        return self.run.pushed_folder

    @cached_property
    def point(self) -> dict[str, float]:
        """Operating point that is served with the model."""
        return json.loads((self.served / "assets.extra" / "model.json").read_text())["operating_point"]

    @cached_property
    def training(self) -> dict[str, Any]:
        """The Trainer's record of the run (``training.json``)."""
        return json.loads((self.artifact("model_run") / "training.json").read_text())

    @property
    def pretrained(self) -> str:
        """Folder of the pretrained weights that the network was built with; empty without any."""
        from models.saved_model import restore

        return restore.find_pretrained(self.artifact("model_run"))

    @property
    def network(self) -> Any:
        """The use case's module ``model``."""
        return self.case.load("model")

    @cached_property
    def transform(self) -> "Transform":
        """Loaded transform graph of the run."""
        from models.input import Transform

        return Transform(str(self.artifact("transform_graph")))

    def artifact(self, key: str) -> Path:
        """Folder of the run's artifact with that output key, whichever stage produced it.

        Raises:
            ValueError: if the run has no such output.
        """
        for outputs in self.outputs.values():
            if key in outputs:
                folder = Path(outputs[key].uri)
                bucket_folders.pull(folder)
                return folder
        raise ValueError(f"The run {self.run.id} has no artifact '{key}'.")

    def shards(self, split: str) -> list[str]:
        from models.input import list_shards

        return list_shards(str(self.artifact("examples")), split)

    def rows(self, split: str, keep: Sequence[str], most: int) -> dict[str, "np.ndarray"]:
        """Transformed features of the first ``most`` rows of a split, ``[rows, ...]`` each.

        The rows are read once and kept, as parsing takes seconds.
        """
        import numpy as np

        from models.input import dataset

        rows, complete = self._read.get((split, *keep), ({}, False))
        if not complete and (not rows or len(rows[keep[0]]) < most):
            parts, count, complete = [], 0, True
            for batch in dataset(self.shards(split), self.transform, keep).as_numpy_iterator():
                parts.append(batch)
                count += len(batch[keep[0]])
                if count >= most:
                    complete = False
                    break
            rows = {name: np.concatenate([part[name] for part in parts]) for name in keep}
            self._read[split, *keep] = rows, complete
        return {name: rows[name][:most] for name in keep}

    def labelled_rows(self, split: str, most: int) -> dict[str, "np.ndarray"]:
        """Inputs of the network and the label of the first ``most`` rows of a split; see :meth:`rows`."""
        return self.rows(split, (*self.network.INPUTS, self.network.LABEL), most)

    def answer(self, rows: Mapping[str, Any]) -> dict[str, "np.ndarray"]:
        """Outputs of the served model's signature ``dense`` by name, for rows that hold the inputs of the network."""
        import tensorflow as tf

        loaded = tf.saved_model.load(str(self.served))  # a signature does not keep its variables alive
        outputs = loaded.signatures["dense"](**{name: tf.constant(rows[name]) for name in self.network.INPUTS})
        return {name: value.numpy() for name, value in outputs.items()}

    @cached_property
    def comparison(self) -> dict[str, Any]:
        """The run's comparison of the network with the baselines (``comparison.json``)."""
        return json.loads((self.artifact("comparison") / "comparison.json").read_text())

    @cached_property
    def scores(self) -> "np.ndarray":
        """Scores of the network on the eval split, ``[rows, outputs]``."""
        import numpy as np

        with np.load(self.artifact("comparison") / "scores.npz") as arrays:
            return arrays["network"]

    @cached_property
    def _read(self) -> dict[tuple[str, ...], tuple[dict[str, "np.ndarray"], bool]]:
        """Rows that were read so far, by split and features, and whether they are the whole split."""
        return {}


def explain_missing_pictures(context: Context) -> NotHere:
    """Return the result of evidence on pictures for a use case without any; names the use cases that have some."""
    cases = " or ".join(f"--case {name}" for name, case in CASES.items() if case.picture)
    return NotHere("No pictures", f"The rows of {context.case.name} have no pictures. Use {cases}.")


def count_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
