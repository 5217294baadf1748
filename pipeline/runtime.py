"""Where a graph runs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """Where artifacts, metadata and pushed models go, and who carries the Beam work; places differ by value only.

    Attributes:
        root: Folder or URL under which everything lies.
        beam_args: Pipeline options for every Beam stage.
        workers: Stages that run side by side.
    """

    root: str
    beam_args: tuple[str, ...]
    workers: int = 2

    @property
    def metadata(self) -> Path:
        """The SQLite file of the metadata store."""
        return Path(self.root, "metadata.sqlite")

    def artifacts(self, case: str) -> str:
        """Root of a case's pipeline artifacts."""
        return f"{self.root}/{case}/artifacts"

    def versions(self, case: str) -> str:
        """Where a model server looks for versions of the case's model."""
        return f"{self.root}/{case}/versions"


def local(home: Path) -> Runtime:
    """This machine, Beam in the stage's own process."""
    # The default DirectRunner tries to download Prism first; without a container image TFX builds a source distribution.
    return Runtime(str(home.resolve()), ("--runner=FnApiRunner", "--sdk_container_image=none"))
