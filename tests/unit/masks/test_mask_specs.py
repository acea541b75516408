"""Masks in specs: how they are written, what type they leave, what is refused, and what older releases see of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.evolution import Evolved, Found, in_force
from schemas.mask import Mask, Masks, masked_type
from schemas.masked import keys_of, masked_entry, masked_spec, masks_of
from schemas.table import TableEntry, TableSpec
from schemas.types import parse_type
from streams.tables import TableDirectory

HEAD = "table: patients\ntopics: [clinic.public.patients]\nkey: [id]\n"
TIMED = "features: [{view: v, entity: e, columns: [t], event_time: t}]"
COLUMNS = """
columns:
  id: {type: long, mask: token}
  name: {type: string, mask: hash}
  born: {type: date, mask: {how: truncate, to: month}}
  zip: {type: string, mask: {how: truncate, to: 3}}
  note: {type: json, mask: {how: encrypt, key: notes}}
  ssn: {type: string, mask: drop}
  income: {type: "decimal(12,2)", mask: null}
  ward: string
"""


def spec(text: str = COLUMNS) -> TableSpec:
    """Return a spec of these columns."""
    return read_document(HEAD + text, TableSpec, name="patients.yaml")


def test_what_is_left_of_a_table_are_the_types_of_its_masks() -> None:
    """Whoever stands behind NORMALIZE sees a table without masks, of these columns."""
    behind = masked_spec(spec())

    types = {"id": "long", "name": "string", "born": "date", "zip": "string", "note": "string"}
    types |= {"income": "decimal(12,2)", "ward": "string"}
    assert types == {name: str(column.type) for name, column in behind.columns.items()}
    assert not behind.is_masked
    assert {} == masks_of(behind)


@pytest.mark.parametrize(
    ("type_", "mask", "left"),
    [
        ("int", {"how": "token"}, "long"),
        ("long", {"how": "token"}, "long"),
        ("uuid", {"how": "token"}, "uuid"),
        ("string", {"how": "token"}, "string"),
        ("list<int>", {"how": "hash"}, "string"),
        ("boolean", {"how": "encrypt"}, "string"),
        ("timestamptz", {"how": "truncate", "to": "year"}, "timestamptz"),
        ("uuid", {"how": "truncate", "to": 8}, "string"),
        ("binary", {"how": "null"}, "binary"),
        ("binary", {"how": "drop"}, "None"),
    ],
)
def test_the_type_that_a_mask_leaves(type_: str, mask: dict[str, Any], left: str) -> None:
    """As the table at the head of `schemas/mask.py` says."""
    assert left == str(masked_type(parse_type(type_), Mask.model_validate(mask)))


def test_a_spec_is_read_again_as_it_was_written() -> None:
    """In the topic of tables, and as older releases know it where there is no mask."""
    read = spec()
    plain = spec("columns: {id: long}")

    assert read == TableSpec.model_validate_json(read.model_dump_json())
    written = json.loads(read.model_dump_json())["columns"]
    assert ("hash", "null") == (written["name"]["mask"], written["income"]["mask"])
    assert {"how": "truncate", "to": 3} == written["zip"]["mask"]
    assert "mask" not in TableEntry(spec=plain).model_dump_json()


def test_a_mask_with_nothing_behind_it_is_the_mask_null() -> None:
    """What somebody forgot to fill in passes nothing."""
    read = spec("columns:\n  id: long\n  name:\n    type: string\n    mask:\n")

    assert Mask(how="null") == read.columns["name"].mask


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("columns: {id: {type: int, mask: encrypt}}", "of a key only hash and token are masks"),
        ("columns: {id: {type: int, mask: drop}, x: int}", "of a key only hash and token are masks"),
        ("columns: {id: int, x: {type: int, mask: hsah}}", "no mask is called 'hsah'; write one of drop, null, hash"),
        ("columns: {id: int, x: {type: int, mask: truncate}}", "say in `to` how many characters are left"),
        ("columns: {id: int, x: {type: int, mask: {how: truncate, to: 3}}}", "is for string, json and uuid, not for"),
        ("columns: {id: int, x: {type: time, mask: {how: truncate, to: year}}}", "is for dates and timestamps"),
        ("columns: {id: int, x: {type: string, mask: {how: truncate, to: -1}}}", "say in `to`"),
        ("columns: {id: int, x: {type: string, mask: {how: hash, to: 3}}}", "hash has none"),
        ("columns: {id: int, x: {type: string, mask: {how: drop, key: k}}}", "drop needs no key"),
        ("columns: {id: int, x: {type: string, mask: {how: hash, kee: k}}}", "did you mean 'key'"),
        ("columns: {id: int}\nmasks: {unknown_columns: hash}", "write unknown_columns: add"),
        ("columns: {id: int}\nunknown_columns: add\nmasks: {unknown_columns: {how: truncate, to: 3}}", "every type"),
        (
            "columns: {id: int, x: {type: int, mask: drop}}\nfeatures: [{view: v, entity: e, columns: [x]}]",
            "view v: x is dropped by its mask",
        ),
        (f"columns: {{id: int, t: {{type: date, mask: hash}}}}\n{TIMED}", "the mask of t leaves no time of it"),
    ],
)
def test_a_mistake_is_said_with_what_is_right(columns: str, said: str) -> None:
    """Before anything is applied, with file and line."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        spec(columns)

    assert "patients.yaml:" in str(caught.value)


def test_a_table_without_a_key_may_drop_but_not_everything() -> None:
    """A change of no column says nothing to anybody."""
    with pytest.raises(ConfigurationError, match="no column is left"):
        read_document("table: t\ntopics: [x]\ncolumns: {a: {type: int, mask: drop}}", TableSpec, name="t.yaml")


def test_the_keys_that_a_table_needs() -> None:
    """Those of encryption may be exchanged, those of hashes and tokens are pinned."""
    assert {"default", "notes"} == keys_of(spec())
    assert {"default"} == keys_of(spec(), pinned=True)
    assert {"k"} == keys_of(spec("columns: {id: int}\nunknown_columns: add\nmasks: {key: k, unknown_columns: token}"))
    assert set() == keys_of(spec("columns: {id: int, x: {type: int, mask: drop}}"))


def test_what_workers_find_of_a_masked_column_keeps_its_mask() -> None:
    """A column that became wider or a text, what its type does not hold, and a column that nobody had named."""
    text = "columns: {id: int, a: {type: int, mask: hash}, b: {type: int, mask: drop}, c: {type: int, mask: token}}"
    entry = TableEntry(spec=spec(f"{text}\nunknown_columns: add\nmasks: {{unknown_columns: null}}"))
    columns = {
        "a": [Found(type=parse_type("int"), under=parse_type("int"), text=True)],
        "b": [Found(type=parse_type("int"), under=parse_type("int"), rest=True)],
        "c": [Found(type=parse_type("long"), under=parse_type("int"))],
        "new": [Found(type=parse_type("int"), rest=True)],
    }
    evolved = in_force(entry, [Evolved(table="patients", slot="s", revision=1, columns=columns)])

    masks = {name: mask.how for name, mask in masks_of(evolved.spec).items()}
    assert masks == {"a": "hash", "b": "drop", "b__text": "drop", "c": "token", "new": "null", "new__text": "null"}
    left = {name: str(column.type) for name, column in masked_entry(evolved).spec.columns.items()}
    assert left == {"id": "int", "a": "string", "c": "long", "new": "int", "new__text": "string"}


def test_what_takes_the_rest_of_a_masked_column_has_its_mask_also_where_people_wrote_it() -> None:
    """A spec that was exported before its column got a mask."""
    text = 'columns: {id: int, a: {type: int, mask: hash}, a__text: {type: string, encoding: "rest_of(a)"}}'

    assert {"a", "a__text"} == masks_of(spec(text)).keys()


def test_tables_are_read_as_they_are_behind_their_masks() -> None:
    """Only what decodes asks for the other: `unmasked`, and the tables of a topic."""
    entry, plain = TableEntry(spec=spec()), TableEntry(spec=spec("columns: {id: long}"))
    tables = TableDirectory({"patients": entry})
    readers = tables.of_topic("clinic.public.patients")
    assert readers is not None

    assert "ssn" not in tables["patients"].spec.columns
    assert entry is tables.unmasked("patients") is readers.first
    assert entry is tables.registered["patients"]
    assert plain is TableDirectory({"patients": plain})["patients"]
    assert {"patients"} == tables.update({b"patients": plain.model_dump_json().encode()})
    assert plain == tables["patients"]
    assert {"patients"} == tables.update({b"patients": None})
    assert [] == list(tables)


def test_masks_are_left_out_of_a_document_without_them() -> None:
    """Older releases refuse a key that they do not know."""
    assert {"key": "default"} == Masks().model_dump(mode="json")
    assert {"key": "default", "unknown_columns": "null"} == Masks(unknown_columns=Mask(how="null")).model_dump(
        mode="json"
    )
