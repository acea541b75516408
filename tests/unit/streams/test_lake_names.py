"""Names in the lake: a table, and the latest rows of another one."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.table import TableEntry, TableSpec
from streams.lake_names import check_lake_names
from streams.specs import SpecMistake


def spec(table: str, **changed: Any) -> TableSpec:
    """Return a table's spec; `changed` replaces what stands here."""
    fields = {"table": table, "topics": [table], "key": ["id"], "columns": {"id": "long"}, **changed}
    return TableSpec.model_validate(fields)


def by_name(*specs: TableSpec) -> dict[str, TableSpec]:
    """Return specs by their tables."""
    return {each.table: each for each in specs}


def entries(*specs: TableSpec) -> dict[str, TableEntry]:
    """Return what is registered of specs."""
    return {each.table: TableEntry(spec=each) for each in specs}


ROWS, LATEST = spec("orders"), spec("orders_latest")
OUT: dict[str, Any] = {"lake": {"enabled": False}}


@pytest.mark.parametrize(
    ("registered", "applied", "blamed"),
    [
        ([], [ROWS, LATEST], "orders"),
        ([ROWS], [LATEST], "orders_latest"),
        ([LATEST], [ROWS], "orders"),
        ([ROWS, spec("orders_latest", **OUT)], [LATEST], "orders_latest"),
        ([spec("orders", key=[]), LATEST], [ROWS], "orders"),
    ],
)
def test_two_of_one_name_are_refused(registered: list[TableSpec], applied: list[TableSpec], blamed: str) -> None:
    """Whichever comes second is named, with what to do."""
    with pytest.raises(SpecMistake, match="two in the lake would be called orders_latest") as caught:
        check_lake_names(entries(*registered), by_name(*applied))

    assert (blamed, ("table",)) == (caught.value.table, caught.value.path)
    assert "lake: {enabled: false}" in caught.value.hint


@pytest.mark.parametrize(
    ("registered", "applied"),
    [
        ([], [ROWS, spec("orders_latest", **OUT)]),
        ([], [spec("orders", **OUT), LATEST]),
        ([], [spec("orders", key=[]), LATEST]),
        ([], [spec("latest"), spec("orders"), spec("latest_orders")]),
        ([ROWS, LATEST], [ROWS, LATEST]),
        ([ROWS, LATEST], [spec("orders_latest", topics=["other"]), spec("more")]),
    ],
)
def test_what_is_apart_or_was_there_before_is_taken(registered: list[TableSpec], applied: list[TableSpec]) -> None:
    """Both in the lake already, they must not be in the way of everything else."""
    check_lake_names(entries(*registered), by_name(*applied))
