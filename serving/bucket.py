"""Working copies: local folders that stand for folders of a bucket, and the objects of one.

The folder ``s3://bucket/a/b`` has its working copy at ``CACHE/s3/bucket/a/b``, so each of the two names gives the other.
Programs work on local files only. For a path that is in no working copy, the functions of this module do nothing.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SCHEMES = ("s3", "gs")
CACHE = "SHOWCASE_CACHE"  # environment variable: folder of the working copies
PROBE = ".writable"  # object that a check writes
ATTEMPTS = 8  # of a request that fails or is answered by 5xx, with exponential backoff: about a minute
FIRST_ATTEMPTS = 3  # of the first request, so that a wrong address is reported within seconds
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0


class BucketError(OSError):
    """A bucket that does not exist, does not answer, or refuses the credentials; or an object that is damaged."""


def is_uri(text: str) -> bool:
    """Whether a text names a folder of a bucket."""
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def working_copy(uri: str) -> Path:
    """Return the working copy of a folder of a bucket.

    Raises:
        ValueError: if the text is not ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER``.
    """
    scheme, _, key = uri.partition("://")
    parts = [part for part in key.split("/") if part]
    if scheme not in SCHEMES or not parts or {".", ".."} & set(parts):
        raise ValueError(f"A folder of a bucket is s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, not '{uri}'.")
    return Path(_cache(), scheme, *parts)


def uri_of(path: Path) -> str:
    """Return the URI whose working copy a path is; empty for a path that is in no working copy."""
    text = to_uris(str(path.absolute()))
    return text if is_uri(text) else ""


def to_uris(text: str) -> str:
    """Replace the paths of working copies in a text by their URIs, so that it is valid on any machine."""
    for scheme in SCHEMES:
        text = text.replace(f"{_cache()}/{scheme}/", f"{scheme}://")
    return text


def to_paths(text: str) -> str:
    """Replace URIs in a text by the paths of their working copies; the inverse of :func:`to_uris`."""
    for scheme in SCHEMES:
        text = text.replace(f"{scheme}://", f"{_cache()}/{scheme}/")
    return text


def find_paths(text: str) -> list[Path]:
    """Return the paths of working copies in a text: a path, or a JSON document whose paths have no spaces."""
    if text.startswith(f"{_cache()}/"):
        return [Path(text)]
    return [Path(path) for path in re.findall(rf"{re.escape(_cache())}/(?:{'|'.join(SCHEMES)})/[^\s\"',\\]+", text)]


def check(path: Path, write: bool = False) -> None:
    """Check before any work that the bucket of a working copy exists and can be read.

    Args:
        path: The working copy.
        write: Also check that the bucket takes objects.

    Raises:
        BucketError: if not; the message says why and what to set.
    """
    if uri := uri_of(path):
        system, key = _system(uri.partition("://")[0], FIRST_ATTEMPTS), _key(path)
        with _explain(uri):
            system.get_file_info(_selector(key.split("/")[0]))
            if write:
                with system.open_output_stream(f"{key}/{PROBE}") as stream:
                    stream.write(b"")


def push_file(path: Path) -> None:
    """Upload one file, which readers see whole or not at all.

    Raises:
        BucketError: if the bucket does not take it.
    """
    if uri_of(path):
        write_file(path, path.read_bytes())


def pull_file(path: Path) -> bool:
    """Download one file, replacing the working copy's; return whether the bucket has it.

    Raises:
        BucketError: if the bucket does not answer.
    """
    content = read_file(path)
    if content is None:
        return False
    if not path.is_file() or path.read_bytes() != content:
        replace_file(path, content)
    return True


def replace_file(path: Path, content: bytes) -> None:
    """Write a local file that other processes see whole or not at all; the folders above it are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_file(path: Path, content: bytes) -> None:
    """Write one object, which readers see whole or not at all.

    Raises:
        BucketError: if the bucket does not take it.
    """
    # In one call: a stream that is closed after an error between two calls would leave an object with half the content.
    with _explain(uri_of(path)), _system_of(path).open_output_stream(_key(path)) as stream:
        stream.write(content)


def read_file(path: Path) -> bytes | None:
    """Return the content of one object; None if the bucket has none there.

    Raises:
        BucketError: if the bucket does not answer.
    """
    if not (uri := uri_of(path)):
        return None
    with _explain(uri):
        try:
            with _system_of(path).open_input_stream(_key(path)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None


def list_names(path: Path) -> list[str]:
    """Return the names in a folder of the bucket, sorted.

    Raises:
        BucketError: if the bucket does not answer.
    """
    return sorted(Path(info.path).name for info in _list(path))


def list_objects(path: Path) -> dict[Path, tuple[int, float]]:
    """Return size and time of change (seconds since 1970) of all objects below a folder, by the path in its working copy.

    Raises:
        BucketError: if the bucket does not answer.
    """
    key = _key(path)
    return {
        path / Path(info.path).relative_to(key): (info.size, info.mtime.timestamp())
        for info in _list(path, recursive=True)
        if info.is_file
    }


def delete(path: Path) -> None:
    """Delete an object and all objects below it, if there are any.

    Raises:
        BucketError: if the bucket refuses.
    """
    if not (uri := uri_of(path)):
        return
    system, key = _system_of(path), _key(path)
    with _explain(uri):
        match system.get_file_info(key):
            case info if info.is_file:
                system.delete_file(key)
            case info if info.type.name == "Directory":
                with suppress(FileNotFoundError):  # Google has no object for the folder itself
                    system.delete_dir(key)


def _cache() -> str:
    return _resolve(os.environ.get(CACHE) or "~/.cache/showcase")


@lru_cache(maxsize=8)
def _resolve(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _key(path: Path) -> str:
    """Return an object's name for PyArrow, which begins with the bucket."""
    return uri_of(path).partition("://")[2]


def _system_of(path: Path) -> Any:
    return _system(uri_of(path).partition("://")[0], ATTEMPTS)


def _system(scheme: str, attempts: int) -> Any:
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if scheme == "s3" else ("STORAGE_EMULATOR_HOST",)
    endpoint = next(filter(None, map(os.environ.get, variables)), "")
    return _connect(scheme, attempts, endpoint, os.getpid())


@lru_cache(maxsize=8)
def _connect(scheme: str, attempts: int, endpoint: str, process: int) -> Any:
    """Return PyArrow's file system; each process needs its own, as a forked one shares the connections of its parent."""
    from pyarrow import fs

    if scheme == "gs":
        emulator = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        options = {"endpoint_override": emulator.netloc, "scheme": emulator.scheme, "anonymous": True}
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=attempts**2), **(options if endpoint else {}))
    # An endpoint that is passed as an argument gives path-style addresses, which every server supports.
    return fs.S3FileSystem(
        endpoint_override=endpoint or None,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


def _list(path: Path, recursive: bool = False) -> list[Any]:
    if not (uri := uri_of(path)):
        return []
    with _explain(uri):
        return _system_of(path).get_file_info(_selector(_key(path), recursive))


def _selector(key: str, recursive: bool = False) -> Any:
    from pyarrow import fs

    return fs.FileSelector(key, allow_not_found="/" in key, recursive=recursive)


@contextmanager
def _explain(uri: str) -> Iterator[None]:
    """Turn the library's errors into one sentence with the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise BucketError(f"{uri} was not found: {error}. Create the bucket, or correct its name.") from None
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise BucketError(
            f"{uri} cannot be read or written: {reason}. Check the bucket's name, AWS_ENDPOINT_URL, and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS)."
        ) from None
