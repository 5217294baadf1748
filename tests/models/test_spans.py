"""Spans: which folders count, which windows are complete, and when the digest of the data changes."""

from pathlib import Path

import pytest

from models.errors import DataError
from models.spans import digest_spans, find_spans, list_files, list_loose_files, parse_window, select_window


def create_source(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "rows.csv").write_text(f"content of {name}")
    return folder


def test_spans_are_found_by_number_in_order(tmp_path: Path) -> None:
    spans = find_spans(create_source(tmp_path, "span-010", "span-2", "span-001"))
    assert list(spans.items()) == [
        (n, tmp_path / name) for n, name in ((1, "span-001"), (2, "span-2"), (10, "span-010"))
    ]


def test_similar_names_are_not_spans(tmp_path: Path) -> None:
    create_source(tmp_path, "span-001", ".span-003")
    for name in ("old-span-002", "span-004-copy", "span-x", "span-"):
        (tmp_path / name).mkdir()
    (tmp_path / "span-005").write_text("a file")
    assert list(find_spans(tmp_path)) == [1]


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.CSV.GZ", "a.pq", "Span-2/rows.tsv", "cat/1.JPG", "x.npz", "train-images-idx3-ubyte.gz"]
)
def test_data_outside_the_spans_is_refused(tmp_path: Path, name: str) -> None:
    (create_source(tmp_path, "span-001") / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=f"1 data file outside them, such as {name}; move"):
        find_spans(tmp_path)


def test_companions_outside_the_spans_are_listed(tmp_path: Path) -> None:
    create_source(tmp_path, "span-001")
    for name in ("truth.json", "_draft.csv", ".hidden.csv", "notes/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(find_spans(tmp_path)) == [1]
    assert list_loose_files(tmp_path) == [tmp_path / "notes/readme.md", tmp_path / "truth.json"]
    assert list_loose_files(tmp_path / "span-001") == []


def test_hidden_files_are_listed_apart_and_links_are_followed(tmp_path: Path) -> None:
    names = ("a.csv", "b/c.csv", "_SUCCESS", ".a.csv.crc", "b/.ipynb_checkpoints/c.csv", "_temporary/0/d.csv")
    for name in names:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("x")
    (tmp_path / ".y").mkdir()  # a dot in the folder's own path hides nothing
    (tmp_path / ".y" / "span").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "b" / "loop").symlink_to(tmp_path / "x")
    visible, hidden = list_files(tmp_path / ".y" / "span")
    assert [str(path.relative_to(tmp_path / ".y" / "span")) for path in visible] == list(names[:2])
    assert {str(path.relative_to(tmp_path / ".y" / "span")) for path in hidden} == set(names[2:])


def test_two_folders_of_one_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two folders for span 1"):
        find_spans(create_source(tmp_path, "span-1", "span-001"))


def test_a_folder_without_spans_is_span_0_itself(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x")
    assert find_spans(tmp_path) == {0: tmp_path} == select_window(tmp_path, -1, -1)


def test_no_folder_a_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "empty").mkdir()
    for name, words in (
        ("missing", "no folder"),
        ("file", f"is a file; --data takes a folder, here {tmp_path}"),
        ("empty", "is empty"),
        ("hidden", "is empty"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            find_spans(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [(-1, -1, [2, 3, 4, 5]), (3, -1, [3, 4, 5]), (-1, 3, [2, 3]), (3, 4, [3, 4]), (5, 5, [5])],
)
def test_the_window_takes_both_ends(tmp_path: Path, first: int, last: int, numbers: list[int]) -> None:
    spans = select_window(create_source(tmp_path, *(f"span-{n:03d}" for n in (2, 3, 4, 5))), first, last)
    assert spans == {n: tmp_path / f"span-{n:03d}" for n in numbers}


def test_gap_is_refused_only_inside_the_window(tmp_path: Path) -> None:
    create_source(tmp_path, "span-000", "span-001", "span-004", "span-005")
    with pytest.raises(DataError, match=r"has spans 0 to 5, but the window 0:5 lacks span-002, span-003\."):
        select_window(tmp_path, -1, -1)
    assert list(select_window(tmp_path, 4, -1)) == [4, 5] and list(select_window(tmp_path, 0, 1)) == [0, 1]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [(0, 9, "lacks span-000"), (3, 7, "lacks span-006, span-007"), (9, -1, "is empty"), (4, 2, "is empty")],
)
def test_window_outside_the_source_is_refused(tmp_path: Path, first: int, last: int, words: str) -> None:
    create_source(tmp_path, *(f"span-{n:03d}" for n in (2, 3, 4, 5)))
    with pytest.raises(DataError, match=f"has spans 2 to 5, but the window {first}:.*{words}"):
        select_window(tmp_path, first, last)


def test_digest_depends_only_on_content_and_names(tmp_path: Path) -> None:
    first, second = (
        create_source(tmp_path / "a", "span-000", "span-001"),
        create_source(tmp_path / "b", "span-001", "span-000"),
    )
    original = digest_spans(find_spans(first).values())
    assert original == digest_spans(
        find_spans(second).values()
    )  # another folder, other times, another order of writing
    (first / "span-001" / "rows.csv").touch()
    assert digest_spans(find_spans(first).values()) == original
    (first / "span-001" / "rows.csv").write_text("content of span-002")
    changed = digest_spans(find_spans(first).values())
    (first / "span-001" / "rows.csv").rename(first / "span-001" / "other.csv")
    renamed = digest_spans(find_spans(first).values())
    (first / "span-001" / "deep").mkdir()
    (first / "span-001" / "other.csv").rename(first / "span-001" / "deep" / "other.csv")
    moved = digest_spans(find_spans(first).values())
    (first / "span-000" / "new.csv").write_text("")
    added = digest_spans(find_spans(first).values())
    assert len({original, changed, renamed, moved, added}) == 5
    (first / "span-000" / "_SUCCESS").write_text("a file that is never read")
    assert digest_spans(find_spans(first).values()) == added


def test_windows_of_one_source_have_different_digests(tmp_path: Path) -> None:
    create_source(tmp_path, *(f"span-{n:03d}" for n in range(3)))
    digests = {
        digest_spans(select_window(tmp_path, first, last).values()) for first in range(3) for last in range(first, 3)
    }
    assert len(digests) == 6
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in digests)


@pytest.mark.parametrize(
    ("text", "bounds"), [(":", (-1, -1)), ("3:", (3, -1)), (":9", (-1, 9)), ("3:9", (3, 9)), ("0:0", (0, 0))]
)
def test_window_is_parsed_to_first_and_last(text: str, bounds: tuple[int, int]) -> None:
    assert parse_window(text) == bounds


@pytest.mark.parametrize("text", ["", "3", "a:b", "3:-1", "1:2:3", "²:3", "٣:٤", f"0:{'9' * 5000}"])
def test_invalid_window_error_names_the_format(text: str) -> None:
    with pytest.raises(ValueError, match="FIRST:LAST"):
        parse_window(text)


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="5:2 ends before it begins; give the smaller number first, as in 2:5"):
        parse_window("5:2")


def test_a_window_of_a_billion_spans_is_refused_at_once(tmp_path: Path) -> None:
    create_source(tmp_path, "span-000", "span-001")
    with pytest.raises(DataError, match="but the window 0:999999999 lacks span-002, span-003, span-004"):
        select_window(tmp_path, 0, 999_999_999)
