"""Tables whose columns change their types mid-stream: what stands on the output topic in older forms, read as the last.

docs/contract.md: an `int` is a number, a `long` and a text are texts; the header `headgate.schema` says which it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.oracles.shape import Shape
from tests.oracles.topic import Change, Record, to_change
from tests.oracles.values import row_from_contract
from tests.oracles.verdict import Verdict

_ROWS = ("key", "old_key", "new_key", "before", "after")
_TEXTS = {"long", "string"}


def to_last_change(shape: Shape, record: Record) -> Change:
    """Read a value of the contract that may be of an older schema of the table; `shape` has all columns it ever had.

    The row of before, where there is one, is of the contract too. The key stays in `key_json` as it was written.

    Raises:
        WrongForm: a form that no schema of the table has.
    """
    value = json.loads(record.value or b"null")
    key_json = value["key"]
    for name in _ROWS:
        value[name] = _last(shape.columns, value[name])
    row_from_contract(shape.columns, value["before"] or {})
    key = None if record.key is None else json.dumps(_last(shape.columns, json.loads(record.key))).encode()
    change = to_change(shape, replace(record, key=key, value=json.dumps(value).encode()))
    return replace(change, record=record, key_json=key_json)


def _last(columns: Mapping[str, str], row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        name: str(value) if type(value) is int and columns.get(name) in _TEXTS else value for name, value in row.items()
    }


def check_schema_versions(name: str, records: Iterable[Record], *, at_least: int) -> Verdict:
    """Check that under one schema version each column has one form, and that versions never fall in a partition."""
    verdict = Verdict(f"schema versions of {name}", {"records": 0})
    forms: dict[tuple[int, str], set[str]] = defaultdict(set)
    highest: dict[int, int] = {}
    for record in records:
        version = int(dict(record.headers)["headgate.schema"] or b"0")
        if version < highest.get(record.partition, version):
            verdict.differ(f"{record.partition} {record.offset}: version {version} after {highest[record.partition]}")
        highest[record.partition] = version
        for column, value in (json.loads(record.value or b"null")["after"] or {}).items():
            if value is not None:
                forms[version, column].add(_form(value))
        verdict.figures["records"] += 1
    for (version, column), several in sorted(forms.items()):
        if len(several) > 1:
            verdict.differ(f"version {version}: {column} has the forms {sorted(several)}")
    verdict.figures["versions"] = len({version for version, _ in forms})
    verdict.at_least("versions", at_least)
    return verdict


def _form(value: Any) -> str:
    return "number" if type(value) in {int, float} else type(value).__name__


def check_columns(name: str, expected: Mapping[str, str], found: Mapping[str, str]) -> Verdict:
    """Check which columns a table's spec has come to have, and their types."""
    verdict = Verdict(f"spec of {name}", {"columns": len(found)})
    for column in sorted(expected.keys() | found.keys()):
        if expected.get(column) != found.get(column):
            verdict.differ(f"{column} is {found.get(column)}, {expected.get(column)} is wanted")
    return verdict


def check_rows(name: str, columns: Sequence[str], expected: Iterable[Any], found: Iterable[Any]) -> Verdict:
    """Check rows that somebody else folded against the source's, as tuples of `columns`."""
    wanted, there = set(expected), list(found)
    verdict = Verdict(name, {"rows": len(there), "rows of the source": len(wanted)})
    if len(there) != len(set(there)):
        verdict.differ("a row is there twice")
    for row in wanted.symmetric_difference(there):
        verdict.differ(f"{'missing' if row in wanted else 'too much'}: {dict(zip(columns, row, strict=True))}")
    verdict.at_least("rows", 1)
    return verdict
