"""The runtime of a graph: where its state lies and which Beam runner executes its stages."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.home import CaseFolders
from pipeline.metadata.store_address import SQLITE_FILE, MetadataAddress


def no_sidecar(logs: Path) -> AbstractContextManager[None]:
    """Context manager that runs no sidecar process."""
    return nullcontext()


@dataclass(frozen=True)
class BeamRunner:
    """Which Beam runner executes the pipeline.

    Attributes:
        args: Pipeline options for every Beam stage.
        sidecar: Context manager that runs sidecar processes while the stages run; its argument is the folder for logs.
        page: URL of the runner's dashboard; empty for none.
    """

    args: tuple[str, ...]
    sidecar: Callable[[Path], AbstractContextManager[None]] = no_sidecar
    page: str = ""


@dataclass(frozen=True)
class Runtime:
    """Where artifacts, metadata and pushed models are stored, and the Beam runner; environments differ only in values.

    Attributes:
        root: Folder or URL that holds all state.
        beam: Which Beam runner executes the pipeline.
        workers: Number of stages that run in parallel.
        tracking: Address of the experiment tracker; empty for a SQLite file under the root, ``none`` to disable it.
        database: Address of the metadata store's server; empty for a SQLite file under the root.
    """

    root: str
    beam: BeamRunner
    workers: int = 2
    tracking: str = ""
    database: str = ""

    @property
    def beam_args(self) -> tuple[str, ...]:
        """Pipeline options for every Beam stage."""
        return self.beam.args

    @property
    def metadata(self) -> MetadataAddress:
        """The metadata store: a server, or the SQLite file under the root."""
        return MetadataAddress(self.database or Path(self.root, SQLITE_FILE))

    def case(self, name: str) -> CaseFolders:
        return CaseFolders(Path(self.root, name))


# The default DirectRunner first tries to download Prism. If no container image is given, TFX builds a source distribution.
NO_IMAGE = "--sdk_container_image=none"
IN_PROCESS = BeamRunner(("--runner=FnApiRunner", NO_IMAGE))
