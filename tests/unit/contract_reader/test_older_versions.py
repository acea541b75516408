"""Changes that were written before a column became wider are read as what it is now."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import ContractReader
from connectors.contract_rows import UnreadableChange
from connectors.updates import UpdateReader
from schemas.types import parse_type
from tests.unit.alerts.chain import Chain
from tests.unit.contract_reader.columns import TYPES, spec_of
from tests.unit.contract_reader.test_two_ways import VALUES
from tests.unit.lake.changes import change, encoded

WIDER = {"int": "long", "float": "double", "decimal(12,2)": "decimal(14,2)", "list<int>": "list<long>"}


def read(now: str, *values: Any, older: bool = True) -> list[Any]:
    """Return what values of a column, of any type before, are when it is of type `now`."""
    changes = encoded([change(n, n, after={"c": value}) for n, value in enumerate(values)])
    table = ContractReader(spec_of({"c": now}), rows=frozenset({"after"})).read(changes, older=older)
    return [row["c"] for row in table.column("after").to_pylist()]


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(TYPES.values())).flatmap(lambda type_: st.lists(VALUES[type_], min_size=1, max_size=4)))
def test_what_became_a_text_has_the_text_that_the_contract_wrote(values: list[Any]) -> None:
    """A text as it is; of all else the JSON, as in Redis and in the lake."""
    wanted = [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values]
    changes = [msgspec.json.encode(change(n, n, after={"c": value})) for n, value in enumerate(values)]
    table = ContractReader(spec_of({"c": "string"}), rows=frozenset({"after"})).read(changes, older=True)

    assert wanted == [row["c"] for row in table.column("after").to_pylist()]


@pytest.mark.parametrize(("before", "now"), WIDER.items())
def test_what_became_wider_has_the_same_values(before: str, now: str) -> None:
    """Beside values that were written since."""
    olds: dict[str, list[Any]] = {"int": [5, None, -1], "float": [0.5, "NaN"], "list<int>": [[1, None], []]}
    news: dict[str, list[Any]] = {"long": ["5000000000"], "list<long>": [["5000000000"]]}
    old = olds.get(before, ["1.50"])
    new = news.get(now, old[:1])

    assert [*map(str, read(before, *old, older=False)), *map(str, read(now, *new, older=False))] == [
        *map(str, read(now, *old, *new))
    ]


def test_the_key_and_nulls_are_read_alike() -> None:
    """A key that became wider names the same row."""
    spec = spec_of({"id": "long", "c": "string"}, ["id"])
    changes = encoded([change(1, 1, key={"id": 7}, after={"id": 7, "c": None})])
    table = ContractReader(spec, rows=frozenset({"key", "after"})).read(changes, older=True)

    assert [{"id": 7}] == table.column("key").to_pylist()
    assert [{"id": 7, "c": None}] == table.column("after").to_pylist()


@pytest.mark.parametrize(("now", "value"), [("long", 2**63), ("long", True), ("long", 1.5), ("int", "5"), ("date", 5)])
def test_what_no_older_version_wrote_is_named(now: str, value: Any) -> None:
    """By its index; its value is not said."""
    with pytest.raises(UnreadableChange) as caught:
        read(now, None, value)
    assert 1 == caught.value.index
    assert f"column c does not fit {now}" in caught.value.message


@pytest.mark.parametrize(
    "broken", [b'{"after": {"c": [[[}', b'{"after": 5}', b"[" * 100_000, b'{"after": {"c": "\xff"}}']
)
def test_a_broken_change_is_named(broken: bytes) -> None:
    """However it is broken, and however deep."""
    reader = ContractReader(spec_of({"c": "string"}), rows=frozenset({"after"}))
    with pytest.raises(UnreadableChange):
        reader.read([*encoded([change(1, 1, after={"c": 1})]), broken], older=True)


def test_without_leave_an_older_form_is_no_value_of_the_type() -> None:
    """What says the schema version of now has to be it."""
    with pytest.raises(UnreadableChange):
        read("long", 5, older=False)


def test_feature_updates_of_before_are_read_at_any_time() -> None:
    """They say no schema version: the relay writes what was put into the outbox before."""
    types = {"c": parse_type("string"), "n": parse_type("long")}
    reader = UpdateReader(types, {"id": parse_type("long")}, rows=frozenset({"before", "after"}))
    chain = Chain()
    table = reader.read([chain.update(1, {"c": True, "n": 5}), chain.update(1, {"c": "x", "n": "6"})])

    assert [{"c": "true", "n": 5}, {"c": "x", "n": 6}] == table.column("after").to_pylist()
    assert [None, {"c": "true", "n": 5}] == table.column("before").to_pylist()
