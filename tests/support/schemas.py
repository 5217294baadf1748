"""JSON schemas of formats that other programs read; they come with the package check-jsonschema."""

from typing import Any

import jsonschema
from check_jsonschema.builtin_schemas import get_builtin_schema


def find_schema_faults(name: str, document: Any) -> list[str]:
    """Return the violations of a vendor's schema, such as ``compose-spec``, with their places."""
    schema = get_builtin_schema(f"vendor.{name}")
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
