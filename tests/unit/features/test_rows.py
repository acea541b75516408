"""How the contract's values become rows of the ledger, without Redis."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import PoisonRecord, RecordTooLarge, TableStopped
from schemas.table import TableSpec
from schemas.types import parse_type
from sinks.redis.event_order import event_order
from sinks.redis.floor import read_floor
from sinks.redis.fold import Gatherer, hides
from sinks.redis.generation import kept_positions, said_position
from sinks.redis.layout import Layout, entity_text, offset_field, offset_text, read_offset, view_of
from sinks.redis.ledger import Refused
from sinks.redis.offsets import Mark, OffsetBook
from sinks.redis.rows import TableRows
from streams.floor_sweeps import raise_floors
from streams.rounds import rounds
from tests.unit.fakes import assignment_of, run_of
from tests.unit.features.changes import change, floor

POSITION = f"0001{7:041d}"


def spec(**changes: Any) -> TableSpec:
    """Return a table with a column of each kind that is written in its own way."""
    found = {
        "table": "t",
        "topics": ["t"],
        "key": ["id"],
        "columns": {
            "id": "long",
            "part": "string",
            "text": "string",
            "small": "int",
            "yes": "boolean",
            "ratio": "double",
            "tags": "list<string>",
            "at": "timestamptz",
        },
        "features": [{"view": "v", "entity": "e", "columns": ["text", "small", "yes", "ratio", "tags"]}],
    }
    return TableSpec.model_validate(found | changes)


def rows_of(table: TableSpec, *values: bytes, row_bytes_max: int = 65_536) -> list[tuple[Any, ...]]:
    """Return the rows that contract values become, of all buckets."""
    reader = TableRows(table, table.features)
    gatherer = Gatherer(Layout("p", 4), row_bytes_max)
    gatherer.add(reader, reader.decode(values), lambda i: f"id|0|{i}", value_bytes_max=max(map(len, values)))
    found = [*gatherer.sections.values(), *gatherer.sharing.values()]
    return [row for views in found for section in views.values() for row in section.rows()]


def upsert(after: str, *, key: str = '{"id": "1"}', unavailable: str = "[]") -> bytes:
    """Write an update as the contract has it; `after` is JSON."""
    return (
        f'{{"op": "update", "key": {key}, "position": "{POSITION}", "after": {after}, "unavailable": {unavailable}}}'
    ).encode()


def read_in(generation: Any, text: str) -> bytes:
    """Write an update that was read in a generation."""
    value = msgspec.json.decode(upsert(msgspec.json.encode({"text": text}).decode()))
    return msgspec.json.encode(value | {"source": {"origin": ["s", generation, 0, 7]}})


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_what_was_read_several_times_only_the_last_reading_is_sent(order: tuple[int, ...]) -> None:
    """At one position the higher generation hides the others, in whatever order they come in one call."""
    ((_, position, _, text),) = rows_of(spec(), *(read_in(generation, f"read {generation}") for generation in order))

    assert (f"{POSITION}.0000000002", "read 2") == (position, text)
    assert POSITION == said_position(position) == said_position(POSITION)


@pytest.mark.parametrize("generation", ["1", -1])
def test_an_origin_without_a_generation_is_not_the_contract(generation: Any) -> None:
    """Another writer's record goes to quarantine, and stops nobody."""
    with pytest.raises(PoisonRecord, match="generation"):
        rows_of(spec(), read_in(generation, "a"))


def test_values_are_text_as_it_is_and_all_else_as_the_contract_has_it() -> None:
    """Numbers and arrays keep the digits and spaces of their JSON; NaN, a text there, is text here."""
    after = '{"text": "a \\"b\\" é", "small": -5, "yes": true, "ratio": 1.50, "tags": ["x", null]}'
    nan = '{"text": "", "small": 0, "yes": false, "ratio": "NaN", "tags": []}'

    assert [("1", POSITION, "", 'a "b" é', -5, "true", "1.50", '["x", null]')] == rows_of(spec(), upsert(after))
    assert [("1", POSITION, "", "", 0, "false", "NaN", "[]")] == rows_of(spec(), upsert(nan))


def test_null_unavailable_and_absent_are_three_things() -> None:
    """Each column without a value says why."""
    after = '{"text": "a", "small": null, "yes": null, "tags": []}'

    assert [("1", POSITION, "vnnau", "a")] == rows_of(spec(), upsert(after, unavailable='["tags", "part"]'))


def test_a_delete_needs_only_its_key() -> None:
    """Its one value says where it stands in the output topic."""
    value = f'{{"op": "delete", "key": {{"id": "1"}}, "position": "{POSITION}", "after": null}}'.encode()

    assert [("1", POSITION, "d", "id|0|0")] == rows_of(spec(), value)


def test_a_floor_is_no_row_and_is_told_to_every_bucket_behind_the_rows() -> None:
    """Of several the highest, for each view."""
    values = [floor(20), change(1, 10, {"text": "a"}), floor(30)]
    table, gatherer = TableRows(spec(), spec().features), Gatherer(Layout("hg", 4), 65_536)
    floors = gatherer.add(table, table.decode(values), lambda _: "id|0|1", value_bytes_max=900)
    for at in floors:
        raise_floors(gatherer, table, values[at])
    told = gatherer.told(shares=False)

    assert [0, 2] == floors
    assert 1 == gatherer.rows
    (view,) = {section.arguments()[1] for of_bucket in told.values() for section in of_bucket.values()}
    for of_bucket in told.values():
        *_, last = of_bucket.values()
        assert ["l", view, "", 0, 2, f"0001{30:041d}"] == last.arguments()[:6]
    assert 5 == sum(map(len, told.values()))


@pytest.mark.parametrize("wrong", [b"{", b"{}", b'"op"', floor(1).replace(b'"position":"0001', b'"position":"x001')])
def test_a_floor_that_cannot_be_read_is_poison(wrong: bytes) -> None:
    """Without saying what is in it."""
    with pytest.raises(PoisonRecord, match="a floor without position"):
        read_floor(wrong)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"op": "update", "key": {"id": 1}, "position": "1", "after": {}}',
        b'{"op": "update", "key": null, "position": "1", "after": {}}',
        b'{"op": "update", "key": {"id": "1"}, "position": "1", "after": null}',
        b'{"op": "delete", "key": null, "position": "1"}',
        b'{"op": "update", "key": {"id": "1"}, "position": "1", "after": {"text": 5}}',
        b'{"op": "update", "key": {"id": "1"}, "position": "1", "after": {"text": "secret", "small": "secret"}}',
    ],
)
def test_what_is_not_the_contract_is_poison_and_named_by_its_index(value: bytes) -> None:
    """The error names the record, never a value."""
    with pytest.raises(PoisonRecord, match="record 1") as caught:
        rows_of(spec(), upsert('{"text": "a"}'), value)

    assert "secret" not in str(caught.value)


def test_a_column_may_have_any_name() -> None:
    """Names of columns are not names of Python's."""
    columns = {"id": "long", "class": "string", "with space": "string", "c0": "string"}
    odd = spec(columns=columns, features=[{"view": "v", "entity": "e", "columns": ["c0", "with space", "class"]}])

    row = rows_of(odd, upsert('{"class": "a", "with space": "b", "c0": "c"}'))

    assert [("1", POSITION, "", "c", "b", "a")] == row


def test_a_column_of_a_view_does_not_begin_with_a_dot() -> None:
    """Fields of Redis that do are ours: `.p` as a column would be taken for the position of its row."""
    columns = {"id": "long", ".p": "string"}

    with pytest.raises(ValidationError, match="begin with a dot"):
        spec(columns=columns, features=[{"view": "v", "entity": "e", "columns": [".p"]}])
    assert spec(columns=columns, features=[]).columns


def test_a_row_is_measured_where_its_value_is_near_the_limit() -> None:
    """The limit holds for the row, not for the columns that no view names."""
    large = upsert('{"text": "a", "part": "' + "x" * 5_000 + '"}')

    assert 1 == len(rows_of(spec(), large, row_bytes_max=4_096))
    with pytest.raises(RecordTooLarge):
        rows_of(spec(), upsert('{"text": "' + "x" * 5_000 + '"}'), row_bytes_max=4_096)


def test_an_event_time_may_be_a_value_as_well() -> None:
    """Where it is unavailable, both are."""
    view = {"view": "v", "entity": "e", "columns": ["at"], "event_time": "at"}
    timed = spec(features=[view])

    assert [("1", POSITION, "", "2026", "2026")] == rows_of(timed, upsert('{"at": "2026"}'))
    assert [("1", POSITION, "uu")] == rows_of(timed, upsert("{}", unavailable='["at"]'))


def test_a_row_that_shares_its_entity_names_it() -> None:
    """The entity is a column of ours, with the order of its event time behind it."""
    view = {"view": "v", "entity": "e", "entity_key": ["part", "small"], "columns": ["text"], "event_time": "at"}
    after = '{"text": "a", "part": "b:c", "small": 5, "at": "2026-11-20T19:45:57.123456Z"}'
    ((key, _, state, *values),) = rows_of(spec(features=[view]), upsert(after))

    assert ("1", "") == (key, state)
    assert ["a", "2026-11-20T19:45:57.123456Z", "b%3Ac:5", f"1{20261120194557123456:039d}"] == values


def test_an_event_time_without_an_order_stops_the_table() -> None:
    """Text cannot say which row is the latest."""
    view = {"view": "v", "entity": "e", "entity_key": ["part"], "columns": ["text"], "event_time": "text"}

    with pytest.raises(TableStopped):
        TableRows(spec(features=[view]), spec(features=[view]).features)


@given(st.lists(st.floats(), min_size=2, max_size=2))
def test_floats_have_the_order_of_their_digits(numbers: list[float]) -> None:
    """NaN is below all, minus infinity too."""
    low, high = sorted(numbers, key=lambda n: (False, 0.0) if math.isnan(n) else (True, n))
    a, b = (event_order(parse_type("double"), msgspec.json.encode(repr(n)).decode().strip('"')) for n in (low, high))

    assert (a <= b) or low == high


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_whole_numbers_have_the_order_of_their_digits(numbers: list[int]) -> None:
    """Negative ones are below."""
    low, high = sorted(numbers)

    assert event_order(parse_type("long"), str(low)) <= event_order(parse_type("long"), str(high))


@given(st.lists(st.datetimes(), min_size=2, max_size=2))
def test_times_have_the_order_of_their_digits(times: list[Any]) -> None:
    """A timestamp of the contract has six digits behind the point."""
    low, high = (event_order(parse_type("timestamp"), t.isoformat(timespec="microseconds")) for t in sorted(times))

    assert low <= high


@given(st.lists(st.text(max_size=5), min_size=2, max_size=3), st.lists(st.text(max_size=5), min_size=2, max_size=3))
def test_two_keys_never_share_a_text(one: list[str], other: list[str]) -> None:
    """Colons and percent signs inside a part are escaped."""
    assert (one == other) == (entity_text(one) == entity_text(other))


def test_a_newer_whole_row_hides_an_older_one_but_no_delete() -> None:
    """The position of the last delete is kept, and a row that lacks a column hides nothing."""
    old, new = ("k", "1", "", "a"), ("k", "2", "", "b")
    partial, gone = ("k", "2", "u"), ("k", "2", "d", "o")

    assert hides(new, old)
    assert not hides(old, new)
    assert hides(gone, old)
    assert not hides(("k", "3", "", "c"), gone)
    assert not hides(partial, old)
    assert not hides(("k", "2", "", "b"), gone)


def test_keys_of_one_bucket_share_a_hash_tag() -> None:
    """Layout 1 is frozen: these names are in Redis servers."""
    layout = Layout("hg", 64)

    assert "hg:{b8}:f:latest.1:42" == layout.values("latest.1", "42")
    assert "hg:{b3}:at" == layout.offsets(3)
    assert "hg:{b3}:x:latest.1" == layout.tombstones("latest.1", 3)
    assert "hg:layout" == layout.marker
    assert ("a.1", "a.1|t|3") == (view_of(offset_field("a.1", "t", 3)), offset_field("a.1", "t", 3))
    assert ("x:y", 7) == read_offset(offset_text("x:y", 7))


def test_a_mark_moves_forward_only_and_counts_on_what_is_in_flight() -> None:
    """The second move expects what the first writes."""
    mark = Mark("f", "id", ["id:0", "id:5"])

    assert ("f", "id:0", "id:3") == mark.move(0, 3)
    assert ("f", "id:3", "id:9") == mark.move(0, 9)
    assert mark.move(0, 8) is None
    assert mark.move(1, 5) is None


def test_a_refused_move_is_a_loss_only_if_there_is_less_than_expected() -> None:
    """More is another worker's, and taken over."""
    book = OffsetBook()
    book.begin("f", "id", ["id:5"])
    move = book.marks["f"].move(0, 9)
    assert move is not None

    assert book.refused(Refused(0, move, None))
    assert book.refused(Refused(0, move, "id:4"))
    assert not book.refused(Refused(0, move, "id:7"))
    assert ["id:7"] == book.marks["f"].sent


def test_what_was_read_again_is_compared_with_what_was_answered() -> None:
    """A move whose answer never came is no loss; a field that is gone is one back to 0."""
    book = OffsetBook()
    book.begin("f", "id", ["id:5", "id:5"])
    book.marks["f"].move(0, 9)
    book.disconnected()

    assert book.compare("f", ["id:9", "id:5"]) is None
    assert 5 == book.compare("f", ["id:5", "id:5"])
    assert 0 == book.compare("f", ["id:5", None])


def test_rounds_cut_runs_without_losing_a_record() -> None:
    """Each piece knows the offset behind it, gaps included."""
    runs = [run_of(assignment_of(), 10, [b"x"] * 5), run_of(assignment_of(), 30, [b"x"] * 2)]
    cut = [[(p.start, p.stop, p.next) for p in pieces] for pieces in rounds(runs, 3)]

    assert [[(0, 3, 13)], [(3, 5, 15), (0, 1, 31)], [(1, 2, 32)]] == cut


def older_rows(table: TableSpec, *values: bytes) -> list[tuple[Any, ...]]:
    """Return the rows that values of older schema versions become."""
    reader = TableRows(table, table.features)
    changes = reader.decode(values, older=True)
    return [(key, *row[1:]) for key, row in zip(reader.keys(changes), _planned(reader, changes), strict=True)]


def _planned(reader: TableRows, changes: list[Any]) -> list[tuple[Any, ...]]:
    return reader.plans[0].rows(reader.keys(changes), kept_positions(changes), changes, str)


def test_a_column_that_became_wider_has_the_same_text() -> None:
    """Redis shows a text as it is and all else as its JSON, whatever the type is called: positions and nulls too."""
    narrow = spec(columns=spec().model_dump()["columns"] | {"id": "int", "text": "double", "part": "list<int>"})
    view = {"view": "v", "entity": "e", "columns": ["text", "small", "yes", "ratio", "tags", "part"]}
    narrow, wide = (each.model_copy(update={"features": spec(features=[view]).features}) for each in (narrow, spec()))
    after = '{"text": 1.50, "small": 5, "yes": true, "ratio": "NaN", "tags": ["x", null], "part": [1, null]}'
    nulls = '{"text": null, "yes": null, "ratio": null, "tags": [], "part": null}'
    values = [upsert(after, key='{"id": 1}'), upsert(nulls, key='{"id": 2}', unavailable='["small"]')]

    assert rows_of(narrow, *values) == older_rows(wide, *values)
    assert ["1.50", 5, "true", "NaN", '["x", null]', "[1, null]"] == list(older_rows(wide, *values)[0][3:])
    assert rows_of(spec(), upsert('{"text": "a"}')) == older_rows(spec(), upsert('{"text": "a"}'))


@pytest.mark.parametrize(
    "broken", [upsert('{"text": 1}', key='{"id": null}'), upsert('{"small": "5"}'), b'{"op": 5}', b"[" * 100_000, b"x"]
)
def test_what_no_older_version_wrote_is_refused(broken: bytes) -> None:
    """By its index."""
    with pytest.raises(PoisonRecord, match="record 1"):
        older_rows(spec(), upsert('{"text": 1}'), broken)


def test_an_older_form_without_leave_is_refused() -> None:
    """What says the schema version of now has to be it."""
    with pytest.raises(PoisonRecord):
        rows_of(spec(), upsert('{"text": 1}'))
