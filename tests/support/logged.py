"""Short functions that write and read a prediction log."""

import asyncio
from pathlib import Path

from serving.gateway.log.log_files import LogPosition, read_log
from serving.gateway.log.prediction_log import PredictionLog


def run(*steps):
    """Run a coroutine in a new event loop."""
    return asyncio.run(*steps)


async def append_and_wait(log: PredictionLog, *data: bytes) -> list[LogPosition]:
    """Append records, wait until they are durable, and return their places."""
    places, groups = [], set()
    for record in data:
        places.append(log.position)
        groups.add(log.append(record))
    for group in groups:
        await group
    return places


def read_all_records(folder: Path) -> list[bytes]:
    return [data for _, data in read_log(folder)]
