"""When not to ask: a circuit breaker before a backend that fails, and a token bucket before everything."""

from collections.abc import Callable
from dataclasses import dataclass

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


@dataclass(frozen=True)
class Patience:
    """When a breaker opens, and for how long.

    Attributes:
        failures: So many failures in a row open it.
        seconds: How long it stays open before one request may try.
    """

    failures: int = 5
    seconds: float = 2.0


class Breaker:
    """Closed, it lets requests through. After failures in a row it is open and lets none. Then one may try: half-open.

    Args:
        patience: See there.
        now: Seconds on a clock that never goes back.
    """

    def __init__(self, patience: Patience, now: Callable[[], float]) -> None:
        self.patience, self._now = patience, now
        self.state, self._failures, self._since = CLOSED, 0, 0.0

    def wait(self) -> float:
        """0 if the request may go, and its outcome has to be told; else seconds until one may try."""
        if self.state == CLOSED:
            return 0.0
        left = self._since + self.patience.seconds - self._now()
        if left > 0:
            return left
        # One request tries at a time. One that never tells its outcome holds the place no longer than an open breaker.
        self.state, self._since = HALF_OPEN, self._now()
        return 0.0

    def succeeded(self) -> None:
        """The backend has answered, be it with a refusal of the request."""
        self.state, self._failures = CLOSED, 0

    def failed(self) -> None:
        """The backend has failed or was too slow."""
        self._failures += 1
        if self.state == HALF_OPEN or self._failures >= self.patience.failures:
            self.state, self._since = OPEN, self._now()


class TokenBucket:
    """So many requests a second, and a burst of so many at once.

    Args:
        rate: Tokens a second; 0 for no limit.
        burst: Most tokens at once.
        now: Seconds on a clock that never goes back.
    """

    def __init__(self, rate: float, burst: float, now: Callable[[], float]) -> None:
        self.rate, self.burst, self._now = rate, burst, now
        self._tokens, self._at = burst, now()

    def wait(self) -> float:
        """0 if there was a token, which is taken; else seconds until there will be one."""
        if not self.rate:
            return 0.0
        now = self._now()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
