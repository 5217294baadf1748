"""A policy's numbers, changed by name."""

import pytest

from models.catalog import CASES
from models.retraining_policy import RetrainingPolicy


def test_numbers_are_parsed_by_the_type_of_their_field() -> None:
    policy = RetrainingPolicy(settings={"a": "1"}).with_changes({"loss": "0.1", "learn": "2"})
    assert (policy.loss, policy.learn, policy.settings) == (0.1, 2, {"a": "1"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": "1"}, "no 'speed'"),
        ({"learn": "x"}, "takes a whole number, not 'x'"),
        ({"loss": "nan"}, "takes a number"),
        ({"settings": "x"}, "no 'settings'"),
    ],
)
def test_unknown_names_and_non_numbers_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetrainingPolicy().with_changes(changes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_settings_of_every_cases_policy_are_settings_of_the_case(case) -> None:
    assert case.policy and case.configure(case.policy.settings) and case.has("collected")
