"""What the subscribers of a table are promised: the topic, and key, columns and types of the changes on it.

One small value that everything about a contract is made from: the documents of `headgate contract`, the comparison of
two of them, and the types that `headgate.client` gives to subscribers. It is written into the JSON Schema of a table's
changes, so that one file says all of it; reading it needs no more than this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from schemas import versions
from schemas.errors import ConfigurationError
from schemas.types import ColumnType, parse_type

if TYPE_CHECKING:
    from schemas.table import TableSpec

KEYWORD = "x-headgate"  # where a contract stands in its JSON Schema
CONTRACT_BYTES_MAX = 8 * 1024 * 1024
_FROM = "`headgate contract TABLE --out DIR` writes it as TABLE.value.schema.json"

Format = Literal["json", "avro"]


@dataclass(frozen=True, slots=True)
class Contract:
    """A table as its subscribers see it. `before` says whether changes carry the row as it was.

    `schema_version` is the version of its columns, which each change names in its header `headgate.schema`. `format`
    is the form in which changes are written: a topic may have older ones in the other.
    """

    table: str
    topic: str
    key: tuple[str, ...]
    columns: Mapping[str, ColumnType]
    schema_version: int = 1
    before: bool = False
    format: Format = "json"

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it; `read_contract` takes it back."""
        return {
            "v": versions.CONTRACT_FILE.writes,
            "table": self.table,
            "topic": self.topic,
            "schemaVersion": self.schema_version,
            "key": list(self.key),
            "columns": {name: str(type_) for name, type_ in self.columns.items()},
            "before": self.before,
            "format": self.format,
        }


def contract_of(spec: TableSpec, *, topic: str = "", schema_version: int = 1) -> Contract:
    """Return the contract of a table by its spec, as it runs: with what workers found of its columns."""
    columns = {name: column.type for name, column in spec.columns.items()}
    return Contract(
        spec.table,
        topic,
        tuple(spec.key),
        columns,
        schema_version,
        before=spec.before == "full",
        format=spec.output.format,
    )


class _Document(msgspec.Struct, rename="camel"):
    table: str
    topic: str
    schema_version: int
    key: tuple[str, ...]
    columns: dict[str, str]
    before: bool = False
    format: Format = "json"  # files of before it was said are of tables that were


class _Schema(msgspec.Struct):
    contract: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name=KEYWORD)


def read_contract(data: bytes, *, name: str) -> Contract:
    """Return the contract in a JSON Schema that `headgate contract` wrote; `name` is how errors call it.

    Raises:
        ConfigurationError: it is none of ours, or names a type or a key column that there is not.
        VersionRefused: it is of a version that this release does not read.
    """
    if len(data) > CONTRACT_BYTES_MAX:
        raise ConfigurationError(f"{name} is above {CONTRACT_BYTES_MAX} bytes", hint=_FROM)
    try:
        found = msgspec.json.decode(data, type=_Schema).contract
        if isinstance(found, msgspec.UnsetType):
            raise ConfigurationError(f"{name} has no {KEYWORD!r}: it is no contract of ours", hint=_FROM)
        versions.CONTRACT_FILE.check_json(bytes(found), name)
        document = msgspec.json.decode(found, type=_Document)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ConfigurationError(f"{name} cannot be read as a contract: {exc}", hint=_FROM) from None
    return _checked(document, name)


def _checked(document: _Document, name: str) -> Contract:
    try:
        columns = {column: parse_type(text) for column, text in document.columns.items()}
    except ConfigurationError as exc:
        raise ConfigurationError(f"{name}: {exc.message}", hint=exc.hint) from None
    except RecursionError:
        raise ConfigurationError(f"{name}: a type is nested too deep", hint=_FROM) from None
    if absent := [column for column in document.key if column not in columns]:
        raise ConfigurationError(f"{name}: no such key column: {', '.join(absent)}", hint=_FROM)
    return Contract(
        document.table,
        document.topic,
        document.key,
        columns,
        document.schema_version,
        before=document.before,
        format=document.format,
    )
