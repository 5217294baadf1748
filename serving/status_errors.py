"""Serving errors: gRPC status names, and the HTTP status of each."""

HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


MAX_MESSAGE = 2000  # characters of an error message; gRPC carries it in a header, and it may quote the request


class ServingError(Exception):
    """A request that the server cannot answer.

    Attributes:
        status: Name of a gRPC status, such as ``NOT_FOUND``.
        message: The reason, for the client, cut after ``MAX_MESSAGE`` characters.
    """

    def __init__(self, status: str, message: str) -> None:
        self.status, self.message = status, message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."
        super().__init__(self.message)

    @property
    def http(self) -> int:
        return HTTP[self.status]
