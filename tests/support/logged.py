"""Short functions that write and read a prediction log."""

import asyncio
from pathlib import Path

from serving.gateway.log.log_files import Place, read
from serving.gateway.log.prediction_log import PredictionLog


def run(*steps):
    """Run a coroutine in a new event loop."""
    return asyncio.run(*steps)


async def kept(log: PredictionLog, *data: bytes) -> list[Place]:
    """Append records, wait until they are durable, and return their places."""
    places, groups = [], set()
    for record in data:
        places.append(log.place)
        groups.add(log.append(record))
    for group in groups:
        await group
    return places


def everything(folder: Path) -> list[bytes]:
    return [data for _, data in read(folder)]
