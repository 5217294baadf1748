"""Polls the model folders, loads new versions before it unloads old ones, and tracks the state of each version."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from serving.server.config import ModelConfig
from serving.server.loading import versions
from serving.server.loading.servable import Servable
from serving.server.loading.versions import VersionState
from serving.server.metrics import ServerMetrics
from serving.status_errors import ServingError

log = logging.getLogger(__name__)
LoadServable = Callable[[str, int, Path], Servable]


class ServedModel:
    """State of a configured model.

    Attributes:
        model: Configuration of the model.
        loaded: Loaded servables by version.
        states: States of present and past versions by version.
        failed: For versions that failed to load: number of failures, time of the next attempt (monotonic clock), and
            last change of the folder at the failure.
    """

    def __init__(self, model: ModelConfig) -> None:
        self.model = model
        self.loaded: dict[int, Servable] = {}
        self.states: dict[int, VersionState] = {}
        self.failed: dict[int, tuple[int, float, float | None]] = {}


class ModelManager:
    """Loads, unloads and looks up the versions of all configured models."""

    def __init__(
        self,
        load_servable: LoadServable,
        metrics: ServerMetrics,
        poll_seconds: float,
        retries: int,
        retry_seconds: float,
        allow_unavailable_labels: bool,
    ) -> None:
        self._metrics, self._load_servable = metrics, load_servable
        self._poll_seconds, self._allow_unavailable_labels = poll_seconds, allow_unavailable_labels
        self._retries, self._retry_seconds = retries, retry_seconds
        self._models: dict[str, ServedModel] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self, models: Sequence[ModelConfig]) -> None:
        """Load the available versions and start to poll for new ones."""
        self._models = {model.name: ServedModel(model) for model in models}
        if self._poll_seconds >= 0:
            await self.poll()
            if self._poll_seconds > 0 and not all(served.loaded or served.states for served in self._models.values()):
                await asyncio.sleep(self._poll_seconds)  # a version that was pushed just now is complete by then
                await self.poll()
        if self._poll_seconds > 0:
            self._spawn(self._poll_forever(), "poll")

    async def poll(self) -> None:
        """Scan the folders once; load and unload versions by their version policies."""
        async with self._lock:
            for served in list(self._models.values()):
                await self._poll_model(served)

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        """Replace the served models.

        Raises:
            ServingError: if a label names a version that is not loaded, in which case nothing has changed; or if no
                version of a model loads.
        """
        async with self._lock:
            self._check_labels(models)
            for name in self._models.keys() - {model.name for model in models}:
                self._release(self._models[name], list(self._models[name].loaded))
                del self._models[name]
            for model in models:
                served = self._models.setdefault(model.name, ServedModel(model))
                served.model = model
                served.failed.clear()
                await self._poll_model(served)
            for model in models:
                self._check_loaded(self._models[model.name])

    def _check_loaded(self, served: ServedModel) -> None:
        failures = [state for state in served.states.values() if state.code != "OK"]
        if failures and not served.loaded:
            raise ServingError(
                failures[-1].code, f"{served.model.name} version {failures[-1].version}: {failures[-1].message}"
            )

    def _check_labels(self, models: Sequence[ModelConfig]) -> None:
        for model in models:
            loaded = self._models[model.name].loaded if model.name in self._models else {}
            for label, version in model.labels.items():
                if not self._allow_unavailable_labels and version not in loaded:
                    raise ServingError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to {version} of model {model.name} (label {label}), "
                        "which is not currently available for inference",
                    )

    def servable(self, name: str, version: int | None, label: str | None) -> Servable:
        """Return the loaded version for a request; see ``Engine.servable``."""
        served = self._models.get(name)
        if served is not None and label is not None:
            version = self._version_of_label(served, label)
        if served is not None and served.loaded:
            servable = served.loaded.get(max(served.loaded) if version is None else version)
            if servable is not None:
                return servable
        request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError("NOT_FOUND", f"Servable not found for request: {request}")

    def states(self, name: str, version: int | None, label: str | None) -> list[VersionState]:
        """Return states of versions; see ``Engine.states``."""
        served = self._models.get(name)
        if served is not None and label is not None:
            version = self._version_of_label(served, label)
        states = (
            [] if served is None else [state for number, state in served.states.items() if version in (None, number)]
        )
        if not states:
            what = f"version {version} of model {name}" if version is not None else f"any versions of model {name}"
            raise ServingError("NOT_FOUND", f"Could not find {what}")
        return sorted(states, key=lambda state: -state.version)

    def has_model(self, name: str) -> bool:
        """Whether the configuration contains a model of that name."""
        return name in self._models

    def loaded(self, name: str) -> list[int]:
        """Return the loaded versions in ascending order."""
        return sorted(self._models[name].loaded) if name in self._models else []

    @property
    def ready(self) -> bool:
        """Whether at least one model is loaded and every model that has versions has a loaded one."""
        served = self._models.values()
        return any(model.loaded for model in served) and all(model.loaded or not model.states for model in served)

    @property
    def models(self) -> list[ModelConfig]:
        """The configured models."""
        return [served.model for served in self._models.values()]

    async def close(self) -> None:
        """Stop polling, wait for running requests and unload all versions."""
        self._closing = True
        async with self._lock:
            for served in self._models.values():
                self._release(served, list(served.loaded))
        polling = [task for task in self._tasks if task.get_name() == "poll"]
        for task in polling:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _version_of_label(self, served: ServedModel, label: str) -> int:
        if label not in served.model.labels:
            raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        return served.model.labels[label]

    async def _poll_forever(self) -> None:
        while not self._closing:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.poll()
            except Exception:
                log.exception("polling for versions failed; next attempt in %.1f seconds", self._poll_seconds)

    async def _poll_model(self, served: ServedModel) -> None:
        # Without polling, there is no later scan for which an unsettled version could wait.
        folders = await asyncio.to_thread(
            versions.find_complete_versions, Path(served.model.base_path), max(self._poll_seconds, 0.0)
        )
        selected = served.model.select_versions(list(folders))
        for version in selected:
            if version not in served.loaded and not self._closing:
                await self._load(served, version, folders[version])
        old = [version for version in served.loaded if version not in selected]
        # An old version stays loaded until its replacement is loaded. A deleted folder is not a replacement.
        if old and selected and any(version in served.loaded for version in selected):
            self._release(served, old)

    async def _load(self, served: ServedModel, version: int, path: Path) -> None:
        last_change = await asyncio.to_thread(versions.get_last_change, path)
        failures, retry_at, failed_change = served.failed.get(version, (0, 0.0, None))
        if failures and last_change == failed_change and (failures > self._retries or time.monotonic() < retry_at):
            return
        name, started = served.model.name, time.monotonic()
        served.states[version] = VersionState(version, "LOADING")
        try:
            await asyncio.to_thread(versions.download, path)
            servable = await asyncio.to_thread(self._load_servable, name, version, path)
        except Exception as error:
            serving_error = error if isinstance(error, ServingError) else None
            served.states[version] = VersionState(
                version, "END", serving_error.status if serving_error else "INTERNAL", str(error)
            )
            served.failed[version] = (
                failures + 1 if last_change == failed_change else 1,
                time.monotonic() + self._retry_seconds,
                last_change,
            )
            log.log(
                logging.ERROR, "%s version %d failed to load: %s", name, version, error, exc_info=serving_error is None
            )
            self._metrics.load(name, "fail", time.monotonic() - started)
            return
        served.failed.pop(version, None)
        served.loaded[version] = servable
        served.states[version] = VersionState(version, "AVAILABLE")
        log.info("%s version %d loaded, %d warm-up requests", name, version, servable.warmup_requests)
        self._metrics.load(name, "success", time.monotonic() - started)

    def _release(self, served: ServedModel, old: Sequence[int]) -> None:
        """Route no new requests to these versions, and unload each after its running requests."""
        for version in old:
            servable = served.loaded.pop(version)
            served.states[version] = VersionState(version, "UNLOADING")
            self._spawn(self._unload(served, servable))

    async def _unload(self, served: ServedModel, servable: Servable) -> None:
        await servable.wait_until_idle()
        await asyncio.to_thread(servable.close)
        if servable.version not in served.loaded:
            served.states[servable.version] = VersionState(servable.version, "END")
        log.info("%s version %d unloaded", servable.name, servable.version)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
