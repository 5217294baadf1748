"""Parses the bodies of requests: large ones outside the event loop, one at a time, and none of too many values."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.http.byte_budget import SMALL_BODY
from serving.http.request_errors import RequestError, to_request_error
from serving.server.conversion.json_tensors import count_values
from serving.server.large_requests import LargeRequests

MAX_VALUES = 1 << 18  # values in a large body: 512 x 512 grey pixels
MAX_FIELDS = 1 << 14  # fields in a large body, counted by its colons: every unknown field is an error of its own
Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class BodyParser:
    """Parses bodies; the validation holds Python's lock, so the number of values bounds how long others wait."""

    def __init__(self) -> None:
        self._large = LargeRequests()

    async def parse(
        self,
        model: type[Body],
        body: bytes | bytearray,
        max_bytes: int,
        convert: Callable[[Body], Result],
        in_thread: bool = False,
    ) -> Result:
        """Validate a body and convert it.

        Args:
            model: The body's model.
            body: The body.
            max_bytes: Largest size of the body in bytes.
            convert: Converts the validated body; a ``ValueError`` is the reason why it is refused.
            in_thread: Whether the conversion of a small body takes long, too.

        Raises:
            RequestError: 400 if the body is not JSON, 413 if it is too large, 422 if it is not valid.
        """
        if len(body) > max_bytes:
            raise RequestError(413, f"The body is larger than {max_bytes} bytes.")

        def work() -> Result:
            if len(body) > SMALL_BODY:
                _check_counts(body)
            try:
                return convert(model.model_validate_json(body))
            except ValidationError as error:
                raise to_request_error(error) from None
            except ValueError as error:
                raise RequestError(422, str(error)) from None

        return await self._large.run(max(len(body), in_thread * (SMALL_BODY + 1)), work)

    def close(self) -> None:
        """End the thread."""
        self._large.close()


def _check_counts(body: bytes | bytearray) -> None:
    if count_values(body, MAX_VALUES) > MAX_VALUES:
        raise RequestError(413, f"The body has more than {MAX_VALUES} values (commas and brackets).")
    if body.count(b":") > MAX_FIELDS:
        raise RequestError(413, f"The body has more than {MAX_FIELDS} fields (colons).")
