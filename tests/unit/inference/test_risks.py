"""What the source may lose or leave open is said with the proposed spec, where its records give it away."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from connectors.captured import OneRecord
from connectors.inference import Proposal, new_samples
from connectors.inference.writing import as_yaml
from tests.unit.formats.captures import runs, topic_of
from tests.unit.formats.event_cases import cases
from tests.unit.formats.made import compact
from tests.unit.formats.test_maxwell import change
from tests.unit.inference.test_events import dms

TRAP = "pg-null-with-default-envelope-replace"


def proposed(records: list[OneRecord], format_name: str | None = None) -> Proposal:
    """Return what the records of one table propose."""
    samples = new_samples(format_name)
    for record in records:
        samples.add(record)
    (found,) = samples.tables()
    return found


def captured(case: str, table: str) -> list[OneRecord]:
    """Return the captured records of a table."""
    topic = topic_of(case, table)
    return [
        OneRecord(topic, 0, offset, key, value, ())
        for run in runs(case, topic)
        for offset, key, value in zip(run.offsets(), run.keys(), run.values(), strict=True)
    ]


def made(name: str) -> list[OneRecord]:
    """Return the records of a case of event_cases.py."""
    return [OneRecord("captured", 0, one.offset, one.key, one.value, one.headers) for one in cases()[name].records]


def without_transaction(**metadata: Any) -> OneRecord:
    """Return a change of AWS DMS that says its commit time, and what else is told."""
    record = dms("insert", {"id": 1})
    told = compact({"commit-timestamp": "2019-10-31T22:53:55Z"} | metadata).rstrip(b"}").lstrip(b"{")
    value = (record.value or b"").replace(b'"record-type"', told + b',"record-type"')
    return OneRecord(record.topic, 0, 0, None, value, ())


MYSQL_PLACE = {"stream-position": "mysql-bin.002171:36912271:0:36912333:1:mysql-bin.002171:36912209"}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (captured(f"{TRAP}-true", "public.t"), ["n, s, b, d, ts: a null of this column may arrive as its DEFAULT"]),
        (captured(f"{TRAP}-false", "public.t"), []),
        (captured("pg-replica-identity", "public.ri_index"), ["deletes carry zeros for their key"]),
        (captured("pg-replica-identity", "public.ri_default"), []),
        (made("canal"), ["changes are ordered by the second of their event"]),
        (made("sequin"), []),
        ([OneRecord("m", 0, 0, None, change(), ())], []),
        ([OneRecord("m", 0, 0, None, change(position=None), ())], ["changes say no position"]),
        ([OneRecord("m", 0, 0, None, change("bootstrap-insert", position=None), ())], []),
        ([without_transaction()], ["changes say no place"]),
        ([without_transaction(**MYSQL_PLACE)], []),
        ([dms("load", {"id": 1})], []),
    ],
)
def test_a_risk_is_said_where_the_records_give_it_away(records: list[OneRecord], expected: list[str]) -> None:
    """And nowhere else, for who is warned of everything reads nothing."""
    found = proposed(records)

    assert expected == [str(risk)[: len(start)] for risk, start in zip(found.risks, expected, strict=True)]
    assert len(expected) == as_yaml(found).count("# risk: ")
    assert yaml.safe_load(as_yaml(found))["table"] == found.spec.table


@pytest.mark.parametrize(
    ("case", "table", "columns"),
    [
        ("pg-types-decimal-schema-precise", "public.dec", "n, na, n2a"),
        ("pg-types-decimal-precise", "public.dec", "n, na"),
        ("pg-types-general-schema", "public.gen", "ba, fa"),
        ("pg-toast", "public.toast_default", "num"),
        ("mariadb-types-schema", "capmtys.ty", None),
    ],
)
def test_values_that_postgresql_stores_out_of_line_are_named(case: str, table: str, columns: str | None) -> None:
    """With a schema block, and as far as values tell their type without one."""
    risks = [str(risk) for risk in proposed(captured(case, table)).risks if "as plain null" in str(risk)]

    assert ([] if columns is None else [columns]) == [risk.partition(":")[0] for risk in risks]
