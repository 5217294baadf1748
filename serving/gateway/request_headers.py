"""Headers of a score request: the W3C trace context, and the id under which the client may repeat the request."""

import re
from collections.abc import Mapping

from serving.http.request_errors import RequestError

# A row without an id of its own is scored once if its request has this header. A second request with the same value gets
# the first answer, with the other header. The names are those of the IETF's draft and of payment services.
REQUEST_ID, REPEATED = "idempotency-key", ("idempotent-replayed", "true")
MAX_REQUEST_ID = 256
TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def parse_trace(headers: Mapping[str, str]) -> str:
    """Return a request's W3C trace context; empty if it has none or an invalid one."""
    trace = headers.get("traceparent", "")
    return trace if TRACE.fullmatch(trace) else ""


def read_request_id(headers: Mapping[str, str]) -> str:
    """Return the id that the client gave the request; empty for none.

    Raises:
        RequestError: if it is too long.
    """
    request_id = headers.get(REQUEST_ID, "")
    if len(request_id) > MAX_REQUEST_ID:
        raise RequestError(422, f"{REQUEST_ID}: the id has more than {MAX_REQUEST_ID} characters; send a shorter one.")
    return request_id
