"""Protobuf's text format for messages of which no definition is installed: batching and monitoring parameters."""

import re
from typing import Any

TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[\w.+-]+)|(?P<mark>[{}<>\[\]:;,])""",
    re.X,
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
CLOSING = {"{": "}", "<": ">"}


def parse(text: str) -> dict[str, Any]:
    """Fields by name: numbers, booleans, strings, and messages as dicts; a list where a field is repeated.

    Raises:
        ValueError: with the line, if it is not text format.
    """
    tokens = _Tokens(text)
    found = tokens.message(None)
    return found


class _Tokens:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            line = text.count("\n", 0, at) + 1
            if not match:
                raise ValueError(f"line {line}: {text[at]!r} is not expected here")
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match.group(), line))
            at = match.end()
        self.tokens.append(("end", "the end", text.count("\n") + 1))
        self.at = 0

    def take(self, *wanted: str) -> str:
        """The next token if it is one of those, by text or kind; else nothing is taken and the answer is empty."""
        kind, text, _ = self.tokens[self.at]
        if kind in wanted or text in wanted:
            self.at += 1
            return text
        return ""

    def refuse(self, wanted: str) -> ValueError:
        _, text, line = self.tokens[self.at]
        return ValueError(f"line {line}: {wanted} is expected, not {text}")

    def message(self, closing: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self.take(closing or "end"):
            name = self.take("word")
            if not name:
                raise self.refuse("a field's name")
            colon = self.take(":")
            values = self.values(bool(colon))
            found[name] = [*_list(found[name]), *values] if name in found else values[0] if len(values) == 1 else values
            self.take(",", ";")
        return found

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
            raise self.refuse("':' or '{'")
        text = self.take("text")
        if text:
            parts = [text]
            while more := self.take("text"):
                parts.append(more)
            return "".join(part[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape") for part in parts)
        word = self.take("word")
        if not word:
            raise self.refuse("a value")
        if word in ("true", "false"):
            return word == "true"
        if NUMBER.fullmatch(word):
            return int(word) if word.lstrip("+-").isdigit() else float(word)
        raise self.refuse(f"a value and not {word}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
