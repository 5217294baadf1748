"""A fake clock that a test advances, so that measured durations are known."""


class Clock:
    """Stands in for the module ``time``: every reading of it is ``tick`` seconds later than the one before."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        """Seconds since the clock was made."""
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds
