"""The evidence bundle: its files, failures, and that its page is self-contained."""

import json
from pathlib import Path

import pytest
from support.command import showcase
from support.shown_kinds import RESULTS, TagParser

from tour import ask, bundle, notes


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the notes by two questions, the second without evidence."""
    selected = {id_: note for id_, note in notes.read().items() if id_ in ("A1", "B1")}
    monkeypatch.setattr(notes, "read", lambda: selected)

    def evidence(note, case, home):
        if note.id == "B1":
            raise ValueError("this run has no such artifact")
        return "fraud", RESULTS, 0.125

    monkeypatch.setattr(ask, "pushed_contexts", lambda case, home: iter(()))
    monkeypatch.setattr(ask, "compute_evidence", evidence)
    return list(selected)


def test_folder_has_a_page_the_same_content_as_json_and_figures(some, tmp_path: Path, capsys) -> None:
    failed = bundle.write_bundle(tmp_path / "out", None, tmp_path, as_json=True)
    summary = json.loads(capsys.readouterr().out)
    content = json.loads((tmp_path / "out" / "evidence.json").read_text())
    first, second = content["questions"]
    assert (first["id"], second["id"]) == ("A1", "B1") and first["seconds"] == 0.12
    assert [result["kind"] for result in first["results"]] == [type(result).__name__ for result in RESULTS]
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == [
        "A1-5.svg",
        "A1-7.png",
        "A1-8.svg",
    ]
    drawing = (tmp_path / "out" / "figures" / "A1-5.svg").read_text()
    assert "<style>" in drawing and "var(" not in drawing  # not every viewer of SVG knows variables
    assert failed == summary["failed"] == ["B1"] and second["error"] == "ValueError: this run has no such artifact"
    page = (tmp_path / "out" / "index.html").read_text()
    assert (
        "12,345" in page
        and "equal: <strong>yes</strong>" in page
        and "no such artifact" in page
        and first["answer"][:30] in page
    )


def test_page_has_no_script_and_no_external_resource(some, tmp_path: Path) -> None:
    bundle.write_bundle(tmp_path, None, tmp_path, as_json=True)
    tags = TagParser((tmp_path / "index.html").read_text()).found
    assert not any(
        name in ("script", "link", "iframe") or any(key.startswith("on") for key in attributes)
        for name, attributes in tags
    )
    addresses = [attributes[key] for _, attributes in tags for key in ("src", "href") if key in attributes]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)


def test_code_shows_the_line_numbers_of_the_file(some, tmp_path: Path) -> None:
    bundle.write_bundle(tmp_path, None, tmp_path, as_json=True)
    note = notes.read()["A1"]
    page = (tmp_path / "index.html").read_text()
    for number, _ in (note.source[0], note.source[5]):
        assert f">{number}</span>" in page or f"> {number}</span>" in page


def test_file_instead_of_a_folder_raises(some, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        bundle.write_bundle(tmp_path / "file", None, tmp_path, as_json=True)


@pytest.mark.system
def test_without_a_run_the_error_names_the_remedy(tmp_path: Path) -> None:
    done = showcase("evidence", "-o", tmp_path / "out", "--home", tmp_path / "home")
    assert done.returncode == 2 and "showcase demo" in done.stderr and "Traceback" not in done.stderr
