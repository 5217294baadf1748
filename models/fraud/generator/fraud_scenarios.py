"""Fraud scenarios of the generator: each draws episodes of purchases that somebody else makes with a card."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.fraud.generator.world import (
    BROWSER,
    CONTACTLESS,
    DAY,
    HOUR,
    ONLINE,
    PHONE,
    SECOND,
    SWIPE,
    TABLET,
    TERMINAL,
    TOWNS,
    Rows,
    World,
    draw_hours,
)


@dataclass(frozen=True)
class Episodes:
    """Purchases ``[n]`` that fall into episodes ``[e]``.

    Attributes:
        episode: Episode of each purchase.
        position, size: Position of a purchase within its episode, from 0, and the episode's number of purchases.
        victim: Customer of each episode, ``[e]``.
    """

    episode: np.ndarray
    position: np.ndarray
    size: np.ndarray
    victim: np.ndarray


Behaviour = Callable[[World, Episodes, np.random.Generator], Rows]


@dataclass(frozen=True)
class Scenario:
    """One kind of fraud.

    Attributes:
        name: Id in the manifest; the data does not contain it.
        share: Share of all fraudulent purchases.
        sizes: Minimum and maximum number of purchases in an episode.
        length: Longest duration in days; episodes start early enough to end within the period.
        behave: Draws the purchases, ``time`` from the start of the episode; None where honest ones are relabelled.
    """

    name: str
    share: float
    sizes: tuple[int, int]
    length: float
    behave: Behaviour | None

    def purchases(self, world: World, count: int, first: int, last: int, rng: np.random.Generator) -> Rows:
        """Draw exactly ``count`` purchases in whole episodes (the last may be cut short) between ``first`` and ``last``."""
        size = rng.integers(self.sizes[0], self.sizes[1] + 1, count // self.sizes[0] + 1)
        size = size[: np.searchsorted(np.cumsum(size), count) + 1]
        episode = np.repeat(np.arange(len(size)), size)[:count]
        position = np.arange(count) - np.searchsorted(episode, episode)
        victim = rng.choice(len(world.rate), len(size), p=world.rate)
        assert self.behave is not None, f"{self.name} relabels purchases and draws none"
        rows = self.behave(world, Episodes(episode, position, size[episode], victim), rng)
        length = min(int(self.length * DAY), last - first)
        start = first + (rng.random(len(size)) * (last - first - length)).astype(np.int64)
        rows["time"] = np.minimum(start[episode] + np.minimum(rows["time"], length), last - SECOND)
        return rows | {"episode": episode}


def _testing(world: World, episodes: Episodes, rng: np.random.Generator) -> Rows:
    """Small online purchases within minutes, which test whether the card works, and then a large one."""
    n, customer = len(episodes.episode), episodes.victim[episodes.episode]
    merchant, final = world.shops(rng.integers(0, TOWNS, n), rng), episodes.position == episodes.size - 1
    large = world.amounts(customer, merchant, rng) * rng.uniform(2, 6, n)
    return {
        "customer": customer,
        "merchant": merchant,
        "time": (episodes.position * 150 + rng.integers(0, 120, n)) * SECOND
        + np.where(final, rng.integers(0, HOUR, n), 0),
        "amount": np.where(final, large, rng.uniform(0.5, 6, n)),
        "channel": np.full(n, ONLINE),
        "device": rng.choice([BROWSER, PHONE, TABLET], n, p=[0.6, 0.3, 0.1]),
    }


def _compromise(world: World, episodes: Episodes, rng: np.random.Generator) -> Rows:
    """A merchant where cards are copied: for weeks, part of its traffic is fraud on cards of customers who live nearby."""
    n, count = len(episodes.episode), len(episodes.victim)
    merchant = world.shops(rng.integers(0, TOWNS, count), rng)[episodes.episode]
    customer = world.residents(world.where[merchant], rng)
    length = rng.integers(12, 25, count)[episodes.episode]
    channel, device = world.channels(customer, merchant, rng)
    copied = rng.random(n) < 0.7
    return {
        "customer": customer,
        "merchant": merchant,
        "time": np.floor(rng.random(n) * length).astype(np.int64) * DAY + draw_hours(rng, world.shift[customer]),
        "amount": world.amounts(customer, merchant, rng) * rng.uniform(1.4, 3.8, n),
        "channel": np.where(copied, SWIPE, channel),
        "device": np.where(copied, TERMINAL, device),
    }


def _takeover(world: World, episodes: Episodes, rng: np.random.Generator) -> Rows:
    """Somebody else controls the account for days: another device, larger amounts, merchants in any town."""
    n, customer = len(episodes.episode), episodes.victim[episodes.episode]
    merchant = world.shops(rng.integers(0, TOWNS, n), rng)
    length = rng.integers(8, 48, len(episodes.victim)) * HOUR
    other = np.array([0, BROWSER, PHONE, BROWSER, 0])[world.device]
    channel, _ = world.channels(customer, merchant, rng)
    channel = np.where(rng.random(n) < 0.7, ONLINE, channel)
    return {
        "customer": customer,
        "merchant": merchant,
        "time": (rng.random(n) * length[episodes.episode]).astype(np.int64),
        "amount": world.amounts(customer, merchant, rng) * rng.uniform(2.5, 6.5, n),
        "channel": channel,
        "device": np.where(channel == ONLINE, other[customer], TERMINAL),
    }


def _velocity(world: World, episodes: Episodes, rng: np.random.Generator) -> Rows:
    """A stolen card: many purchases within an hour, in one town, of ordinary amounts."""
    n, customer = len(episodes.episode), episodes.victim[episodes.episode]
    away = rng.random(len(episodes.victim)) < 0.5
    town = np.where(away, rng.integers(0, TOWNS, len(away)), world.town[episodes.victim])
    merchant = world.shops(town[episodes.episode], rng)
    return {
        "customer": customer,
        "merchant": merchant,
        "time": episodes.position * HOUR // 12 + rng.integers(0, 240, n) * SECOND,
        "amount": world.amounts(customer, merchant, rng) * rng.uniform(1.0, 2.2, n),
        "channel": rng.choice([CONTACTLESS, SWIPE], n, p=[0.7, 0.3]),
        "device": np.full(n, TERMINAL),
    }


# Frauds by chance are honest purchases with a flipped label. No model can detect them, so no metric reaches 1.
SCENARIOS = (
    Scenario("card-testing", 0.25, (4, 8), 0.1, _testing),
    Scenario("merchant-compromise", 0.22, (20, 60), 25, _compromise),
    Scenario("account-takeover", 0.23, (5, 10), 4, _takeover),
    Scenario("velocity", 0.20, (6, 12), 0.05, _velocity),
    Scenario("chance", 0.10, (1, 1), 0, None),
)
CHANCE = len(SCENARIOS)  # code of the last scenario; 0 is honest


def apply_new_pattern(world: World, rows: Rows, rng: np.random.Generator) -> Rows:
    """Give rows the new pattern of concept drift: round amounts, paid in person at the victim's favourite merchants.

    Such a purchase is nearby, at a familiar merchant and of ordinary size, so a model of the old patterns scores it as honest.
    """
    n, customer = len(rows["customer"]), rows["customer"]
    return rows | {
        "merchant": world.favourites[customer, rng.integers(0, 6, n)],
        "amount": rng.choice([10.0, 20.0, 25.0, 30.0, 50.0], n),
        "channel": np.full(n, CONTACTLESS),
        "device": world.wallet[customer],
    }
