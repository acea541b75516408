"""Every kind of record that a source may write, by way of `headgate decode`: what it comes to is written beside it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.contract.kind_cases import KINDS, KindCase, cases, unlike

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_records_come_to_what_their_source_means(case: KindCase) -> None:
    """Line by line; and the rows, where some are meant, in order, shuffled across keys, doubled and replayed."""
    assert [] == case.wrong()


def test_every_kind_has_a_case() -> None:
    """And no case is of none."""
    assert KINDS.keys() == {case.kind for case in CASES}


@pytest.mark.parametrize("name", ["07-unavailable-schemas-on", "24-avro-guid", "29-dms-changes"])
def test_the_command_itself_says_the_same(name: str) -> None:
    """As a process, on standard output."""
    case = next(case for case in CASES if case.name == name)
    command = [sys.executable, "-m", "headgate", "decode", str(case.folder / "events.jsonl"), *case.arguments()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]

    assert [] == [
        said for one, other in zip(case.lines("expected.jsonl"), lines, strict=True) for said in unlike(one, other)
    ]


def test_what_differs_is_seen() -> None:
    """In a line's kind, its error, and each part of its change."""
    source = {"snapshot": False}
    line = {
        "origin": ["t", 0, 0, 1], "kind": "change", "table": "t", "error": None, "change": {"key": 1, "source": source}
    }  # fmt: skip

    assert [] == unlike({"at": [1], "kind": "change", "change": {"key": 1, "source": source}}, line)
    assert ["[1]: key is 1, not 2"] == unlike({"change": {"key": 2}}, line)
    assert ["[1]: source.snapshot is False, not True"] == unlike({"change": {"source": {"snapshot": True}}}, line)
    assert ["[1]: kind is change, not tombstone", "[1]: a change"] == unlike({"kind": "tombstone"}, line)
    assert ["[1]: error is None, not truncate"] == unlike({"kind": "change", "error": "truncate"}, line)
