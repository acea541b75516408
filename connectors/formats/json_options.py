"""The options of the format `json`: where in a record of your own making the parts of a change stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from connectors.formats.paths import Path
from schemas.document import Strict

OFFSET = "offset"
_DIGITS_MAX = 100  # of all parts of a position


def _as_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Operation(Strict):
    """Which word says which operation; `skip` is for records that are no changes."""

    path: Path
    words: Annotated[
        dict[str, Literal["insert", "update", "delete", "snapshot", "skip"]], Field(min_length=1, max_length=100)
    ]


class Time(Strict):
    """When a change was committed: ISO 8601, or a number since 1970."""

    path: Path
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"


class Part(Strict):
    """A part of a position: a number of so many digits, as number or text, or a time, which has 20."""

    path: Path
    kind: Literal["number", "hex", "time"] = "number"
    digits: Annotated[int, Field(ge=1, le=40)] = 20


AnyPart = Annotated[Part, BeforeValidator(_as_path)]


class JsonOptions(Strict):
    """Paths to the parts of a change."""

    row: Path
    time: Annotated[Time, BeforeValidator(_as_path)]
    operation: Operation | None = None
    before: Path | None = None
    key: Path | dict[str, Path] | None = None
    position: list[Literal["offset"] | AnyPart] = Field(default_factory=list)
    table: Path | list[Path] | None = None
    transaction: Path | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if OFFSET in self.position[:-1]:
            raise ValueError("position: `offset` can only be the last part")
        if sum(20 if isinstance(part, str) else part.digits for part in self.position) > _DIGITS_MAX:
            raise ValueError(f"position: its parts have more than {_DIGITS_MAX} digits")
        return self

    @property
    def parts(self) -> list[Part]:
        """The parts of a position that stand in the record."""
        return [part for part in self.position if isinstance(part, Part)]

    @property
    def tables(self) -> list[str]:
        """The paths whose texts, with dots between, name the source table."""
        return [self.table] if isinstance(self.table, str) else self.table or []

    def paths(self) -> Iterator[str]:
        """Yield every path."""
        yield from (self.row, self.time.path, *self.tables, *(part.path for part in self.parts))
        yield from (path for path in (self.before, self.transaction) if path is not None)
        if self.operation is not None:
            yield self.operation.path
        yield from [self.key] if isinstance(self.key, str) else (self.key or {}).values()
