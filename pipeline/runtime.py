"""Where a graph runs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.metadata.store_address import FILE, MetadataAddress


def nothing(logs: Path) -> AbstractContextManager[None]:
    """What runs beside the stages, mostly."""
    return nullcontext()


@dataclass(frozen=True)
class Beam:
    """Who carries the Beam work.

    Attributes:
        args: Pipeline options for every Beam stage.
        beside: Starts what has to run for as long as the stages do; it gets the folder for logs.
        page: Address where the work can be watched; empty for none.
    """

    args: tuple[str, ...]
    beside: Callable[[Path], AbstractContextManager[None]] = nothing
    page: str = ""


@dataclass(frozen=True)
class Runtime:
    """Where artifacts, metadata and pushed models go, and who carries the Beam work; places differ by value only.

    Attributes:
        root: Folder or URL under which everything lies.
        beam: Who carries the Beam work.
        workers: Stages that run side by side.
        tracking: Address of the experiment tracker; empty for a SQLite file under the root, ``none`` for none.
        database: Address of the metadata store's server; empty for a SQLite file under the root.
    """

    root: str
    beam: Beam
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
        return MetadataAddress(self.database or Path(self.root, FILE))

    def artifacts(self, case: str) -> str:
        """Root of a case's pipeline artifacts."""
        return f"{self.root}/{case}/artifacts"

    def versions(self, case: str) -> str:
        """Where a model server looks for versions of the case's model."""
        return f"{self.root}/{case}/versions"


# The default DirectRunner tries to download Prism first; without a container image TFX builds a source distribution.
NO_IMAGE = "--sdk_container_image=none"
IN_PROCESS = Beam(("--runner=FnApiRunner", NO_IMAGE))
