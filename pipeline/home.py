"""A home: the folder of all state, and where each part of it lies; in a bucket, the working copy of such a folder."""

from dataclasses import dataclass
from pathlib import Path

from models.catalog import CASES
from pipeline.metadata import bucket_copy, store
from pipeline.metadata.store_address import ADDRESS_FILE, MetadataAddress
from pipeline.run import Run
from serving import bucket, rollout


@dataclass(frozen=True)
class CaseFolders:
    """The folders of a use case under a root.

    Attributes:
        path: Folder of the use case.
    """

    path: Path

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def versions(self) -> Path:
        """Pushed versions, where a model server looks for them."""
        return self.path / "versions"

    @property
    def online(self) -> Path:
        """State of the gateway: prediction log, labels, history, findings of the drift monitor."""
        return self.path / "online"

    @property
    def monitor_state(self) -> Path:
        """What the drift monitor of the gateway found last, as JSON."""
        return self.online / "monitor.json"

    @property
    def logs(self) -> Path:
        """Logs of runs, a folder per run."""
        return self.path / "logs"

    @property
    def collected(self) -> Path:
        """Served rows with their labels as raw spans, a folder per retraining decision."""
        return self.path / "collected"


@dataclass(frozen=True)
class Home:
    """The folder of all state.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def metadata(self) -> MetadataAddress:
        """The metadata store: the server that this home's runs use, or a SQLite file in it."""
        return MetadataAddress.of(self.path)

    def case(self, name: str) -> CaseFolders:
        return CaseFolders(self.path.resolve() / name)

    def runs(self, case: str | None = None) -> list[Run]:
        """Return the runs of one use case, or of all, oldest first."""
        return store.runs(self.metadata, case)

    def pushed_runs(self, case: str) -> list[Run]:
        """Return the runs of a use case that pushed a version, oldest first."""
        return store.pushed_runs(self.metadata, case)


def open_home(text: str) -> Path:
    """Return the folder that a text names; for ``s3://`` and ``gs://`` the working copy, with metadata and rollouts up to date.

    Raises:
        BucketError: if the bucket does not exist or does not answer.
        MetadataConflictError: if this machine and another one have both written a SQLite file.
        ValueError: if the text is not a folder of a bucket.
    """
    if not bucket.is_uri(text):
        return Path(text)
    path = bucket.working_copy(text)
    bucket.check(path)
    bucket.pull_file(path / ADDRESS_FILE)
    bucket_copy.download_store(path)
    rollout.download(CaseFolders(path / name).versions for name in CASES)
    return path
