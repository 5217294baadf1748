"""Looks at the models' folders, loads what is new before it lets go of what is old, and knows the state of each version."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.server.config import Model
from serving.server.loading import versions
from serving.server.loading.servable import Servable
from serving.server.loading.versions import State
from serving.server.metrics import Metrics

log = logging.getLogger(__name__)
Make = Callable[[str, int, Path], Servable]


class Kept:
    """A model that is served, or was.

    Attributes:
        model: What the configuration says.
        loaded: Servables that answer, by version.
        states: Of every version that there is or was.
        failed: Of versions that did not load: how often, when to try again, and when the folder had last changed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.loaded: dict[int, Servable] = {}
        self.states: dict[int, State] = {}
        self.failed: dict[int, tuple[int, float, float | None]] = {}


class Manager:
    """Every model of the server."""

    def __init__(
        self, make: Make, metrics: Metrics, poll_seconds: float, retries: int, retry_seconds: float, free_labels: bool
    ) -> None:
        self._metrics, self._make, self._poll_seconds, self._free_labels = metrics, make, poll_seconds, free_labels
        self._retries, self._retry_seconds = retries, retry_seconds
        self._kept: dict[str, Kept] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self, models: Sequence[Model]) -> None:
        """Loads what there is, and begins to look for more."""
        self._kept = {model.name: Kept(model) for model in models}
        if self._poll_seconds >= 0:
            await self.poll()
            if self._poll_seconds > 0 and not all(kept.loaded or kept.states for kept in self._kept.values()):
                await asyncio.sleep(self._poll_seconds)  # a version that was pushed a moment ago is whole by then
                await self.poll()
        if self._poll_seconds > 0:
            self._spawn(self._poll_forever(), "poll")

    async def poll(self) -> None:
        """Looks once, and loads and lets go of what the policies say."""
        async with self._lock:
            for kept in list(self._kept.values()):
                await self._poll_model(kept)

    async def reload(self, models: Sequence[Model]) -> None:
        """Changes what is served.

        Raises:
            ServingError: if a label names a version that is not loaded, then nothing has changed; or if a model has no
                version that loads.
        """
        async with self._lock:
            self._check_labels(models)
            for name in self._kept.keys() - {model.name for model in models}:
                self._release(self._kept[name], list(self._kept[name].loaded))
                del self._kept[name]
            for model in models:
                kept = self._kept.setdefault(model.name, Kept(model))
                kept.model = model
                kept.failed.clear()
                await self._poll_model(kept)
            for model in models:
                self._check_loaded(self._kept[model.name])

    def _check_loaded(self, kept: Kept) -> None:
        failed = [one for one in kept.states.values() if one.code != "OK"]
        if failed and not kept.loaded:
            raise ServingError(failed[-1].code, f"{kept.model.name} version {failed[-1].version}: {failed[-1].message}")

    def _check_labels(self, models: Sequence[Model]) -> None:
        for model in models:
            loaded = self._kept[model.name].loaded if model.name in self._kept else {}
            for label, version in model.labels.items():
                if not self._free_labels and version not in loaded:
                    raise ServingError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to {version} of model {model.name} (label {label}), "
                        "which is not currently available for inference",
                    )

    def servable(self, name: str, version: int | None, label: str | None) -> Servable:
        """The version that answers; see ``Engine.servable``."""
        kept = self._kept.get(name)
        if kept is not None and label is not None:
            version = self._labelled(kept, label)
        if kept is not None and kept.loaded:
            found = kept.loaded.get(max(kept.loaded) if version is None else version)
            if found is not None:
                return found
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError("NOT_FOUND", f"Servable not found for request: {wanted}")

    def states(self, name: str, version: int | None, label: str | None) -> list[State]:
        """States; see ``Engine.states``."""
        kept = self._kept.get(name)
        if kept is not None and label is not None:
            version = self._labelled(kept, label)
        found = [] if kept is None else [one for number, one in kept.states.items() if version in (None, number)]
        if not found:
            what = f"version {version} of model {name}" if version is not None else f"any versions of model {name}"
            raise ServingError("NOT_FOUND", f"Could not find {what}")
        return sorted(found, key=lambda one: -one.version)

    def knows(self, name: str) -> bool:
        """Whether a model of that name is to be served."""
        return name in self._kept

    def loaded(self, name: str) -> list[int]:
        """Versions that answer."""
        return sorted(self._kept[name].loaded) if name in self._kept else []

    @property
    def ready(self) -> bool:
        """Whether there is something that answers, and nothing that should and does not."""
        kept = self._kept.values()
        return any(one.loaded for one in kept) and all(one.loaded or not one.states for one in kept)

    @property
    def models(self) -> list[Model]:
        """What the configuration says."""
        return [kept.model for kept in self._kept.values()]

    async def close(self) -> None:
        """Stops looking, waits for what is under way and frees everything."""
        self._closing = True
        async with self._lock:
            for kept in self._kept.values():
                self._release(kept, list(kept.loaded))
        polling = [task for task in self._tasks if task.get_name() == "poll"]
        for task in polling:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _labelled(self, kept: Kept, label: str) -> int:
        if label not in kept.model.labels:
            raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        return kept.model.labels[label]

    async def _poll_forever(self) -> None:
        while not self._closing:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.poll()
            except Exception:
                log.exception("looking for versions failed; it is tried again")

    async def _poll_model(self, kept: Kept) -> None:
        # Without another look to come there is nothing to wait for.
        found = await asyncio.to_thread(versions.complete, Path(kept.model.base_path), max(self._poll_seconds, 0.0))
        wanted = kept.model.wanted(list(found))
        for version in wanted:
            if version not in kept.loaded and not self._closing:
                await self._load(kept, version, found[version])
        old = [version for version in kept.loaded if version not in wanted]
        # What answers stays until what replaces it answers too; and a folder that has vanished is no replacement.
        if old and wanted and any(version in kept.loaded for version in wanted):
            self._release(kept, old)

    async def _load(self, kept: Kept, version: int, path: Path) -> None:
        changed = await asyncio.to_thread(versions.last_change, path)
        times, again, then = kept.failed.get(version, (0, 0.0, None))
        if times and changed == then and (times > self._retries or time.monotonic() < again):
            return
        name, started = kept.model.name, time.monotonic()
        kept.states[version] = State(version, "LOADING")
        try:
            servable = await asyncio.to_thread(self._make, name, version, path)
        except Exception as error:
            known = error if isinstance(error, ServingError) else None
            kept.states[version] = State(version, "END", known.status if known else "INTERNAL", str(error))
            kept.failed[version] = (
                times + 1 if changed == then else 1,
                time.monotonic() + self._retry_seconds,
                changed,
            )
            log.log(logging.ERROR, "%s version %d did not load: %s", name, version, error, exc_info=known is None)
            self._metrics.load(name, "fail", time.monotonic() - started)
            return
        kept.failed.pop(version, None)
        kept.loaded[version] = servable
        kept.states[version] = State(version, "AVAILABLE")
        log.info("%s version %d answers, %d warm-up requests", name, version, servable.warmed)
        self._metrics.load(name, "success", time.monotonic() - started)

    def _release(self, kept: Kept, old: Sequence[int]) -> None:
        """New requests go elsewhere at once; those under way are waited for."""
        for version in old:
            servable = kept.loaded.pop(version)
            kept.states[version] = State(version, "UNLOADING")
            self._spawn(self._unload(kept, servable))

    async def _unload(self, kept: Kept, servable: Servable) -> None:
        await servable.drained()
        await asyncio.to_thread(servable.close)
        if servable.version not in kept.loaded:
            kept.states[servable.version] = State(servable.version, "END")
        log.info("%s version %d is let go", servable.name, servable.version)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
