"""Address of the metadata store: how to find it, check that it answers, and connect to it; TFX is not imported."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as protos

PASSWORD = "METADATA_PASSWORD"
SQLITE_FILE = "metadata.sqlite"
ADDRESS_FILE = "metadata.address"
MYSQL_PORT = 3306
ANSWER_SECONDS = 3.0  # time for a server to accept a connection
CALL_SECONDS = 30.0  # time for one call of a server
MOST_BYTES = 64 << 20  # size limit of one response; gRPC's default of 4 MiB holds about a thousand runs


class MetadataUnavailableError(OSError):
    """The metadata store does not answer, so its contents are unknown."""


class MetadataAddressError(ValueError):
    """A text that is not an address of a metadata store."""


@dataclass(frozen=True)
class MetadataAddress:
    """Where a metadata store is: on this file system, or behind a server.

    Attributes:
        where: Path of a SQLite file, or the text ``grpc://HOST:PORT`` or ``mysql://USER@HOST:PORT/DATABASE``.
    """

    where: Path | str

    @classmethod
    def of(cls, home: Path) -> "MetadataAddress":
        """Return the store of a home: the server that its runs use, otherwise a SQLite file in the home."""
        path = home / ADDRESS_FILE
        server_address = path.read_text().strip() if path.is_file() else ""
        return cls(server_address or home.resolve() / SQLITE_FILE)

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a server."""
        return self.where if isinstance(self.where, Path) else None

    @property
    def server(self) -> str:
        """The server's address; empty for a file."""
        return "" if isinstance(self.where, Path) else self.where

    def __str__(self) -> str:
        return str(self.where)

    def exists(self, seconds: float = ANSWER_SECONDS) -> bool:
        """Whether there is a store to read.

        Args:
            seconds: Time for a server to accept a connection.

        Returns:
            False only for a SQLite file that does not exist yet.

        Raises:
            MetadataUnavailableError: if the server accepts no connection; its store must not be mistaken for an empty one.
            MetadataAddressError: for a text that is not an address.
        """
        if self.file:
            return self.file.exists()
        parts = self._parts()
        try:
            socket.create_connection((parts.hostname, parts.port or MYSQL_PORT), seconds).close()
        except OSError as error:
            raise self.unavailable(error) from None
        return True

    def connection(self) -> "protos.ConnectionConfig | protos.MetadataStoreClientConfig":
        """Return ML Metadata's connection configuration; the folder of a SQLite file is created.

        MySQL's password is read from an environment variable, set by a Kubernetes secret, so that no address contains it.

        Raises:
            MetadataAddressError: for a text that is not an address, or one that contains a password.
        """
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            return mlmd.ConnectionConfig(
                sqlite=mlmd.SqliteMetadataSourceConfig(
                    filename_uri=str(self.file), connection_mode=mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
                )
            )
        parts = self._parts()
        host = parts.hostname or ""
        if parts.scheme == "grpc":
            return mlmd.MetadataStoreClientConfig(
                host=f"[{host}]" if ":" in host else host,
                port=parts.port,
                client_timeout_sec=CALL_SECONDS,
                channel_arguments=mlmd.GrpcChannelArguments(max_receive_message_length=MOST_BYTES),
            )
        return mlmd.ConnectionConfig(
            mysql=mlmd.MySQLDatabaseConfig(
                host=host,
                port=parts.port or MYSQL_PORT,
                user=unquote(parts.username or ""),
                database=parts.path.strip("/"),
                password=os.environ.get(PASSWORD, ""),
            )
        )

    def unavailable(self, error: Exception) -> MetadataUnavailableError:
        """Return the error for a store that does not answer, with the reason and the remedy."""
        message = (error.strerror if isinstance(error, OSError) else "") or str(error)
        reason = message.partition("\n")[0].partition(" query:  ")[0]  # the C++ code appends its SQL
        if self.file:
            return MetadataUnavailableError(
                f"The metadata store {self.file} cannot be opened: {reason}. "
                "Restore the file, or move it away to start with an empty store."
            )
        return MetadataUnavailableError(
            f"The metadata store at {self.server} does not answer: {reason}. Start it or make it reachable from here; "
            f"a home names its store in {ADDRESS_FILE}."
        )

    def _parts(self) -> SplitResult:
        """Split a server's address into its parts; raise an error if one is missing."""
        try:
            parts = urlsplit(self.server)
            required_parts = {
                "grpc": (parts.hostname, parts.port),
                "mysql": (parts.hostname, parts.username, parts.path.strip("/")),
            }.get(parts.scheme, (None,))
        except ValueError:  # the port is not a number
            parts, required_parts = urlsplit(""), (None,)
        if not all(required_parts):
            raise MetadataAddressError(
                f"A metadata address is grpc://HOST:PORT or mysql://USER@HOST:PORT/DATABASE, not '{self.server}'."
            )
        if parts.password:
            raise MetadataAddressError(f"An address must not contain a password: leave it out and set {PASSWORD}.")
        return parts


def write_server_address(home: Path, server: str) -> None:
    """Write the server's address into the home, so that every command with this home reads the same store."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ADDRESS_FILE).write_text(server + "\n")
