"""A connection to Redis by an address, made when it is first used."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected

CONNECTIONS = 32


def client(url: str) -> tuple[Redis, str]:
    """A client that has not connected yet, and the address without a password.

    Raises:
        ValueError: for a URL that is none.
    """
    try:
        # A connection that went stale, such as after the store's restart, is replaced at once: whatever is sent again here
        # counts once. All else waits for nothing: the caller says how long a call may take.
        retry = Retry(NoBackoff(), 1, (Disconnected,))
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            decode_responses=True,
            retry=retry,
            socket_timeout=None,
            socket_connect_timeout=None,
        )
    except ValueError:
        shown = url.rsplit("@", 1)[-1]
        raise ValueError(f"The store is 'embedded' or an address like redis://HOST:PORT/DB, not '{shown}'.") from None
    at = pool.connection_kwargs
    return Redis(connection_pool=pool), at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}"


def said(error: Exception) -> str:
    """The first line of an error, as the end of a sentence."""
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
