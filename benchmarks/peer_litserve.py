"""The signature under LitServe, a worker and no batching: ``python -m benchmarks.peer_litserve PORT MODEL``.

A module of its own, because LitServe starts its worker by importing this one anew.
"""

import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.served import caller


class Api(litserve.LitAPI):
    """What LitServe calls."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        self.call = caller(self.model)

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        return self.call(document)


if __name__ == "__main__":
    server = litserve.LitServer(Api(Path(sys.argv[2])), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
