"""A request that gets no answer, and why, in one sentence."""

from pydantic import ValidationError


class Refused(Exception):
    """A request that gets no score: the HTTP status, one sentence, and where it may come again, after how many seconds."""

    def __init__(self, status: int, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.after = status, message, after


def invalid(error: ValidationError) -> Refused:
    """What is wrong with a body, as one sentence: 400 where it is no JSON, else 422."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if found["type"] == "json_invalid":
        return Refused(400, f"The body is not JSON: {found['msg']}.")
    where = ".".join(map(str, found["loc"])) or "body"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return Refused(422, f"{where}: {found['msg']}{more}.")
