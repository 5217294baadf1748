"""Write the tables of docs/data.md from the rules of the use cases: ``python -m cli.data_page``."""

from pathlib import Path

from models.catalog import CASES
from models.data.data_rules import format_rules

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
TABLE = "<!-- rules of {name}, written by python -m cli.data_page -->\n\n"
END = "\n\n<!-- end of rules -->"


def fill_page(text: str) -> str:
    """Return the page with the current table of each use case that has rules, between its marks.

    Raises:
        ValueError: if the page lacks the marks of a use case.
    """
    for name, case in CASES.items():
        if not case.has("raw/rules"):
            continue
        begin = TABLE.format(name=name)
        before, _, rest = text.partition(begin)
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"The page has no marks for the rules of {name}: {begin.strip()} and {END.strip()}.")
        text = before + begin + format_rules(case.load("raw.rules").RULES) + end + after
    return text


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(fill_page(PAGE.read_text()))


if __name__ == "__main__":
    main()
