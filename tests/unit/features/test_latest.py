"""Rows of latest topics without Redis and Kafka: their keys, values and headers, and what is left out or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from connectors.transport.chunk import Assignment, Run
from connectors.transport.producer import Outbox, Work
from schemas.errors import TransactionAborted
from schemas.output import latest_view_name
from schemas.table import TableEntry, TableSpec, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.updates import Entry, LatestRows, about_view, schema_block_bytes, updates_of
from streams.latest import LatestTopics, Record, records_of
from streams.latest_views import with_latest_view
from tests.unit.fakes import assignment_of

POSITION = f"0001{7:041d}"
TS = "2026-11-20T19:45:57.123456Z"
CAUSE = f'[{{"id":"1"}},"{POSITION}","{TS}",false,false,["t",0,0,4711]]'
COLUMNS = {
    "id": "long", "part": "int", "yes": "boolean", "ratio": "double", "money": "decimal(12,2)", "day": "date",
    "clock": "time", "local": "timestamp", "moment": "timestamptz", "document": "json", "raw": "binary",
    "tags": "list<long>",
}  # fmt: skip
TEXTS = [
    "5000000000", "-5", "true", "1.50", "-12.50", "2024-02-29", "13:45:06.789123", "2024-02-29T13:45:06.789123",
    "2024-02-29T13:45:06.789123Z", '{"a":1}', "AAE=", '["5",null]',
]  # fmt: skip
KEY_TEXT = "5000000000:-5"


def table(
    columns: dict[str, str] = COLUMNS,
    *,
    table: str = "t",
    version: int = 1,
    key: Sequence[str] = ("id", "part"),
    **output: Any,
) -> TableSpec:
    """Return a table with a latest topic, as it is registered under this schema version."""
    document = {
        "table": table,
        "topics": ["s"],
        "key": list(key),
        "columns": columns,
        "output": {"latest": True} | output,
    }
    return with_latest_view(TableSpec.model_validate(document), version)


def rows_of(spec: TableSpec, *updates: Any) -> LatestRows:
    """Return what the relay reads of an entry that the script has written."""
    about = about_view(spec, spec.features[-1])
    (found,) = updates_of(Entry(3, b"1-0", msgspec.msgpack.encode(["born", 1, [[about, list(updates)]]])))
    assert found.latest is not None
    assert found.records == []
    return found.latest


def records(spec: TableSpec, *updates: Any) -> list[Record]:
    """Return the records of an entry."""
    return records_of(rows_of(spec, *updates))


def value_of(spec: TableSpec, texts: Sequence[Any], *, null: str = "", unavailable: str = "") -> Any:
    """Return the value of a row with these texts."""
    ((_, value, _),) = records(spec, [KEY_TEXT, CAUSE, False, [null or False, unavailable or False, *texts]])
    assert value is not None
    return json.loads(value)


def test_a_row_has_the_forms_of_the_contract_and_its_key_is_texts() -> None:
    """A key stays the same key when a column of it becomes wider."""
    ((key, value, headers),) = records(table(), [KEY_TEXT, CAUSE, False, [False, False, *TEXTS]])

    assert {"id": "5000000000", "part": "-5"} == json.loads(key)
    assert value is not None
    assert {
        "id": "5000000000", "part": -5, "yes": True, "ratio": 1.5, "money": "-12.50", "day": "2024-02-29",
        "clock": "13:45:06.789123", "local": "2024-02-29T13:45:06.789123", "moment": "2024-02-29T13:45:06.789123Z",
        "document": '{"a":1}', "raw": "AAE=", "tags": ["5", None],
    } == json.loads(value)  # fmt: skip
    assert [("headgate.table", b"t"), ("headgate.position", POSITION.encode()), ("headgate.ts", TS.encode())] == headers


def test_a_row_that_is_gone_is_a_tombstone() -> None:
    """Also where Redis did not know it: it may have lived before a loss."""
    gone = records(table(), [KEY_TEXT, CAUSE, [False, False, *TEXTS], False], [KEY_TEXT, CAUSE, False, False])

    assert [None, None] == [value for _, value, _ in gone]
    assert 1 == len({key for key, _, _ in gone})


@pytest.mark.parametrize("latest_schema", [False, True])
def test_null_unavailable_and_absent_are_three_things(latest_schema: bool) -> None:
    """An unavailable column has no field, also none in the schema block: a sink leaves what it has of it."""
    spec = table(latest_schema=latest_schema)
    texts = ["5000000000", "-5", False, False, False, *TEXTS[5:]]

    ((_, value, headers),) = records(spec, [KEY_TEXT, CAUSE, False, ['["yes",".t"]', '["ratio",".e"]', *texts]])

    assert value is not None
    read = json.loads(value)
    row = read["payload"] if latest_schema else read
    assert row["yes"] is None
    assert {"ratio", "money"}.isdisjoint(row)
    assert ("headgate.unavailable", b'["ratio"]') == headers[-1]
    if latest_schema:
        named = [field["field"] for field in read["schema"]["fields"]]
        assert [name for name in COLUMNS if name != "ratio"] == named


def test_with_a_schema_block_values_are_what_kafka_connect_reads() -> None:
    """Numbers are numbers, times are counted; the key's types are the widest."""
    ((key, value, _),) = records(table(latest_schema=True), [KEY_TEXT, CAUSE, False, [False, False, *TEXTS]])

    assert value is not None
    assert {
        "id": 5_000_000_000, "part": -5, "yes": True, "ratio": 1.5, "money": -12.5, "day": 19_782,
        "clock": 49_506_789_123, "local": 1_709_214_306_789_123, "moment": "2024-02-29T13:45:06.789123Z",
        "document": '{"a":1}', "raw": "AAE=", "tags": [5, None],
    } == json.loads(value)["payload"]  # fmt: skip
    assert b'"money":-12.50' in value
    types = [
        (field["type"], field.get("name", "").rpartition(".")[2]) for field in json.loads(value)["schema"]["fields"]
    ]
    assert types == [
        ("int64", ""), ("int32", ""), ("boolean", ""), ("double", ""), ("bytes", "Decimal"), ("int32", "Date"),
        ("int64", "MicroTime"), ("int64", "MicroTimestamp"), ("string", "ZonedTimestamp"), ("string", "Json"),
        ("bytes", ""), ("array", ""),
    ]  # fmt: skip
    assert {"id": 5_000_000_000, "part": -5} == json.loads(key)["payload"]
    assert ["int64", "int64"] == [field["type"] for field in json.loads(key)["schema"]["fields"]]


@pytest.mark.parametrize(("text", "expected"), [("NaN", b"null"), ("Infinity", b"1e999"), ("-Infinity", b"-1e999")])
def test_what_is_no_number_in_json_is_told_as_far_as_a_schema_lets_it(text: str, expected: bytes) -> None:
    """NaN is null there; what no double holds is read as infinite. Without a schema block it is the contract's text."""
    texts = ["1", "2", "true", text, *TEXTS[4:]]

    ((_, value, _),) = records(table(latest_schema=True), [KEY_TEXT, CAUSE, False, [False, False, *texts]])

    assert value is not None
    assert b'"ratio":%b,' % expected in value
    assert text == value_of(table(), texts)["ratio"]


def test_a_key_whose_columns_become_wider_stays_the_same() -> None:
    """Compaction compares bytes: rows of before would never go."""
    narrow, wide = (
        {"id": "int", "money": "decimal(10,2)", "x": "float"},
        {"id": "long", "money": "decimal(12,2)", "x": "double"},
    )
    for schema in (False, True):
        keys = [
            records(table(columns, key=tuple(columns), latest_schema=schema), ["5:1.50:0.5", CAUSE, False, False])[0][0]
            for columns in (narrow, wide)
        ]
        assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("key", "texts"), [(KEY_TEXT, ["no number", *TEXTS[1:]]), ("no number:-5", TEXTS), (KEY_TEXT, [*TEXTS[:-1], "[1"])]
)
def test_what_is_no_row_of_ours_is_left_out_alone(key: str, texts: list[str]) -> None:
    """Whoever wrote it to Redis: its neighbours in the entry are there."""
    good = [KEY_TEXT, CAUSE, False, [False, False, *TEXTS]]

    found = records(table(latest_schema=True), good, [key, CAUSE, False, [False, False, *texts]], good)

    assert records(table(latest_schema=True), good, good) == found


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("list<long>", '[1,null,"5000000000"]', [1, None, 5_000_000_000]),
        ("list<string>", '[1,true,"a"]', ["1", "true", "a"]),
        ("list<double>", "[1.5]", [1.5]),
        ("list<list<long>>", '[[1],["2"]]', [[1], [2]]),
    ],
)
def test_elements_of_before_their_column_became_wider_are_read(type_: str, text: str, expected: list[Any]) -> None:
    """Redis keeps a list as it was written, and its rows are written anew when the columns change."""
    spec = table({"id": "long", "tags": type_}, key=["id"], latest_schema=True)

    ((_, value, _),) = records(spec, ["5", CAUSE, False, [False, False, "5", text]])

    assert value is not None
    assert expected == json.loads(value)["payload"]["tags"]


def test_an_entry_with_too_few_texts_is_none_of_ours() -> None:
    """As of feature updates."""
    with pytest.raises(ValueError, match="not an entry of ours"):
        rows_of(table(), [KEY_TEXT, CAUSE, False, [False, False, "5"]])


def test_the_view_of_a_latest_topic_is_of_all_columns_and_another_where_they_are_others() -> None:
    """Also where they become those of before again; it emits, and is taken away with the setting."""
    first, second = table(), table(COLUMNS | {"more": "string"}, version=2)
    third = with_latest_view(second.model_copy(update={"columns": first.columns}), 3)
    without = first.model_copy(update={"output": first.output.model_copy(update={"latest": False})})

    views = [spec.features[0] for spec in (first, second, third)]
    assert [latest_view_name("t")] * 3 == [view.view for view in views]
    assert list(COLUMNS) == views[0].columns == views[2].columns
    assert 3 == len({view.version for view in views})
    assert {latest_view_name("t")} == views_that_emit(first)
    assert first == with_latest_view(first, 1)
    assert [] == with_latest_view(without, 1).features
    assert set() == views_that_emit(without)


def test_names_of_views_are_apart_and_short_enough() -> None:
    """Tables may have dots, and longer names than views."""
    names = {latest_view_name(name) for name in ("a.b", "a-b", "a" * 128, "a" * 127 + "b")}

    assert 4 == len(names)
    for name in ("a.b", "a" * 128):
        long = {"table": name, "topics": ["s"], "key": ["id"], "columns": {"id": "long"}, "output": {"latest": True}}
        assert with_latest_view(TableSpec.model_validate(long), 1).features


def test_a_schema_block_takes_of_the_room_that_rows_have() -> None:
    """Else a record could be larger than its topic takes, and nobody could write it."""
    for columns in (COLUMNS, {f"{'n' * 200}{at}": "decimal(38,10)" for at in range(500)}):
        spec = table(columns, key=[next(iter(columns))], latest_schema=True)
        ((key, value, _),) = records(spec, ["1", CAUSE, False, ["[]", False, *[False] * len(columns)]])
        assert value is not None

        blocks = len(key) + len(value)
        assert 0 < blocks <= schema_block_bytes(spec, spec.features[-1])
    assert 0 == schema_block_bytes(table(), table().features[-1])


# ── writing ──


class Writer:
    """A writer into a list; `before` is done between the call and the work."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.written: list[tuple[Any, ...]] = []
        self.advances: list[tuple[int, int]] = []
        self.starts, self._before = 0, before
        self.most: int | None = None
        self.bytes_max = 1_000_000
        self.writes: list[list[str]] = []  # the topics of each

    def partitions_max(self) -> int | None:
        """Return what was set."""
        return self.most

    async def start(self) -> None:
        """Count it."""
        self.starts += 1

    async def close(self) -> None:
        """Leave nothing."""

    async def write(self, runs: Sequence[Run], work: Work) -> None:
        """Write what is of those still owned, or nothing."""
        self._before()
        if live := [run for run in runs if not run.lost]:
            outbox: list[tuple[Any, ...]] = []
            advances = work(Outbox(lambda *record: outbox.append(record), self.bytes_max), live)
            self.written += outbox
            self.writes.append([record[0] for record in outbox])
            self.advances += [(each.assignment.partition, each.next_offset) for each in advances]


def owned(*partitions: int) -> list[Assignment]:
    """Return partitions of the relay's topic that are read."""
    made = [assignment_of(TopicNames().relay, number) for number in partitions]
    for each in made:
        each.start = 0
    return made


async def write(topics: LatestTopics, assignments: list[Assignment], spec: TableSpec) -> None:
    """Write one row of bucket 3."""
    rows = rows_of(spec, [KEY_TEXT, CAUSE, False, [False, False, *TEXTS]])
    await topics.write(assignments, [(3, rows)], [records_of(rows)], {TopicNames().latest("t"): 2})


@pytest.mark.parametrize(
    ("most", "writes"),
    [
        (None, [["a", "b", "a", "c", "b"]]),
        (3, [["a", "b", "a", "c", "b"]]),
        (2, [["a", "b", "a"], ["c", "b"]]),
        (1, [["a"], ["b"], ["a"], ["c"], ["b"]]),
    ],
)
async def test_rows_of_many_topics_are_written_in_several_transactions(
    most: int | None, writes: list[list[str]]
) -> None:
    """In the order in which the ledger accepted them, each with the offsets that say whose they are."""
    specs = {name: table(table=name) for name in ("a", "b", "c")}
    rows = [(3, rows_of(specs[name], [KEY_TEXT, CAUSE, False, [False, False, *TEXTS]])) for name in "abacb"]
    writer, partitions = Writer(), {TopicNames().latest(name): 2 for name in specs}
    writer.most = most

    topics = LatestTopics(TopicNames(), {}, writer=writer, catch_up=_nothing)
    await topics.write(owned(1), rows, [records_of(some) for _, some in rows], partitions)

    assert [[TopicNames().latest(name) for name in some] for some in writes] == writer.writes
    assert [(1, 0)] * len(writes) == writer.advances
    assert 5 == topics.counts["latest_rows"]


async def test_no_rows_make_no_transaction() -> None:
    """There is nothing to say."""
    writer = Writer()
    await LatestTopics(TopicNames(), {}, writer=writer, catch_up=_nothing).write(owned(1), [], [], {})

    assert [] == writer.writes


async def test_rows_go_with_the_offsets_of_the_partitions_that_say_whose_they_are() -> None:
    """To the partition of their bucket; the writer is begun with the first."""
    spec, writer = table(), Writer()
    topics = LatestTopics(TopicNames(), {"t": TableEntry(spec=spec)}, writer=writer, catch_up=_nothing)

    await write(topics, owned(3), spec)
    await write(topics, owned(3), spec)

    assert [("headgate.latest.t", 1)] * 2 == [(topic, partition) for topic, _, _, partition, *_ in writer.written]
    assert [(3, 0)] * 2 == writer.advances
    assert 1 == writer.starts
    assert 2 == topics.counts["latest_rows"]


async def test_a_row_larger_than_a_record_may_be_is_left_out_alone() -> None:
    """It grew from changes that were not too large; waiting for it would hold up all tables."""
    columns = {"id": "long", "name": "string"}
    spec, writer = table(columns, key=["id"]), Writer()
    writer.bytes_max = 2_000
    topics = LatestTopics(TopicNames(), {"t": TableEntry(spec=spec)}, writer=writer, catch_up=_nothing)
    rows = rows_of(spec, *([str(n), CAUSE, False, [False, False, str(n), "x" * (n % 2 * 3_000)]] for n in range(4)))

    left_out = await topics.write(owned(3), [(3, rows)], [records_of(rows)], {TopicNames().latest("t"): 2})

    assert 2 == left_out == topics.counts["latest_rows"]
    assert [b'{"id":"0"}', b'{"id":"2"}'] == [key for _, _, key, *_ in writer.written]


@pytest.mark.parametrize("others", [[], [5]])
async def test_of_partitions_that_left_nothing_is_written(others: list[int]) -> None:
    """Their next owner has read the same rows, and newer ones perhaps: the older ones may not come behind these."""
    spec, mine = table(), owned(3, *others)

    def leave() -> None:
        mine[0].lost = True

    writer = Writer(leave)
    topics = LatestTopics(TopicNames(), {"t": TableEntry(spec=spec)}, writer=writer, catch_up=_nothing)

    with pytest.raises(TransactionAborted, match="has left"):
        await write(topics, mine, spec)

    assert [] == writer.written


async def test_rows_of_a_view_that_was_replaced_are_left_out() -> None:
    """The new one writes all rows anew; whether it was replaced is asked of the tables' topic first."""
    old, new, writer = table(), table(COLUMNS | {"more": "string"}, version=2), Writer()
    tables = {"t": TableEntry(spec=old)}

    async def catch_up() -> None:
        tables["t"] = TableEntry(spec=new)

    topics = LatestTopics(TopicNames(), tables, writer=writer, catch_up=catch_up)
    texts = [*TEXTS, "x"]
    rows = rows_of(new, [KEY_TEXT, CAUSE, False, [False, False, *texts]])
    await topics.write(owned(3), [(3, rows)], [records_of(rows)], {TopicNames().latest("t"): 2})
    await write(topics, owned(3), old)

    assert 1 == len(writer.written)
    assert 1 == topics.counts["latest_replaced"]


async def test_rows_of_a_table_that_has_no_latest_topic_any_more_are_written_to_the_end() -> None:
    """It may have one again, and goes on where it stood then."""
    spec, writer = table(), Writer()

    await write(LatestTopics(TopicNames(), {}, writer=writer, catch_up=_nothing), owned(3), spec)

    assert 1 == len(writer.written)


async def _nothing() -> None:
    """Take up nothing."""
