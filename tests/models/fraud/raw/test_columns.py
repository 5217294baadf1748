"""Columns of purchases: mapped names, suggestions for near names, and repeated or absent columns."""

import pytest

from models.errors import DataError
from models.fraud.raw.columns import REQUIRED, match_columns, parse_mapping

SIX = list(REQUIRED)


@pytest.mark.parametrize("mapping", ["amont=x", "amount", "=x"])
def test_a_mapping_of_an_unknown_column_is_refused(mapping: str) -> None:
    with pytest.raises(DataError, match="--columns takes OURS=YOURS pairs.*transaction_id"):
        parse_mapping(mapping)


def test_a_column_that_is_mapped_twice_is_refused() -> None:
    with pytest.raises(DataError, match="names 'amount' twice"):
        parse_mapping("amount=a,amount=b")


def test_columns_are_matched_by_name_and_mapping() -> None:
    names = ["extra", *SIX[:4], "AMT", "is_fraud", "category"]
    matched = match_columns(names, parse_mapping("amount=AMT"))
    assert matched == {**{name: name for name in SIX}, "amount": "AMT", "category": "category"}


@pytest.mark.parametrize("name", SIX)
def test_a_missing_column_is_named_with_the_others_and_the_option(name: str) -> None:
    names = [other for other in [*SIX, "zzz"] if other != name]
    with pytest.raises(DataError, match=f"no column '{name}', but .*zzz; name yours with --columns {name}=YOURS"):
        match_columns(names, {})


def test_all_missing_columns_are_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        match_columns(["Time", "V1", "Amount", "Class"], {})
    assert str(caught.value) == (
        "it has no columns 'transaction_id', 'event_time', 'customer_id', 'merchant_id', 'amount', 'is_fraud', but Time, V1, "
        "Amount, Class; name yours with --columns transaction_id=YOURS,event_time=YOURS,customer_id=YOURS,merchant_id=YOURS,"
        "amount=Amount,is_fraud=YOURS."
    )
    with pytest.raises(DataError, match='did you mean --columns "customer_id= customer_id,amount= amount"'):
        match_columns([f" {name}" if name in ("customer_id", "amount") else name for name in SIX], {})


@pytest.mark.parametrize("spelling", ["Amount", " amount", "AMOUNT ", "a-mount", "amounts", "amont", "\ufeffamount"])
def test_a_near_name_is_suggested_and_not_used(spelling: str) -> None:
    names = [spelling if name == "amount" else name for name in SIX]
    with pytest.raises(DataError) as caught:
        match_columns(names, {})
    assert f'did you mean --columns "amount={spelling}"?' in str(caught.value)


def test_an_optional_column_of_another_spelling_is_not_ignored() -> None:
    with pytest.raises(DataError, match='did you mean --columns "distance_km=Distance KM"'):
        match_columns([*SIX, "Distance KM"], {})
    assert "distance_km" not in match_columns([*SIX, "distance"], {})


def test_a_mapped_optional_column_has_to_exist() -> None:
    with pytest.raises(DataError, match="no column 'mcc'"):
        match_columns(SIX, {"category": "mcc"})


@pytest.mark.parametrize("name", ["amount", "category"])
def test_a_column_that_occurs_twice_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"two columns '{name}'"):
        match_columns([*SIX, "category", name], {})
    assert match_columns([*SIX, "note", "note"], {})


def test_a_table_without_header_is_recognised() -> None:
    with pytest.raises(DataError, match="its first row, t1, 2026-01-05, c1, m1, 1.5, 0, is no header"):
        match_columns(["t1", "2026-01-05", "c1", "m1", "1.5", "0"], {})
    with pytest.raises(DataError, match="its first row, sep=;, is no header"):
        match_columns(["sep=;"], {})
