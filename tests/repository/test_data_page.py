"""docs/data.md has the current rules of the use cases."""

import pytest

from cli.data_page import PAGE, fill_page


def test_the_page_has_the_current_rules() -> None:
    text = PAGE.read_text()
    assert fill_page(text) == text, "write the tables of docs/data.md again: python -m cli.data_page"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks for the rules of fraud"):
        fill_page("# Your own data\n")
