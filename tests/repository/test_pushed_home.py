"""The cache of homes: when a home is created, reused, created again and removed."""

import json
import os
from pathlib import Path

import pytest
from support import pushed_home
from support.pushed_home import MARKER, cached_home, changed_files, is_complete, list_files

FIRST, SECOND, THIRD = ({"fraud": {"rows": rows}, "image": {}} for rows in (1, 2, 3))


@pytest.fixture
def created_homes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The homes that a fake of ``make_home`` has created."""
    homes: list[Path] = []

    def make_home(home: Path, settings: object) -> None:
        (home / "fraud").mkdir(parents=True)
        (home / "fraud" / "model").write_text(str(settings))
        (home / MARKER).write_text(json.dumps({"home": str(home), "runs": {}, "files": list_files(home)}))
        homes.append(home)

    monkeypatch.setattr(pushed_home, "make_home", make_home)
    return homes


def test_a_home_is_created_once_for_its_settings(created_homes: list[Path], tmp_path: Path) -> None:
    first = cached_home(tmp_path, "small", FIRST)
    assert cached_home(tmp_path, "small", FIRST) == first and created_homes == [first]
    assert cached_home(tmp_path, "small", SECOND) != first and len(created_homes) == 2


@pytest.mark.parametrize("name", ["digest", "lock_digest", "version"])
def test_other_code_or_packages_give_another_home(
    created_homes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first = cached_home(tmp_path, "small", FIRST)
    module = pushed_home if name == "version" else pushed_home.cache_key
    monkeypatch.setattr(module, name, lambda *_: "another")
    assert cached_home(tmp_path, "small", FIRST) != first and len(created_homes) == 2


def test_an_incomplete_changed_or_moved_home_is_created_again(created_homes: list[Path], tmp_path: Path) -> None:
    home = cached_home(tmp_path / "cache", "small", FIRST)
    (home / MARKER).unlink()
    assert not is_complete(home) and cached_home(tmp_path / "cache", "small", FIRST) == home and len(created_homes) == 2
    (home / "fraud" / "model").write_text("written by a test")
    assert changed_files(home) == ["fraud/model"]
    cached_home(tmp_path / "cache", "small", FIRST)
    assert len(created_homes) == 3 and not changed_files(home)
    (tmp_path / "cache").rename(tmp_path / "moved")
    cached_home(tmp_path / "moved", "small", FIRST)
    assert len(created_homes) == 4


def test_cache_keeps_the_two_homes_used_last(created_homes: list[Path], tmp_path: Path) -> None:
    other = cached_home(tmp_path, "default", FIRST)
    first, second = (cached_home(tmp_path, "small", settings) for settings in (FIRST, SECOND))
    os.utime(second / MARKER, (1, 1))
    third = cached_home(tmp_path, "small", THIRD)
    assert first.is_dir() and third.is_dir() and other.is_dir() and not second.exists()
