"""Bodies at the gateway: large ones are parsed in a thread, and refused before validation if they hold too many values."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from models.image.online_requests import Picture
from serving.gateway.body_parser import MAX_FIELDS, MAX_VALUES, BodyParser
from serving.http.byte_budget import SMALL_BODY
from serving.http.request_errors import RequestError

LARGE = 64 << 20


class Numbers(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    numbers: list[int]


@pytest.fixture
def parser() -> Iterator[BodyParser]:
    parser = BodyParser()
    yield parser
    parser.close()


def parse(parser: BodyParser, body: bytes, model: type[BaseModel] = Numbers, **options: Any) -> Any:
    def describe(numbers: BaseModel) -> tuple[BaseModel, bool]:
        return numbers, threading.current_thread() is threading.main_thread()

    async def run() -> Any:
        return await parser.parse(model, body, LARGE, describe, **options)

    return asyncio.run(run())


def encode(count: int) -> bytes:
    return json.dumps({"numbers": [100_000] * count}).encode()


def test_small_bodies_are_parsed_at_once_and_large_ones_and_files_in_a_thread(parser):
    large = encode(SMALL_BODY // 8)
    assert len(large) > SMALL_BODY
    assert parse(parser, encode(3)) == (Numbers(numbers=[100_000] * 3), True)
    assert parse(parser, large)[1] is False
    assert parse(parser, encode(3), in_thread=True)[1] is False


def test_too_many_values_are_refused_before_they_are_validated(parser):
    # One more is counted at the beginning, and two for the brackets.
    assert len(parse(parser, encode(MAX_VALUES - 3))[0].numbers) == MAX_VALUES - 3
    with pytest.raises(RequestError, match=f"more than {MAX_VALUES} values") as caught:
        parse(parser, encode(MAX_VALUES + 1))
    assert caught.value.status == 413


@pytest.mark.parametrize("content", ["[]," * 10_000_000 + "[]", '["a"],' * 8_000_000 + "[]", "[[" * 1_000_000])
def test_lists_that_would_take_gigabytes_as_errors_are_refused(parser, content):
    with pytest.raises(RequestError) as caught:
        parse(parser, f'{{"pixels": [{content}]}}'.encode(), Picture)
    assert caught.value.status == 413


def test_too_many_fields_are_refused_before_they_are_validated(parser):
    def encode_fields(count: int) -> bytes:
        return ("{" + ",".join(f'"{n}":1' for n in range(count)) + "}").encode()

    with pytest.raises(RequestError, match=f"{MAX_FIELDS - 1} more") as caught:  # and the field that is missing
        parse(parser, encode_fields(MAX_FIELDS - 1))
    assert caught.value.status == 422
    with pytest.raises(RequestError, match=f"more than {MAX_FIELDS} fields") as caught:
        parse(parser, encode_fields(MAX_FIELDS + 1))
    assert caught.value.status == 413


def test_first_wrong_pixel_ends_the_validation(parser):
    line = "[" + '"a",' * 1000 + "0]"
    with pytest.raises(RequestError, match="pixels.0.0") as caught:
        parse(parser, f'{{"pixels": [{",".join([line] * 100)}]}}'.encode(), Picture)
    assert caught.value.status == 422 and "(1 more)" in caught.value.message  # a pixel is neither grey nor a colour


def test_conversion_that_refuses_is_a_422(parser):
    def refuse(numbers: Numbers) -> None:
        raise ValueError("numbers: too few.")

    with pytest.raises(RequestError, match="too few") as caught:
        asyncio.run(parser.parse(Numbers, encode(1), LARGE, refuse))
    assert caught.value.status == 422
    with pytest.raises(RequestError) as caught:
        asyncio.run(parser.parse(Numbers, encode(1), 10, refuse))
    assert caught.value.status == 413
