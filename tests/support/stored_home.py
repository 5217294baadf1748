"""A home for commands and pages, with its metadata in a file, on a server, or on an unreachable server."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from models.catalog import CASES
from models.sequences.embedding import WordVectors
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store, store_address, store_server
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import RunRequest, make_plan
from support.gateway_case import create_versions
from support.shown_home import (
    MONITORING_RUN,
    RUN,
    STAGES,
    plant_artifacts,
    plant_home,
    plant_monitoring_run,
    score_purchases,
)
from support.tried_home import plant_training_rows

REFUSED = "fraud-20260104-030405-006"
SKIP_GRAM = (("SkipGram", (), (("embedding", "Embedding"),)),)
NAMES = ("file", "grpc", "gone")  # equally long, so that tables with a path have the same width


@dataclass
class Homes:
    """The same home three times.

    Attributes:
        file: Home with its metadata in a SQLite file.
        grpc: Home with its metadata on a server.
        gone: Home with its metadata on an unreachable server.
        port: Port of the unreachable server.
        decision: Id of the decision's artifact.
        ids: Prediction ids by home.
    """

    file: Path
    grpc: Path
    gone: Path
    port: int
    decision: int
    ids: dict[Path, list[str]] = field(default_factory=dict)

    def plain(self, text: str) -> str:
        """Replace the path of each home by the same name."""
        for home in (self.file, self.grpc, self.gone):
            text = text.replace(str(home), "HOME")
        return text


@contextmanager
def plant_homes(base: Path) -> Iterator[Homes]:
    """Write all three homes; the one on a server through its address."""
    file, grpc, gone = (base / name for name in NAMES)
    with run_store_server(base / "served.sqlite") as port, reserve_closed_port() as closed:
        store_address.write_server_address(grpc, f"grpc://127.0.0.1:{port}")
        ids = {home: plant(home) for home in (file, grpc)}
        shutil.copytree(grpc, gone)
        store_address.write_server_address(gone, f"grpc://127.0.0.1:{closed}")
        (decision,) = store.outputs(Home(grpc).metadata, MONITORING_RUN)["Decide"].values()
        yield Homes(file, grpc, gone, closed, decision.id, ids | {gone: ids[grpc]})


@contextmanager
def run_store_server(file: Path, port: int = 0) -> Iterator[int]:
    """Run a metadata server over a SQLite file; yield its port."""
    server, port = store_server.serve(MetadataAddress(file), port, "127.0.0.1")
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def reserve_closed_port() -> Iterator[int]:
    """Reserve a port at which nothing listens."""
    with socket.socket() as socket_:
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket_.bind(("127.0.0.1", 0))
        yield socket_.getsockname()[1]


def plant(home: Path) -> list[str]:
    """Write a pushed run of each case, a decision, a run that it triggered, and a log; return prediction ids."""
    plant_monitoring_run(plant_home(home))
    plant_training_rows(home)
    settings = {"classes": ["flat", "third", "upright"], "height": 8, "width": 8, "channels": 1}
    for case in CASES:
        extra = create_versions(home / case / "versions", 1, 2) / "2" / "assets.extra"
        (extra / "one_row.tflite").write_bytes(b"a model")
        (extra / "model.json").write_text(json.dumps({"operating_point": {"threshold": 0.5}, "settings": settings}))
    where = Home(home).metadata
    plant_artifacts(home, RUN, SKIP_GRAM, home / "artifacts")
    WordVectors(["m1", "m2", "m3"], np.eye(3, 2, dtype=np.float32), {}).save(home / "artifacts" / "embedding")
    settings = {group: dict(values) for group, values in CASES["fraud"].settings.items()}
    pushed = next(run for run in store.runs(where, "fraud") if run.id == RUN)
    facts = pushed.facts | {"started": "2026-01-02T03:04:05+00:00", "settings": json.dumps(settings)}
    facts["pushed"] = str(home / "fraud" / "versions" / "2")
    pushed = replace(pushed, facts=facts)
    store.save(where, pushed)
    plant_artifacts(home, REFUSED, STAGES, home / "artifacts")
    decision = {"decision": json.loads((home / "artifacts" / "decision" / "decision.json").read_text())["id"]}
    reason = "FitGate: the loss is too large"
    store.save(where, replace(pushed, id=REFUSED, state="refused", reason=reason, facts=facts | decision))
    return score_purchases(home)


def put_finished_run(home: Path) -> None:
    """Write a run of the image case that the same command would reuse, on enough pictures for every split."""
    for folder in (home / "digits" / "span-000").iterdir():
        (picture,) = folder.glob("*.png")
        for number in range(20):
            shutil.copy(picture, folder / f"{number}.png")
    plan = make_plan(RunRequest(CASES["image"], str(home / "digits"), changes={}), local_runtime(home))
    plant_artifacts(home, "image-2", STAGES, home / "artifacts")
    where = Home(home).metadata
    (run,) = [run for run in store.runs(where, "image") if run.id == "image-1"]
    facts = run.facts | {"pushed": str(Path(plan.versions, "2")), "version": "2"}
    store.save(where, replace(run, id="image-2", reason="version 2", fingerprint=plan.fingerprint(), facts=facts))
