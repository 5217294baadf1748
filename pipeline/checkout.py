"""Root folder of this checkout, for files outside the Python packages."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
