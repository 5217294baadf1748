"""The drift benchmark: which targets its table marks as missed, and the shifts of its windows."""

import copy

import numpy as np
import pytest

from benchmarks import drift, drift_pictures
from benchmarks.drift_days import drop_half

WORLD = {
    "clean": {"ours": [False] * 99 + [True], "alerts": [False] * 100, "rows as independent": [True] * 100},
    "amount 1.05": [1] * 19 + [2],
    "amount 1.03": [1, 2, 3],
    "amount-ramp 1.10": [4],
    "online 0.05": [1],
    "faults": {"nulls": [True, True]},
    "fraud rate 1.5": {"drifted": [0.001] * 9 + [0.5], "clean": [0.5] * 100},
    "concept 0.5": {"drifted": [[0.5] * 8 + [0.001] * 3, [0.001] * 11], "clean": [[0.5] * 11] * 2},
    "estimates": [
        {"metric": name, "kind": "online", "estimate": 0.61, "error": 0.01, "realised": 0.60} for name in drift.METRICS
    ],
}
PICTURES = {"clean": 0.0, "subtle noise": 1.0, "brightness": 1.0, "prior shift": 0.5, "trials": 200}
SPEED = [{"rows": 1_000_000, "rows_per_s": 2e6, "peak_mib": 250.0, "bytes_a_column": 1000}]


def list_verdicts(world: dict, pictures: dict = PICTURES, speed: list = SPEED) -> dict[tuple[str, str], str]:
    return {(row["figure"], row["target"]): row["reached"] for row in drift.build_figures([world], pictures, speed)}


def test_all_targets_are_reached_at_their_bounds() -> None:
    assert set(list_verdicts(WORLD).values()) == {"yes", ""}


@pytest.mark.parametrize(
    ("path", "value", "figure"),
    [
        (("clean", "ours"), [False] * 90 + [True] * 10, "false alarms, clean windows"),
        (("clean", "ours"), [False] * 1000, "false alarms, clean windows"),
        (("amount 1.05",), [1] * 18 + [2] * 2, "amount x1.05, alarm on day 1"),
        (("amount 1.03",), [4, 4, 1], "amount x1.03, median windows"),
        (("faults", "nulls"), [True, False], "fault 'nulls' in its first window"),
        (("fraud rate 1.5", "drifted"), [0.001] * 8 + [0.5] * 2, "fraud rate x1.5, first ripe day"),
        (("concept 0.5", "drifted"), [[0.5] * 9 + [0.001] * 2], "concept drift, most windows"),
        (("concept 0.5", "clean"), [[0.5] * 10 + [0.001]], "concept, false alarms"),
    ],
)
def test_missed_target_is_marked(path: tuple[str, ...], value: list, figure: str) -> None:
    world = copy.deepcopy(WORLD)
    place = world
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert {name for (name, _), verdict in list_verdicts(world).items() if verdict == "NO"} == {figure}


def test_missed_target_of_pictures_memory_and_estimates_is_marked() -> None:
    verdicts = list_verdicts(WORLD, PICTURES | {"prior shift": 0.4})
    assert [name for (name, _), verdict in verdicts.items() if verdict == "NO"] == ["pictures, prior shift"]
    verdicts = list_verdicts(WORLD, speed=[SPEED[0] | {"peak_mib": 301.0}])
    assert [name for (name, _), verdict in verdicts.items() if verdict == "NO"] == ["peak MiB, 1,000,000 rows"]
    world = WORLD | {"estimates": [WORLD["estimates"][0], WORLD["estimates"][1] | {"estimate": 0.63}]}
    assert [name for (name, _), verdict in list_verdicts(world).items() if verdict == "NO"] == [
        "estimated roc_auc, largest error"
    ]


def test_prior_shift_has_the_expected_share_and_no_picture_twice() -> None:
    digits, rng = drift_pictures.Digits(0), np.random.default_rng(1)
    shares = []
    for _ in range(50):
        window = digits.draw_shifted_window(rng.permutation(len(digits.truth))[: drift_pictures.POOL], rng)
        assert len(np.unique(window)) == len(window) >= 0.95 * drift_pictures.WINDOW
        shares.append((digits.truth[window] == drift_pictures.CLASS).mean())
    assert np.mean(shares) == pytest.approx(2 / 11, abs=0.01)


def test_selection_halves_one_kind_of_rows_and_keeps_the_others() -> None:
    rows = {"amount": np.arange(1000.0), "channel": np.arange(1000) % 4}
    fewer = drop_half(rows, "large", 1)["amount"]
    assert 200 < (fewer < 499.5).sum() < 300 and (fewer > 499.5).sum() == 500
    online = drop_half(rows, "online", 1)["channel"]
    assert (online == 3).sum() == 250 and 320 < (online != 3).sum() < 430
