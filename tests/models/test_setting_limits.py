"""Every numeric setting has a range, and a value outside it is refused before any work."""

import math
from collections.abc import Iterator

import pytest
from support.tiny_case.case import CASE as TINY

from models.catalog import CASES
from models.setting_limits import Range, check_limits
from models.use_case import UseCase

ALL = (*CASES.values(), TINY)


def numeric_settings() -> Iterator[tuple[UseCase, str, float]]:
    for case in ALL:
        for values in case.settings.values():
            for name, default in values.items():
                if isinstance(default, int | float) and not isinstance(default, bool):
                    yield case, name, default


@pytest.mark.parametrize(
    ("case", "name", "default"), [*numeric_settings()], ids=lambda value: getattr(value, "name", str(value))
)
def test_every_number_has_a_limit_that_contains_its_default_and_no_value_outside(
    case: UseCase, name: str, default: float
) -> None:
    limit = case.limits[name]
    assert default in limit
    if isinstance(limit, Range):
        step = 1 if isinstance(default, int) else 1e-9
        outside = [limit.least - step, limit.most + step * max(1, limit.most)]
        outside = [value for value in outside if value != limit.off]
    else:
        outside = [max(limit) + 1]
    for value in [*outside, *([] if isinstance(default, int) else [math.nan, math.inf])]:
        with pytest.raises(ValueError, match=rf"Setting '{name}' (is .*; it must be (.*from|one of)|takes a )"):
            case.configure({name: str(value)})


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_limits_name_settings_of_the_case_and_allow_what_it_searches(case: UseCase) -> None:
    names = {name for values in case.settings.values() for name in values}
    assert set(case.limits) <= names
    for name, choices in case.space.items():
        values = choices.values() if isinstance(choices, dict) else choices
        assert all(value in case.limits[name] for value in values), name


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("fraud", {"valid_days": "-5"}, "Setting 'valid_days' is -5; it must be from 1 to 3,650 days."),
        ("fraud", {"past_encoder": "lstm"}, "Setting 'past_encoder' is lstm; it must be one of gru, dense,"),
        ("fraud", {"strategy": "horovod"}, "Setting 'strategy' is horovod; it must be one of none, mirrored"),
        ("fraud", {"folds": "1"}, "Setting 'folds' is 1; it must be 0, or from 2 to 100."),
        ("fraud", {"rows": "20"}, "days=90, rows=20: generated data needs a row a day."),
        ("fraud", {"num_skips": "7"}, "num_skips=7, skip_window=3: num_skips must be at most twice skip_window"),
        ("image", {"eval_share": "0.9"}, "valid_share=0.1, eval_share=0.9: together they must be at most 0.99"),
        ("image", {"height": "-8"}, "Setting 'height' is -8; it must be 0, or from 4 to 4,096 pixels."),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_what_is_allowed(
    case: str, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        CASES[case].configure(changes)
    assert message in str(caught.value)


def test_a_value_that_turns_a_setting_off_is_within_its_range() -> None:
    check_limits({"folds": 0}, {"folds": Range(2, 100, off=0)})
