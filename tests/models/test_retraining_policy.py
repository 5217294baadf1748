"""A policy's numbers, changed by name."""

import pytest

from models.catalog import CASES
from models.retraining_policy import Policy


def test_numbers_are_read_as_what_they_are() -> None:
    found = Policy(settings={"a": "1"}).changed({"loss": "0.1", "learn": "2"})
    assert (found.loss, found.learn, found.settings) == (0.1, 2, {"a": "1"})


@pytest.mark.parametrize(
    ("changes", "says"), [({"speed": "1"}, "no 'speed'"), ({"learn": "x"}, "int"), ({"settings": "x"}, "no 'settings'")]
)
def test_what_is_no_number_of_a_policy_is_named(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Policy().changed(changes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_settings_of_every_cases_policy_are_settings_of_the_case(case) -> None:
    assert case.policy and case.configured(case.policy.settings) and case.has("collected")
