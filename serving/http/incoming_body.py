"""The body of the request that a connection is receiving."""

from serving.http.byte_budget import ByteBudget, Reservation


class IncomingBody:
    """A body as it arrives, and the reservation of its bytes.

    Attributes:
        size: Bytes that have arrived.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self._budget, self._reservation = budget, budget.reserve()
        self._content: bytes | bytearray = b""
        self.size = 0

    def add(self, part: bytes) -> None:
        """Add the next part.

        Raises:
            BudgetExceededError: if too many bytes of requests are under way.
        """
        self.size += len(part)
        self._reservation.grow(self.size)
        if not self._content:
            self._content = part
        elif isinstance(self._content, bytearray):
            self._content += part
        else:
            self._content = bytearray(self._content + part)

    def take(self) -> tuple[bytes | bytearray, Reservation]:
        """Return the complete body and its reservation, which the caller releases; then this body is empty.

        A body in several parts is a ``bytearray``: joined as bytes, it would be in memory twice.
        """
        body = self._content
        reservation, self._reservation = self._reservation, self._budget.reserve()
        self.drop()
        return body, reservation

    def drop(self) -> None:
        """Forget what has arrived and release its bytes."""
        self._content, self.size = b"", 0
        self._reservation.release()
