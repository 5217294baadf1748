"""All evidence as one folder: what is in it, what fails, and what a page must not do."""

import json
from pathlib import Path

import pytest
from support.command import showcase
from support.shown_kinds import KINDS, Tags

from tour import ask, bundle, notes


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two questions in place of all, the second without evidence."""
    kept = {id_: note for id_, note in notes.read().items() if id_ in ("A1", "B1")}
    monkeypatch.setattr(notes, "read", lambda: kept)

    def evidence(note, case, home):
        if note.id == "B1":
            raise ValueError("this run has no such artifact")
        return "fraud", KINDS, 0.125

    monkeypatch.setattr(ask, "contexts", lambda case, home: iter(()))
    monkeypatch.setattr(ask, "evidence", evidence)
    return list(kept)


def test_the_folder_has_a_page_the_same_as_json_and_figures(some, tmp_path: Path, capsys) -> None:
    failed = bundle.bundle(tmp_path / "out", None, tmp_path, as_json=True)
    said = json.loads(capsys.readouterr().out)
    told = json.loads((tmp_path / "out" / "evidence.json").read_text())
    first, second = told["questions"]
    assert (first["id"], second["id"]) == ("A1", "B1") and first["seconds"] == 0.12
    assert [one["kind"] for one in first["results"]] == [type(one).__name__ for one in KINDS]
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == [
        "A1-4.svg",
        "A1-5.svg",
        "A1-6.png",
        "A1-7.svg",
    ]
    assert failed == said["failed"] == ["B1"] and second["error"] == "ValueError: this run has no such artifact"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "12,345" in page and "no such artifact" in page and first["answer"][:30] in page


def test_nothing_from_data_becomes_markup_and_nothing_comes_from_elsewhere(some, tmp_path: Path) -> None:
    bundle.bundle(tmp_path, None, tmp_path, as_json=True)
    tags = Tags((tmp_path / "index.html").read_text()).found
    assert not any(
        name in ("script", "link", "iframe") or any(key.startswith("on") for key in held) for name, held in tags
    )
    places = [held[key] for _, held in tags for key in ("src", "href") if key in held]
    assert places and all(place.startswith(("data:", "#")) for place in places)


def test_code_keeps_the_numbers_of_its_lines(some, tmp_path: Path) -> None:
    bundle.bundle(tmp_path, None, tmp_path, as_json=True)
    note = notes.read()["A1"]
    page = (tmp_path / "index.html").read_text()
    for number, _ in (note.source[0], note.source[5]):
        assert f">{number}</span>" in page or f"> {number}</span>" in page


def test_a_file_in_place_of_a_folder_is_an_error(some, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        bundle.bundle(tmp_path / "file", None, tmp_path, as_json=True)


@pytest.mark.system
def test_without_a_run_it_says_what_makes_one(tmp_path: Path) -> None:
    done = showcase("evidence", "-o", tmp_path / "out", "--home", tmp_path / "home")
    assert done.returncode == 2 and "showcase demo" in done.stderr and "Traceback" not in done.stderr
