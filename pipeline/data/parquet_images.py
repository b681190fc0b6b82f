"""Columns of image files in Parquet, as the Hugging Face hub serves them."""

from typing import Any


def image_column(schema: Any) -> str | None:
    """The name of the column of image files: a struct with `bytes`, or else binary values. None if there is none."""
    from pyarrow import types

    structs = [field.name for field in schema if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0]
    binary = [field.name for field in schema if types.is_binary(field.type) or types.is_large_binary(field.type)]
    return next(iter([*structs, *binary]), None)


def content(value: Any) -> bytes | None:
    """The bytes of an image file in such a column; None if the row only names a path."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None
