"""The signature under LitServe, with one worker and no batching: ``python -m benchmarks.peer_litserve PORT MODEL``.

It is a separate module because LitServe's worker process imports the main module again.
"""

import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.served import load_predict


class Api(litserve.LitAPI):
    """The API object that LitServe calls."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        self.call = load_predict(self.model)

    def predict(self, document: dict[str, Any]) -> dict[str, Any]:
        return self.call(document)


if __name__ == "__main__":
    server = litserve.LitServer(Api(Path(sys.argv[2])), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
