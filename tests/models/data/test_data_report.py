"""The account of the data that was given."""

from models.data.data_report import DataReport, SplitCount

REPORT = DataReport(
    settings={},
    unit="purchases",
    files=2,
    rows=90,
    period=("2026-01-01", "2026-01-31"),
    splits={"eval": SplitCount(rows=20, labels={"fraud": 3}, period=("2026-01-20", "2026-01-31"))},
    skipped={"hidden": ["a/.x.csv"], ".docx is not read": [f"{number}.docx" for number in range(7)]},
    dropped={"exact duplicates": 10},
    unused=("note",),
    defaults={"channel": "none"},
    converted={"event_time read as seconds since 1970": 90},
)


def test_counts_add_up():
    assert (REPORT.files_given, REPORT.rows_given) == (10, 100)


def test_summary_names_what_is_not_used_as_given():
    assert REPORT.summary() == [
        "skipped 8 files: 1 hidden, 7 .docx is not read",
        "dropped 10 purchases: 10 exact duplicates",
        "unused columns: note",
        "converted: event_time read as seconds since 1970 (90)",
    ]
    assert DataReport(settings={}, unit="images").summary() == []
    many = DataReport(settings={}, unit="images", unused=[f"V{number}" for number in range(28)])
    assert many.summary() == ["unused columns: V0, V1, V2, V3, V4 and 23 more"]


def test_description_lists_splits_files_and_defaults():
    text = "\n".join(REPORT.describe())
    assert "90 purchases in 2 files, 2026-01-01 to 2026-01-31" in text
    assert "eval: 20, fraud: 3, 2026-01-20 to 2026-01-31 (12 days)" in text
    assert "4.docx and 2 more" in text and "column channel is absent; none stands in for it" in text


def test_error_lists_first_faults_and_counts_the_rest():
    report = DataReport(settings={}, unit="images", refused=[f"fault {number}" for number in range(8)])
    assert report.error().splitlines()[-1] == "3 more faults: see `showcase check`." and "fault 4" in report.error()
