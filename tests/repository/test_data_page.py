"""docs/data.md has the current rules of the use cases."""

import pytest
from support.tiny_case.case import CASE as TINY

from cli import data_page
from cli.data_page import PAGE, fill_page


def test_the_page_has_the_current_rules() -> None:
    text = PAGE.read_text()
    assert fill_page(text) == text, "write the tables of docs/data.md again: python -m cli.data_page"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks for the rules of fraud"):
        fill_page("# Your own data\n")


def test_a_case_without_rules_of_raw_data_needs_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_page, "CASES", {TINY.name: TINY})
    assert fill_page("# Your own data\n") == "# Your own data\n"
