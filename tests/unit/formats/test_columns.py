"""What is read by column is what each record says: keys beside their rows, keys named twice, positions of any width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats import encode_row
from connectors.formats.texts import whole_texts
from schemas.batch import Decoded
from tests.unit.formats.made import (
    COLUMNS,
    ROW,
    MadeRun,
    after,
    compact,
    decode,
    decode_run,
    envelope,
    reasons,
    with_row,
    with_source,
)


def run_of(keys: list[bytes | None], ids: Sequence[float], **changes: Any) -> Decoded:
    """Return what becomes of rows with these ids beside these keys."""
    return decode_run(
        MadeRun([(key, compact(envelope(after=ROW | {"id": id_}))) for key, id_ in zip(keys, ids, strict=True)]),
        **changes,
    )


@pytest.mark.parametrize(("type_", "expected"), [("int", [5, -6]), ("long", ["5", "-6"])])
def test_keys_that_are_as_their_rows_say_have_the_contracts_form(type_: str, expected: list[object]) -> None:
    """Written by the byte as expected, or with spaces: the same keys come of it."""
    columns = {"id": type_, "name": "string", "amount": "decimal(8,2)", "big": "long", "at": "timestamptz"}
    plain = run_of([b'{"id":5}', b'{"id":-6}'], [5, -6], columns=columns)
    spaced = run_of([b'{"id":5}', b'{ "id" : -6 }'], [5, -6], columns=columns)

    assert expected == [json.loads(encode_row(key))["id"] for key in plain.batch.keys]
    assert expected == [json.loads(encode_row(key))["id"] for key in spaced.batch.keys]


@pytest.mark.parametrize(
    ("keys", "ids", "expected"),
    [
        ([b'{"id":1}', b'{"id":3}'], [1, 2], ["key_mismatch"]),
        ([b'{"id":2}', b'{"id":1}'], [1, 2], ["key_mismatch", "key_mismatch"]),
        ([b'{"id":1}\n{"id":2}', b""], [1, 2], ["broken_json", "broken_json"]),
        ([b'{"id":1', b'}{"id":2}'], [1, 2], ["broken_json", "broken_json"]),
        ([b'{"id":1}', b'{"id":2,"id":2}'], [1, 2], ["duplicate_keys"]),
        ([b'{"id":01}', b'{"id":2}'], [1, 2], ["broken_json"]),
        ([b'{"schema": {}, "payload": {"id": "\\ud800"}}', b'{"id":2}'], [1, 2], ["bad_key"]),
    ],
)
def test_keys_that_are_not_as_their_rows_say_are_refused(
    keys: list[bytes], ids: list[int], expected: list[str]
) -> None:
    """Also where their bytes are those of the right ones, only parted elsewhere."""
    assert expected == reasons(run_of(list(keys), ids))


def test_a_key_with_a_schema_block_may_be_written_with_spaces() -> None:
    """A number with a point is the same number, however the block around it is written."""
    columns = COLUMNS | {"id": "double"}
    key = b'{"schema": {"type":"struct","fields":[{"type":"double","field":"id"}]}, "payload": {"id": 1.5}}'
    spaced = run_of([key, key.replace(b'": ', b'":').replace(b", ", b",")], [1.5, 1.5], columns=columns)

    assert [] == reasons(spaced)
    assert [1.5, 1.5] == [json.loads(encode_row(key))["id"] for key in spaced.batch.keys]


def test_a_key_that_is_written_as_the_contract_writes_it_is_not_taken() -> None:
    """A date is a number on the wire: the row's text between the quotes of nobody is no JSON."""
    columns = {"id": "date", "name": "string", "amount": "decimal(8,2)", "big": "long", "at": "timestamptz"}

    assert ["broken_json"] == reasons(run_of([b'{"id":1970-01-02}'], [1], columns=columns))


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=6))
def test_positions_do_not_depend_on_the_widths_of_their_neighbours(numbers: list[tuple[int, int]]) -> None:
    """A number that gains a digit makes a run slower to read, not different."""
    decoded = decode(*[compact(with_source(sequence=f'["{commit}","{lsn}"]', lsn=lsn)) for commit, lsn in numbers])

    assert [f"0000{commit:020d}1{lsn:020d}" for commit, lsn in numbers] == decoded.batch.positions


@pytest.mark.parametrize(
    "text", ['["1,"00"]', '["1","x"]', '["1""2",]', '"[1","2"]', '["","12"]', '["\u0967","2"]', '["1","2"}', "[]", ""]
)
def test_an_odd_sequence_is_judged_the_same_among_ordinary_ones(text: str) -> None:
    """And the changes around it, which share a place in the log, keep theirs."""
    good, odd = compact(with_source(sequence='["1","2"]', lsn=2)), compact(with_source(sequence=text, lsn=2))
    alone, among = decode(odd), decode(good, odd, good)
    place = "0000" + "1".zfill(20) + "1" + "2".zfill(20)

    assert reasons(alone) == reasons(among)
    assert [place, *alone.batch.positions, place] == among.batch.positions


def test_a_change_stands_where_its_sequence_says_whatever_stands_beside_it() -> None:
    """A row of a snapshot in the same run makes the run slower to read, not different."""
    change = compact(with_source(sequence='["100","300"]', lsn=200))
    row = compact(with_source(snapshot="incremental", sequence='["100","250"]', lsn=None))
    alone, among = decode(change), decode(row, change)

    assert alone.batch.positions == among.batch.positions[1:]


@given(st.lists(st.integers(-(2**80), 2**80)))
def test_integers_become_their_digits(numbers: list[int]) -> None:
    """Whatever their size; a null is none."""
    assert list(map(str, numbers)) == whole_texts(numbers)
    with pytest.raises(TypeError):
        whole_texts([*numbers, None])  # type: ignore[list-item]


def test_a_null_does_not_make_room_for_a_key() -> None:
    """A number with a scale of its own is an object, whose keys a record with a null does not have."""
    columns = COLUMNS | {"amount": {"type": "decimal(8,2)", "encoding": "data.VariableScaleDecimal"}}
    scaled = with_row(amount={"scale": 2, "value": "MDk="})
    twice = with_row(amount=None).replace(b'"big":5', b'"big":5,"big":6,"big":7')
    decoded = decode(scaled, with_row(amount=None), scaled, twice, columns=columns)

    assert ["duplicate_keys"] == reasons(decoded)
    assert ["123.45", None, "123.45"] == [after(decoded, place)["amount"] for place in range(3)]


def test_a_missing_gtid_does_not_make_room_for_a_key() -> None:
    """MySQL writes a colon into it; rows of a snapshot have none."""
    place = {"connector": "mysql", "file": "bin.000007", "pos": 4, "row": 0}
    change = compact(with_source(**place, gtid="3e11fa47-71ca-11e1-9e33-c80aa9429562:23"))
    row = compact(with_source(**place, gtid=None, snapshot="incremental"))
    decoded = decode(change, row.replace(b'"big":5', b'"big":5,"big":6'), row, change)

    assert ["duplicate_keys"] == reasons(decoded)
    assert [100, 102, 103] == decoded.batch.offsets


def test_escaped_colons_hide_no_key_however_many_records_have_them() -> None:
    """Their colons cannot be counted, so each such record is looked at in full."""
    escaped = compact(envelope()).replace(b"Ada", b"A\\u003ada")
    decoded = decode(escaped, escaped, escaped.replace(b'"big":5', b'"big":5,"big":6'), escaped)

    assert ["duplicate_keys"] == reasons(decoded)
    assert ["A:da"] * 3 == [after(decoded, place)["name"] for place in range(3)]


def test_a_colon_escaped_outside_the_row_hides_no_key() -> None:
    """Where other records of the run have it plain, one key more would make up for it."""
    block = {"id": "7:200", "total_order": 1, "data_collection_order": 1}
    plain = compact(envelope(after=ROW | {"at": None}, transaction=block))
    twice = plain.replace(b"7:200", b"7\\u003a200").replace(b'"big":5', b'"big":5,"big":6')

    assert ["duplicate_keys"] == reasons(decode(plain, twice, plain))
