"""A home with all that commands and pages read, its metadata in a file, behind a server, or behind one that is gone."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cli import dvc_files
from models.catalog import CASES
from models.embedding import Embedding
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store, store_address, store_server
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Request, make_plan
from support.gateway_case import versions
from support.shown_home import LOOK, RUN, STAGES, answered, put, shown, watched
from support.tried_home import put_rows

REFUSED = "fraud-20260104-030405-006"
SKIP_GRAM = (("SkipGram", (), (("embedding", "Embedding"),)),)
NAMES = ("file", "grpc", "gone")  # as long as each other, so that tables that hold a path are as wide


@dataclass
class Homes:
    """The same home three times.

    Attributes:
        file: With its metadata in a SQLite file.
        grpc: Behind a server that answers.
        gone: Behind a server that does not.
        port: Where nobody listens.
        decision: Id of the decision's artifact.
        ids: Of predictions, by home.
    """

    file: Path
    grpc: Path
    gone: Path
    port: int
    decision: int
    ids: dict[Path, list[str]] = field(default_factory=dict)

    def plain(self, text: str) -> str:
        """A text in which each home has the same name."""
        for home in (self.file, self.grpc, self.gone):
            text = text.replace(str(home), "HOME")
        return text


@contextmanager
def homes(base: Path) -> Iterator[Homes]:
    """All three, planted: the one behind a server through its address."""
    file, grpc, gone = (base / name for name in NAMES)
    with serving(base / "served.sqlite") as port, refusing() as closed:
        store_address.note(grpc, f"grpc://127.0.0.1:{port}")
        ids = {home: plant(home) for home in (file, grpc)}
        shutil.copytree(grpc, gone)
        store_address.note(gone, f"grpc://127.0.0.1:{closed}")
        (decision,) = store.outputs(local_runtime(grpc).metadata, LOOK)["Decide"].values()
        yield Homes(file, grpc, gone, closed, decision.id, ids | {gone: ids[grpc]})


@contextmanager
def serving(file: Path, port: int = 0) -> Iterator[int]:
    """A metadata server over a SQLite file; its port."""
    server, port = store_server.serve(MetadataAddress(file), port, "127.0.0.1")
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def refusing() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def plant(home: Path) -> list[str]:
    """A pushed run of either case, a decision, a run that followed from it, and a log; returns ids of predictions."""
    watched(shown(home))
    put_rows(home)
    settings = {"classes": "flat,third,upright", "height": 8, "width": 8, "channels": 1}
    for case in CASES:
        extra = versions(home / case / "versions", 1, 2) / "2" / "assets.extra"
        (extra / "one_row.tflite").write_bytes(b"a model")
        (extra / "model.json").write_text(json.dumps({"operating_point": {"threshold": 0.5}, "settings": settings}))
    where = local_runtime(home).metadata
    put(home, RUN, SKIP_GRAM, home / "artifacts")
    Embedding(["m1", "m2", "m3"], np.eye(3, 2, dtype=np.float32), {}).save(home / "artifacts" / "embedding")
    settings = {group: dict(values) for group, values in CASES["fraud"].settings.items()}
    pushed = next(run for run in store.runs(where, "fraud") if run.id == RUN)
    facts = pushed.facts | {"started": "2026-01-02T03:04:05+00:00", "settings": json.dumps(settings)}
    facts["pushed"] = str(home / "fraud" / "versions" / "2")
    pushed = replace(pushed, facts=facts)
    store.save(where, pushed)
    put(home, REFUSED, STAGES, home / "artifacts")
    decision = {"decision": json.loads((home / "artifacts" / "decision" / "decision.json").read_text())["id"]}
    reason = "FitGate: the loss is too large"
    store.save(where, replace(pushed, id=REFUSED, state="refused", reason=reason, facts=facts | decision))
    source = Path(facts["source"])
    found = dvc_files.measure(source)
    out = f"outs:\n- md5: {found.md5}\n  size: {found.size}\n  nfiles: {found.nfiles}\n  hash: md5\n  path: {source.name}\n"
    source.with_name(f"{source.name}.dvc").write_text(out)
    return answered(home)


def put_finished_run(home: Path) -> None:
    """A run of the image case that the same command would find done."""
    plan = make_plan(Request(CASES["image"], str(home / "digits"), changes={}), local_runtime(home))
    put(home, "image-2", STAGES, home / "artifacts")
    where = local_runtime(home).metadata
    (run,) = [one for one in store.runs(where, "image") if one.id == "image-1"]
    facts = run.facts | {"pushed": str(Path(plan.versions, "2")), "version": "2"}
    store.save(where, replace(run, id="image-2", reason="version 2", fingerprint=plan.fingerprint(), facts=facts))
