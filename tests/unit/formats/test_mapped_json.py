"""The format `json`: paths, positions and what is said of mistakes; records themselves in the fixtures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats.mapped_json import looks_like, table_of
from connectors.formats.paths import Paths, names_of
from schemas.errors import ConfigurationError
from schemas.table import TableSpec
from tests.unit.formats.envelopes import changes, decode, records, spec_of

COLUMNS = {"id": "long", "ward": "string"}
ROW = {"id": 7, "ward": "B:2"}


def spec(**options: Any) -> TableSpec:
    """Return a spec with options; row and time stand where nothing else is said."""
    options = {"row": "$.row", "time": "$.at", **options}
    return TableSpec.model_validate({
        "table": "stays", "topics": ["stays"], "format": "json", "key": ["id"], "columns": COLUMNS,
        "options": {name: value for name, value in options.items() if value is not None},
    })  # fmt: skip


def record(**members: Any) -> bytes:
    """Return a record; row and time stand where nothing else is said."""
    return json.dumps({"row": ROW, "at": "2026-01-02T03:04:05Z", **members}).encode()


def rejected(spec_: TableSpec, value: bytes) -> tuple[str, str]:
    """Return reason and message of a record that is refused, with a good one behind it."""
    decoded = decode(spec_, [value])
    error: Any = decoded.rejected[0].error
    return error.reason, error.message


def test_paths_are_names_plain_or_quoted() -> None:
    """A dot inside quotes is part of a name."""
    assert ("payload", "odd name.x", "row-2") == names_of('$.payload."odd name.x".row-2')
    assert () == names_of("$")


def test_a_path_into_what_another_takes_is_found_too() -> None:
    """Each is read in a pass of its own."""
    paths = Paths(["$", "$.a", "$.a.b", "$.a.b.c", "$.d"])
    value = b'{"a":{"b":{"c":1}},"d":null}'
    found = paths.read(value, depth_max=9)

    assert [value, b'{"b":{"c":1}}', b'{"c":1}', b"1", None] == [
        None if raw is None else bytes(raw)
        for raw in (paths.find(value, found, path) for path in ("$", "$.a", "$.a.b", "$.a.b.c", "$.d"))
    ]


@pytest.mark.parametrize("key", [None, "$.k", "$.row", {"id": "$.row.id"}, {"id": "$.k.id"}])
def test_the_key_is_an_object_or_parts_or_in_the_row(key: Any) -> None:
    """Whatever else stands beside it."""
    found = changes(decode(spec(key=key), [record(k={"id": 7, "x": 1})]))

    assert [{"id": "7"}] == [change["key"] for change in found]


def test_the_record_itself_can_be_the_row() -> None:
    """Its other members are columns that the spec does not name."""
    decoded = decode(spec(row="$"), [json.dumps({**ROW, "at": "2026-01-02T03:04:05Z"}).encode()])

    assert [{"id": "7", "ward": "B:2"}] == [change["after"] for change in changes(decoded)]
    assert {"at"} == decoded.unknown_columns


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([], "00001000000000000000000100"),
        (["$.n"], "00001200000000000000000042"),
        ([{"path": "$.n", "digits": 4}, "offset"], "000011004200000000000000000100"),
        ([{"path": "$.at", "kind": "time"}, "offset"], "0000110000176732304500000000000000000000000100"),
        ([{"path": "$.h", "kind": "hex", "digits": 8}], "00001200065535"),
        ([{"path": "$.n", "digits": 2}, {"path": "$.h", "kind": "hex", "digits": 5}], "0000124265535"),
    ],
)  # fmt: skip
def test_a_position_is_made_of_its_parts(position: Any, expected: str) -> None:
    """Without one, or behind parts that can tie, the offset decides."""
    assert [expected] == decode(spec(position=position), [record(n="42", h="fFfF")]).batch.positions


def test_rows_of_a_snapshot_are_below_all_changes() -> None:
    """Also where they have no position; after changes they mean that the source is read anew."""
    made = spec(operation={"path": "$.op", "words": {"r": "snapshot", "1": "update"}}, position=["$.n"])
    load, change = record(op="r"), record(op=1, n=5)
    decoded = decode(made, [load, change, load])

    assert ["000002" + "0" * 20, "000012" + "5".zfill(20)] == decoded.batch.positions
    assert "source_read_anew" == (decoded.stop and decoded.stop.reason)


@pytest.mark.parametrize(
    ("options", "members", "expected"),
    [
        ({"row": "$.payload.row"}, {}, ("no_row", "row: $.payload.row finds nothing")),
        ({"row": "$.at.row"}, {}, ("not_a_change", "$.at is no object, and $.at.row leads through it")),
        ({"time": "$.when"}, {}, ("bad_time", "time: $.when finds nothing")),
        ({"time": {"path": "$.at", "unit": "ms"}}, {}, ("bad_time", "time: what stands there is no time of unit ms")),
        ({"position": ["$.n"]}, {}, ("bad_position", "position: $.n finds nothing")),
        ({"position": ["$.n"]}, {"n": "x"}, ("bad_position", "position: $.n is no number")),
        ({"key": "$.k"}, {"k": {"no": 1}}, ("no_key", "key: $.k has no id")),
        (
            {"operation": {"path": "$.op", "words": {"U": "update"}}},
            {"op": "u"},
            ("unknown_op", "operation: $.op holds a word that `words` does not have"),
        ),
    ],
)
def test_a_record_that_does_not_fit_says_which_path_finds_nothing(
    options: dict[str, Any], members: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Names and paths, and no value of the record."""
    assert expected == rejected(spec(**options), record(**members))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"row": "payload.row"}, "'payload.row' is no path; write one such as \\$.payload.row"),
        ({"rows": "$.row"}, "rows: unknown key 'rows'; did you mean 'row'"),
        ({"time": None}, "time: this key is wanted and is not there"),
        ({"time": {"path": "$.at", "units": "ms"}}, "unknown key 'units'; did you mean 'unit'"),
        ({"position": ["offset", "$.n"]}, "`offset` can only be the last part"),
        ({"position": [{"path": "$.n", "digits": 40}] * 3}, "more than 100 digits"),
        ({"operation": {"path": "$.op", "words": {"U": "upsert"}}}, "operation.words.U"),
        ({"key": {"nr": "$.id"}}, "key names nr"),
    ],
)
def test_options_that_are_none_are_refused_with_what_is_right(options: dict[str, Any], says: str) -> None:
    """Before any record is read."""
    with pytest.raises(ConfigurationError, match=says):
        decode(spec(**options), [])


def test_the_source_table_is_read_by_the_spec() -> None:
    """Nobody else knows where it stands; and no record is known by its shape."""
    document = next(one["value"] for one in records("json") if one["shows"] == "an insert")

    assert ("clinic.stays", None) == (table_of(document, spec_of("json")), table_of({}, spec_of("json")))
    assert not looks_like(document)
