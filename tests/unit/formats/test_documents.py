"""Documents changed inside: the delta over the document before it is the document after it; columns as far as known."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats import format_of
from connectors.formats.documents import PADDED_MAX, Delta, applied, delta_of
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry
from streams.final_rows import FinalRows
from streams.looked import Looker
from tests.unit.formats.made import compact
from tests.unit.formats.test_mongodb import decode, record, row, spec

DEPTH_MAX = 100
COLUMNS = {"_id": "string", "city": "string", "lat": "double", "address": "json", "n": "long"}
PATHS = {"city": "$.home.city", "lat": "$.home.place.lat"}
NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([0, 1.5, "x", None, True, {"$date": 0}])


def delta(updated: dict[str, Any] | None = None, removed: tuple[str, ...] = (), **cut: int) -> Delta:
    """Return a delta as the connector says it."""
    return delta_of(json.dumps(updated or {}).encode(), removed, [*cut.items()], depth_max=DEPTH_MAX)


def after(document: Any, said: Delta) -> Any:
    """Return the document after a delta."""
    return json.loads(applied(json.dumps(document).encode(), said, depth_max=DEPTH_MAX))


def reason(document: Any, said: Delta) -> str:
    """Return why a delta cannot be applied."""
    with pytest.raises(Rejection) as refused:
        after(document, said)
    return refused.value.reason


@pytest.mark.parametrize(
    ("document", "said", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, delta({"a.b": 3}), {"a": {"b": 3, "c": 2}}),
        ({"a": {"b": 1}}, delta({"a.c.d": 3}), {"a": {"b": 1, "c": {"d": 3}}}),
        ({"a": {"b": 1}}, delta(removed=("a.b", "a.x", "y.z")), {"a": {}, "y": {}}),
        ({"a": [1, 2, 3]}, delta({"a.1": 9}), {"a": [1, 9, 3]}),
        ({"a": [1]}, delta({"a.3": 9}), {"a": [1, None, None, 9]}),
        ({"a": [1, 2, 3]}, delta({"a.0": 7}, a=1), {"a": [7]}),
        ({"a": [{"b": 1}, {"b": 2}]}, delta({"a.1.b": 5}), {"a": [{"b": 1}, {"b": 5}]}),
        ({"a": [1, 2]}, delta(removed=("a.0",)), {"a": [None, 2]}),
        ({"a": {"0": 1}}, delta({"a.0": 2}), {"a": {"0": 2}}),
        ({"a.b": 1}, delta({"a.b": 2}), {"a.b": 2}),
        (
            {"a.b": {"c": 1, "d.e": 2}},
            delta({"a.b.c": 2, "a.b.d.e": 3, "x.y": 4}),
            {"a.b": {"c": 2, "d.e": 3}, "x": {"y": 4}},
        ),
        ({"n": 9007199254740993}, delta({"m": 0.1}), {"n": 9007199254740993, "m": 0.1}),
    ],
)
def test_a_delta_over_the_document_before_it_gives_the_document_after_it(
    document: Any, said: Delta, expected: Any
) -> None:
    """Fields set and removed, elements set and arrays cut, as MongoDB does it."""
    assert expected == after(document, said)


@pytest.mark.parametrize(
    ("document", "said", "expected"),
    [
        ({"a": 1}, delta({"a.b": 2}), "partial_field"),
        ({"a": [1]}, delta({"a.b": 2}), "partial_field"),
        ({"a": [1]}, delta(a=2), "partial_field"),
        ({"a": [1]}, delta(a=-1), "partial_field"),
        ({"a": 1}, delta(b=0), "partial_field"),
        ({"a": [1]}, delta({"a.4000000000": 2}), "partial_field"),
        ({"a": [1]}, delta({f"a.{PADDED_MAX + 2}": 2}), "partial_field"),
        ({"a": [], "b": []}, delta({f"a.{PADDED_MAX - 1}": 2, "b.2": 2}), "partial_field"),
        ({"a.b": 1, "a": {"b": 2}}, delta({"a.b": 2}), "partial_field"),
        ({"a" + ".b" * 9: 1}, delta({"a.b": 2}), "partial_field"),
        ([1], delta({"a": 2}), "no_row"),
    ],
)
def test_a_delta_of_another_document_is_refused(document: Any, said: Delta, expected: str) -> None:
    """Nor is a path taken that may mean two fields, or memory for elements that nobody sent."""
    assert expected == reason(document, said)


@pytest.mark.parametrize(
    ("updated", "removed", "expected"),
    [
        (b"[]", (), "no_row"),
        (b'{"a":1,"a":2}', (), "duplicate_keys"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", (), "too_deep"),
        (b"{}", ("." * 1_000_000,), "too_deep"),
    ],
)
def test_a_delta_that_is_none_is_refused(updated: bytes, removed: tuple[str, ...], expected: str) -> None:
    """Before anything is done with it."""
    with pytest.raises(Rejection) as refused:
        delta_of(updated, removed, (), depth_max=DEPTH_MAX)

    assert expected == refused.value.reason


documents = st.dictionaries(
    NAMES, st.recursive(SCALARS, lambda inner: st.dictionaries(NAMES, inner) | st.lists(inner, max_size=4))
)


def _changed(document: Any, chance: random.Random) -> tuple[Any, dict[str, Any], list[str], list[tuple[str, int]]]:
    """Return the document after one change somewhere inside, and what MongoDB says of it."""
    out, path, inside = copy.deepcopy(document), "", None
    inside = out
    while True:
        names: Any = list(inside) if isinstance(inside, dict) else range(len(inside))
        opened = [
            name
            for name in names
            if isinstance(inside[name], list | dict) and not str(next(iter(inside[name]), "")).startswith("$")
        ]
        if not opened or chance.random() < 0.3:
            break
        name = chance.choice(opened)
        path, inside = f"{path}{name}.", inside[name]
    if isinstance(inside, list):
        if inside and chance.random() < 0.5:
            size = chance.randrange(len(inside))
            del inside[size:]
            return out, {}, [], [(path[:-1], size)] if path else []
        at = chance.randrange(len(inside) + 1)
        inside[at:] = [7, *inside[at + 1 :]]
        return out, {f"{path}{at}": 7}, [], []
    name = chance.choice("abc")
    if name in inside and chance.random() < 0.5:
        del inside[name]
        return out, {}, [f"{path}{name}"], []
    inside[name] = {"new": [1]}
    return out, {f"{path}{name}": {"new": [1]}}, [], []


@given(documents, st.integers())
def test_whatever_is_changed_inside_the_delta_brings_the_document_there(document: dict[str, Any], seed: int) -> None:
    """Anywhere in any document."""
    expected, updated, removed, cut = _changed(document, random.Random(seed))
    said = delta_of(json.dumps(updated).encode(), removed, cut, depth_max=DEPTH_MAX)

    assert expected == after(document, said)


def test_an_update_with_the_document_before_it_is_whole() -> None:
    """`change_streams_with_pre_image`: nothing is unavailable, whatever was changed inside."""
    before = {"_id": 1, "name": "Anne", "address": {"city": "Bonn", "zip": "1"}, "tags": ["a", "b"]}
    said = {
        "updatedFields": '{"address.city": "Ulm"}', "removedFields": ["name"],
        "truncatedArrays": [{"field": "tags", "size": 1}],
    }  # fmt: skip
    decoded = decode(record("u", 2, "1", before=compact(before).decode(), updateDescription=said))

    assert row(decoded) == {"_id": "1", "address": '{"city":"Ulm","zip":"1"}', "tags": ["a"]}
    assert [[]] == decoded.batch.unavailable


def by_path(**said: Any) -> Any:
    """Return what becomes of an update where columns stand inside of fields: its row, what it lacks, or its reason."""
    said = {"updatedFields": json.dumps(said.pop("updated", {}))} | said
    decoded = decode(record("u", 2, "1", updateDescription=said), columns=COLUMNS, options={"paths": PATHS})
    if decoded.rejected:
        return decoded.rejected[0].error.reason  # type: ignore[attr-defined]
    return row(decoded), decoded.batch.unavailable[0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"updated": {"home.city": "Ulm"}}, ({"city": "Ulm"}, ["lat", "address", "n"])),
        ({"updated": {"home.place": {"lat": 1.5}}}, ({"lat": 1.5}, ["city", "address", "n"])),
        ({"updated": {"home": {"city": "Ulm"}}}, ({"city": "Ulm", "lat": None}, ["address", "n"])),
        ({"updated": {"home": None}}, ({"city": None, "lat": None}, ["address", "n"])),
        ({"removedFields": ["home.place", "n"]}, ({"lat": None, "n": None}, ["city", "address"])),
        ({"updated": {"home.other.0": 1, "new.x": 2}}, ({}, ["city", "lat", "address", "n"])),
        ({"truncatedArrays": [{"field": "home.list", "size": 0}]}, ({}, ["city", "lat", "address", "n"])),
        ({"updated": {"home.place.lat.deg": 1}}, "partial_field"),
        ({"updated": {"address.city": "Ulm"}}, "partial_field"),
        ({"removedFields": ["address.city"]}, "partial_field"),
        ({"truncatedArrays": [{"field": "address", "size": 0}]}, "partial_field"),
    ],
)
def test_an_update_says_the_columns_that_stand_inside_of_fields(said: dict[str, Any], expected: Any) -> None:
    """A column of which it says no more than a part is refused, not taken for what it was; others do not matter."""
    if isinstance(expected, tuple):
        expected = ({"_id": "1"} | expected[0], expected[1])

    assert expected == by_path(**said)


def test_a_field_whose_own_name_has_a_dot_is_not_guessed_at() -> None:
    """An update of it reads like one of what is inside of another."""
    said = {"updatedFields": '{"a.b": 1}'}
    decoded = decode(record("u", 2, updateDescription=said), columns={"_id": "string", "a.b": "long"})

    assert ["partial_field"] == [one.error.reason for one in decoded.rejected]  # type: ignore[attr-defined]


def test_a_whole_document_says_them_too() -> None:
    """What it does not have is absent; a field of a column's name that stands elsewhere is not the column."""
    told = {"columns": COLUMNS, "options": {"paths": PATHS}}
    there = {"_id": 1, "n": 1, "city": "no", "home": {"city": "Ulm", "place": {"lat": 1.5, "x": 1}}}
    found = [row(decode(record("c", 1, "1", after=document), **told)) for document in (there, {"_id": 1, "home": [1]})]

    assert [{"_id": "1", "n": "1", "city": "Ulm", "lat": 1.5}, {"_id": "1"}] == found
    assert set() == decode(record("c", 1, "1", after=there), **told).unknown_columns


@pytest.mark.parametrize(
    "paths",
    [
        *({"city": "$.city"}, {"city": "home.city"}, {"city": '$.a."b.c"'}, {"city": '$.a."0"'}, {"city": '$.a."$x"'}),
        *({"_id": "$.a.b"}, {"nobody": "$.a.b"}),
    ],
)
def test_a_path_that_updates_could_not_be_told_by_is_refused_with_the_spec(paths: dict[str, str]) -> None:
    """And one of a column of the key, or of none."""
    entry = TableEntry(spec=spec(columns=COLUMNS, options={"paths": paths}))
    with pytest.raises(ConfigurationError, match="options of debezium-mongodb"):
        format_of("debezium-mongodb").decoder(entry, LimitsConfig())


def test_deltas_in_any_order_come_to_the_columns_of_the_document() -> None:
    """A part of a field is filled from what is known of that very part."""
    told = spec(columns=COLUMNS, options={"paths": PATHS})
    says = [
        {"updatedFields": '{"home.city": "b"}'},
        {"updatedFields": '{"home.place.lat": 2.5, "n": 2}'},
        {"updatedFields": '{"home.place": {}}'},
        {"updatedFields": '{"home.city": "c"}', "removedFields": ["n"]},
    ]
    first = record("c", 1, "1", second=1, after={"_id": 1, "n": 1, "home": {"city": "a", "place": {"lat": 1.5}}})
    records = [first, *(record("u", at, "1", second=at, updateDescription=said) for at, said in enumerate(says, 2))]
    looked = [Looker({"customers": told}, LimitsConfig()).look(one)[0] for one in records]
    values = [bytes(one.change) for one in looked if one.change is not None]
    for seed in range(20):
        final, some = FinalRows(told), [*values, *values]
        random.Random(seed).shuffle(some)
        for value in some:
            final.apply(value)
        found = [document["row"] for document in final.documents()]

        assert [{"_id": "1", "city": "c", "lat": None, "n": None}] == found
