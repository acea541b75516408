"""Feature updates without Redis: what is said of views and causes, and entries read back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.transport.producer import Outbox
from schemas.config import Config
from schemas.errors import RecordTooLarge
from schemas.table import TableSpec, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.fold import Gatherer
from sinks.redis.layout import Layout
from sinks.redis.rows import TableRows
from sinks.redis.updates import Entry, about_view, update_row_bytes_max, updates_of
from streams.registration import own_topic

POSITION = f"0001{7:041d}"
CAUSE = f'[{{"id":"1"}},"{POSITION}","2026-11-20T19:45:57.123456Z",false,false,["t",0,0,4711]]'
COLUMNS = {
    "id": "long", "part": "string", "small": "int", "yes": "boolean", "ratio": "double", "tags": "list<string>",
    "at": "timestamptz",
}  # fmt: skip
VALUES = ["a", 'text \u00e9"\n', "-5", "true", "1.50", '["x",null]', "2026-11-20T19:45:57.123456Z"]


def spec(**view: Any) -> TableSpec:
    """Return a table with a column of each kind, and one view that emits."""
    features = [{"view": "v", "entity": "e", "columns": list(COLUMNS), "emit": True} | view]
    return TableSpec.model_validate(
        {"table": "t", "topics": ["s"], "key": ["id"], "columns": COLUMNS, "features": features}
    )


def entry(table: TableSpec, *updates: Any, number: int = 1) -> Entry:
    """Return an entry as the script writes it."""
    about = about_view(table, table.features[0])
    return Entry(3, b"1-0", msgspec.msgpack.encode(["born", number, [[about, list(updates)]]]))


def written(table: TableSpec, *updates: Any) -> list[dict[str, Any]]:
    """Return the JSON of an entry's updates."""
    return [msgspec.json.decode(value) for _, value in records(table, *updates)]


def records(table: TableSpec, *updates: Any, number: int = 1) -> list[tuple[bytes, bytes]]:
    """Return key and value of the records of an entry of one view."""
    ((view, found, _),) = updates_of(entry(table, *updates, number=number))
    assert view == "v"
    return found


def test_values_have_the_forms_of_the_contract() -> None:
    """Redis holds text; the update has numbers, booleans and arrays as the contract writes them."""
    (update,) = written(spec(), ["1", CAUSE, False, [False, False, *VALUES]])

    assert update["after"] == {
        "id": "a", "part": 'text é"\n', "small": -5, "yes": True, "ratio": 1.5, "tags": ["x", None],
        "at": "2026-11-20T19:45:57.123456Z",
    }  # fmt: skip
    assert (update["view"], update["version"], update["table"], update["op"]) == ("v", 1, "t", "insert")
    assert (update["entity"], update["key"], update["before"]) == ({"id": "1"}, {"id": "1"}, None)
    assert (update["bucket"], update["incarnation"], update["number"]) == (3, "born", 1)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_is_a_text(text: str) -> None:
    """As the contract has it."""
    (update,) = written(spec(columns=["ratio"]), ["1", CAUSE, [False, False, text], False])

    assert (update["before"], update["after"], update["op"]) == ({"ratio": text}, None, "delete")


def test_null_unavailable_and_absent_are_three_things() -> None:
    """Names of our own columns among them are not shown."""
    table = spec(columns=["part", "small", "yes"])
    sides = [['["small",".t"]', '["yes",".e"]', False, False, False], [False, False, "x", False, False]]

    (update,) = written(table, ["1", CAUSE, *sides])

    assert (update["before"], update["unavailable_before"]) == ({"small": None}, ["yes"])
    assert (update["after"], update["unavailable"], update["op"]) == ({"part": "x"}, [], "update")


def test_an_entity_of_several_columns_is_read_back_from_its_text() -> None:
    """The escapes of the layout are undone, numbers are numbers."""
    table = spec(entity_key=["part", "small"])

    (update,) = written(table, ["a%3Ab%25:-7", CAUSE, False, [False, False, *VALUES]])

    assert update["entity"] == {"part": "a:b%", "small": -7}


def test_updates_of_one_entry_count_on() -> None:
    """The entry holds the first number only."""
    sides = (False, [False, False, *VALUES])
    found = records(spec(), ["1", CAUSE, *sides], ["2", CAUSE, *sides], number=41)

    assert [(b"1", 41), (b"2", 42)] == [(entity, msgspec.json.decode(value)["number"]) for entity, value in found]


def test_a_delete_of_what_redis_does_not_know_has_no_sides() -> None:
    """It may have lived before Redis lost it."""
    (update,) = written(spec(), ["1", CAUSE, False, False])

    assert ("delete", None, None) == (update["op"], update["before"], update["after"])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        msgspec.msgpack.encode({"a": 1}),
        msgspec.msgpack.encode(["i", "1", []]),
        msgspec.msgpack.encode(["i", 1, [["{}", [["1", CAUSE, False, [False, False]]]]]]),
        entry(spec(), ["1", "[]", False, [False, False, *VALUES]]).payload,
        entry(spec(), ["1", CAUSE, False, [False, False, "too few"]]).payload,
        entry(spec(), ["1", CAUSE, False, []]).payload,
        entry(spec(entity_key=["part", "small"]), ["one", CAUSE, False, [False, False, *VALUES]]).payload,
    ],
)
def test_what_is_no_entry_of_ours_is_said_so(payload: bytes) -> None:
    """Whoever else writes to the stream; the error repeats no value."""
    with pytest.raises(ValueError, match="not an entry of ours") as caught:
        updates_of(Entry(0, b"1-0", payload))

    assert "too few" not in str(caught.value)


def change(op: str = "update", *, generation: int = 0, snapshot: bool = False) -> bytes:
    """Write a change of the contract."""
    value = {
        "op": op, "key": {"id": "1"}, "position": POSITION, "ts": "2026-11-20T19:45:57.123456Z",
        "after": {"id": "1", "part": "x"}, "source": {"origin": ["t", generation, 2, 9], "snapshot": snapshot},
    }  # fmt: skip
    return msgspec.json.encode(value)


def causes_of(*values: bytes, loading: bool = False, marked: bool = True) -> list[tuple[bool, bool]]:
    """Return what updates say of changes: whether each is of a snapshot, and of a replay."""
    table = spec(columns=["part"])
    reader = TableRows(table, table.features, views_that_emit(table))
    reader.plans[0].loading = loading
    gatherer = Gatherer(Layout("p", 1), 65_536)
    gatherer.add(reader, reader.decode(values), lambda i: f"id|0|{i}", value_bytes_max=500, replayed=lambda _: marked)
    rows = gatherer.sections[0]["v.1"].rows()
    found = [msgspec.json.decode(row[-1]) for row in rows]
    assert all(cause[:3] == [{"id": "1"}, POSITION, "2026-11-20T19:45:57.123456Z"] for cause in found)
    return [(cause[3], cause[4]) for cause in found]


def test_a_row_that_was_read_is_no_news() -> None:
    """By its operation, by its source, or because the view is being loaded."""
    assert [(True, False), (True, False), (False, False)] == causes_of(
        change("snapshot"), change(snapshot=True), change()
    )
    assert [(True, False)] == causes_of(change(), loading=True)


def test_a_replay_is_marked_and_has_a_generation_of_its_own() -> None:
    """The record's headers are looked at only then: they cost more than all else."""
    assert [(False, True), (False, False)] == causes_of(change(generation=1), change())
    assert [(False, False)] == causes_of(change(generation=1), marked=False)


def test_an_update_says_which_change_of_its_record_caused_it() -> None:
    """With the origin as the contract has it, from the change to the topic."""
    values = [msgspec.json.encode(_of_record(change(), row)) for row in range(3)]
    updates = [["1", row[-1], False, [False, False, "x"]] for row in _rows(values)]
    origins = [update["origin"] for update in written(spec(columns=["part"]), *updates)]

    assert [["t", 0, 2, 9], ["t", 0, 2, 9, 1], ["t", 0, 2, 9, 2]] == origins


def _of_record(value: bytes, row: int) -> Any:
    changed = msgspec.json.decode(value)
    changed["source"] |= {"origin": ["t", 0, 2, 9, *([row] if row else [])], "rows": 3}
    return changed


def test_every_change_of_a_view_that_emits_is_sent_in_its_order() -> None:
    """Folding would hide what an entity showed in between."""
    values = [msgspec.json.encode(msgspec.json.decode(change()) | {"position": f"0001{n:041d}"}) for n in (1, 2, 1)]

    assert 3 == len([*map(msgspec.json.decode, (row[-1] for row in _rows(values)))])


def _rows(values: list[bytes]) -> list[Any]:
    table = spec(columns=["part"])
    reader = TableRows(table, table.features, views_that_emit(table))
    gatherer = Gatherer(Layout("p", 1), 65_536)
    gatherer.add(reader, reader.decode(values), lambda i: f"id|0|{i}", value_bytes_max=500)
    return gatherer.sections[0]["v.1"].rows()


@given(st.integers(10_000, 2_000_000), st.integers(1_024, 200_000), st.sampled_from(["\x00", "\u00e9", "a", '"']))
def test_a_row_within_its_limit_never_makes_an_update_that_is_too_large(
    message_bytes_max: int, row_bytes_max: int, letter: str
) -> None:
    """Whatever its letters become in JSON, before and after."""
    table = spec(columns=["part"])
    plan = TableRows(table, table.features, views_that_emit(table)).plans[0]
    most = update_row_bytes_max(row_bytes_max, message_bytes_max)
    length = most // len(letter.encode())
    while length and too_large(plan, letter * length, most):
        length -= max(1, length // 64)
    text = letter * length
    (record,) = records(table, ["1", CAUSE, [False, False, text], [False, False, text + letter[:0]]])
    outbox = Outbox(lambda *_: None, message_bytes_max)

    outbox.produce("headgate.features.v", 0, *record, [("view", b"v")])

    assert outbox.records == 1


def too_large(plan: Any, text: str, most: int) -> bool:
    """Say whether a row of this value is refused."""
    try:
        plan.check_size(("1", POSITION, "", text), most)
    except RecordTooLarge:
        return True
    return False


@pytest.mark.parametrize(("buckets", "partitions"), [(64, 8), (256, 8), (6, 6), (10, 5), (7, 7), (11, 1), (1, 1)])
def test_buckets_are_shared_out_evenly(buckets: int, partitions: int) -> None:
    """As many partitions as divide the buckets, eight at most; the relay's topic has one for each bucket."""
    config = Config.model_validate({"redis": {"buckets": buckets}})
    names = TopicNames()

    assert partitions == own_topic(config, names.features("v")).partitions
    assert buckets == own_topic(config, names.relay).partitions
