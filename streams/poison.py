"""One record of a run, made into an entry of the quarantine topic; and quarantine for stages without a producer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from connectors.formats.base import Records
from connectors.transport.chunk import Headers, Run
from connectors.transport.transaction import Advance, Outbox
from schemas.change import HEADER_FIRST_ORIGIN, HEADER_MEMORY, HEADER_TIME
from schemas.config import Config
from schemas.topics import TopicNames
from sinks.quarantine import Seal, Suspect, quarantine_value, reason_of

_TOPIC_CHARACTERS_MAX = 249  # Kafka's own limit
_TIME_DIGITS_MAX = 18

Origin = tuple[Annotated[str, msgspec.Meta(max_length=_TOPIC_CHARACTERS_MAX)], int, int, int]


class _Place(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    topic: Annotated[str, msgspec.Meta(max_length=_TOPIC_CHARACTERS_MAX)]
    generation: int
    partition: int
    offset: int
    row: int = 0

    @property
    def of_record(self) -> Origin:
        """The origin of the record."""
        return self.topic, self.generation, self.partition, self.offset


class _Source(msgspec.Struct):
    origin: _Place
    first_origin: _Place | None = None


class _Sourced(msgspec.Struct):
    source: _Source


def quarantined(  # noqa: PLR0913 - what an entry says, each by name
    config: Config,
    run: Records,
    error: BaseException,
    *,
    stage: str,
    table: str | None,
    at: float,
    index: int = 0,
    generation: int = 0,
    topic_id: str = "",
    seal: Seal | None = None,
) -> bytes:
    """Return the entry of one record of `run`; a change of the contract keeps the origin that it had at first.

    So does a redriven or parked record, and it has its own headers again, so that it can be redriven once more. With a
    `seal` nothing that the record holds is to be read there without a key. `topic_id` is that of the topic of `run`.
    """
    value, headers = run.values()[index], list(run.headers(index) or ())
    read_at = (run.topic, generation, run.partition, run.offsets()[index])
    origin: Origin | None = None
    redriven: Origin | None = None
    row, time_ms = 0, -1
    # Only on our own topics does a record say where it was read at first: a source's could name any place.
    names = TopicNames(config.kafka.topic_prefix)
    if run.topic == names.redrive or names.parked_table(run.topic) is not None:
        time_ms = time_at_first(headers)
        headers, origin = parted(headers)
        redriven = read_at
    elif run.topic.startswith(f"{config.kafka.topic_prefix}."):
        origin, redriven, row = _origin_of(value)
    else:
        time_ms = run.time_ms(index)
    life = "" if origin is not None else topic_id  # of what was read elsewhere at first nobody knows it here
    record = Suspect(origin or read_at, run.keys()[index], value, headers, redriven, row, time_ms, topic_id=life)
    limit = config.kafka.message_bytes_max
    return quarantine_value(error, record, stage=stage, table=table, at=at, message_bytes_max=limit, seal=seal)


class Quarantine:
    """Puts single records of the contract on the quarantine topic, for stages that write no topic of their own."""

    def __init__(
        self, config: Config, *, names: TopicNames, stage: Any, writer: Any, clock: Callable[[], float] = time.time
    ) -> None:
        """`writer` is a plain one: after a crash a record may be put there again, under the same origin."""
        self._config, self._names, self._stage, self._writer, self._clock = config, names, stage, writer, clock
        self._open = False
        self.counts: Counter[str] = Counter()
        self.by_table: Counter[tuple[str, str]] = Counter()

    async def put(self, run: Run, error: BaseException) -> None:
        """Put the run's one record in quarantine; it is durable on return."""
        if not self._open:
            await self._writer.start()
            self._open = True
        table = self._names.table_of(run.topic)

        def work(outbox: Outbox, live: Sequence[Run]) -> list[Advance]:
            for one in live:
                entry = quarantined(self._config, one, error, stage=self._stage.name, table=table, at=self._clock())
                outbox.produce(self._names.quarantine, None, None, entry, None)
            return []

        await self._writer.write([run], work)
        self.counts[f"quarantined_{reason_of(error)}"] += 1
        self.by_table[table, reason_of(error)] += 1

    async def close(self) -> None:
        """Close the producer, if one was opened."""
        if self._open:
            await self._writer.close()
            self._open = False


def parted(headers: Headers) -> tuple[Headers, Origin | None]:
    """Return the headers that a redriven or parked record had at first, and where it was read then.

    The second is None if it does not say.
    """
    begin, end = _ours(headers)
    try:
        origin = msgspec.json.decode(headers[end - 1][1] or b"", type=Origin) if end else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        origin = None
    return (headers, None) if origin is None else ([*headers[:begin], *headers[end:]], origin)


def time_at_first(headers: Headers) -> int:
    """Return the time that a redriven or parked record had where it was read at first, in milliseconds.

    It is -1 where nobody knows: of a record that Kafka had no time of, or that was put aside by an older release.
    """
    begin, end = _ours(headers)
    name, text = headers[begin] if begin < end else ("", None)
    digits = (text or b"") if name == HEADER_TIME else b""
    return int(digits) if digits.isdigit() and len(digits) <= _TIME_DIGITS_MAX else -1


def time_header(time_ms: int) -> Headers:
    """Return the header that says the time of a record that goes to a topic of ours; none where there is no time."""
    return [(HEADER_TIME, b"%d" % time_ms)] if time_ms >= 0 else []


def _ours(headers: Headers) -> tuple[int, int]:
    """Return from where up to where those stand that a redriven or parked record got from us; (0, 0) without any."""
    for at in range(len(headers) - 1, -1, -1):  # ours is the last of its name: a source may have one, too
        if headers[at][0] == HEADER_FIRST_ORIGIN:
            begin = at
            for name in (HEADER_MEMORY, HEADER_TIME):  # the first is there where a table was parked
                begin -= begin > 0 and headers[begin - 1][0] == name
            return begin, at + 1
    return 0, 0


def _origin_of(value: bytes | None) -> tuple[Origin | None, Origin | None, int]:
    """Return where a change of the contract was read at first, where again (None: it was not), and its number."""
    try:
        source = msgspec.json.decode(value or b"", type=_Sourced).source
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # it is in quarantine because it cannot be read
        return None, None, 0
    read_at, first = source.origin, source.first_origin
    if first is None:
        return read_at.of_record, None, read_at.row
    return first.of_record, read_at.of_record, read_at.row
