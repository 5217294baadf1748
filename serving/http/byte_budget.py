"""Limit on the memory of the requests that are under way."""

from types import TracebackType

MAX_INFLIGHT = 96 << 20  # bytes of large requests that may be under way at once
SMALL_BODY = 64 << 10  # bytes up to which a request is not counted: it is handled at once and needs little memory


class BudgetExceededError(Exception):
    """More bytes are under way than the limit allows; the client may retry later."""


class ByteBudget:
    """Counts the bytes of large requests that are under way. It is used by one event loop.

    Attributes:
        limit: Largest sum in bytes.
        used: Present sum in bytes.
    """

    def __init__(self, limit: int = MAX_INFLIGHT) -> None:
        self.limit, self.used = limit, 0

    def reserve(self, size: int = 0) -> "Reservation":
        """Return a reservation of that many bytes; see ``Reservation.grow``."""
        reservation = Reservation(self)
        reservation.grow(size)
        return reservation


class Reservation:
    """The bytes of one request; a context manager that releases them at the end.

    Attributes:
        size: Reserved bytes: 0 for a small request.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget, self.size = budget, 0

    def grow(self, size: int) -> None:
        """Reserve ``size`` bytes in all; nothing changes if the request is small or holds as many already.

        Raises:
            BudgetExceededError: if the sum would exceed the limit.
        """
        if size <= SMALL_BODY or size <= self.size:
            return
        budget = self.budget
        if budget.used + size - self.size > budget.limit:
            raise BudgetExceededError(f"More than {budget.limit} bytes of requests are under way; try again later.")
        budget.used += size - self.size
        self.size = size

    def release(self) -> None:
        """Release the bytes."""
        self.budget.used -= self.size
        self.size = 0

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
