"""Requests of one key are answered one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyLocks:
    """One lock per key, which exists only while it is held. Use it from one event loop."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Context manager that waits until no other task holds the key, and holds it."""
        while (other := self._held.get(key)) is not None:
            await asyncio.shield(other)
        released = self._held[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._held[key]
            released.set_result(None)
