"""Cases of formats that say their changes as events: the records of one source table, and the rows they come to.

A case is a captured folder of tests/fixtures/formats with a spec below, or a file of tests/fixtures/events made by hand
from the tool's documentation: `spec`, `source_table`, `records` (values as the tool writes them) and `rows`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from connectors.formats import PartitionMemory, format_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec
from sinks.topics import encode_changes
from streams.final_rows import FinalRows
from tests.unit.formats.captures import CapturedRun, oracle, records
from tests.unit.formats.likeness import differences

FOLDER = Path(__file__).parents[2] / "fixtures" / "events"


@dataclass(frozen=True)
class Record:
    """A record of the one partition that a case has."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Run:
    """Records as a format gets them."""

    topic, partition = "captured", 0

    def __init__(self, of: Sequence[Record]) -> None:
        """Hold `of` in this order."""
        self._records = of

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return [record.value for record in self._records]

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return [record.key for record in self._records]

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return [record.offset for record in self._records]

    def time_ms(self, _index: int, /) -> int:
        """Return that there is no time."""
        return -1

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]]:
        """Return the headers of one record."""
        return self._records[index].headers


@dataclass(frozen=True)
class Case:
    """Records of one source table; `rows` are those of the contract, `database` those of an oracle's table.

    `exact` says that positions come from the source alone, so that a record sent again has the position it had;
    `lossy` are columns in which the source itself is not what its database says, with the reason; `written` gives what
    a tool makes of the database's text of a column.
    """

    name: str
    spec: TableSpec
    records: tuple[Record, ...]
    rows: list[dict[str, Any]] | None = None
    database: dict[str, Any] = field(default_factory=dict)
    exact: bool = True
    lossy: dict[str, str] = field(default_factory=dict)
    written: dict[str, Callable[[str], Any]] = field(default_factory=dict)

    def decode(self, of: Sequence[Record] | None = None, **changes: Any) -> Decoded:
        """Return what the case's format makes of `of`, or of all records."""
        spec = self.spec.model_copy(update=changes)
        decoder = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig())
        return decoder.decode(Run(self.records if of is None else of), PartitionMemory())

    def changes(self, of: Sequence[Record] | None = None) -> list[bytes]:
        """Return the changes of `of`, or of all records, as the contract writes them."""
        batch = self.decode(of).batch
        return [value for _, value in encode_changes(batch, ("captured", 0, 0), None, bytes_max=1 << 20)[0]]

    def final(self, changes: Iterable[bytes]) -> list[dict[str, Any]]:
        """Return the rows that changes come to, by key."""
        final = FinalRows(self.spec)
        for value in changes:
            final.apply(value)
        return [document["row"] for document in final.documents()]

    def unlike(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Return how `rows` are not those that the case should come to, by column or as a whole."""
        if self.rows is not None:
            return {} if rows == self.rows else {"rows": f"{rows} are not {self.rows}"}
        expected = {tuple(row[name] for name in self.spec.key): row for row in self.database["rows"]}
        got = {tuple(str(row[name]) for name in self.spec.key): row for row in rows}
        found = {"rows": f"{sorted(got)} are not {sorted(expected)}"} if got.keys() != expected.keys() else {}
        for key in expected.keys() & got.keys():
            for name, sql_type in self.database["columns"].items():
                ours, text = got[key].get(name), expected[key][name]
                if name in self.written and text is not None:
                    if ours != self.written[name](text):
                        found[name] = f"{ours!r} is not {text!r}"
                elif difference := differences(sql_type, ours, text):
                    found[name] = difference
        return found


def _made(path: Path) -> Case:
    class _File(msgspec.Struct):
        spec: dict[str, Any]
        source_table: str
        records: list[msgspec.Raw]
        rows: list[dict[str, Any]]
        exact: bool = True

    file = msgspec.json.decode(path.read_bytes(), type=_File)
    spec = TableSpec.model_validate({"table": "captured", "topics": ["captured"]} | file.spec)
    values = [None if bytes(raw) == b"null" else bytes(raw) for raw in file.records]
    kept = [
        Record(offset, value)
        for offset, value in enumerate(values)
        if value is None or _table_of(spec.format, value) in {None, file.source_table}
    ]
    return Case(path.stem, spec, tuple(kept), file.rows, exact=file.exact)


def _table_of(format_name: str, value: bytes) -> str | None:
    found: str | None = import_module(f"connectors.formats.{format_name}").table_of(json.loads(value))
    return found


def _captured(
    folder: str, table: str, format_name: str, columns: dict[str, Any], lossy: dict[str, str] | None = None
) -> Case:
    known = oracle(folder)[table]
    run = CapturedRun(records(folder))
    kept = [
        Record(offset, value, key, tuple(run.headers(at)))
        for at, (offset, key, value) in enumerate(zip(run.offsets(), run.keys(), run.values(), strict=True))
        if value is None or _table_of(format_name, value) == table
    ]
    document = {"format": format_name, "key": known["primary_key"], "columns": columns}
    spec = TableSpec.model_validate({"table": "captured", "topics": ["captured"]} | document)
    return Case(f"{folder} {table}", spec, tuple(kept), database=known, lossy=lossy or {})


NUMBER = {"type": "string", "encoding": "number"}
CUSTOMERS = {"id": "int", "name": "string", "email": "string", "balance": "decimal(10,2)", "updated": "timestamp"}
ITEMS = {"a": "int", "b": "string", "qty": "int"}
# Dates as text, for the row with zero dates; numbers of bits, sets as JSON: what Maxwell writes, as it writes it.
TYPES: dict[str, Any] = {
    **dict.fromkeys(("id", "ti", "tib", "tiu", "si", "mi", "yr"), "int"), "iu": "long", "bi": "long",
    "biu": "string", "f": "float", "d": "double", "dc": "decimal(10,2)", "dcu": NUMBER,
    **dict.fromkeys(("b1", "b8", "b64"), "decimal(20,0)"), **dict.fromkeys(("bin", "vb", "bb"), "binary"),
    **dict.fromkeys(("c", "vc", "tx", "en", "l1", "jt"), "string"), "st": "list<string>",
    **dict.fromkeys(("dt", "tm", "tm6", "dtm", "dtm6", "ts", "ts3"), "string"),
}  # fmt: skip
OF_MAXWELL = {
    "tm": "times below 0 and above 24 h arrive as others",
    "tm6": "times below 0 and above 24 h arrive as others",
    "yr": "the year 0 arrives as 1900",
    "bin": "zeros at the end of binary(n) are cut",
}


def _number_of_bits(text: str) -> str:
    return str(int(text.removeprefix("b"), 2))


def _members(text: str) -> list[str]:
    return text.split(",") if text else []


WRITTEN: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("b1", "b8", "b64"), _number_of_bits),
    **dict.fromkeys(("dt", "tm", "tm6", "dtm", "dtm6", "ts", "ts3"), str),
    "st": _members,
}


@functools.cache
def cases() -> dict[str, Case]:
    """Return all cases by name."""
    found = [
        _captured("maxwell-stdout-all", "shop.customers", "maxwell", CUSTOMERS),
        _captured("maxwell-stdout-all", "shop.items", "maxwell", ITEMS, {"rows": "truncate makes no record"}),
        replace(_captured("maxwell-stdout-all", "shop.ty", "maxwell", TYPES, OF_MAXWELL), written=WRITTEN),
        _captured("maxwell-bootstrap", "shop.customers", "maxwell", CUSTOMERS, {"updated": "bootstraps cut fractions"}),
        _captured("maxwell-bootstrap", "shop.items", "maxwell", ITEMS, {"rows": "the bootstrap has a where clause"}),
    ]
    found += [
        _captured("pg-cloudevents-json", "public.t", "cloudevents", {"id": "int", "name": "string"}),
    ]
    found += [_made(path) for path in sorted(FOLDER.glob("*.json"))]
    return {case.name: case for case in found}
