"""A pipeline from its compiled spec alone, by Kubeflow's own local runner: pushed, then cached.

The fraud case has every kind of node. That the image case compiles, with the edges of its graph, and passes the backend's
rules is tested in ``test_kubeflow.py``.
"""

import json
import subprocess
from pathlib import Path

import pytest
from support.command import showcase
from support.small_runs import FEW

from pipeline.metadata import store, store_address, store_server
from pipeline.metadata.store_address import MetadataAddress

pytestmark = pytest.mark.system


def rehearse(home: Path) -> subprocess.CompletedProcess:
    words = [word for name, value in FEW["fraud"].items() for word in ("--set", f"{name}={value}")]
    return showcase("rehearse", "fraud", "--home", home, "--json", *words, timeout=2400)


@pytest.mark.slow
def test_the_spec_alone_ends_with_a_pushed_model_and_a_cached_second_run(tmp_path: Path) -> None:
    """Its metadata lie behind a server, as on a cluster."""
    server, port = store_server.serve(MetadataAddress(tmp_path / "server.sqlite"), 0, "127.0.0.1")
    store_address.note(tmp_path, f"grpc://127.0.0.1:{port}")
    where = MetadataAddress.of(tmp_path)
    done = rehearse(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads(done.stdout)
    assert first["state"] == "pushed" and (tmp_path / "fraud" / "versions" / "1" / "saved_model.pb").is_file()
    states = store.stage_states(where, first["id"])
    assert set(states) == set(first["tasks"]) - {"Begin", "End"} and set(states.values()) == {"done"}
    assert "fraud" in (tmp_path / "models.config").read_text()
    done = rehearse(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    second = json.loads(done.stdout)
    assert second["state"] == "pushed" and second["facts"]["same_as"] == first["id"] != second["id"]
    assert set(store.stage_states(where, second["id"]).values()) == {"cached"}
    assert not (tmp_path / "fraud" / "versions" / "2").exists()
    assert not (tmp_path / "metadata.sqlite").exists()
    server.stop(0)
