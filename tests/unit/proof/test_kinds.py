"""The proof of kinds and captures in small: a capture that is right, and one that is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.kind_cases import WAYS
from tests.proof.kinds import excuse, tell_captures, unexplained
from tests.proof.replays import captures_of, differences_of, replayed, unlike
from tests.unit.formats.captures import FOLDER


@pytest.mark.parametrize("name", ["pg-avro-confluent", "pg-cloudevents-json", "pg-unwrap-tombstone"])
def test_a_capture_comes_to_the_rows_of_its_source(name: str, tmp_path: Path) -> None:
    """Replayed in each way."""
    (capture,) = captures_of(FOLDER / name)
    found = differences_of(capture, tmp_path, seed=1, excused=excuse(capture))

    assert WAYS.keys() == found.keys()
    assert [] == [said for some in found.values() for said in unexplained(capture, some)]


def test_what_is_missing_or_different_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that is gone, one that came back, and a value."""
    (capture,) = captures_of(FOLDER / "pg-json-with-schema")
    rows = replayed(capture, capture.lines, tmp_path)
    table = "public.customers"
    known = capture.tables[table]
    first, second, third = (dict(row) for row in known["rows"])
    changed = capture.tables | {table: known | {"rows": [first | {"name": "another"}, second, third | {"id": "77"}]}}

    assert [] == unlike(capture, rows, excuse(capture))
    said = unlike(replace(capture, tables=changed), rows, excuse(capture))
    assert 3 == len(said)
    assert [f'{table}: ["77"] is missing', f'{table}: ["{third["id"]}"] is gone at its source'] == said[:2]
    assert f'{table}: ["{first["id"]}"] name: ' in said[2]
    assert tell_captures(FOLDER / "pg-cloudevents-json", seed=1)
    assert ["yes"] * len(WAYS) == capsys.readouterr().out.splitlines()[1].split()[1:]


def test_the_ways_keep_the_order_of_each_key() -> None:
    """But for what is said again."""
    lines = [{"topic": "t", "partition": 0, "key": str(at % 3), "offset": at} for at in range(30)]
    for arranged in WAYS.values():
        found = arranged(lines, random.Random(7))
        for key in "012":
            first = list(dict.fromkeys(line["offset"] for line in found if line["key"] == key))
            assert sorted(first) == first
