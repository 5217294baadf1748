"""A fake clock that a test advances, so that measured durations are known."""


class Clock:
    """Replacement for the module ``time`` whose clock advances by ``tick`` seconds at each reading."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        """Return the seconds since the clock was created."""
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the clock by that many seconds."""
        self.now += seconds
