"""The use cases, by the name that the command line takes."""

from models.fraud.case import CASE as FRAUD
from models.image.case import CASE as IMAGE
from models.use_case import UseCase

CASES: dict[str, UseCase] = {case.name: case for case in (FRAUD, IMAGE)}


def find(name: str) -> UseCase:
    """The use case of that name.

    Raises:
        ValueError: naming the cases there are.
    """
    if name not in CASES:
        raise ValueError(f"There is no use case '{name}'; there are {', '.join(CASES)}.")
    return CASES[name]
