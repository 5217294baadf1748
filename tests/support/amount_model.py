"""A SavedModel whose score is the amount, and a gateway over it."""

import asyncio
import json
import os
from pathlib import Path

from models.fraud.online_requests import Purchases
from support.gateway_case import THRESHOLD


def export_amount_model(folder: Path, version: int) -> Path:
    """Export, atomically, a SavedModel whose score is amount / 1000 + version / 100."""
    import tensorflow as tf

    bias = tf.constant(version / 100, tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):
        amount = tf.io.parse_example(examples, {"amount": tf.io.FixedLenFeature([1], tf.float32)})["amount"][:, 0]
        score = tf.minimum(amount / 1000, 0.8) + bias
        return {"score": score, "decision": tf.cast(score >= THRESHOLD, tf.float32), "anomaly": tf.zeros_like(score)}

    incoming = folder / f".incoming-{version}"
    tf.saved_model.save(tf.Module(), str(incoming), signatures={"serving_default": serve})
    (incoming / "assets.extra").mkdir(exist_ok=True)
    facts = {"operating_point": {"threshold": THRESHOLD}, "settings": {}}
    (incoming / "assets.extra" / "model.json").write_text(json.dumps(facts))
    os.rename(incoming, folder / str(version))
    return folder / str(version)


def create_stack(home: Path):
    """Create a model server without ports and a gateway on a free port."""
    from serving.gateway.scoring import ScoringOptions
    from serving.gateway.stack import ServedCase, Stack, StackSettings
    from serving.server.app import ServerOptions as Server

    case_settings, server = (
        ServedCase(Purchases(), home / "versions", home / "online"),
        Server(rest_port=None, grpc_port=None, poll=0.2),
    )
    # A deadline that a busy machine meets, as these tests are about lost records, not about speed.
    return Stack(StackSettings({"fraud": case_settings}, server, port=0, options=ScoringOptions(timeout=120.0)))


def serve_forever(home: Path) -> None:
    """Serve and print the port; the process that a test kills runs this."""
    from serving.http import asyncio_server

    async def work() -> None:
        running = await create_stack(home).start()
        print(running.port, flush=True)
        await asyncio.Event().wait()

    asyncio_server.run(work())
