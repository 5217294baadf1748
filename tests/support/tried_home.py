"""A home for the Try page: small models whose outputs NumPy can compute, rows to send, and a gateway over it."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.fraud import collected
from pipeline.home import Home
from pipeline.metadata import store
from pipeline.run import Run
from serving.http import asyncio_server
from support.gateway_case import open_gateway
from support.served_rows import served_purchase
from support.shown_home import RUN, plant_home
from tour.web import trial

# Fake of the TensorFlow process: it returns the inputs of the first row of the small models.
WORKER = """
import json, sys
inputs = json.loads(sys.argv[1])
for line in sys.stdin:
    request = json.loads(line)
    assert request["graph"].endswith("transform_graph") and request["record"]
    print(json.dumps({"inputs": inputs}), flush=True)
"""


def flatten_first_row(arrays: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values[0].ravel().tolist() for name, values in arrays.items()}


def push_small_model(home: Path, case: str, module: Any, rows: tuple, classes: tuple[str, ...] = ()) -> None:
    """Write a small model as version 2 of a case."""
    from support import edge_models

    version = edge_models.build_version(module, home / "made" / case, rows, classes)
    target = Home(home).case(case).versions / "2"
    target.parent.mkdir(parents=True, exist_ok=True)
    version.rename(target)
    settings = {"classes": list(classes), "height": 8, "width": 8, "channels": 1}
    facts = {"operating_point": {"threshold": 0.5}, "settings": settings}
    (target / "assets.extra" / "model.json").write_text(json.dumps(facts))


def plant_tried_home(home: Path) -> Path:
    """Write the home with both cases pushed as version 2."""
    from support import edge_models  # imports TensorFlow, which rows do not need

    folder = plant_home(home)
    plant_training_rows(folder)
    push_small_model(folder, "fraud", edge_models.Mixed(), edge_models.draw_mixed_rows(3))
    push_small_model(folder, "image", edge_models.Lines(), edge_models.draw_line_rows(3), edge_models.CLASSES)
    return folder


def plant_training_rows(folder: Path) -> None:
    """Write rows that the pushed runs of both cases were trained on."""
    path = Home(folder).metadata
    run = store.runs(path, "fraud")[0]
    settings = json.dumps({"data": {"columns": "", "label_delay_days": 7}, "gates": {"lite_tolerance": 1e-4}})
    source = folder / "purchases"
    odd = served_purchase(9, label=1)
    odd["journal"] = [*odd["journal"][:4], 5000.0]
    rows = [*(served_purchase(n) for n in range(5)), served_purchase(8, label=1), odd]
    collected.write(source / "span-001", rows, {"columns": "", "label_delay_days": 7})
    facts = run.facts | {"source": str(source), "spans": "1:1", "settings": settings}
    store.save(path, Run(RUN, "fraud", "pushed", "", "f", facts))
    for label, grey in (("flat", 90), ("upright", 200), ("third", 20)):
        (folder / "digits" / "span-000" / label).mkdir(parents=True)
        stream = io.BytesIO()
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(stream, "PNG")
        (folder / "digits" / "span-000" / label / "one.png").write_bytes(stream.getvalue())
    facts |= {"source": str(folder / "digits"), "spans": "0:0"}
    store.save(path, Run("image-1", "image", "pushed", "", "f", facts))


@contextmanager
def run_gateway(home: Path) -> Iterator[str]:
    """Run a gateway over HTTP; yield its address."""
    started, stop, addresses = threading.Event(), [], []

    async def main() -> None:
        async with open_gateway(home) as (gateway, _):
            server = await asyncio_server.serve(gateway, "127.0.0.1", 0)
            addresses.append(f"127.0.0.1:{server.port}")
            stop.append((asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await stop[0][1].wait()
            await server.close()

    thread = threading.Thread(target=lambda: asyncio_server.run(main()))
    thread.start()
    try:
        assert started.wait(30)
        yield addresses[0]
    finally:
        loop, event = stop[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(30)


def create_tensor_process(home: Path, inputs: dict[str, np.ndarray], worker: str = WORKER) -> trial.LiteComparer:
    """Create the process that computes tensors, with a fake of TensorFlow."""
    process = trial.LiteComparer(home)
    process.worker.command = [sys.executable, "-c", worker, json.dumps(flatten_first_row(inputs))]
    return process
