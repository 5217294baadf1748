"""The use cases by name, as the command line takes it."""

from models.fraud.case import CASE as FRAUD
from models.image.case import CASE as IMAGE
from models.use_case import UseCase

CASES: dict[str, UseCase] = {case.name: case for case in (FRAUD, IMAGE)}


def find_use_case(name: str) -> UseCase:
    """Return the use case of that name.

    Raises:
        ValueError: if there is none, listing those there are.
    """
    if name not in CASES:
        raise ValueError(f"There is no use case '{name}'; there are {', '.join(CASES)}.")
    return CASES[name]
