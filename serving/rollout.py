"""Which versions of a case are served, and to whom: a small file that commands write and the gateway polls."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

STABLE, CANARY, SHADOW = "stable", "canary", "shadow"
FILE = "rollout.json"


@dataclass(frozen=True)
class Rollout:
    """What is served of one case.

    Attributes:
        stable: The version that answers; None for the newest, whichever it is.
        previous: The version that was stable before, to which a rollback goes.
        canary: A version that answers a share of requests.
        share: That share, in 0..1, by a stable hash of the request's key: a key sees one version.
        shadow: A version that is asked too and never answers.
    """

    stable: int | None = None
    previous: int | None = None
    canary: int | None = None
    share: float = 0.0
    shadow: int | None = None

    @property
    def wanted(self) -> tuple[int, ...]:
        """The versions that have to be loaded; none for the newest."""
        return tuple(sorted({one for one in (self.stable, self.canary, self.shadow) if one is not None}))

    @property
    def labels(self) -> dict[str, int]:
        """Versions by label."""
        named = {STABLE: self.stable, CANARY: self.canary, SHADOW: self.shadow}
        return {label: version for label, version in named.items() if version is not None}

    def arm(self, key: str) -> tuple[str, int | None]:
        """Label and version that answer a request."""
        if self.canary is not None and place(key) < self.share:
            return CANARY, self.canary
        return STABLE, self.stable


def place(key: str) -> float:
    """A number in [0, 1) that is the same for a key in every process, and even over keys."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big") / (1 << 48)


def versions(folder: Path) -> list[int]:
    """The versions that lie in a folder, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def read(folder: Path) -> Rollout:
    """What the folder of versions says; the newest where nobody has said anything.

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
    """Replaces the file, whole or not at all."""
    beside = folder / f".{FILE}.{os.getpid()}"
    with beside.open("w") as stream:
        stream.write(json.dumps(asdict(rollout), indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, folder / FILE)


def promote(folder: Path, version: int | None, share: float | None = None, shadow: bool = False) -> Rollout:
    """Makes a version the stable one, or a canary with a share, or a shadow; None goes back to the newest.

    Raises:
        ValueError: if the version is not there, or a share is none.

    Question: A21
    Answer: Export a SavedModel with its preprocessing inside. Gate it: data, metric against the served one, loading as
        the server loads. Push it as an immutable numbered version; the server loads the new before it drains the old.
        Let a canary answer a share, or a shadow none; compare, promote, or roll back, which takes seconds since the old
        version is still there. Deadlines, rate limit, breaker. Log every answer, watch latency, errors and drift, scale
        replicas by load.
    Evidence: tour.evidence.serving.canary_rollout.live
    Proof: tests/serving/test_rollout.py::test_swaps_a_canary_and_a_rollback_under_load_lose_nothing
    """
    there, now = versions(folder), read(folder)
    if version is not None and version not in there:
        raise ValueError(f"{folder} has no version {version}; it has {', '.join(map(str, there)) or 'none'}.")
    if share is not None and not 0 < share < 1:
        raise ValueError(f"A canary's share lies between 0 and 1, not at {share:g}.")
    current = stable(folder, now)
    if version is not None and (share is not None or shadow):
        if version == current:
            raise ValueError(f"Version {version} is the stable one already; a canary or shadow is another.")
        part = {"shadow": version} if shadow else {"canary": version, "share": share}
        after = replace(now, stable=current, **part)
    else:
        after = Rollout(stable=version, previous=current if current != version else now.previous)
    write(folder, after)
    return after


def rollback(folder: Path) -> Rollout:
    """Ends a canary and a shadow if there are any; else goes back to the version before the stable one, and stays there.

    Raises:
        ValueError: if there is none to go back to.
    """
    now, there = read(folder), versions(folder)
    current = stable(folder, now)
    if now.canary is not None or now.shadow is not None:
        after = Rollout(stable=current, previous=now.previous)
    else:
        older = [one for one in there if current is not None and one < current]
        back = now.previous if now.previous in older else max(older, default=None)
        if back is None:
            raise ValueError(f"{folder} has no version to go back to; it has {', '.join(map(str, there)) or 'none'}.")
        after = Rollout(stable=back)
    write(folder, after)
    return after


def stable(folder: Path, rollout: Rollout) -> int | None:
    """The version that is stable: the one named, or the newest; None if there is none."""
    return rollout.stable if rollout.stable is not None else max(versions(folder), default=None)


def model_config(folders: Mapping[str, Path]) -> str:
    """TensorFlow Serving's model config file for the cases: versions and labels as the rollouts have them."""
    return "model_config_list {\n" + "".join(_config(name, path) for name, path in folders.items()) + "}\n"


def _config(name: str, folder: Path) -> str:
    rollout = read(folder)
    lines = [f"name: {json.dumps(name)}", f"base_path: {json.dumps(str(folder))}", 'model_platform: "tensorflow"']
    if rollout.wanted:
        each = " ".join(f"versions: {one}" for one in rollout.wanted)
        lines.append(f"model_version_policy {{ specific {{ {each} }} }}")
        lines += [f'version_labels {{ key: "{key}" value: {one} }}' for key, one in rollout.labels.items()]
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
