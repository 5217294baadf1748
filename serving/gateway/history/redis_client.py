"""Redis client from a URL; it connects on first use."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected

CONNECTIONS = 32


def make_client(url: str) -> tuple[Redis, str]:
    """Return a client that is not connected yet, and its address without the password.

    Raises:
        ValueError: for an invalid URL.
    """
    try:
        # A stale connection, for example after a restart of Redis, is replaced and the command is sent once more; all
        # commands are idempotent. There are no other retries or timeouts: the caller limits the time of a call.
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
        without_password = url.rsplit("@", 1)[-1]
        raise ValueError(
            f"The store must be 'embedded' or a URL like redis://HOST:PORT/DB, not '{without_password}'."
        ) from None
    options = pool.connection_kwargs
    address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return Redis(connection_pool=pool), address


def describe_error(error: Exception) -> str:
    """Return the first line of an error, without its final period, for use within a sentence."""
    if isinstance(error, TimeoutError):
        return "the call timed out"
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
