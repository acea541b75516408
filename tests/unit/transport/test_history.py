"""Whether a partition is the one that was read before: every way in which Kafka forgets, and what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from connectors.transport.book import read_record, record_of
from connectors.transport.chunk import Assignment
from connectors.transport.history import Key, Known
from connectors.transport.lane import LaneSettings
from connectors.transport.resolve import Committed, Resolver
from connectors.transport.settings import ConsumerSettings
from schemas.errors import ConfigurationError, SourceMoved
from schemas.table import Decision
from tests.unit.transport.fakes import Events


@dataclass
class World:
    """A broker that knows topic `t`, a book, what was decided, and what became of partition 0, or the one asked for."""

    id: str = "new"
    log: tuple[int, int] = (0, 100)
    offset: int | None = None
    metadata: str = ""
    kept: dict[int, Known] = field(default_factory=dict)
    decision: Decision | None = None
    of_another: Decision | None = None  # of another table that reads the topic
    rereads: bool = True
    partition: int = 0
    start: str = "earliest"
    goes_on: bool = False
    chosen: int | SourceMoved | None = None  # where the stage wants to begin
    asked: list[Assignment] = field(default_factory=list)
    regained: int | None = None
    order: list[str] = field(default_factory=list)
    written: dict[Key, Known] = field(default_factory=dict)
    events: Events = field(default_factory=Events)

    async def committed(self, group: str, keys: Iterable[Key]) -> Mapping[Key, Committed]:
        assert group == "g"
        return {key: Committed(self.offset, self.metadata) for key in keys}

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(topics, self.id)

    async def watermarks(self, keys: Iterable[Key]) -> Mapping[Key, tuple[int, int]]:
        return dict.fromkeys(keys, self.log)

    async def of_topics(self, topics: Iterable[str], *, fresh: bool) -> Mapping[str, Mapping[int, Known]]:
        assert fresh == (self.offset is None)
        return dict.fromkeys(topics, self.kept)

    async def everything(self) -> Mapping[str, Mapping[int, Known]]:
        return {"t": self.kept}

    async def keep(self, known: Mapping[Key, Known]) -> None:
        self.order.append("kept")
        self.written |= known

    async def resolve(self) -> tuple[Assignment, int | SourceMoved]:
        """Resolve the partition; return it and its start."""
        found: dict[Assignment, int | SourceMoved] = {}

        async def commit_first(those: Mapping[Assignment, int | SourceMoved]) -> None:
            new = [each for each, start in those.items() if each.committed is None and isinstance(start, int)]
            self.order += ["committed"] * len(new)

        async def apply(those: Mapping[Assignment, int | SourceMoved]) -> None:
            self.order.append("begun")
            found.update(those)

        async def starts(those: list[Assignment]) -> Mapping[Assignment, int | SourceMoved]:
            self.asked += those
            return {} if self.chosen is None else dict.fromkeys(those, self.chosen)

        async def regains(lost: list[Assignment]) -> Mapping[Assignment, int]:
            assert lost, "nobody is asked for nothing"
            return {} if self.regained is None else dict.fromkeys(lost, self.regained)

        settings = LaneSettings(
            book=self, decided=lambda _: list(filter(None, (self.of_another, self.decision))), rereads=self.rereads,
            start=self.start, goes_on=self.goes_on, starts=starts, regains=regains,
        )  # fmt: skip
        resolver = Resolver(ConsumerSettings(bootstrap="b", group="g"), self, commit_first, apply, self.events)
        await resolver.resolve("main", settings, [mine := Assignment("main", "t", self.partition)])
        return mine, found[mine]


def anew(generation: int = 1, **said: Any) -> Decision:
    """A decision about the topic as it is now."""
    return Decision(topic_id="new", generation=generation, **said)


NOTHING_KEPT: dict[int, Known] = {}
READ = {0: Known("new", 0)}
OF_OLD = {0: Known("old", 0)}


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        (World(kept=OF_OLD), "topic_made_anew"),  # deleted and made anew: Kafka dropped the offset
        (World(kept=READ), "offsets_lost"),
        (World(kept=OF_OLD, partition=3), "topic_made_anew"),  # with more partitions than before
        (World(offset=7, metadata="v1 old 0", kept=OF_OLD), "topic_made_anew"),
        (World(offset=7, metadata="v1 new 0", kept=READ, log=(9, 100)), "offset_below_log"),
        (World(offset=107, metadata="v1 new 0", kept=READ), "offset_above_log"),
        # Decided about another life of the topic, or before what happened now.
        (World(kept=OF_OLD, decision=Decision(topic_id="other", generation=1)), "topic_made_anew"),
        (World(kept={0: Known("new", 1)}, decision=anew()), "offsets_lost"),
        (World(kept={0: Known("old", 1)}, decision=anew()), "topic_made_anew"),
        (
            World(
                offset=8, metadata="v1 new 0", kept=READ, log=(9, 100), decision=anew(0, gaps={0: 7})
            ),
            "offset_below_log",
        ),
    ],
)  # fmt: skip
async def test_what_is_not_as_it_was_stops_with_the_reason_and_is_never_a_first_start(
    world: World, reason: str
) -> None:
    """Whatever Kafka has forgotten; nothing is committed, kept or read, and the hint names the verb."""
    _, start = await world.resolve()

    assert isinstance(start, SourceMoved)
    assert (reason, True) == (start.reason, "headgate tables resume TABLE --" in start.hint)
    assert ({}, 0) == (world.written, world.order.count("committed"))


@pytest.mark.parametrize(
    ("world", "start", "generation"),
    [
        (World(), 0, 0),
        (World(start="latest"), 100, 0),
        (World(start="latest", kept=READ, partition=3, log=(5, 100)), 5, 0),  # added to a topic that is read
        (World(kept={0: Known("new", 2)}, partition=3), 0, 2),
        (World(offset=7, metadata="v1 new 0", kept=READ), 7, 0),
        (World(offset=7, metadata="v1 new 0"), 7, 0),  # of an older version, or dead before it could keep anything
        # Decided.
        (World(kept=OF_OLD, decision=anew()), 0, 1),
        (World(kept=READ, decision=anew(start="latest")), 100, 1),
        (World(kept=READ, decision=anew(start={0: 40})), 40, 1),
        (World(offset=7, metadata="v1 old 0", kept=OF_OLD, decision=anew()), 0, 1),  # as a running worker left it
        (World(offset=107, metadata="v1 new 0", kept=READ, decision=anew()), 0, 1),
        (World(kept=READ, partition=3, decision=anew(start="latest")), 0, 1),  # added: it was never read
        (World(offset=9, metadata="v1 new 1", kept={0: Known("new", 1)}, decision=anew()), 9, 1),  # already
        (World(offset=7, metadata="v1 new 0", kept=READ, decision=anew()), 0, 1),
        (World(offset=7, metadata="v1 new 0", kept=READ, decision=anew(), rereads=False), 7, 1),
        (World(offset=7, metadata="v1 old 0", kept=OF_OLD, decision=anew(), rereads=False), 0, 1),
        # Also for another table of the topic.
        (World(kept=OF_OLD, decision=anew(1), of_another=anew(2)), 0, 2),
        (World(kept=OF_OLD, decision=anew(), of_another=Decision(topic_id="other", generation=2)), 0, 1),
    ],
)
async def test_where_a_partition_begins_and_in_which_generation(world: World, start: int, generation: int) -> None:
    """Where it stood, where a first start begins, or where somebody decided; which is kept before a record is read."""
    mine, found = await world.resolve()

    kept = {**{("t", number): known for number, known in world.kept.items()}, **world.written}
    assert (start, generation, "new") == (found, mine.generation, mine.topic_id)
    assert Known("new", generation) == kept["t", world.partition]
    assert ["committed", "kept", "begun"][world.offset is not None and mine.committed is not None :] == world.order


@pytest.mark.parametrize(("start", "expected"), [("earliest", 9), ("latest", 100), ({0: 50}, 50), ({0: 3}, 9)])
async def test_a_gap_that_somebody_accepted_is_passed_and_said(start: Any, expected: int) -> None:
    """In the generation that it was read in; the gap is the one that was named, behind the committed offset."""
    world = World(
        offset=7, metadata="v1 new 0 said", kept=READ, log=(9, 100), decision=anew(0, start=start, gaps={0: 7})
    )
    mine, found = await world.resolve()

    assert (expected, 0, (7, expected), "said") == (found, mine.generation, mine.gap, mine.metadata)
    assert [("gap_accepted", {"topic": "t", "partition": 0, "from": 7, "records": expected - 7})] == world.events.said


@pytest.mark.parametrize(
    ("of_another", "expected"),
    [
        (anew(2), 50),  # by which it is being read in this generation
        (anew(3, gaps={0: 3}), 50),  # of before, which a higher generation may have told of
        (anew(2, gaps={0: 7}), 9),  # the same: that table is to have what is there
        (anew(2, gaps={0: 7}, start="latest"), 50),
    ],
)
async def test_a_gap_is_accepted_for_one_table_of_a_topic_whatever_was_decided_for_another(
    of_another: Decision, expected: int
) -> None:
    """Else it would be asked for again, and again in vain; nothing is passed over that one of them is to have."""
    reads = {0: Known("new", 3)}
    decision = anew(2, start={0: 50}, gaps={0: 7})
    world = World("new", (9, 100), 7, "v1 new 3", reads, decision, of_another)
    mine, found = await world.resolve()

    assert (expected, 3, (7, expected)) == (found, mine.generation, mine.gap)


@pytest.mark.parametrize(
    ("offset", "metadata", "generation"),
    [(7, "v1 old 2", 3), (None, "", 1), (2, "v1 new 0", 1), (107, "v1 new 0", 1)],
)
async def test_a_lane_that_goes_on_begins_where_the_log_does_and_says_so(
    offset: int | None, metadata: str, generation: int
) -> None:
    """What NOTIFY sends again has the same id, and there is nobody to decide otherwise."""
    world = World(offset=offset, metadata=metadata, kept=READ, log=(5, 100), goes_on=True)
    mine, found = await world.resolve()

    assert (5, generation, "new") == (found, mine.generation, mine.topic_id)
    assert (["committed", "kept", "begun"], ["source_moved"]) == (world.order, world.events.names())


@pytest.mark.parametrize(
    ("kept", "regained", "found", "generation", "said"),
    [
        ({0: Known("new", 2)}, 42, 42, 2, ["offset_regained"]),
        ({0: Known("new", 2)}, 100, 100, 2, ["offset_regained"]),  # all of it was read
        ({0: Known("new", 2)}, 3, 5, 3, ["offset_regained", "source_moved"]),  # retention took more
        ({0: Known("new", 2)}, None, 5, 3, ["source_moved"]),  # nothing of it went out
        ({0: Known("old", 2)}, 42, 5, 3, ["source_moved"]),  # it is another topic
    ],
)
async def test_a_lane_that_knows_by_itself_where_it_stands_needs_no_offset(
    kept: dict[int, Known], regained: int | None, found: int, generation: int, said: list[str]
) -> None:
    """It goes on there in the same generation: read from the beginning, all of it would go out a second time."""
    world = World(kept=kept, log=(5, 100), goes_on=True, regained=regained)
    mine, start = await world.resolve()

    assert (found, generation, "new", said) == (start, mine.generation, mine.topic_id, world.events.names())
    assert ["committed", "kept", "begun"] == world.order


def test_an_entry_of_the_book_is_read_as_it_was_written() -> None:
    """Also of topics with odd names."""
    key, known = ('a"b.ü', 3), Known("id", 2)

    assert (key, known) == read_record(*record_of(key, known))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"t", b'{"v":1,"id":"x","generation":0}'),
        (b'["t"]', b'{"v":1,"id":"x","generation":0}'),
        (b'["t",0]', b"{}"),
        (b'["t",0]', b'{"v":1,"id":"x","generation":"0"}'),
        (b'["t",0]', b'{"v":2,"id":"x","generation":0}'),
    ],
)
def test_an_entry_that_cannot_be_read_ends_the_worker(key: bytes, value: bytes) -> None:
    """Going on without it would be the silent jump that it is there against."""
    with pytest.raises(ConfigurationError):
        read_record(key, value)


@pytest.mark.parametrize("chosen", [None, 17])
async def test_the_stage_takes_up_a_topic_made_anew_that_is_gone_on_with(chosen: int | None) -> None:
    """It loads what it keeps of the partition there; the record to begin at is the log's first all the same."""
    world = World(kept=OF_OLD, goes_on=True, chosen=chosen, log=(3, 100))
    mine, start = await world.resolve()

    assert ([mine], 3, 1) == (world.asked, start, mine.generation)


async def test_a_stage_that_cannot_take_it_up_holds_what_is_gone_on_with() -> None:
    """What it keeps of it cannot be read."""
    trouble = SourceMoved("state_unreadable", "of a newer release")
    world = World(kept=OF_OLD, goes_on=True, chosen=trouble)
    _, start = await world.resolve()

    assert start is trouble
