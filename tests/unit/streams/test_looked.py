"""What is made of single records of a topic that several tables share."""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.captured import OneRecord
from schemas.config import LimitsConfig
from streams.looked import Looked, Looker
from tests.workloads.dms_topic import control_record, dms_record, dms_spec


def _looked(*values: bytes | None) -> list[Looked]:
    looker = Looker({table: dms_spec(table, "task") for table in ("patients", "visits")}, LimitsConfig())
    records = [OneRecord("task", 0, offset, None, value, []) for offset, value in enumerate(values)]
    return [looked for record in records for looked in looker.look(record)]


def _record(table: str, at: int, op: str = "insert") -> bytes:
    return dms_record(table, at, {"id": 1, "name": "n"}, op)


def test_each_record_is_one_of_the_table_that_it_names() -> None:
    """With `previous` and what is remembered by table; what names none is not lost."""
    found = _looked(
        _record("patients", 1), _record("visits", 2, "load"), control_record("bills"), None, b"{", _record("bills", 3),
        _record("patients", 4), _record("patients", 5, "load"),
    )  # fmt: skip

    assert [
        ("change", "patients", None),
        ("change", "visits", None),
        ("schema", None, None),
        ("tombstone", None, None),
        ("quarantine", None, "broken_json"),
        ("quarantine", None, "unregistered"),
        ("change", "patients", None),
        ("change", "patients", "source_read_anew"),
    ] == [(each.kind, each.table, each.error["kind"] if each.error else None) for each in found]
    changes: list[Any] = [msgspec.json.decode(each.change) for each in found if each.change is not None]
    assert [None, None, 0] == [change["source"]["previous"] for change in changes]
