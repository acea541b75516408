"""What a worker found of its tables' columns: one record of its own, in force before its topics are read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from schemas.errors import HeadgateError, SourceUnavailable, TableStopped
from schemas.evolution import Evolved, Found
from schemas.table import TableEntry
from streams import evolutions
from streams.evolutions import REVISIONS_MAX, Evolutions
from streams.evolving import TableEvolves
from streams.tables import TableDirectory
from tests.unit.streams.test_evolved_tables import COLUMNS, entry_of, found, record, tables_of


class Consumer:
    """Notes what is asked of the transport."""

    def __init__(self) -> None:
        """Have been asked nothing."""
        self.resumed: list[str] = []
        self.paused: dict[str, HeadgateError | str] = {}

    async def pause(self, topic: str, reason: str | HeadgateError) -> None:
        """Note a pause."""
        self.paused[topic] = reason

    async def resume(self, topic: str) -> None:
        """Note a resume."""
        self.resumed.append(topic)


class Topic:
    """The tables' topic: what is written is read a moment later, unless the broker is away so many times."""

    def __init__(self, tables: TableDirectory, away: int = 0) -> None:
        """Have nothing written."""
        self.tables, self.away, self.written = tables, away, list[Evolved]()
        self.loop = asyncio.get_running_loop()

    def write(self, evolved: Evolved) -> None:
        """Write one record; called on another thread."""
        if self.away:
            self.away -= 1
            raise SourceUnavailable("nobody there", hint="wait")
        self.written.append(evolved)
        self.loop.call_soon_threadsafe(self.tables.update, {evolved.key: evolved.encoded()})


Case = Callable[[Evolutions, Topic, Consumer], Awaitable[None]]


def run(case: Case, entry: TableEntry | None = None, *, away: int = 0, before: int = 0) -> tuple[Topic, Consumer]:
    """Run a case to the end of all that it began; the slot has written `before` times already."""

    async def main() -> tuple[Topic, Consumer]:
        tables, consumer = tables_of(entry or entry_of(COLUMNS)), Consumer()
        if before:
            tables.update(record("w-0", before, {"old": [found("string")]}))
        topic = Topic(tables, away)
        ours = Evolutions("w-0", tables, consumer, topic.write)
        async with asyncio.timeout(30):
            await case(ours, topic, consumer)
            while any(not task.done() for task in ours._tasks.values()):  # noqa: ASYNC110, SLF001 - nobody tells of it
                await asyncio.sleep(0.01)
        return topic, consumer

    return asyncio.run(main())


def stop(**columns: Found) -> TableEvolves:
    """Return why a table waits."""
    return TableEvolves("t", columns)


def test_what_several_partitions_find_at_once_is_one_record() -> None:
    """And each of their topics goes on once it is in force."""

    async def case(ours: Evolutions, _: Topic, consumer: Consumer) -> None:
        ours.begin("s", stop(note=found("string")))
        ours.begin("s", stop(note=found("string"), visits=found("long", "int")))
        ours.begin("r", stop(more=found("boolean")))
        assert [] == consumer.resumed

    topic, consumer = run(case)

    assert 1 == len(topic.written)
    assert {"note", "visits", "more"} == topic.written[0].columns.keys()
    assert ["r", "s"] == consumer.resumed
    assert {"note", "more"} <= topic.tables["t"].spec.columns.keys()
    assert all(each.since for some in topic.written[0].columns.values() for each in some)


def test_a_broker_that_is_away_is_waited_for() -> None:
    """Nothing is read again before what was found is durable."""
    evolutions_again = evolutions._AGAIN_SECONDS  # noqa: SLF001 - not waited for in a test
    evolutions._AGAIN_SECONDS = 0.01  # noqa: SLF001 - the same
    try:

        async def case(ours: Evolutions, _: Topic, __: Consumer) -> None:
            ours.begin("s", stop(note=found("string")))

        topic, consumer = run(case, away=3)
    finally:
        evolutions._AGAIN_SECONDS = evolutions_again  # noqa: SLF001 - the same

    assert (0, 1, ["s"]) == (topic.away, len(topic.written), consumer.resumed)


def test_a_record_holds_what_its_slot_found_before() -> None:
    """It takes the place of the last one, and its revision is the next."""

    async def case(ours: Evolutions, _: Topic, __: Consumer) -> None:
        ours.begin("s", stop(note=found("string")))

    topic, _ = run(case, before=4)

    assert {"old", "note"} == topic.written[0].columns.keys()
    assert 5 == topic.written[0].revision


def test_what_comes_while_a_table_evolves_comes_round_once_more() -> None:
    """Nothing that was found is forgotten, and no topic waits for ever."""

    async def case(ours: Evolutions, topic: Topic, consumer: Consumer) -> None:
        ours.begin("s", stop(note=found("string")))
        while not topic.written:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)
        ours.begin("r", stop(more=found("boolean")))
        while "r" not in consumer.resumed:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)

    topic, consumer = run(case)

    assert {"note", "more"} <= topic.tables["t"].spec.columns.keys()
    assert {"r", "s"} == set(consumer.resumed)


def test_a_topic_of_two_tables_waits_for_both() -> None:
    """It is read again by the last of them."""

    async def case(ours: Evolutions, topic: Topic, consumer: Consumer) -> None:
        topic.tables.update({b"u": entry_of(COLUMNS).model_copy(update={"spec": entry_of(COLUMNS).spec.model_copy(
            update={"table": "u"})}).model_dump_json().encode()})  # fmt: skip
        ours.begin("s", stop(note=found("string")))
        ours.begin("s", TableEvolves("u", {"note": found("string")}))

    topic, consumer = run(case)

    assert ["s"] == consumer.resumed
    assert {"t", "u"} == {each.table for each in topic.written}


def test_a_table_that_changes_all_the_time_is_paused() -> None:
    """With what to do about it; the record before stays as it is."""

    async def case(ours: Evolutions, _: Topic, __: Consumer) -> None:
        ours.begin("s", stop(note=found("string")))

    topic, consumer = run(case, before=REVISIONS_MAX)

    assert [] == topic.written
    assert [] == consumer.resumed
    assert isinstance(consumer.paused["s"], TableStopped)
    assert "cannot_evolve" == consumer.paused["s"].reason
    assert "quarantine" in consumer.paused["s"].hint


def test_a_removed_table_is_not_waited_for() -> None:
    """Its topic is nobody's now; nothing is written for it."""

    async def case(ours: Evolutions, topic: Topic, __: Consumer) -> None:
        topic.tables.update({b"t": None})
        ours.begin("s", stop(note=found("string")))

    topic, consumer = run(case)

    assert [] == topic.written
    assert ["s"] == consumer.resumed


def test_each_time_of_many_waits_longer_for_more_to_be_found() -> None:
    """At once at first, and never longer than some seconds."""

    async def waits() -> list[float]:
        ours = Evolutions("w-0", TableDirectory(), Consumer(), print, clock=lambda: 1_000.0)
        return [ours._gathering("t") for _ in range(8)]  # noqa: SLF001 - what is asked

    assert [0.0, 0.25, 0.75, 1.75, 3.75, 4.0, 4.0, 4.0] == asyncio.run(waits())


def test_a_worker_that_ends_leaves_what_is_under_way() -> None:
    """Whoever reads the record next finds it again."""

    async def case(ours: Evolutions, topic: Topic, __: Consumer) -> None:
        topic.away = 1_000_000
        ours.begin("s", stop(note=found("string")))
        await asyncio.sleep(0.05)
        await ours.close()

    topic, consumer = run(case)

    assert ([], []) == (topic.written, consumer.resumed)
