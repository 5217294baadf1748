"""Load protection: a circuit breaker in front of a failing backend, and a token bucket that limits the request rate."""

from collections.abc import Callable
from dataclasses import dataclass

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


@dataclass(frozen=True)
class BreakerPolicy:
    """When a circuit breaker opens, and for how long.

    Attributes:
        failures: Number of consecutive failures that opens it.
        seconds: How long it stays open before it lets one trial request through.
    """

    failures: int = 5
    seconds: float = 2.0


class CircuitBreaker:
    """Circuit breaker.

    Closed, it lets requests through. After ``breaker_policy.failures`` consecutive failures it opens and rejects requests.
    After ``breaker_policy.seconds`` it is half-open: a single trial request may pass.

    Args:
        breaker_policy: When it opens, and for how long.
        now: Monotonic clock in seconds.
    """

    def __init__(self, breaker_policy: BreakerPolicy, now: Callable[[], float]) -> None:
        self.breaker_policy, self._now = breaker_policy, now
        self._state, self._failures, self._changed_at = CLOSED, 0, 0.0

    @property
    def state(self) -> str:
        """Closed, open, or half-open if a trial request may pass or is under way."""
        return HALF_OPEN if self._state == OPEN and self._seconds_left() <= 0 else self._state

    def wait(self) -> float:
        """Return 0 if the request may go; the caller then records its outcome. Otherwise return the seconds to wait."""
        if self._state == CLOSED:
            return 0.0
        if (left := self._seconds_left()) > 0:
            return left
        # Trials are sequential. A trial whose outcome is never recorded blocks others for `breaker_policy.seconds` only.
        self._state, self._changed_at = HALF_OPEN, self._now()
        return 0.0

    def record_success(self) -> None:
        """Record that the backend answered, even if it rejected the request."""
        self._state, self._failures = CLOSED, 0

    def record_failure(self) -> None:
        """Record that the backend failed or timed out."""
        self._failures += 1
        if self._state == HALF_OPEN or self._failures >= self.breaker_policy.failures:
            self._state, self._changed_at = OPEN, self._now()

    def _seconds_left(self) -> float:
        return self._changed_at + self.breaker_policy.seconds - self._now()


class TokenBucket:
    """Rate limit: a number of requests a second, with bursts.

    Args:
        rate: Tokens a second; 0 for no limit.
        burst: Capacity of the bucket in tokens.
        now: Monotonic clock in seconds.
    """

    def __init__(self, rate: float, burst: float, now: Callable[[], float]) -> None:
        self.rate, self.burst, self._now = rate, burst, now
        self._tokens, self._updated_at = burst, now()

    def wait(self) -> float:
        """Take a token and return 0; if there is none, return the seconds until the next one."""
        if not self.rate:
            return 0.0
        now = self._now()
        self._tokens = min(self.burst, self._tokens + (now - self._updated_at) * self.rate)
        self._updated_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
