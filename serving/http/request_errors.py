"""Requests that the gateway rejects, each with an HTTP status and a one-sentence reason."""

from pydantic import ValidationError


class RequestError(Exception):
    """A rejected request.

    Args:
        status: HTTP status.
        message: One sentence for the client.
        retry_after: Seconds after which the client may retry; None if a retry does not help.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


def to_request_error(error: ValidationError) -> RequestError:
    """Return the first problem of an invalid body as an error: 400 if it is not JSON, else 422."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return RequestError(400, f"The body is not JSON: {first['msg']}.")
    where = ".".join(map(str, first["loc"])) or "body"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    return RequestError(422, f"{where}: {message}{more}.")
