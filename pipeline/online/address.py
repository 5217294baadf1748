"""Addresses of servers on the command line."""

import re

HOST_PORT = re.compile(r"(?P<host>\S+):(?P<port>\d{1,5})", re.ASCII)
LAST_PORT = 65_535


def parse_address(option: str, text: str) -> tuple[str, int]:
    """Return host and port of a text HOST:PORT; the host may be a name, or an IPv6 address in brackets.

    Raises:
        ValueError: if it is not one; the message names the option.
    """
    address = HOST_PORT.fullmatch(text)
    if not address or not 0 < int(address["port"]) <= LAST_PORT:
        raise ValueError(f"{option} takes HOST:PORT with a port from 1 to {LAST_PORT}, not '{text[:100]}'.")
    return address["host"].removeprefix("[").removesuffix("]"), int(address["port"])
