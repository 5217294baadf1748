"""What is read, converted, skipped, dropped and refused of purchases; the table in docs/data.md is written from it."""

from collections.abc import Iterable

from models.data.data_rules import Rule
from models.fraud.event_times import UNITS
from models.fraud.identity import MAX_CATEGORY_LENGTH, MAX_ID_LENGTH, MISSING
from models.fraud.raw.columns import LARGEST, OPTIONAL, REQUIRED
from models.fraud.raw.table_files import CODECS
from models.fraud.raw.text_tables import MARKS, SEPARATORS


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PACKED = _list(f".{suffix}" for suffix in CODECS)
WORDS = _list(sorted(MISSING - {""}))
ENCODINGS = ", ".join(dict.fromkeys(encoding.upper()[:6].rstrip("-") for encoding in MARKS.values()))
ABSENT = ", ".join(
    f"`{name}`: " + ("`label_delay_days` after the purchase" if value is None else f"`{value}`")
    for name, (_, value) in OPTIONAL.items()
)

RULES = (
    Rule("Files", f"`.csv`, `.tsv`, also with {PACKED}; `.parquet`, `.pq`; in any case, in subfolders", "used"),
    Rule("Files", "folders such as `channel=online` (Hive partitions)", "used", "as a column, if the file lacks it"),
    Rule("Files", "names that begin with `.` or `_`, and all files in such folders", "skipped", "as hidden"),
    Rule("Files", "files of another format", "skipped", "by their suffix"),
    Rule("Files", "tables without rows", "skipped", "a span without any purchase is refused"),
    Rule("Files", "other files outside the `span-NNN` folders", "skipped"),
    Rule("Files", "tables or pictures outside the `span-NNN` folders; a file as `--data`", "refused"),
    Rule("Files", "the same name in two formats", "refused", "keep one of them"),
    Rule("Files", "a file whose purchases are all in another file", "refused", "names both"),
    Rule("Files", "a damaged or truncated file", "refused"),
    Rule("Text", "values in double quotes, with separators, line breaks or doubled quotes", "used"),
    Rule(
        "Text",
        f"separators other than the suffix promises: {', '.join(SEPARATORS.values())}",
        "converted",
        "by the header",
    ),
    Rule("Text", f"{ENCODINGS} with a byte order mark", "converted", "to UTF-8"),
    Rule("Text", "other encodings, such as Latin-1", "refused", "with the line and a command that converts the file"),
    Rule("Text", "quotes that do not match", "refused", "with the line"),
    Rule("Text", "a row with another number of values than the header", "refused", "with the row"),
    Rule("Columns", f"{_list(REQUIRED)}, under other names by `--columns OURS=YOURS`", "used"),
    Rule("Columns", f"{_list(OPTIONAL)}, where they exist", "used", f"where they are absent: {ABSENT}"),
    Rule("Columns", "other columns", "skipped", "named as unused"),
    Rule(
        "Columns", "a required column is absent, or spelled differently (`Amount`)", "refused", "with the nearest name"
    ),
    Rule("Columns", "a column of ours occurs twice; a table without header", "refused"),
    Rule("Ids", f"texts of 1 to {MAX_ID_LENGTH} characters, whole numbers", "used"),
    Rule(
        "Ids",
        "surrounding blanks; whole floats, as pandas writes them (`4e+15`)",
        "converted",
        "to text, as at the gateway",
    ),
    Rule("Ids", f"empty, or {WORDS}; fractions; longer texts", "refused", "with the row"),
    Rule("Times", "timestamps; ISO 8601 with or without a zone", "used", "without a zone as UTC"),
    Rule("Times", f"numbers since 1970: {', '.join(UNITS)}; dates", "converted", "the unit follows from the magnitude"),
    Rule("Times", "missing; another format (`05/01/2026`); a label before its purchase", "refused", "with the row"),
    Rule("Times", "purchases far from all others", "refused", "or dropped with `--set outliers=drop`"),
    Rule(
        "Numbers",
        f"`amount` from 0 to {LARGEST['amount']:,.0f}, `distance_km` to {LARGEST['distance_km']:,.0f}",
        "used",
    ),
    Rule("Numbers", "decimal commas, where some value has not three decimals", "converted", "for example `12,50`"),
    Rule("Numbers", "`distance_km` is missing in a row", "converted", f"to {OPTIONAL['distance_km'][1]:g}"),
    Rule("Numbers", "missing, NaN, infinite, negative or larger; `1,234`; `12 EUR`", "refused", "with the row"),
    Rule("Texts", "`category`, `channel`, `device`: blanks, missing words", "converted", "trimmed, missing"),
    Rule("Texts", f"longer than {MAX_CATEGORY_LENGTH} characters", "refused", "with the row"),
    Rule("Labels", "0, 1, true, false as any type and case; nothing or NaN for no label", "used"),
    Rule(
        "Labels", "another pair, such as yes and no", "used", "with `--set positive_label=yes --set negative_label=no`"
    ),
    Rule("Labels", "any other value, such as 2", "refused", "with the row and the values of the column"),
    Rule("Rows", "exact copies of a row, also in other files and spans", "dropped"),
    Rule("Rows", "an id that two different rows have", "refused", "with both rows"),
)
