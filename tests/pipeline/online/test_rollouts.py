"""The served version follows pushes and rollouts."""

from pathlib import Path

import pytest

from pipeline.home import Home
from pipeline.online import rollouts
from serving import rollout


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    folder = Home(tmp_path).case("fraud").versions
    for number in (1, 2, 10):
        (folder / str(number)).mkdir(parents=True)
    return folder


def test_no_version_is_served_before_a_push(tmp_path: Path):
    assert rollouts.served_version(tmp_path, "fraud") is None


def test_newest_version_is_served_by_default(tmp_path: Path, versions: Path):
    assert rollouts.served_version(tmp_path, "fraud") == versions / "10"


def test_previous_version_is_served_after_a_rollback(tmp_path: Path, versions: Path):
    rollout.rollback(versions)
    assert rollouts.served_version(tmp_path, "fraud") == versions / "2"


def test_canary_does_not_change_the_served_version(tmp_path: Path, versions: Path):
    rollout.promote(versions, 1, share=0.5)
    assert rollouts.served_version(tmp_path, "fraud") == versions / "10"
