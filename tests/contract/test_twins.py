"""Records that name a key twice, in every format: what is read of them is never a guess at which of the two holds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.formats import PartitionMemory
from schemas.types import Kind
from tests.proof.fuzz import Run, Target, outcomes
from tests.proof.seeds import SEEDS, Record, Table

FORMATS = sorted(SEEDS.keys() - {"debezium-avro"})
RECORDS_MAX, TABLES_MAX = 6, 6
MARK = "@@twin@@"


def _objects(document: Any, verbatim: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a document but schema blocks, which are compared as a whole, and columns of documents."""
    if isinstance(document, dict):
        yield document
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for name, inner in inside:
        if name not in verbatim:
            yield from _objects(inner, verbatim)


def doubled(value: bytes, verbatim: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the record with each name of each of its objects twice, the other value before it, and behind it."""
    for place, names in enumerate(list(_objects(json.loads(value), verbatim))):
        for name in names:
            for other in ("twin", None, 7):
                for behind in (True, False):
                    document = json.loads(value)
                    inside = list(_objects(document, verbatim))[place]
                    members = dict(inside)
                    inside.clear()
                    for each, one in members.items():
                        if each == name and not behind:
                            inside[MARK] = other
                        inside[each] = one
                        if each == name and behind:
                            inside[MARK] = other
                    yield name, json.dumps(document).replace(f'"{MARK}"', json.dumps(name)).encode()


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_name_that_stands_twice_is_refused_or_not_read(format_name: str) -> None:
    """Whichever of two holds: the record is refused, unless it comes out the same whatever the second one says."""
    refused = 0
    for table in list(SEEDS[format_name](random.Random(3)))[:TABLES_MAX]:
        target = Target(Table(table.name, table.spec, table.records[:40], table.schemas))
        good = [(record, outcome) for record, outcome in target.good if record.value and outcome.startswith("[")]
        decoder = target.new_decoder()
        verbatim = {"schema"} | {name for name, type_ in target.types.items() if type_.kind is Kind.JSON}
        for record, expected in good[:RECORDS_MAX]:
            spoiled = list(doubled(record.value or b"", verbatim))
            run = [record, *(Record(record.key, value, record.headers) for _, value in spoiled), record]
            found = outcomes(decoder.decode(Run(run), PartitionMemory()), len(run))

            assert [expected, expected] == [found[0], found[-1]]
            read = {name for (name, _), outcome in zip(spoiled, found[1:-1], strict=True)
                    if outcome not in (expected, "duplicate_keys")}  # fmt: skip
            assert read == set(), f"{table.name}: a second {read} was read"
            refused += found.count("duplicate_keys")

    assert refused > 0
