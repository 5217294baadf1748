"""The rollout of a case: which versions serve which requests. Commands write the file and the gateway polls it."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from serving import bucket, bucket_folders
from serving.atomic_file import write_atomically

STABLE, CANARY, SHADOW = "stable", "canary", "shadow"
FILE = "rollout.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollout:
    """The served versions of one case.

    Attributes:
        stable: The version that answers by default; None for the newest version.
        previous: The version that was stable before; the target of a rollback.
        canary: A version that answers a share of the requests.
        share: The canary's share, in 0..1, by a stable hash of the request's key, so that a key keeps its version.
        shadow: A version that also scores the requests but never answers.
    """

    stable: int | None = None
    previous: int | None = None
    canary: int | None = None
    share: float = 0.0
    shadow: int | None = None

    @property
    def versions_to_load(self) -> tuple[int, ...]:
        """The versions that must be loaded, ascending; empty means the newest."""
        return tuple(sorted({version for version in (self.stable, self.canary, self.shadow) if version is not None}))

    @property
    def labels(self) -> dict[str, int]:
        versions_by_label = {STABLE: self.stable, CANARY: self.canary, SHADOW: self.shadow}
        return {label: version for label, version in versions_by_label.items() if version is not None}

    def choose_arm(self, key: str) -> tuple[str, int | None]:
        """Return the label and version that answer a request with this key."""
        if self.canary is not None and hash_to_fraction(key) < self.share:
            return CANARY, self.canary
        return STABLE, self.stable


def hash_to_fraction(key: str) -> float:
    """Hash a key to a number in [0, 1), the same in every process and uniformly distributed over keys."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big") / (1 << 48)


def list_versions(folder: Path) -> list[int]:
    """Return the version numbers in a folder of versions, ascending; in a bucket, those that are complete.

    Raises:
        BucketError: if the bucket does not answer.
    """
    if bucket.uri_of(folder):
        return sorted(int(name) for name in bucket_folders.list_folders(folder) if name.isdecimal())
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def read(folder: Path) -> Rollout:
    """Read the rollout file of a folder of versions; without one, the newest version is served.

    Raises:
        ValueError: if the file is damaged.
    """
    path = folder / FILE
    try:
        return Rollout(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Rollout()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to serve the newest version.") from None


def write(folder: Path, rollout: Rollout) -> None:
    """Replace the rollout file atomically, in a bucket too."""
    content = json.dumps(asdict(rollout), indent=1).encode()
    if bucket.uri_of(folder):
        bucket.write_file(
            folder / FILE, content
        )  # first, as a gateway that follows the bucket would undo a local change
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, content)


def download(folders: Iterable[Path]) -> None:
    """Download the rollout files of folders in a bucket; while it does not answer, they stay as they are."""
    for folder in folders:
        try:
            bucket.pull_file(folder / FILE)
        except bucket.BucketError as error:
            log.warning("the rollout of %s stays as it is: %s", folder, error)


def promote(folder: Path, version: int | None, share: float | None = None, shadow: bool = False) -> Rollout:
    """Make a version stable, a canary with a share, or a shadow; ``version=None`` returns to serving the newest.

    Raises:
        ValueError: if the version does not exist, is stable already, or the share is not between 0 and 1.

    Question: A21
    Answer: Export a SavedModel that includes its preprocessing, gate it, and roll it out gradually. Gates check the
        data, the metric against the served model, and loading. Push it as an immutable version; the server loads it
        before draining the old one. A canary answers a share of requests, a shadow none; rolling back takes
        seconds, since the old version is still there. Deadlines, rate limits and circuit breakers protect it;
        logged answers feed monitoring; replicas scale with load.
    Evidence: tour.evidence.serving.canary_rollout.canary_and_rollback
    Proof: tests/serving/test_rollout.py::test_version_changes_under_load_lose_no_request
    """
    available, old = list_versions(folder), read(folder)
    if not available:
        raise ValueError(f"{folder} has no version; push one with `showcase run`.")
    if version is not None and version not in available:
        raise ValueError(f"{folder} has no version {version}; it has {', '.join(map(str, available)) or 'none'}.")
    if share is not None and not 0 < share < 1:
        raise ValueError(f"A canary's share must be between 0 and 1, not {share:g}.")
    current = stable_version(folder, old)
    if version is not None and (share is not None or shadow):
        if version == current:
            raise ValueError(f"Version {version} is the stable version already; choose another as canary or shadow.")
        changes = {"shadow": version} if shadow else {"canary": version, "share": share}
        new = replace(old, stable=current, **changes)
    else:
        new = Rollout(stable=version, previous=current if current != version else old.previous)
    write(folder, new)
    return new


def rollback(folder: Path) -> Rollout:
    """End a canary and a shadow if there are any; otherwise make the version before the stable one stable.

    Raises:
        ValueError: if there is no older version.
    """
    old, available = read(folder), list_versions(folder)
    current = stable_version(folder, old)
    if old.canary is not None or old.shadow is not None:
        new = Rollout(stable=current, previous=old.previous)
    else:
        older = [version for version in available if current is not None and version < current]
        target = old.previous if old.previous in older else max(older, default=None)
        if target is None:
            listing = ", ".join(map(str, available)) or "none"
            raise ValueError(f"{folder} has no older version to roll back to; it has {listing}.")
        new = Rollout(stable=target)
    write(folder, new)
    return new


def stable_version(folder: Path, rollout: Rollout) -> int | None:
    """Return the stable version: the one that the rollout names, or the newest; None if the folder has no version."""
    return rollout.stable if rollout.stable is not None else max(list_versions(folder), default=None)


def model_config(folders: Mapping[str, Path]) -> str:
    """Return TensorFlow Serving's model config file for the cases, with the versions and labels of their rollouts."""
    return "model_config_list {\n" + "".join(_format_config(name, path) for name, path in folders.items()) + "}\n"


def _format_config(name: str, folder: Path) -> str:
    rollout = read(folder)
    base_path = json.dumps(bucket.uri_of(folder) or str(folder))
    lines = [f"name: {json.dumps(name)}", f"base_path: {base_path}", 'model_platform: "tensorflow"']
    if rollout.versions_to_load:
        specific = " ".join(f"versions: {version}" for version in rollout.versions_to_load)
        lines.append(f"model_version_policy {{ specific {{ {specific} }} }}")
        lines += [f'version_labels {{ key: "{key}" value: {version} }}' for key, version in rollout.labels.items()]
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
