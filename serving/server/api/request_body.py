"""Bodies of REST requests, plain or compressed with gzip."""

import zlib

from serving.http.messages import Request
from serving.status_errors import ServingError

ENCODINGS = ("gzip",)
MIN_GZIP = 18  # bytes of the header and trailer of a gzip member


def is_gzip(request: Request) -> bool:
    """Whether the body is compressed. The HTTP server has refused all other encodings than gzip."""
    return request.headers.get("content-encoding", "identity").lower() == "gzip"


def read_size(request: Request, max_body: int) -> int:
    """Return the size of the body in bytes, which a gzip body declares in its last four bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not gzip or is larger than ``max_body`` bytes.
    """
    if not is_gzip(request):
        return len(request.body)
    if len(request.body) < MIN_GZIP:
        raise _format_error()
    size = int.from_bytes(request.body[-4:], "little")
    if size > max_body:
        raise ServingError("INVALID_ARGUMENT", f"The decompressed body is larger than {max_body} bytes")
    return size


def unpack(request: Request, size: int) -> bytes | bytearray:
    """Return the body, decompressed if necessary.

    Args:
        request: The request.
        size: The size of the body by ``read_size``; decompression stops there, and releases Python's lock.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not one gzip member of that size.
    """
    if not is_gzip(request):
        return request.body
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        body = decompressor.decompress(request.body, size + 1)
    except zlib.error:
        raise _format_error() from None
    if not decompressor.eof or decompressor.unused_data or len(body) != size:
        raise ServingError(
            "INVALID_ARGUMENT", "The gzip body is truncated, or has another size than its last four bytes declare"
        )
    return body


def _format_error() -> ServingError:
    return ServingError("INVALID_ARGUMENT", "The body is not gzip, which Content-Encoding declares")
