"""Outputs of tables with masks: latest rows and contracts are of the columns as their masks leave them."""

from __future__ import annotations

from typing import Any

from schemas.compatibility import CompatibilityRule, differences
from schemas.contract import contract_of
from schemas.masked import masked_spec
from schemas.output import latest_view_name
from schemas.table import TableSpec
from streams.latest_views import with_latest_view

COLUMNS = {"id": "long", "name": "string", "born": "date", "email": "string"}
MASKED = {
    "id": {"type": "long", "mask": "hash"}, "name": {"type": "string", "mask": "drop"},
    "born": {"type": "date", "mask": "encrypt"}, "email": "string",
}  # fmt: skip


def spec_of(columns: dict[str, Any]) -> TableSpec:
    """Return the spec of a table with a latest topic."""
    document = {"table": "t", "topics": ["s"], "key": ["id"], "columns": columns, "output": {"latest": True}}
    return TableSpec.model_validate(document)


def test_a_latest_view_has_the_columns_that_are_left() -> None:
    """One of other masks is another view, which is written anew."""
    spec = with_latest_view(spec_of(MASKED), 1)
    (view,) = spec.features
    (clear,) = with_latest_view(spec_of(COLUMNS), 1).features

    assert (latest_view_name("t"), ["id", "born", "email"]) == (view.view, view.columns)
    assert view.version != clear.version


def test_a_mask_that_comes_is_a_change_of_the_contract() -> None:
    """Of a column that is dropped, of types that become texts, and of the key."""
    found = {(each.rule, each.column) for each in differences(spec_of(COLUMNS), spec_of(MASKED))}

    assert (CompatibilityRule.COLUMN_REMOVED, "name") in found
    assert {"id", "born"} <= {column for _, column in found}
    assert "email" not in {column for _, column in found}
    assert {"id": "string", "born": "string", "email": "string"} == {
        name: str(type_) for name, type_ in contract_of(masked_spec(spec_of(MASKED))).columns.items()
    }
