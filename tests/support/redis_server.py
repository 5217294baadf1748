"""A Redis server for one test, which can be paused, killed and restarted with its data."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from support.programs import needs

PROGRAMS = ("redis-server", "valkey-server")


class RedisServer:
    """A Redis server; a ``durable`` one writes all data to disk before it answers, so that a restart loses nothing."""

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self.folder, self.durable, self.program = folder, durable, needs(*PROGRAMS)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/3"
        self.redis = redis.Redis.from_url(self.url, decode_responses=True)
        self.start()

    def start(self) -> None:
        durability = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else []
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command = [self.program, *options, "--save", "", *durability]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            try:
                if self.redis.ping():
                    return
            except redis.RedisError:
                time.sleep(0.02)
        raise TimeoutError("the Redis server of this test does not start")

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.redis.close()
        self.kill()
