"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from serving import atomic_file
from serving.atomic_file import write_atomically


def test_content_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"first")
    write_atomically(path, (part for part in (b"sec", b"ond")))
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"first")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "temporary")

    monkeypatch.setattr(atomic_file.os, step, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, b"second")
    assert caught.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"first"
