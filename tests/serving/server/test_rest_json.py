"""JSON of predict requests with arbitrary bodies, through the REST handler directly and over ASGI."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http import asyncio_server
from serving.server.api.rest import RestHandler
from serving.server.config import BatchingParameters
from serving.server.conversion import json_tensors
from serving.server.conversion.request_rows import Rows
from serving.server.engine import Engine
from serving.server.large_requests import LargeRequests
from serving.server.metrics import ServerMetrics
from serving.server.signature import PREDICT, Signature, TensorSpec
from serving.status_errors import ServingError

FLOAT, INT, TEXT = ((np.dtype(kind), n) for kind, n in ((np.float32, 1), (np.int64, 9), (object, 7)))


def spec(kind, *shape) -> TensorSpec:
    return TensorSpec("t:0", *kind, shape)


def echo(inputs: dict[str, TensorSpec]) -> Signature:
    return Signature("serving_default", PREDICT, inputs, inputs, lambda arrays: arrays)


SIGNATURES = [
    echo({"x": spec(FLOAT, None)}),
    echo({"x": spec(FLOAT, None, 2)}),
    echo({"x": spec(TEXT, None)}),
    echo({"a": spec(INT, None, 1), "b": spec(TEXT, None, 2), "c": spec(FLOAT, None)}),
    echo({"x": spec(INT)}),
    echo({"x": TensorSpec("t:0", *FLOAT, None)}),
]
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=3),
    st.fixed_dictionaries({"b64": st.sampled_from(["AA==", "AA", "!", ""])}),
)
VALUE = st.recursive(
    LEAF,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.sampled_from("abcx"), value, max_size=3),
    max_leaves=12,
)
DOCUMENT = st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "other"]), VALUE, max_size=3)


class FakeEngine:
    """An engine with one signature, without TensorFlow."""

    def __init__(self, signature: Signature) -> None:
        self.signature, self.version, self.name = signature, 1, "m"

    def servable(self, *arguments) -> "FakeEngine":
        return self

    def find_signature(self, servable, name: str) -> Signature:
        return Engine.find_signature(self, _Signatures(self.signature), name)

    def has_model(self, name: str) -> bool:
        return True

    async def run(self, servable, signature: Signature, rows: Rows, timeout: float) -> list[np.ndarray]:
        from serving.server.batcher import Batcher

        batcher = Batcher(signature, BatchingParameters(), _NoWorkers(), lambda count: None)
        return batcher._run_single(rows)


class _Signatures:
    def __init__(self, signature: Signature) -> None:
        self.signatures = {signature.name: signature}


class _NoWorkers:
    threads = ()


def create_client_and_handler(signature: Signature):
    rest = RestHandler(FakeEngine(signature), ServerMetrics(), None, 5, 1 << 20, LargeRequests())
    return httpx.AsyncClient(transport=httpx.ASGITransport(asyncio_server.asgi(rest)), base_url="http://m"), rest


async def post(signature: Signature, body: bytes) -> tuple[int, bytes]:
    client, rest = create_client_and_handler(signature)
    async with client:
        response = await client.post("/v1/models/m:predict", content=body)
    direct = await rest(asyncio_server.Request("POST", "/v1/models/m:predict", "", {}, body))
    assert (direct.status, direct.body) == (response.status_code, response.content)
    return response.status_code, response.content


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SIGNATURES), DOCUMENT)
def test_any_document_returns_200_or_400(signature, document):
    status, content = asyncio.run(post(signature, json.dumps(document).encode()))
    response = json.loads(content)
    assert status in (200, 400)
    assert set(response) <= ({"predictions", "outputs"} if status == 200 else {"error"})


PIECES = [
    '{"instances":',
    '"inputs":',
    "[",
    "]",
    "{",
    "}",
    "1",
    "NaN",
    "-Infinity",
    ",",
    '"x"',
    "1e999",
    "1" * 5000,
    '"\\ud800"',
    "null",
]
TEXT_OF_PIECES = st.lists(st.sampled_from(PIECES), max_size=15).map("".join).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode), TEXT_OF_PIECES))
def test_any_bytes_return_200_or_400(body):
    for signature in SIGNATURES[:4]:
        assert asyncio.run(post(signature, body))[0] in (200, 400)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.booleans())
def test_every_float32_is_returned_exactly(values, by_row):
    body = json.dumps({"instances" if by_row else "inputs": values}).encode()
    status, content = asyncio.run(post(SIGNATURES[0], body))
    assert status == 200
    (returned,) = json.loads(content).values()
    np.testing.assert_array_equal(np.array(returned, np.float32), np.array(values, np.float32))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=10))
def test_every_text_is_returned_unchanged(values):
    status, content = asyncio.run(post(SIGNATURES[2], json.dumps({"instances": values}).encode()))
    assert status == 200 and json.loads(content) == {"predictions": values}


@given(st.integers())
def test_integers_are_exact_or_refused(value):
    try:
        array = json_tensors.to_array("x", [value], spec(INT, None))
    except ServingError:
        assert not -(2**63) <= value < 2**63
    else:
        assert int(array[0]) == value


@pytest.mark.parametrize("body", [b'{"instances": [0.1, 2]}', b'{"instances": [NaN, 0.1]}', b'{"inputs": [1e-9]}'])
def test_float32_is_encoded_in_its_fewest_digits_by_both_encoders(body):
    """NaN and Infinity, which orjson refuses, are written by Python's encoder."""
    response = json.loads(asyncio.run(post(SIGNATURES[0], body))[1])
    (values,) = response.values()
    np.testing.assert_array_equal(values, [float(str(np.float32(value))) for value in (*json.loads(body).values(),)[0]])
