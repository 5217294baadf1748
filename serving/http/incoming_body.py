"""The body of the request that a connection is receiving."""

from serving.http.byte_budget import ByteBudget, Reservation


class IncomingBody:
    """Parts of a body as they arrive, and the reservation of their bytes.

    Attributes:
        size: Bytes that have arrived.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self._budget, self._reservation = budget, budget.reserve()
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> None:
        """Add the next part.

        Raises:
            BudgetExceededError: if too many bytes of requests are under way.
        """
        self.size += len(part)
        self._reservation.grow(self.size)
        self._parts.append(part)

    def take(self) -> tuple[bytes, Reservation]:
        """Return the complete body and its reservation, which the caller releases; then this body is empty."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        reservation, self._reservation = self._reservation, self._budget.reserve()
        self.drop()
        return body, reservation

    def drop(self) -> None:
        """Forget what has arrived and release its bytes."""
        self._parts, self.size = [], 0
        self._reservation.release()
