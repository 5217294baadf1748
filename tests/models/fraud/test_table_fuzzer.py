"""Odd folders of purchases: no crash, everything is accounted for, faults are refused, values are read as meant."""

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.odd_data import check_case
from benchmarks.odd_tables import draw_case


def check(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_case(draw_case(random, Path(folder, "data")))


@seed(1)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_odd_folders_are_read_as_they_are_meant_or_refused(random: Random) -> None:
    check(random)


@pytest.mark.slow
@seed(2)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(st.randoms(use_true_random=True))
def test_many_odd_folders_are_read_as_they_are_meant_or_refused(random: Random) -> None:
    check(random)


def test_the_cases_hold_good_data_faults_and_damage() -> None:
    outcomes = set()
    for number in range(25):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.add(check_case(draw_case(Random(number), Path(folder, "data"))))
    assert outcomes == {"read", "refused", "damaged"}
