"""Formats of changes in envelopes never raise for a record: it is in one place, and no other is harmed."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import Decoded
from tests.unit.formats.event_cases import Case, cases

CASES = cases()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
ODD = st.sampled_from(
    ["", "0000-00-00", "1e999", "-1", "9" * 50, "٣", "\ud800", 2**64, -(2**63) - 1, 1e300, [], {}, [[]], {"": {}}]
)
VALUES = st.recursive(
    SCALARS | ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def paths(document: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where values stand in a document."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(document, dict):
        inner = list(document.items())
    elif isinstance(document, list):
        inner = list(enumerate(document))
    return [before, *(path for name, value in inner for path in paths(value, (*before, name)))]


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with one value changed."""
    if not path:
        return value
    found = copy.deepcopy(document)
    at = found
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return found


def indices(decoded: Decoded, count: int) -> list[int]:
    """Return how often each record went out or was rejected, those that were skipped as the rest."""
    out = sorted({*decoded.batch.offsets} | {bad.index for bad in decoded.rejected})
    assert len(out) == len({*decoded.batch.offsets}) + len(decoded.rejected)
    assert len(out) + sum(decoded.skipped.values()) == (count if decoded.stop_index is None else decoded.stop_index)
    return out


@given(st.data())
def test_a_record_with_any_value_anywhere_is_in_one_place_and_no_other_is_harmed(data: st.DataObject) -> None:
    """Its neighbours are what they are without it."""
    case: Case = CASES[data.draw(st.sampled_from(sorted(CASES)))]
    sound = [record for record in case.records if record.value is not None]
    victim = data.draw(st.sampled_from(sound))
    document = json.loads(victim.value or b"")
    path = data.draw(st.sampled_from(paths(document)))
    value = json.dumps(changed(document, path, data.draw(VALUES))).encode()
    neighbour = replace(sound[0], offset=0)
    records = [neighbour, replace(victim, offset=1, value=value), replace(neighbour, offset=2)]
    decoded = case.decode(records, before=data.draw(st.sampled_from(["none", "full"])))

    indices(decoded, 3)
    if decoded.stop_index is None and sum(decoded.skipped.values()) == 0:
        assert [0, 1, 2] == sorted({*decoded.batch.offsets} | {bad.index for bad in decoded.rejected})
    assert {bad.index for bad in decoded.rejected} <= {1}


@given(st.data())
def test_bytes_that_were_cut_or_changed_are_in_one_place(data: st.DataObject) -> None:
    """As a broken producer or disk may do."""
    case: Case = CASES[data.draw(st.sampled_from(sorted(CASES)))]
    victim = data.draw(st.sampled_from([record for record in case.records if record.value is not None]))
    value = bytearray(victim.value or b"")
    at = data.draw(st.integers(0, len(value) - 1))
    value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    indices(case.decode([replace(victim, offset=0, value=bytes(value))]), 1)
