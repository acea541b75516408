"""What is proposed of which records: types and why, keys, names, topics, limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.inference import Proposal, SampleLimits, Sure, new_samples
from tests.unit.formats.made import PLACEHOLDER, compact, envelope

TOPIC = "shop.public.orders"


def record(
    row: Any, *, key: Any = None, topic: str = TOPIC, op: str = "c", lsn: int = 200, source: Any = (), **changes: Any
) -> OneRecord:
    """Return a record with a row; `key` is that of the row unless it is given."""
    made = envelope(op, row, lsn=lsn, **changes)
    made["source"].update({"table": "orders", **dict(source)})
    raw = compact({"id": (row or {}).get("id", 1)} if key is None else key)
    return OneRecord(topic, 0, lsn, None if key == () else raw, compact(made), ())


def proposed(records: list[OneRecord], limits: SampleLimits | None = None) -> list[Proposal]:
    """Return what records propose."""
    samples = new_samples(limits=limits)
    for each in records:
        samples.add(each)
    return samples.tables()


def column(*values: Any) -> tuple[str, str | None, Sure, str]:
    """Return type, encoding, how sure it is and the warning of a column with these values."""
    (proposal,) = proposed([record({"id": 1, "c": value}) for value in values])
    found = proposal.columns["c"]
    assert (found.type, found.encoding) == (str(proposal.spec.columns["c"].type), proposal.spec.columns["c"].encoding)
    return found.type, found.encoding, found.sure, found.warning


UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    ("values", "type_", "encoding"),
    [
        ([True, None], "boolean", None),
        ([1, None], "long", None),
        ([1, 2**63], "string", "int"),
        ([1.5, 2], "double", None),
        ([1.5, 2**53 + 1], "string", "number"),
        ([1.5, "NaN"], "double", None),
        ([2**53 + 1, "NaN"], "string", "any"),
        (["NaN"], "string", "any"),
        (["a", ""], "string", None),
        (["2024-02-29T13:45:06Z", "+12345-01-01T00:00:00.5Z"], "timestamptz", None),
        (["2024-02-29T13:45:06Z", "infinity"], "string", None),
        (["2024-02-29T13:45:06Z", "2024-02-30T13:45:06Z"], "string", None),
        (["2024-02-29T13:45:06"], "string", None),
        (["2024-02-29Z"], "date", "time.IsoDate"),
        (["13:45:06Z", "08:15:06.789123Z"], "time", "time.ZonedTime"),
        (["24:00:00Z"], "string", None),
        ([UUID], "uuid", None),
        ([UUID.upper()], "string", None),
        (['{"a":1}', "[]"], "json", None),
        (['{"a":1}', "[1,5)"], "string", None),
        ([[1, None], []], "list<long>", None),
        ([["a"], None], "list<string>", None),
        ([[[1]], [None]], "list<list<long>>", None),
        ([[1], ["a"]], "list<string>", "any"),
        ([[1], [{}]], "list<json>", "struct"),
        ([[], []], "list<string>", "any"),
        ([{"scale": 3, "value": "AeJA"}], "string", "data.VariableScaleDecimal"),
        ([[{"scale": 3, "value": "AeJA"}]], "list<string>", "data.VariableScaleDecimal"),
        ([{"scale": 3, "value": "AeJA"}, {"scale": 3}], "json", "struct"),
        ([{"x": 1.5, "wkb": "AQE=", "srid": None}], "json", "struct"),
        ([1, "a"], "string", "any"),
        ([True, 1], "string", "any"),
        ([1, [1]], "json", "struct"),
        ([None, None], "string", "any"),
    ],
)
def test_values_alone_propose_the_type_that_takes_them_all(values: list[Any], type_: str, encoding: str | None) -> None:
    """And of two that do, the one that takes more of those that come later."""
    assert (type_, encoding) == column(*values)[:2]
    assert (type_, encoding) == column(*reversed(values))[:2]


@pytest.mark.parametrize(
    ("written", "type_", "encoding"),
    [
        (["12.50", "1"], "string", "number"),
        (["0E-10"], "string", "number"),
        (["12345678901234567890.5"], "string", "number"),
        (["12.5", "100.0", "1.0E10", "-0.0", "3.141592653589793"], "double", None),
    ],
)
def test_a_decimal_is_told_from_a_float_by_how_it_is_written(
    written: list[str], type_: str, encoding: str | None
) -> None:
    """Java writes no float with a zero too many or with 18 digits."""
    records = []
    for number in written:
        made = record({"id": 1, "c": "number"})
        records.append(OneRecord(TOPIC, 0, 1, made.key, (made.value or b"").replace(b'"number"', number.encode()), ()))
    (proposal,) = proposed(records)

    assert (type_, encoding) == (proposal.columns["c"].type, proposal.columns["c"].encoding)


@pytest.mark.parametrize(
    ("values", "type_", "encoding"),
    [
        ([PLACEHOLDER, "a"], "string", None),
        ([PLACEHOLDER, UUID], "uuid", None),
        ([PLACEHOLDER], "string", None),
        (["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", "AeI="], "binary", None),
        (["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", "_-4="], "binary", "base64url"),
        (["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==", "a b"], "string", "base64"),
        ([["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="], ["AeI="]], "list<binary>", None),
        ([[PLACEHOLDER], ["a"]], "list<string>", None),
        ([[*PLACEHOLDER.encode()]], "list<long>", None),
        ([[*PLACEHOLDER.encode()], [True]], "json", "struct"),
        ([["b68a35a7-17ad-35b3-af2a-ae46edb4545a"], None], "list<uuid>", None),
        ([json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":")), '{"a":"b"}'], "json", None),
        ([{PLACEHOLDER: PLACEHOLDER}], "json", "map"),
        ([PLACEHOLDER, 1], "string", "any"),
        ([PLACEHOLDER, "2024-02-29T13:45:06Z"], "string", "any"),
    ],
)
def test_what_was_not_sent_says_no_more_than_its_form(values: list[Any], type_: str, encoding: str | None) -> None:
    """The placeholder is no value; but in base64 or in a list it tells what would stand there."""
    assert (type_, encoding) == column(*values)[:2]


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([1_700_000_000_000], "time.Timestamp"),
        ([1_700_000_000_000_000, 1_600_000_000_000_000], "time.MicroTimestamp"),
        ([1_700_000_000_000_000_000], "time.NanoTimestamp"),
        (["AeJA", "AeI="], "base64"),
        ([None], "no value was seen"),
        ([1, "a"], "several kinds"),
    ],
)
def test_what_only_the_source_could_tell_is_a_warning(values: list[Any], warned: str) -> None:
    """The type stays one that takes everything."""
    *_, sure, warning = column(*values)

    assert sure is Sure.LOW
    assert warned in warning


def test_a_day_is_guessed_by_its_name_only() -> None:
    """Small integers are anything."""
    (proposal,) = proposed([record({"id": 1, "born": 19_782, "count": 19_782})])

    assert "time.Date" in proposal.columns["born"].warning
    assert not proposal.columns["count"].warning
    assert proposal.warnings == [f"born: {proposal.columns['born'].warning}"]


def test_the_evidence_counts_rows() -> None:
    """Those with null and those not sent among them; keys are not counted twice."""
    (proposal,) = proposed([record({"id": 1, "c": value}) for value in ("a", None, PLACEHOLDER, PLACEHOLDER)])
    counted = {name: (found.seen, found.nulls, found.unavailable) for name, found in proposal.columns.items()}

    assert {"id": (4, 0, 0), "c": (4, 1, 2)} == counted


def test_keys_are_those_of_the_records() -> None:
    """None without; the newest of several; and a column that only the key has."""
    row = {"id": 1, "b": "x"}
    (without,) = proposed([record(row, key=())])
    (changed,) = proposed([record(row), record(row, key={"id": 1, "b": "x"}, lsn=201)])
    (routed,) = proposed([record(row, key={"__dbz__physicalTableIdentifier": "a", "id": 1})])
    (listed,) = proposed([record({"id": [1]}, key={"id": [1]})])

    assert ([], "no key") == (without.spec.key, without.summary.rpartition(", ")[2])
    assert ["id", "b"] == changed.spec.key
    assert ["keys of other columns were seen as well: id; the newest is proposed"] == changed.warnings
    assert ["__dbz__physicalTableIdentifier", "id"] == routed.spec.key
    assert ([], True) == (listed.spec.key, "cannot be one" in listed.warnings[0])


def test_deletes_alone_propose_names_without_believing_values() -> None:
    """The image of a deleted row may hold zeros where the source logs the key only."""
    (proposal,) = proposed([record(None, op="d", before={"id": 1, "c": 0}, key={"id": 1})])

    assert (["id"], {"id": "long", "c": "string"}) == (
        proposal.spec.key,
        {name: str(column.type) for name, column in proposal.spec.columns.items()},
    )
    assert "any" == proposal.spec.columns["c"].encoding


def test_columns_come_and_go() -> None:
    """All that were ever there are proposed, in the order in which they came."""
    (proposal,) = proposed([record({"id": 1, "a": 1}), record({"id": 1, "b": "x"}), record({"c": None, "id": 1})])

    assert ["id", "a", "b", "c"] == list(proposal.spec.columns)


def test_names_that_no_decoder_reads_are_left_out() -> None:
    """And our own; the others are decoded all the same."""
    (proposal,) = proposed([record({"id": 1, 'a"b': 1, "c\\d": 2, "_hg_x": 3, "e f": 4})])

    assert ["id", "e f"] == list(proposal.spec.columns)
    assert ["3 columns are left out, whose names cannot be read or are ours"] == proposal.warnings


def test_tables_have_names_of_their_own() -> None:
    """The source's, fitted; two sources with one name are two tables, two topics of one table are one."""
    row = {"id": 1}
    found = proposed(
        [
            record(row, topic="a.public.Straße", source={"table": "Straße 1"}),
            record(row, topic="b.public.x", source={"name": "b", "table": "STRASSE 1"}),
            record(row, topic="b.public.y", source={"name": "b", "table": "stra?e 1"}),
            record(row, topic="c.x", source={"schema": None, "db": "shop", "table": "orders"}),
            record(row, topic="d.1", source={"schema": "1", "table": "x"}),
            record(row, topic="d.2", source={"schema": "1", "table": "x"}),
        ]
    )

    assert [
        ("public.stra_e_1", ["a.public.Straße"]),
        ("public.strasse_1", ["b.public.x"]),
        ("public.stra_e_1_2", ["b.public.y"]),
        ("shop.orders", ["c.x"]),
        ("t_1.x", ["d.1", "d.2"]),
    ] == [(proposal.spec.table, proposal.spec.topics) for proposal in found]


def test_tables_that_share_a_topic_are_told_apart() -> None:
    """Rows of one key are not of one table; but a router that makes them one says so in their keys."""
    names = ("orders", "visits")
    found = proposed([record({"id": 1}, source={"table": name}) for name in names])
    keys = [{"id": 1, "__dbz__physicalTableIdentifier": name} for name in names]
    (routed,) = proposed(
        [record({"id": 1}, key=key, source={"table": name}) for name, key in zip(names, keys, strict=True)]
    )

    assert [f"public.{name}" for name in names] == [each.spec.table for each in found]
    assert [f"public.{name}" for name in names] == [each.spec.source_table for each in found]
    assert [[], [], []] == [each.warnings for each in (*found, routed)]
    assert (TOPIC, None) == (routed.spec.table, routed.spec.source_table)


def test_limits_are_kept() -> None:
    """What comes beyond them has no say, and is counted."""
    samples = new_samples(limits=SampleLimits(rows_per_table_max=2, tables_max=1))
    for value in (1, 2, "three"):
        samples.add(record({"id": 1, "c": value}))
    samples.add(record({"id": 1}, topic="other", source={"table": "other"}))
    (proposal,) = samples.tables()

    assert "long" == proposal.columns["c"].type
    assert {TOPIC: 1, "other": 1} == samples.overlooked


@pytest.mark.parametrize(
    "value",
    [b"{", b"[]", b"null", b"\xff", b'{"op":"c","source":{}, "after":"x"}', b'{"op":"m","source":{}}',
     b'{"op":"c","source":{},"after":{"a":1e99999999999999999999}}', b'{"schema":{},"payload":null}', None],
)  # fmt: skip
def test_what_is_no_row_proposes_nothing(value: bytes | None) -> None:
    """And never raises, whatever its format is said to be."""
    for given in (None, "debezium-json"):
        samples = new_samples(given)
        samples.add(OneRecord(TOPIC, 0, 0, b"{}", value, ()))

        assert [] == samples.tables()


@pytest.mark.parametrize("key", [b"Struct{id=1}", b"", b"7", b'"a"', b"null", b"\xff"])
def test_a_key_that_is_no_object_takes_no_row_away(key: bytes) -> None:
    """Another converter wrote it, so no key is proposed."""
    sent = record({"id": 1})
    (proposal,) = proposed([OneRecord(TOPIC, 0, 1, key, sent.value, ())])

    assert ([], ["id"]) == (proposal.spec.key, list(proposal.spec.columns))


def test_a_table_of_signals_is_told_from_one_with_its_columns() -> None:
    """Every row of it tells the connector something."""
    signal = record({"id": "a", "type": "log", "data": "{}"})
    deleted = record(None, key={"id": "a"}, op="d", lsn=201, before={"id": "a", "type": "", "data": None})
    other = record({"id": "b", "type": "mail", "data": "{}"}, lsn=202)

    assert [True] == [each.signals for each in proposed([signal, deleted])]
    assert [False] == [each.signals for each in proposed([signal, other])]


def test_a_record_that_names_another_sender_makes_no_second_table() -> None:
    """Both would claim the same records of the topic."""
    found = proposed(
        [record({"id": 1}, source={"connector": name}, lsn=at) for at, name in enumerate(("mine", "mysql"))]
    )

    assert ["public.orders"] == [each.spec.table for each in found]
