"""The changes of one table as an iterator: a consumer, the subscriber's rule, and what is kept of both.

Kept are, by partition of the output topic, the next offset and the highest change seen of each origin stream: in
memory, and by `commit()` as one text beside the group's offset, so that one never says more than the other. Whoever is
given a partition, after a rebalance or a restart, goes on by that text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from confluent_kafka import Message

from headgate.client.decoding import EventDecoder
from headgate.client.errors import GapFound, NotInGroup
from headgate.client.events import Change, Event, Gap
from headgate.client.reading import Reading
from headgate.client.rule import Told, read_place
from schemas.contract import Contract, read_contract
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from headgate.client.avro import AvroReader

Start = Literal["earliest", "latest"]
OnGap = Callable[[Gap], None]
_PLACES = "give what places() said"


def changes(  # noqa: PLR0913 - each is another thing that a subscriber may say
    contract: Contract | str | Path,
    *,
    bootstrap: str,
    group: str | None = None,
    partitions: Collection[int] | None = None,
    start: Start | Mapping[int, str] = "earliest",
    on_gap: OnGap | None = None,
    idle_seconds: float | None = None,
    topic: str | None = None,
    settings: Mapping[str, Any] | None = None,
    registry: str | Mapping[str, Any] | None = None,
) -> Changes:
    """Return the changes of one table, from where the group stands, or from `start`. Nothing is read yet.

    With a `group` alone its members share the topic's partitions. With `partitions` these are read, whoever else does,
    and `group` only says where `commit()` keeps where one stands; without both all partitions are read.

    Args:
        contract: the contract, or the file that has it: `TABLE.value.schema.json`, as `headgate contract` writes it.
        bootstrap: addresses of the broker, as `host:port,host:port`.
        group: the consumer group. Its committed offsets go before `start`.
        partitions: the partitions to read, instead of those that the group gives.
        start: where a partition begins of which nothing is committed: `earliest`, `latest`, or what `places()` said of
            it (then a partition that is not named begins at the earliest). `latest` is settled by the first `commit()`:
            until then whoever takes the partition over begins at its own latest.
        on_gap: called with each gap; without it `GapFound` is raised.
        idle_seconds: end the iteration when nothing came for so long, which may be taken up again; None: wait for ever.
        topic: the output topic, where it is not the contract's.
        settings: more settings of librdkafka, such as those of TLS and SASL.
        registry: the schema registry, for changes in Avro: its address, or the settings that `registry` of Headgate's
            configuration has. With it both forms are read, for a topic may have both.

    Raises:
        ConfigurationError: the contract or a place cannot be read, a setting is one that the promise depends on, or the
            table's changes are Avro and no registry was named.
    """
    if not isinstance(contract, Contract):
        contract = _contract_in(Path(contract))
    avro = _avro_reader(contract, registry)
    name = topic or contract.topic
    if not name:
        raise ConfigurationError("the contract names no topic", hint="name it with topic=")
    first = start if isinstance(start, str) else "earliest"
    places = {} if isinstance(start, str) else dict(start)
    for number, text in places.items():
        if read_place(text).offset is None:
            raise ConfigurationError(f"start: what stands there of partition {number} is no place", hint=_PLACES)
    reading = Reading(
        name,
        bootstrap=bootstrap,
        group=group,
        partitions=partitions,
        start=first,
        places=places,
        settings=settings or {},
    )
    return Changes(contract, reading, on_gap=on_gap, idle_seconds=idle_seconds, avro=avro)


def _avro_reader(contract: Contract, registry: str | Mapping[str, Any] | None) -> AvroReader | None:
    if registry is None:
        if contract.format == "avro":
            raise ConfigurationError(
                f"the changes of {contract.table} are Avro, and no schema registry was named",
                hint="give registry=, the address of the one that Headgate's configuration names",
            )
        return None
    from headgate.client.avro import AvroReader  # noqa: PLC0415 - fastavro and HTTP are for those who need them
    from headgate.client.registry import Registry  # noqa: PLC0415

    return AvroReader(Registry(registry))


def _contract_in(path: Path) -> Contract:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be read: {type(exc).__name__}", hint="`headgate contract TABLE --out DIR` writes it"
        ) from exc
    return read_contract(data, name=str(path))


class Changes:
    """An iterator of `Change`, `Floor` and `Tombstone`; made by `changes`, for one thread.

    Processed is what you say: whatever was given since the last `commit()` comes again after a crash, or to the member
    of the group that is given its partition. To have an effect once, keep what `places()` says in the same transaction
    as your effect, and begin there with `start=`; or keep each change's `origin` with what it made.
    """

    def __init__(
        self,
        contract: Contract,
        reading: Reading,
        *,
        on_gap: OnGap | None,
        idle_seconds: float | None,
        avro: AvroReader | None = None,
    ) -> None:
        """Give what `reading` reads, by `contract`; `avro` reads what is no JSON."""
        self.contract = contract
        self.repeats = 0  # how many changes the rule dropped
        self._reading, self._on_gap, self._idle_seconds = reading, on_gap, idle_seconds
        self._decoder = EventDecoder(contract, avro)
        self._buffer: deque[Message] = deque()
        self._told: tuple[int, int] | None = None  # partition and offset of the change whose gap was raised

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """Return the next event; wait for it.

        Raises:
            GapFound: something is missing before it. The next call returns it.
            ContractMismatch: it is not what the contract says. The next call tries it again.
            RegistryUnavailable: the schema of a change in Avro cannot be had now. The next call tries it again.
            PlaceLost, SourceUnavailable, ConfigurationError: reading cannot go on.
        """
        while True:
            message = self._head()
            if message is None:
                raise StopIteration
            event = self._taken(message)
            if event is not None:
                return event

    def commit(self) -> None:
        """Commit all that was given so far, and return once Kafka has it. Partitions that were taken away are left out.

        Raises:
            CommitRefused: the group is being shared out anew; what was not committed comes again.
            SourceUnavailable: Kafka does not answer.
            NotInGroup: no `group` was named.
        """
        if self._reading.group is None:
            raise NotInGroup("there is no group to commit to", hint="name a group, or keep what places() says yourself")
        self._reading.commit()

    def places(self) -> dict[int, str]:
        """Return where the partitions stand that are read here, behind all that was given: `start=` takes it."""
        return {number: place.text() for number, place in self._reading.held.items() if place.offset is not None}

    def close(self) -> None:
        """Leave the group, at once; what was not committed comes again. The iteration ends."""
        self._buffer.clear()
        self._reading.close()

    def _head(self) -> Message | None:
        """Return the next record, which stays the next one; None once nothing came for `idle_seconds`."""
        ends = None if self._idle_seconds is None else monotonic() + self._idle_seconds
        while not self._buffer and not self._reading.closed:
            self._buffer.extend(self._reading.fetch(ends))
            if not self._buffer and ends is not None and monotonic() >= ends:
                return None
        return self._buffer[0] if self._buffer else None

    def _taken(self, message: Message) -> Event | None:
        """Return what a record is and go on behind it; None for a repeat."""
        event = self._decoder.decode(message)
        place = self._reading.held[event.partition]
        if isinstance(event, Change):
            told = place.judge(event.origin, event.previous, event.rows)
            if isinstance(told, Gap):
                self._tell(told, event)
            if told is not Told.REPEAT:
                place.take(event.origin, event.rows)
        else:
            told = Told.NEXT
        place.offset = event.offset + 1
        self._buffer.popleft()
        if told is Told.REPEAT:
            self.repeats += 1
            return None
        return event

    def _tell(self, gap: Gap, event: Change) -> None:
        """Tell of a gap once: the event behind it is still the next one meanwhile."""
        at = (event.partition, event.offset)
        if self._told == at:
            return
        self._told = at
        if self._on_gap is None:
            raise GapFound(self._reading.topic, gap)
        self._on_gap(gap)
