"""Both pipelines from their compiled specs alone, by Kubeflow's own local runner: pushed, then cached."""

import json
import subprocess
from pathlib import Path

import pytest
from support.command import showcase
from support.small_runs import FEW

from models.catalog import CASES
from pipeline import metadata, metadata_server, store
from pipeline.metadata import MetadataAddress

pytestmark = pytest.mark.system


def rehearse(case: str, home: Path, **changes: object) -> subprocess.CompletedProcess:
    words = [word for name, value in {**FEW[case], **changes}.items() for word in ("--set", f"{name}={value}")]
    return showcase("rehearse", case, "--home", home, "--json", *words, timeout=2400)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_spec_alone_ends_with_a_pushed_model_and_a_cached_second_run(case: str, tmp_path: Path) -> None:
    """One case with its metadata in a file, the other with a server, as on a cluster."""
    if case == "image":
        server, port = metadata_server.serve(MetadataAddress(tmp_path / "server.sqlite"), 0, "127.0.0.1")
        metadata.note(tmp_path, f"grpc://127.0.0.1:{port}")
    where = MetadataAddress.of(tmp_path)
    assert bool(where.server) == (case == "image")
    done = rehearse(case, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads(done.stdout)
    assert first["state"] == "pushed" and (tmp_path / case / "versions" / "1" / "saved_model.pb").is_file()
    states = store.stage_states(where, first["id"])
    assert set(states) == set(first["tasks"]) - {"Begin", "End"} and set(states.values()) == {"done"}
    assert case in (tmp_path / "models.config").read_text()
    done = rehearse(case, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    second = json.loads(done.stdout)
    assert second["state"] == "pushed" and second["facts"]["same_as"] == first["id"] != second["id"]
    assert set(store.stage_states(where, second["id"]).values()) == {"cached"}
    assert not (tmp_path / case / "versions" / "2").exists()
    if case == "image":
        assert not (tmp_path / "metadata.sqlite").exists()
        server.stop(0)
