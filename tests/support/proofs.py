"""Evidence on the runs of a home, computed once for all tests and test processes."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from filelock import FileLock

from tour import ask, notes
from tour.evidence.result_types import Result

# Shorter measurements, and less data and fewer steps for training: tests check the evidence, not the accuracy of a measured
# time or the quality of a network.
SMALLER: dict[str, dict[str, object]] = {
    "tour.evidence.network.autodiff": {"SECONDS": 0.01, "ROUNDS": 1},
    "tour.evidence.data.raw_examples": {"REPEATS": 2},
    "tour.evidence.serving.edge_files": {"ROWS": 64, "CALLS": 3},
    "tour.evidence.serving.lite_variants": {"CALLS": 3},
    "tour.evidence.data.embedding_vectors": {"LARGE": 1000},
    "tour.evidence.network.traced_functions": {"SAME": 2, "SWEEP": 3},
    "tour.evidence.data.input_speed": {"SECONDS": 0.01, "STEPS": 2, "TUNING_SECONDS": 0.05},
    "tour.evidence.training.loop_against_fit": {"ROWS": 256},
    "tour.evidence.network.losses": {
        "TRAIN": 2000,
        "HELD": 2000,
        "EPOCHS": 1,
        "PLAIN_EPOCHS": 1,
        "SEQUENCE": {"GRU over the sequence": "gru", "no sequence": "none"},
    },
    "tour.evidence.training.overfitting": {"STEPS": 8},
    "tour.evidence.serving.canary_rollout": {"REQUESTS": 24},
    "tour.evidence.serving.engine_speed": {"SIZES": (1, 8), "SECONDS": 0.001, "TRACES": 2},
    "tour.evidence.training.distribution": {"ROWS": 256},
    "tour.evidence.experiment_tracking": {"STEPS": 3},
    "tour.evidence.network.transfer_learning": {"BASE_STEPS": 3, "STEPS": 3},
    "tour.evidence.training.optimizer_comparison": {"OPTIMIZERS": ("sgd", "adam"), "STEPS": 12},
}

# Questions whose evidence uses the image run, whose network is traced in half the time; others use the first run that has it.
PICTURES = {
    *("A3", "A6", "A8", "A10", "A11", "A12", "A13", "A14", "A21", "A22", "A27", "A29"),
    *("B2", "B4", "B8", "B10", "B11", "B13", "B14", "B19", "B20", "B21", "B22", "B24", "B26"),
}


@dataclass(frozen=True)
class EvidenceCache:
    """Evidence by question and use case.

    Attributes:
        home: Home with the runs.
        folder: Folder for the evidence while the tests run.
    """

    home: Path
    folder: Path

    def prove(self, id_: str, case: str | None = None) -> list[Result]:
        """Return evidence of a question on a case's last pushed run; without a case, ``PICTURES`` decides."""
        case = case or ("image" if id_ in PICTURES else None)
        path = self.folder / f"{id_}-{case or 'any'}.pickle"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with shrink_measurements():
                    name, results, _ = ask.compute_evidence(notes.read()[id_], case, self.home)
                for copy in {path, path.with_name(f"{id_}-{name}.pickle")}:
                    copy.write_bytes(pickle.dumps(results))
        return pickle.loads(path.read_bytes())


@contextmanager
def shrink_measurements() -> Iterator[None]:
    """Apply ``SMALLER``: short measurements and small trainings."""
    with pytest.MonkeyPatch.context() as patch:
        for module, changes in SMALLER.items():
            for name, value in changes.items():
                patch.setattr(import_module(module), name, value)
        yield
