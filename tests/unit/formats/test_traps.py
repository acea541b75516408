"""What the source has already changed or lost is counted or refused where the record shows it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from connectors.formats import PartitionMemory, format_of
from connectors.formats.schemablock import row_fields
from connectors.formats.traps import schema_traps
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.captures import records, runs, spec_of, topic_of
from tests.unit.formats.made import MadeRun, compact, decode_run, envelope, reasons

DEFAULTS = "pg-null-with-default-envelope-replace"


def decoded_of(case: str, table: str, **changes: Any) -> list[Decoded]:
    """Return what becomes of the runs of a captured table."""
    spec = spec_of(case, table, **changes)
    decoder = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig())
    return [decoder.decode(run, PartitionMemory()) for run in runs(case, topic_of(case, table))]


def traps_of(case: str) -> set[tuple[str, str]]:
    """Return the traps of the first record of a case that has a schema block."""
    for record in records(case):
        fields = row_fields(json.loads(base64.b64decode(record["value"] or "e30=")).get("schema"))
        if fields:
            return {(trap.column, trap.name) for trap in schema_traps(fields)}
    raise AssertionError(f"{case} has no schema block")


def test_values_that_may_be_a_replaced_null_are_counted() -> None:
    """Four records of five columns with their defaults; the row of zeros is none of them."""
    (decoded,) = decoded_of(f"{DEFAULTS}-true", "public.t")

    assert {"null_or_default": 20} == decoded.noted
    assert [] == reasons(decoded)


def test_a_null_shows_that_nulls_are_not_replaced() -> None:
    """The same statements with replace.null.with.default=false."""
    (decoded,) = decoded_of(f"{DEFAULTS}-false", "public.t")

    assert {} == decoded.noted


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (f"{DEFAULTS}-true", {(name, "null_or_default") for name in ("n", "s", "b", "d", "ts")}),
        ("pg-types-time-schema-adaptive", set()),
        ("pg-types-time-schema-connect", {(n, "cut_to_millis") for n in ("t", "t0", "t3", "t6", "ta")}
         | {(n, "cut_to_millis") for n in ("ts", "ts0", "ts3", "ts6", "tsa")}),
        ("pg-types-time-schema-nanoseconds", {(n, "null_beyond_nanos") for n in ("ts", "ts0", "ts3", "ts6", "tsa")}),
        ("pg-types-general-schema", {("vb", "length_unknown")}),
    ],
)  # fmt: skip
def test_a_schema_block_shows_which_columns_to_beware_of(case: str, expected: set[tuple[str, str]]) -> None:
    """Whoever checks a spec against a topic can ask."""
    assert expected == traps_of(case)


def test_a_delete_with_the_zero_value_for_its_key_is_refused() -> None:
    """REPLICA IDENTITY USING INDEX: applied, it would delete another row, or none, without a word."""
    (decoded,) = decoded_of("pg-replica-identity", "public.ri_index")
    deletes = [rejected.index for rejected in decoded.rejected]

    assert ["zero_key"] * 3 == reasons(decoded)
    assert [3, 7, 9] == deletes


@pytest.mark.parametrize("table", ["public.ri_default", "public.ri_full"])
def test_other_replica_identities_lose_no_delete(table: str) -> None:
    """Their keys are those of the rows."""
    for decoded in decoded_of("pg-replica-identity", table):
        assert [] == reasons(decoded)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({"id": 0, "name": None, "big": None}, []),
        ({"id": 0, "name": "", "amount": "AA==", "big": 0, "at": "1970-01-01T00:00:00Z"}, []),
        (None, []),
        ({"id": 0, "name": "Ada"}, ["zero_key"]),
    ],
)
def test_a_row_whose_key_is_zero_may_be_deleted(before: Any, expected: list[str]) -> None:
    """Under the default identity its row before has nothing else in it."""
    run = MadeRun([(b'{"id":0}', compact(envelope("d", None, before=before)))])

    assert expected == reasons(decode_run(run))


def test_a_full_row_whose_key_is_zero_may_be_deleted_where_the_spec_says_that_rows_are_full() -> None:
    """The identity is FULL then."""
    row = {"id": 0, "name": "Ada", "amount": "MDk=", "big": 5, "at": "2024-02-29T13:45:06.789123Z"}
    run = MadeRun([(b'{"id":0}', compact(envelope("d", None, before=row)))])

    assert [] == reasons(decode_run(run, before="full"))


@pytest.mark.parametrize("before", [b"[1]", b'"x"', b"[" * 900 + b"]" * 900, b'{"name":' + b"9" * 5_000 + b"}", b"7"])
def test_a_before_that_is_no_row_is_not_looked_at(before: bytes) -> None:
    """Found by spoiled records: nobody asked for it, so it harms nobody."""
    value = compact(envelope("d", None)).replace(b'"before":null', b'"before":' + before)

    assert set(reasons(decode_run(MadeRun([(b'{"id":0}', value)])))) <= {"too_deep"}
