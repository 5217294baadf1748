"""Generated population: customers with homes and habits, merchants in towns, and their honest purchases."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

SECOND = 1_000_000  # microseconds
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
TOWNS, SIDE_KM, TOWN_KM, NEAR_KM = 12, 800.0, 9.0, 4.0
FAVOURITES = 20
# Share of merchants, mean and spread of the log amount, share bought online.
CATEGORY_TABLE = {
    "grocery": (0.20, 3.3, 0.60, 0.08),
    "restaurant": (0.16, 3.1, 0.50, 0.05),
    "fuel": (0.08, 3.7, 0.35, 0.00),
    "clothing": (0.11, 3.9, 0.65, 0.35),
    "pharmacy": (0.08, 2.8, 0.55, 0.10),
    "transport": (0.07, 2.3, 0.60, 0.30),
    "home": (0.07, 4.1, 0.80, 0.25),
    "entertainment": (0.06, 3.0, 0.60, 0.45),
    "electronics": (0.05, 4.9, 0.80, 0.55),
    "digital": (0.06, 2.2, 0.80, 1.00),
    "travel": (0.04, 5.2, 0.80, 0.80),
    "sport": (0.02, 3.7, 0.60, 0.30),
}
CATEGORIES = tuple(CATEGORY_TABLE)
CHANNELS = ("chip", "contactless", "swipe", "online")
CHIP, CONTACTLESS, SWIPE, ONLINE = range(4)
DEVICES = ("terminal", "phone", "browser", "tablet", "watch")
TERMINAL, PHONE, BROWSER, TABLET, WATCH = range(5)
WEEK = np.array([0.95, 0.90, 0.95, 1.00, 1.20, 1.25, 0.75])  # Monday first
HOURS = np.array([1.0, 0.6, 0.4, 0.3, 0.3, 0.6, 1.5, 3, 4.5, 5, 5.5, 6.5, 7.5, 7, 6, 5.8, 6.2, 7.5, 8, 7, 5.5, 4, 3, 2])

# Columns by name, each [n]: id, customer, merchant, time (microseconds from the first day), amount, category, channel,
# device, scenario (0 honest), episode (-1 none).
Rows = dict[str, np.ndarray]


def random_stream(seed: int, name: str) -> np.random.Generator:
    """Return a random generator for one part of the data, so that the draws of one part do not change another."""
    return np.random.default_rng(np.random.SeedSequence([seed, crc32(name.encode())]))


@dataclass(frozen=True)
class World:
    """Customers ``[c]`` and merchants ``[m]``, both sorted by town.

    Attributes:
        home, town, rate, spend, online, device, wallet, shift: A customer's home ``[c, 2]`` in km, town, share of all
            purchases, log factor on amounts, propensity to buy online, device at home and in shops, shift of the daily
            rhythm in hours.
        favourites: Merchants near the customer, best first, ``[c, FAVOURITES]``.
        place, where, category, markup: A merchant's location ``[m, 2]`` in km, town, category code, log factor on amounts.
        popularity: Cumulative shares of merchants within towns; those of town k end at k + 1.
    """

    home: np.ndarray
    town: np.ndarray
    rate: np.ndarray
    spend: np.ndarray
    online: np.ndarray
    device: np.ndarray
    wallet: np.ndarray
    shift: np.ndarray
    favourites: np.ndarray
    place: np.ndarray
    where: np.ndarray
    category: np.ndarray
    markup: np.ndarray
    popularity: np.ndarray

    @staticmethod
    def of(seed: int, customers: int, merchants: int) -> "World":
        """Draw a population of that size; each town has at least one merchant."""
        rng = random_stream(seed, "world")
        towns, size = rng.uniform(0, SIDE_KM, (TOWNS, 2)), rng.dirichlet(np.full(TOWNS, 3.0))
        town = np.sort(rng.choice(TOWNS, customers, p=size))
        where = np.sort(np.concatenate([np.arange(TOWNS), rng.choice(TOWNS, merchants - TOWNS, p=size)]))
        home, place = (towns[at] + rng.normal(0, TOWN_KM, (len(at), 2)) for at in (town, where))
        popularity = _within_towns(where, rng.pareto(1.8, merchants) + 0.3)
        rate = rng.gamma(2.0, 1.0, customers) + 0.1
        return World(
            home=home,
            town=town,
            rate=rate / rate.sum(),
            spend=rng.normal(0, 0.45, customers),
            online=rng.beta(2, 3, customers) * 2.5,
            device=rng.choice([PHONE, BROWSER, TABLET], customers, p=[0.5, 0.4, 0.1]),
            wallet=rng.choice([TERMINAL, PHONE, WATCH], customers, p=[0.6, 0.32, 0.08]),
            shift=rng.normal(0, 1.5, customers),
            favourites=_favourites(home, town, place, popularity, rng),
            place=place,
            where=where,
            category=rng.choice(len(CATEGORIES), merchants, p=[row[0] for row in CATEGORY_TABLE.values()]),
            markup=rng.normal(0, 0.3, merchants),
            popularity=popularity,
        )

    def shops(self, towns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a merchant in each of the towns ``[n]``, by popularity."""
        return _draw(self.popularity, towns, rng)

    def residents(self, towns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a customer of each of the towns ``[n]``, or one of a neighbouring town where nobody lives."""
        low, high = np.searchsorted(self.town, towns), np.searchsorted(self.town, towns, side="right")
        customer = low + np.floor(rng.random(len(towns)) * (high - low)).astype(np.int64)
        return np.minimum(customer, len(self.town) - 1)

    def amounts(self, customer: np.ndarray, merchant: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw typical amounts of the customers at the merchants, ``[n]``, not rounded."""
        table = np.array([row[1:3] for row in CATEGORY_TABLE.values()])[self.category[merchant]]
        return np.exp(
            table[:, 0] + self.spend[customer] + self.markup[merchant] + table[:, 1] * rng.normal(size=len(customer))
        )

    def channels(
        self, customer: np.ndarray, merchant: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw typical channel and device codes of the customers at the merchants, each ``[n]``."""
        n, online = len(customer), np.array([row[3] for row in CATEGORY_TABLE.values()])[self.category[merchant]]
        leaning = np.where(online == 1, 1.0, np.minimum(online * self.online[customer], 0.95))
        channel = np.where(rng.random(n) < leaning, ONLINE, np.searchsorted([0.30, 0.97], rng.random(n)))
        own = np.where(rng.random(n) < 0.9, self.device[customer], rng.choice([PHONE, BROWSER], n))
        device = np.where(channel == CONTACTLESS, self.wallet[customer], TERMINAL)
        return channel, np.where(channel == ONLINE, own, device)

    def distance_km(self, customer: np.ndarray, merchant: np.ndarray) -> np.ndarray:
        """Distance from home to merchant, ``[n]``, two decimals; also for online purchases."""
        return np.round(np.hypot(*(self.home[customer] - self.place[merchant]).T), 2)


def draw_hours(rng: np.random.Generator, shift: np.ndarray) -> np.ndarray:
    """Draw times of day in microseconds, ``[n]``, from the daily rhythm moved by ``shift`` hours."""
    rhythm = np.concatenate([[0], np.cumsum(HOURS) / HOURS.sum()])
    hour = np.interp(rng.random(len(shift)), rhythm, np.arange(25)) + shift
    return (hour % 24 * HOUR).astype(np.int64) % DAY


def draw_purchases(world: World, count: int, days: int, weekday: int, rng: np.random.Generator) -> Rows:
    """Draw ``count`` honest purchases, sorted by customer, over ``days`` days; the first day is ``weekday`` (Monday 0).

    Counts per customer are Poisson given their sum. Some honest behaviour resembles fraud on purpose: trips, shopping sprees,
    runs of small purchases, a few very large ones. Otherwise simple rules would suffice.
    """
    customer = np.repeat(np.arange(len(world.rate)), rng.multinomial(count, world.rate))
    week = np.cumsum(WEEK[(weekday + np.arange(days)) % 7])
    time = np.searchsorted(week, rng.random(count) * week[-1], side="right") * DAY + draw_hours(
        rng, world.shift[customer]
    )
    slot = np.floor((FAVOURITES + 1) ** rng.random(count)).astype(np.int64) - 1
    merchant = world.favourites[customer, slot]
    elsewhere = rng.random(count) < 0.06
    merchant[elsewhere] = world.shops(rng.integers(0, TOWNS, elsewhere.sum()), rng)
    _travel(world, merchant, customer, time, days, rng)
    tiny = _spree(customer, time, days, rng)
    merchant[tiny] = rng.choice(_digital(world), len(merchant))[tiny]
    amount = world.amounts(customer, merchant, rng)
    large = rng.random(count) < 0.01
    amount *= np.where(large, rng.uniform(2.5, 7, count), 1.0)
    amount = np.where(tiny, rng.uniform(0.5, 5, count), amount)
    channel, device = world.channels(customer, merchant, rng)
    return {
        "customer": customer,
        "merchant": merchant,
        "time": time,
        "amount": amount,
        "channel": channel,
        "device": device,
    }


def _digital(world: World) -> np.ndarray:
    """Merchants that sell only online; all merchants if a small population has none."""
    merchants = np.flatnonzero(world.category == CATEGORIES.index("digital"))
    return merchants if len(merchants) else np.arange(len(world.category))


def _within_towns(where: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = np.bincount(where, weight)
    ends = np.cumsum(weight / total[where])
    ends[np.append(np.diff(where) > 0, True)] = np.arange(1, len(total) + 1)  # exact in spite of rounding
    return ends


def _draw(popularity: np.ndarray, towns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.searchsorted(popularity, towns + rng.random(len(towns)), side="right")


def _favourites(
    home: np.ndarray, town: np.ndarray, place: np.ndarray, popularity: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Choose popular merchants of the customer's town (and a few of others), near ones preferred, ``[c, FAVOURITES]``."""
    count = len(town) * FAVOURITES * 2
    towns = np.where(rng.random(count) < 0.9, np.repeat(town, FAVOURITES * 2), rng.integers(0, TOWNS, count))
    candidates = _draw(popularity, towns, rng).reshape(len(town), -1)
    distance = np.hypot(*np.moveaxis(place[candidates] - home[:, None], 2, 0))
    liking = rng.gumbel(size=candidates.shape) - np.minimum(distance / NEAR_KM, 3.0)
    return np.take_along_axis(candidates, np.argsort(-liking, axis=1)[:, :FAVOURITES], axis=1)


def _travel(
    world: World, merchant: np.ndarray, customer: np.ndarray, time: np.ndarray, days: int, rng: np.random.Generator
) -> None:
    """Send customers to another town for some days, one trip in every 60 days; changes ``merchant`` in place."""
    people = len(world.rate)
    for _ in range(-(-days // 60)):
        start, length = rng.uniform(-7, max(days, 60), people) * DAY, rng.uniform(2, 7, people) * DAY
        town = rng.integers(0, TOWNS, people)
        away = (time >= start[customer]) & (time < (start + length)[customer])
        merchant[away] = world.shops(town[customer[away]], rng)


def _spree(customer: np.ndarray, time: np.ndarray, days: int, rng: np.random.Generator) -> np.ndarray:
    """Move some purchases close to another of the same customer, in place; return those in runs of small ones, ``[n]``."""
    first = np.flatnonzero(rng.random(len(time)) < 0.004)
    size, tiny_run = rng.integers(3, 9, len(first)), rng.random(len(first)) < 0.4
    tiny, last = np.zeros(len(time), bool), time[first].copy()
    tiny[first[tiny_run]] = True
    for step in range(1, 8):
        gap = rng.integers(30 * SECOND, np.where(tiny_run, 600, 1500) * SECOND)
        next_row = np.minimum(first + step, len(time) - 1)
        joins = (step < size) & (customer[next_row] == customer[first])
        last = np.minimum(last + gap, days * DAY - SECOND)
        time[next_row[joins]] = last[joins]
        tiny[next_row[joins]] = tiny_run[joins]
    return tiny
