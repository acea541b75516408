"""What documents of MongoDB and records of tools without a schema propose: types that read raw JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory, format_of
from connectors.formats.placeholder import Placeholder
from connectors.inference import Proposal, Sure, new_samples
from connectors.inference.raw_values import RawValues
from connectors.inference.table import PLACEHOLDER
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.made import compact
from tests.unit.formats.test_mongodb import record as mongodb_record


def proposed(records: list[OneRecord]) -> Proposal:
    """Return what the records of one topic propose; none of them is refused by it."""
    samples = new_samples()
    for record in records:
        samples.add(record)
    (found,) = samples.tables()
    for record in records:
        decoder = format_of(found.spec.format).decoder(TableEntry(spec=found.spec), LimitsConfig())
        assert [] == [str(rejected.error) for rejected in decoder.decode(record, PartitionMemory()).rejected]
    return found


def types(found: Proposal) -> dict[str, str]:
    """Return the proposed types by column."""
    assert {None} == {column.encoding for column in found.spec.columns.values()}, "the format has one encoding"
    return {name: str(column.type) for name, column in found.spec.columns.items()}


def test_documents_of_mongodb_are_told_by_their_wrappers() -> None:
    """The identifier is the key; an update that says some fields adds to what is known of them."""
    document = {
        "_id": {"$oid": "596e275826f08b2730779e1f"}, "name": "Anne", "n": {"$numberLong": "9007199254740993"},
        "amount": {"$numberDecimal": "12.5"}, "at": {"$date": 1709214306789}, "ok": True, "tags": ["a", None],
        "address": {"city": "Bonn"}, "raw": {"$binary": "AAEC", "$type": "00"}, "score": {"$numberDouble": "1.5"},
        "ref": {"$binary": {"base64": "toQNRwetNbOvKq5G7bRUWg==", "subType": "04"}}, "nothing": None, "i": 7,
        "mixed": 1,
    }  # fmt: skip
    update = mongodb_record("u", 2, updateDescription={"updatedFields": json.dumps({"late": 1.5, "mixed": "one"})})
    found = proposed([mongodb_record("c", 1, after=document), update, mongodb_record("d", 3)])

    assert ("debezium-mongodb", ["_id"], "inventory.customers") == (
        found.spec.format,
        found.spec.key,
        found.spec.table,
    )
    assert types(found) == {
        "_id": "string", "name": "string", "n": "long", "amount": "string", "at": "timestamptz", "ok": "boolean",
        "tags": "list<string>", "address": "json", "raw": "binary", "score": "double", "ref": "uuid",
        "nothing": "string", "i": "long", "mixed": "string", "late": "double",
    }  # fmt: skip


def test_updates_of_mongodb_that_say_parts_of_fields_are_warned_of() -> None:
    """Nobody can tell the field from them, unless the document before stands beside them."""
    said = {"updatedFields": '{"address.city": "Ulm", "n": 1}', "removedFields": ["home.zip"],
            "truncatedArrays": [{"field": "tags", "size": 1}]}  # fmt: skip
    samples = [new_samples(), new_samples()]
    for seen, before in zip(samples, (None, {"_id": 1}), strict=True):
        seen.add(mongodb_record("u", 2, "1", updateDescription=said, before=before))
    without, beside = ([each for each in seen.tables()[0].warnings if "parts" in each] for seen in samples)

    assert ["address, home, tags"] == [each.partition(":")[0] for each in without]
    assert [] == beside


def dms(operation: str, data: Any, *, at: int = 0, record_type: str = "data") -> OneRecord:
    """Return a record of AWS DMS."""
    told = {"timestamp": "2019-10-31T22:53:59.721201Z", "record-type": record_type, "operation": operation,
            "partition-key-type": "schema-table", "schema-name": "sbtest", "table-name": "x"}  # fmt: skip
    kind = {"control" if record_type == "control" else "data": data}
    return OneRecord("dms", 0, at, None, compact(kind | {"metadata": told}), ())


def test_aws_dms_names_the_key_in_what_it_says_of_a_table() -> None:
    """Without that by a delete, which carries nothing else, or by a name that keys have."""
    rows = [dms("load", {"no": 1, "at": "2019-10-31T22:53:55Z", "n": "1.50"}), dms("load", {"no": 2}, at=1)]
    defined = {"table-def": {"columns": {"no": {"type": "INT32"}}, "primary-key": ["no"]}}
    control = dms("create-table", defined, record_type="control")

    gone = dms("delete", {"no": 1, "at": None, "n": None}, at=2)

    assert {"no": "long", "at": "timestamptz", "n": "string"} == types(proposed(rows))
    assert ([], ["no"]) == (proposed(rows).spec.key, proposed([control, *rows]).spec.key)
    assert ["no"] == proposed([*rows, gone]).spec.key
    assert ["id"] == proposed([dms("load", {"name": "a", "id": 1})]).spec.key
    assert "sbtest.x" == proposed(rows).spec.table


def test_tables_of_one_topic_are_told_apart() -> None:
    """By the source's name of each."""
    several = [
        OneRecord("m", 0, at, None, compact({
            "database": "shop", "table": table, "type": "insert", "ts": 1, "xid": at, "commit": True,
            "position": f"m.1:{at}", "primary_key": [1], "primary_key_columns": ["id"], "data": {"id": 1}}), ())
        for at, table in enumerate(("a", "b"))
    ]  # fmt: skip
    samples = new_samples()
    for record in several:
        samples.add(record)
    found = samples.tables()

    assert [("shop.a", "shop.a", ["id"]), ("shop.b", "shop.b", ["id"])] == [
        (proposal.source, proposal.spec.table, proposal.spec.key) for proposal in found
    ]


@pytest.mark.parametrize(
    ("stated", "values", "type_", "sure"),
    [
        (["decimal(10,2)"], ["1.50", None], "decimal(10,2)", Sure.HIGH),
        (["decimal(10,2)"], ["1.505"], "string", Sure.MEDIUM),
        (["int", "long"], ["7"], "long", Sure.HIGH),
        (["blob?"], ["7"], "string", Sure.MEDIUM),
        ([None], ["7"], "string", Sure.MEDIUM),
        ([None], [7], "long", Sure.MEDIUM),
        ([None], ["2024-02-29", None], "date", Sure.MEDIUM),
        ([None], ["2024-02-29", "0000-00-00"], "string", Sure.MEDIUM),
        ([None], ["2024-02-30"], "string", Sure.MEDIUM),
        ([None], ["2024-02-29 13:45:06.5", "2024-02-29T13:45:06"], "timestamp", Sure.MEDIUM),
        ([None], ["2024-02-29 13:45:06", "2024-02-29"], "string", Sure.MEDIUM),
        ([None], ["2024-02-29T13:45:06Z"], "timestamptz", Sure.MEDIUM),
        ([None], [None, None], "string", Sure.LOW),
        ([None], [2**64], "string", Sure.MEDIUM),
        ([None], [[1], [None]], "list<long>", Sure.MEDIUM),
        ([None], [[1], ["a"]], "list<string>", Sure.LOW),
    ],
)
def test_a_stated_type_counts_while_every_value_fits(
    stated: list[str | None], values: list[Any], type_: str, sure: Sure
) -> None:
    """The last that was stated; else what the values look like."""
    column = RawValues("plain", Placeholder(PLACEHOLDER), zoneless=True)
    for text in stated:
        column.absorb(values, text)
    found = column.choice()

    assert (type_, sure) == (str(found.way.type), found.sure)


def test_canal_and_aws_dms_state_types() -> None:
    """The one in each record, the other in what it says of a table; what they leave open the values say."""
    mysql = {"id": "bigint(20)", "price": "decimal(10,2)", "day": "date", "at": "timestamp", "n": "bigint unsigned",
             "u": "int(10) unsigned", "odd": "point", "p": "decimal(65,30)"}  # fmt: skip
    row = {"id": "1", "price": "1.50", "day": "2024-02-29", "at": "2024-02-29 13:45:06", "n": "7", "u": "8",
           "odd": "x", "p": "1"}  # fmt: skip
    message = {"type": "INSERT", "database": "shop", "table": "t", "es": 1, "id": 1, "isDdl": False, "data": [row],
               "old": None, "mysqlType": mysql, "pkNames": ["id"]}  # fmt: skip
    dms_columns = {"no": {"type": "INT32"}, "n": {"type": "NUMERIC", "precision": 6, "scale": 2}, "odd": {"type": []}}
    control = dms("create-table", {"table-def": {"columns": dms_columns}}, record_type="control")

    assert types(proposed([OneRecord("canal", 0, 0, None, compact(message), ())])) == {
        "id": "long", "price": "decimal(10,2)", "day": "date", "at": "timestamp", "n": "string", "u": "long",
        "odd": "string", "p": "string",
    }  # fmt: skip
    assert {"no": "int", "n": "decimal(6,2)", "odd": "string"} == types(
        proposed([control, dms("load", {"no": 1, "n": "1.50", "odd": "x"}, at=1)])
    )


def test_few_values_are_no_dates() -> None:
    """What a worker finds of a new column is a text of anything until somebody says more."""
    column = RawValues("plain", Placeholder(PLACEHOLDER))
    column.absorb(["2024-02-29"])

    assert "string" == str(column.choice().way.type)
