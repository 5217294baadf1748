"""Parser of Protobuf's text format for messages without an installed definition: batching and monitoring parameters."""

import re
from typing import Any

TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[\w.+-]+)|(?P<mark>[{}<>\[\]:;,])""",
    re.X,
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
CLOSING = {"{": "}", "<": ">"}


def parse(text: str) -> dict[str, Any]:
    """Parse text format into fields by name: numbers, booleans, strings, messages as dicts, repeated fields as lists.

    Raises:
        ValueError: with the line number, if the text is invalid.
    """
    tokens = _Tokens(text)
    message = tokens.message(None)
    return message


class _Tokens:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            line = text.count("\n", 0, position) + 1
            if not match:
                raise ValueError(f"line {line}: {text[position]!r} is not expected here")
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match.group(), line))
            position = match.end()
        self.tokens.append(("end", "the end", text.count("\n") + 1))
        self.at = 0

    def take(self, *expected: str) -> str:
        """Consume and return the next token if its text or kind is expected; otherwise return an empty string."""
        kind, text, _ = self.tokens[self.at]
        if kind in expected or text in expected:
            self.at += 1
            return text
        return ""

    def unexpected(self, expected: str) -> ValueError:
        _, text, line = self.tokens[self.at]
        return ValueError(f"line {line}: {expected} is expected, not {text}")

    def message(self, closing: str | None) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while not self.take(closing or "end"):
            name = self.take("word")
            if not name:
                raise self.unexpected("a field's name")
            colon = self.take(":")
            values = self.values(bool(colon))
            fields[name] = (
                [*_list(fields[name]), *values] if name in fields else values[0] if len(values) == 1 else values
            )
            self.take(",", ";")
        return fields

    def values(self, colon: bool) -> list[Any]:
        if not self.take("["):
            return [self.value(colon)]
        values = []
        while not self.take("]"):
            values.append(self.value(True))
            self.take(",")
        return values

    def value(self, colon: bool) -> Any:
        opening = self.take(*CLOSING)
        if opening:
            return self.message(CLOSING[opening])
        if not colon:
            raise self.unexpected("':' or '{'")
        text = self.take("text")
        if text:
            parts = [text]
            while more := self.take("text"):
                parts.append(more)
            return "".join(part[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape") for part in parts)
        word = self.take("word")
        if not word:
            raise self.unexpected("a value")
        if word in ("true", "false"):
            return word == "true"
        if NUMBER.fullmatch(word):
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        raise self.unexpected(f"a value and not {word}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
