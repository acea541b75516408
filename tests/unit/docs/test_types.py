"""docs/types.md says what the code does: each line's example is decoded, each type is the lake's."""

from __future__ import annotations

import json

import pytest

from connectors.formats.encodings import ENCODINGS
from schemas.types import Kind, parse_type
from sinks.lake.types import iceberg_type
from tests.unit.docs.pages import ROOT, rows
from tests.unit.formats.test_values import values_of

PAGE = ROOT / "docs" / "types.md"
TYPES = rows(PAGE, "type")
LINES = rows(PAGE, "source")


def bare(cell: str) -> str:
    """Return a cell without the marks of code."""
    return cell.strip("`")


def test_every_type_has_a_line_and_is_called_in_the_lake_as_it_says() -> None:
    """And no other type has one."""
    expected = {bare(type_): iceberg for type_, iceberg, _ in TYPES}

    assert set(Kind) == {parse_type(text).kind for text in expected}
    assert expected == {text: str(iceberg_type(parse_type(text))) for text in expected}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{bare(line[1])} {bare(line[3])}")
def test_an_example_is_what_the_decoder_makes_of_it(line: list[str]) -> None:
    """Whoever copies encoding and type from the line gets the value that it shows."""
    _, encoding, wire, type_, contract, also, lost = line
    column = {"type": bare(type_), "encoding": bare(encoding)}
    kind = parse_type(bare(type_))
    element = kind.element or kind
    others = ENCODINGS[bare(encoding).partition("(")[0]].keys() - {element.kind}

    assert ([json.loads(bare(contract))], []) == values_of(column, json.loads(bare(wire)))
    assert sorted(others) == [] if also == "-" else also.split(", ") == sorted(others)
    assert lost != ""


def test_every_encoding_has_a_line() -> None:
    """So that nothing that is read is left out."""
    assert ENCODINGS.keys() == {bare(line[1]).partition("(")[0] for line in LINES}
