"""Where the metadata store is, as an address, and how to connect to it without importing TFX."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as protos

PASSWORD = "METADATA_PASSWORD"
NOTED = "metadata.address"
Address = Path | str


def connection(address: Address) -> "protos.ConnectionConfig | protos.MetadataStoreClientConfig":
    """How ML Metadata connects: a path is a SQLite file, a text is ``grpc://HOST:PORT`` or ``mysql://USER@HOST:PORT/DATABASE``.

    MySQL's password comes from the environment, where a Kubernetes secret puts it, so that no address holds one.

    Raises:
        ValueError: for another address, or one that lacks a part.
    """
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    if isinstance(address, Path):
        address.parent.mkdir(parents=True, exist_ok=True)
        return mlmd.ConnectionConfig(
            sqlite=mlmd.SqliteMetadataSourceConfig(
                filename_uri=str(address), connection_mode=mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
            )
        )
    parts = urlsplit(address)
    if parts.scheme == "grpc" and parts.hostname and parts.port:
        return mlmd.MetadataStoreClientConfig(host=parts.hostname, port=parts.port)
    if parts.scheme == "mysql" and parts.hostname and parts.username and parts.path.strip("/"):
        if parts.password:
            raise ValueError(f"An address holds no password: leave it out and set {PASSWORD}.")
        return mlmd.ConnectionConfig(
            mysql=mlmd.MySQLDatabaseConfig(
                host=parts.hostname,
                port=parts.port or 3306,
                user=unquote(parts.username),
                database=parts.path.strip("/"),
                password=os.environ.get(PASSWORD, ""),
            )
        )
    raise ValueError(f"Metadata lie at grpc://HOST:PORT or mysql://USER@HOST:PORT/DATABASE, not at '{address}'.")


def noted(home: Path) -> str:
    """The address that the runs of a home were told to use; empty where it is a SQLite file of the home's own."""
    path = home / NOTED
    return path.read_text().strip() if path.is_file() else ""


def note(home: Path, address: str) -> None:
    """Leaves the address in the home, so that every command that is given the home finds the same runs."""
    home.mkdir(parents=True, exist_ok=True)
    (home / NOTED).write_text(address + "\n")
