"""A use case's settings: parsed by the type of their defaults, grouped, and refused with a list of valid names."""

import dataclasses

import pytest
from support.tiny_case.case import CASE as TINY

from models.catalog import CASES, find_use_case
from models.use_case import UseCase, parse_settings

CASE = UseCase(
    name="probe",
    title="",
    package="support.tiny_case",
    label="l",
    key="k",
    headline="h",
    score="s",
    settings={
        "data": {"rows": 10, "columns": ""},
        "training": {"rate": 0.5, "shuffle": True, "quiet": False},
        "gates": {"least": 0.9},
    },
)


def test_without_changes_the_defaults_are_returned_in_their_groups() -> None:
    assert CASE.configure({}) == CASE.settings


def test_a_change_is_read_as_the_type_of_its_default_and_stays_in_its_group() -> None:
    configured = CASE.configure({"rows": "-3", "columns": "a=b,c=d", "rate": "1e-3", "least": "1"})
    assert configured == {
        "data": {"rows": -3, "columns": "a=b,c=d"},
        "training": {"rate": 0.001, "shuffle": True, "quiet": False},
        "gates": {"least": 1.0},
    }
    assert isinstance(configured["gates"]["least"], float) and type(configured["data"]["rows"]) is int


def test_configuring_leaves_the_case_as_it_is() -> None:
    CASE.configure({"rows": "3"})["data"]["rows"] = 99
    assert CASE.configure({})["data"]["rows"] == CASE.settings["data"]["rows"] == 10


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
@pytest.mark.parametrize("name", ["shuffle", "quiet"])
def test_booleans_are_true_or_false(name: str, text: str, value: bool) -> None:
    assert CASE.configure({name: text})["training"][name] is value


@pytest.mark.parametrize("text", ["1", "0", "yes", "", "truee"])
def test_other_words_for_booleans_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'shuffle' is true or false, not"):
        CASE.configure({"shuffle": text})


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("rows", "3.5", "a whole number"),
        ("rows", "", "a whole number"),
        ("rows", "9" * 5000, "a whole number"),
        ("rate", "x", "a number"),
        ("rate", "nan", "a number"),
    ],
    ids=["fraction", "empty", "digits", "word", "nan"],
)
def test_a_value_of_another_type_names_setting_type_and_text(name: str, text: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^Setting '{name}' takes {kind}, not '{text[:60]}") as caught:
        CASE.configure({name: text})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("name", ["row", "data", "", "ROWS"])
def test_unknown_name_is_refused_with_all_valid_names(name: str) -> None:
    with pytest.raises(ValueError, match="probe has no setting") as caught:
        CASE.configure({"rows": "3", name: "1"})
    assert f"'{name}'; it has columns, least, quiet, rate, rows, shuffle." in str(caught.value)
    assert str(caught.value).endswith("Did you mean rows?") == (name == "row")


def test_one_invalid_change_among_valid_ones_is_refused() -> None:
    with pytest.raises(ValueError, match="'rate'"):
        CASE.configure({"rows": "3", "rate": "fast", "least": "0.5"})


def test_modules_and_schema_come_from_the_package() -> None:
    assert CASE.module("model") == "support.tiny_case.model"
    assert CASE.load("case").CASE is TINY
    assert CASE.schema_path.name == "schema.pbtxt" and CASE.schema_path.is_file()


def test_a_case_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CASE.name = "other"


@pytest.mark.parametrize("name", CASES)
def test_the_catalog_finds_a_case_by_its_own_name(name: str) -> None:
    assert find_use_case(name).name == name


def test_unknown_use_case_is_refused_with_the_catalog() -> None:
    with pytest.raises(ValueError, match="no use case 'frauds'; there are fraud, image"):
        find_use_case("frauds")


@pytest.mark.parametrize("case", [*CASES.values(), TINY], ids=lambda case: case.name)
def test_every_default_is_parsed_from_its_own_text(case: UseCase) -> None:
    written = {name: str(value) for group in case.settings.values() for name, value in group.items()}
    assert case.configure(written) == case.settings


def test_settings_are_parsed_as_pairs() -> None:
    assert parse_settings(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_settings(["a"])
