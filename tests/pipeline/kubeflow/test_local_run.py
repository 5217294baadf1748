"""Run a compiled spec with Kubeflow's local runner: the first run pushes, the second is cached.

The fraud case has every kind of node. ``test_compiler.py`` tests that the image case compiles with the edges of its graph
and passes the backend's rules.
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
    setting_arguments = [argument for name, value in FEW["fraud"].items() for argument in ("--set", f"{name}={value}")]
    return showcase("rehearse", "fraud", "--home", home, "--json", *setting_arguments, timeout=2400)


@pytest.mark.slow
def test_compiled_spec_pushes_a_model_and_second_run_is_cached(tmp_path: Path) -> None:
    """The metadata store is a server, as on a cluster."""
    server, port = store_server.serve(MetadataAddress(tmp_path / "server.sqlite"), 0, "127.0.0.1")
    store_address.write_server_address(tmp_path, f"grpc://127.0.0.1:{port}")
    address = MetadataAddress.of(tmp_path)
    process = rehearse(tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    first = json.loads(process.stdout)
    assert first["state"] == "pushed" and (tmp_path / "fraud" / "versions" / "1" / "saved_model.pb").is_file()
    states = store.stage_states(address, first["id"])
    assert set(states) == set(first["tasks"]) - {"Begin", "End"} and set(states.values()) == {"done"}
    assert "fraud" in (tmp_path / "models.config").read_text()
    process = rehearse(tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    second = json.loads(process.stdout)
    assert second["state"] == "pushed" and second["facts"]["same_as"] == first["id"] != second["id"]
    assert set(store.stage_states(address, second["id"]).values()) == {"cached"}
    assert not (tmp_path / "fraud" / "versions" / "2").exists()
    assert not (tmp_path / "metadata.sqlite").exists()
    server.stop(0)
