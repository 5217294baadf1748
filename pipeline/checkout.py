"""The folder of this checkout, for the files that lie beside the packages."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
