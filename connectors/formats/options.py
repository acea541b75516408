"""Options of a format, as a table's spec has them: one model per format, and errors that name the nearest right key."""

from __future__ import annotations

from typing import TypeVar

from schemas.document import Strict, read_mapping
from schemas.table import TableSpec

M = TypeVar("M", bound=Strict)


class NoOptions(Strict):
    """A format without options."""


def options_of(spec: TableSpec, model: type[M]) -> M:
    """Return the options that the spec gives to its format.

    Raises:
        ConfigurationError: one is none of the model's, or has a value that it does not take.
    """
    return read_mapping(spec.options, model, name=f"table {spec.table}, options of {spec.format}")
