"""The records of a batch on the output topic: one line of JSON each, and a chain of origins without a gap."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas.batch import Batch, rows_of
from sinks.topics import encode_changes

STREAM = ("capa.public.t", 2, 1)


class Row(msgspec.Struct):
    """A row of one column."""

    note: str


def batch_of(notes: list[str], *, keyed: bool = True) -> Batch:
    """Return a batch of updates with these texts, whose offsets are 10, 20, 30, …."""
    n = len(notes)
    keys: list[Any] = [{"id": i} if keyed else None for i in range(n)]
    return Batch(
        "t", "postgresql", "capa", "public.t", [10 * (i + 1) for i in range(n)], ["update"] * n, keys, [None] * n,
        [None] * n, [None] * n, [Row(note) for note in notes], ["0" * 45] * n, ["2024-02-29T00:00:00.000000Z"] * n,
        [[] for _ in notes], ["7"] * n, [False] * n,
    )  # fmt: skip


def of_records(notes: list[str], offsets: list[int]) -> Batch:
    """Return a batch of changes whose records stand at `offsets`."""
    batch = batch_of(notes)
    batch.offsets, batch.rows = offsets, rows_of(offsets)
    return batch


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1_100])
def test_each_change_is_one_record_that_names_the_one_before(count: int) -> None:
    """However many are encoded in one call, and whatever lines their texts hold."""
    notes = [f"line\n{i}\r\n \u2028}}\n{{" for i in range(count)]
    records, last, too_large = encode_changes(batch_of(notes), STREAM, 3, bytes_max=10_000)
    values = [json.loads(value) for _, value in records]

    assert (10 * count, []) == (last, too_large)
    assert notes == [value["after"]["note"] for value in values]
    assert [b'{"id":%d}' % i for i in range(count)] == [key for key, _ in records]
    assert [{"id": i} for i in range(count)] == [value["key"] for value in values]
    assert [3, *range(10, 10 * count, 10)] == [value["source"]["previous"] for value in values]
    assert [[*STREAM, 10 * (i + 1)] for i in range(count)] == [value["source"]["origin"] for value in values]
    assert all(value.startswith(b"{") and value.endswith(b"}") for _, value in records)


def test_a_change_that_is_too_large_is_left_out_and_is_nobodys_previous() -> None:
    """To the byte: key and value together may take what is allowed, not one more."""
    batch = batch_of(["a", "x" * 500, "b", "y" * 600, "c"])
    whole, _, _ = encode_changes(batch, STREAM, None, bytes_max=10_000)
    sizes = [len(key or b"") + len(value) for key, value in whole]
    records, last, too_large = encode_changes(batch, STREAM, None, bytes_max=sizes[1] - 1)

    assert (50, [20, 40]) == (last, too_large)
    assert [None, 10, 30] == [json.loads(value)["source"]["previous"] for _, value in records]
    assert [] == encode_changes(batch_of(["x" * 500]), STREAM, None, bytes_max=sizes[1] + 4)[2]


def test_the_changes_of_a_record_share_an_offset_and_are_told_apart_by_a_fifth_number() -> None:
    """The first has none; each other names its own offset as the one before it. All say how many they are."""
    notes = ["a", "b", "c", "d", "e"]
    batch = of_records(notes, [10, 20, 20, 20, 30])
    records, last, too_large = encode_changes(batch, STREAM, 3, bytes_max=10_000)
    sources = [json.loads(value)["source"] for _, value in records]

    assert (30, []) == (last, too_large)
    assert [[10], [20], [20, 1], [20, 2], [30]] == [source["origin"][3:] for source in sources]
    assert [3, 10, 20, 20, 20] == [source["previous"] for source in sources]
    assert [None, 3, 3, 3, None] == [source.get("rows") for source in sources]
    assert notes == [json.loads(value)["after"]["note"] for _, value in records]


def test_records_of_one_change_are_written_as_ever_beside_those_of_several() -> None:
    """Not a byte more."""
    alone = batch_of(["a", "b"])
    beside = of_records(["a", "b", "c", "d"], [10, 20, 30, 30])
    without, _, _ = encode_changes(alone, STREAM, 3, bytes_max=10_000)
    with_others, _, _ = encode_changes(beside, STREAM, 3, bytes_max=10_000)
    source = b'"source":{"connector":"postgresql","name":"capa","table":"public.t","tx":"7","snapshot":false,"origin":'

    assert without == with_others[:2]
    assert without[1][1].endswith(source + b'["capa.public.t",2,1,20],"first_origin":null,"previous":10}}')


def test_a_record_is_left_out_whole_where_one_of_its_changes_is_too_large() -> None:
    """Once, whichever it is; its neighbours go on, and the chain passes it by."""
    for large in range(1, 4):
        notes = ["x" * 600 if place == large else "a" for place in range(6)]
        batch = of_records(notes, [10, 20, 20, 20, 30, 30])
        records, last, too_large = encode_changes(batch, STREAM, None, bytes_max=600)
        sources = [json.loads(value)["source"] for _, value in records]

        assert (30, [20]) == (last, too_large)
        assert [[10], [30], [30, 1]] == [source["origin"][3:] for source in sources]
        assert [None, 10, 30] == [source["previous"] for source in sources]


@pytest.mark.parametrize(
    ("offsets", "rows"),
    [([], []), ([4, 6, 9], []), ([4, 4, 6], [0, 1, 0]), ([4, 6, 6, 6, 7, 7], [0, 0, 1, 2, 0, 1])],
)
def test_rows_are_counted_from_offsets_and_empty_where_each_record_has_one(offsets: list[int], rows: list[int]) -> None:
    """So that ordinary batches carry no column for them."""
    assert rows == rows_of(offsets)


def test_a_table_without_key_has_records_without_key() -> None:
    """Kafka's null, not the word; and an empty batch leaves the chain as it was."""
    records, _, _ = encode_changes(batch_of(["a", "b"], keyed=False), STREAM, None, bytes_max=10_000)

    assert [None, None] == [key for key, _ in records]
    assert [None, None] == [json.loads(value)["key"] for _, value in records]
    assert ([], 9, []) == encode_changes(batch_of([]), STREAM, 9, bytes_max=10_000)
