"""A prediction log that is written to and read, in a few words."""

import asyncio
from pathlib import Path

from serving.gateway.log.log_files import Place, read
from serving.gateway.log.prediction_log import PredictionLog


def run(*steps):
    """Awaits what an async function gives, in a loop of its own."""
    return asyncio.run(*steps)


async def kept(log: PredictionLog, *data: bytes) -> list[Place]:
    """Appends, waits, and says where."""
    places, groups = [], set()
    for one in data:
        places.append(log.place)
        groups.add(log.append(one))
    for group in groups:
        await group
    return places


def everything(folder: Path) -> list[bytes]:
    return [data for _, data in read(folder)]
