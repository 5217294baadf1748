"""What a connection needs of the server that accepted it."""

from collections.abc import Sequence
from typing import Any, Protocol

from serving.http.byte_budget import ByteBudget
from serving.http.messages import Handler


class Listener(Protocol):
    """The part of the listening server that its connections use.

    Attributes:
        handler: Called for each request.
        max_body: Maximum size of a body in bytes.
        budget: Counts the bytes of the bodies that have arrived and are not answered.
        encodings: Supported values of Content-Encoding, apart from identity.
        idle_seconds: How long a connection may be idle between requests.
        read_seconds: How long a request may take to arrive.
        connections: The open connections.
        draining: Whether the server is closing.
        date: The Date header, encoded.
    """

    handler: Handler
    max_body: int
    budget: ByteBudget
    encodings: Sequence[str]
    idle_seconds: float
    read_seconds: float
    connections: set[Any]
    draining: bool
    date: bytes

    def forget(self, connection: Any) -> None:
        """Forget a closed connection."""
