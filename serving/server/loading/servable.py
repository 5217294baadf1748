"""One loaded version of a model: its signatures with a batcher each, and who is still using it."""

import asyncio
from pathlib import Path
from typing import Any

from serving.server.batcher import Batcher, Workers
from serving.server.config import Batching
from serving.server.loading import litert_signatures
from serving.server.loading import warmup as warming
from serving.server.loading.saved_model_session import SavedModel
from serving.server.metrics import Metrics
from serving.server.signature import Signature


class Servable:
    """A version that answers.

    Attributes:
        name: The model's name.
        version: Its number.
        signatures: By name.
        meta: The MetaGraphDef, without its graph.
        using: Requests under way.
    """

    def __init__(
        self, name: str, version: int, path: Path, threads: int, prefer_lite: bool, warmup: Batching | None
    ) -> None:
        """Loads, and warms up for such batches; takes seconds, so it is called in a thread.

        Raises:
            ServingError: if it cannot be loaded, or a warm-up request fails.
        """
        self.name, self.version, self.path = name, version, path
        self._model = SavedModel(path, threads)
        self.meta: Any = self._model.meta
        self.using, self._idle = 0, asyncio.Event()
        self._batchers: dict[str, Batcher] = {}
        try:
            found = self._model.signatures
            self.signatures: dict[str, Signature] = litert_signatures.preferred(path, found) if prefer_lite else found
            self.warmed = warming.warm(path, self.signatures, warmup) if warmup else 0
        except BaseException:
            self._model.close()
            raise

    def batcher(self, signature: Signature, batching: Batching, workers: Workers, metrics: Metrics) -> Batcher:
        """The batcher of a signature, made when it is first asked for."""
        found = self._batchers.get(signature.name)
        if found is None:
            found = self._batchers[signature.name] = Batcher(
                signature, batching, workers, lambda rows: metrics.batch(self.name, rows)
            )
        return found

    def enter(self) -> None:
        """A request begins."""
        self.using += 1

    def leave(self) -> None:
        """A request has ended."""
        self.using -= 1
        if not self.using:
            self._idle.set()

    async def drained(self) -> None:
        """Waits until no request is under way; none may begin meanwhile."""
        while self.using:
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Frees the session; called in a thread."""
        self.signatures, self._batchers = {}, {}
        self._model.close()
