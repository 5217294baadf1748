"""The gateway of ``benchmarks.hostile``: its image case over a backend without a model.

python -m benchmarks.hostile_gateway PORT FOLDER
"""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from benchmarks.hostile_bodies import SIZE, Body
from models.image.online_requests import online
from serving.gateway.body_parser import MAX_FIELDS
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.model_calls.backend import PredictResult
from serving.gateway.scoring import Scorer, ScoringOptions
from serving.gateway.use_case_interface import Online
from serving.http import asyncio_server

CASE = "image"
DRAIN_SECONDS = 10.0
BLACK_SIDE = 9000  # pixels: a file of few bytes with as many pixels as are read


class UniformBackend:
    """Answers every picture with the same probabilities."""

    async def predict(
        self, model: str, examples: Sequence[bytes], version: int | None, timeout: float
    ) -> PredictResult:
        """See ``serving.gateway.model_calls.backend.Backend``."""
        return PredictResult(1, {"probabilities": np.full((len(examples), 2), 0.5, np.float32)})

    async def close(self) -> None:
        """Do nothing."""


def build_gateway_bodies() -> Iterator[Body]:
    """Yield heavy requests for the gateway."""
    path = f"/v1/{CASE}/score"
    line = b"[" + b"0," * 511 + b"0]"
    yield Body("pixels, accepted", b'{"pixels": [' + b",".join([line] * 500) + b"]}", path=path)
    yield Body("pixels, too many", b'{"pixels": [' + b"[0,0,0]," * (SIZE // 8) + b"[0]]}", path=path)
    yield Body("pixels, wrong", b'{"pixels": [' + b'["a"],' * (SIZE // 6) + b"[0]]}", path=path)
    yield Body("unknown fields", b"{" + b",".join(b'"%d": 1' % n for n in range(MAX_FIELDS)) + b"}", path=path)
    yield Body("no image", b'{"image": "' + b"A" * SIZE + b'"}', path=path)
    yield Body("image of many pixels", json.dumps({"image": _encode_black_picture()}).encode(), path=path)


def _encode_black_picture() -> str:
    import base64
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("1", (BLACK_SIDE, BLACK_SIDE)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


async def run_gateway(port: int, folder: Path) -> None:
    """Answer requests until SIGTERM."""
    pictures = cast(Online, online())
    versions = folder / "versions" / "1"
    (versions / "assets.extra").mkdir(parents=True)
    (versions / "saved_model.pb").touch()
    (versions / "assets.extra" / "model.json").write_text(json.dumps({"settings": {"classes": ["a", "b"]}}))
    metrics = GatewayMetrics()
    scorer = Scorer(
        CASE, pictures, UniformBackend(), versions.parent, folder / "online", ScoringOptions(timeout=60), metrics
    )
    gateway = Gateway({CASE: scorer}, metrics).open()
    server = await asyncio_server.serve(gateway, "127.0.0.1", port, max_body=pictures.max_bytes)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close(DRAIN_SECONDS)
    await gateway.close()


if __name__ == "__main__":
    asyncio_server.run(run_gateway(int(sys.argv[1]), Path(sys.argv[2])))
