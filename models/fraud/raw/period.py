"""The period that purchases cover, without the few rows whose times lie far from all others."""

from collections.abc import Mapping, Sequence
from statistics import median

# Days without a purchase that separate one group of days from the next.
GAP = 2
# A group after a longer gap cannot be part of the others' history, which is at most 30 days long.
FAR = 30
# A group is small with at most this share of all days, or with at most the second share of days and the third of rows.
DAYS_SHARE, WIDER_DAYS_SHARE, ROWS_SHARE = 1 / 20, 1 / 5, 1 / 100
# A group is thin if its days have at most this share of an ordinary day's purchases.
ORDINARY_SHARE = 1 / 10


def find_period(rows: Mapping[int, int]) -> tuple[int, int]:
    """Return the first and last day that purchases cover; rows on earlier or later days are outliers.

    Days with purchases form groups, separated by at least ``GAP`` days without any. The group with the most days is
    never an outlier. A group before or after it is one if it is small, and either thin or more than ``FAR`` days away.

    Args:
        rows: Number of purchases by day since 1970, for the days that have any.

    Example:
        >>> find_period({**dict.fromkeys(range(20_000, 20_090), 100), 86_000: 1})
        (20000, 20089)
    """
    groups = _group_days(sorted(rows))
    bulk = max(groups, key=lambda days: (len(days), sum(rows[day] for day in days)))
    first, last = bulk[0], bulk[-1]
    for group in groups[groups.index(bulk) + 1 :]:
        if not _is_outlier(group, group[0] - last, rows):
            last = group[-1]
    for group in groups[: groups.index(bulk)][::-1]:
        if not _is_outlier(group, first - group[-1], rows):
            first = group[0]
    return first, last


def _group_days(days: Sequence[int]) -> list[list[int]]:
    groups = [[days[0]]]
    for day in days[1:]:
        if day - groups[-1][-1] > GAP:
            groups.append([])
        groups[-1].append(day)
    return groups


def _is_outlier(group: Sequence[int], distance: int, rows: Mapping[int, int]) -> bool:
    """Whether a group ``distance`` days before or after the period consists of outliers."""
    purchases = sum(rows[day] for day in group)
    is_short = len(group) <= max(1.0, DAYS_SHARE * len(rows))
    is_rare = len(group) <= WIDER_DAYS_SHARE * len(rows) and purchases <= ROWS_SHARE * sum(rows.values())
    if not is_short and not is_rare:
        return False
    return distance > FAR or purchases / len(group) <= ORDINARY_SHARE * median(rows.values())
