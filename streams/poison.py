"""One record of a run, made into an entry of the quarantine topic; and quarantine for stages without a producer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from connectors.transport.chunk import Run
from connectors.transport.transaction import Advance, Outbox
from schemas.config import Config
from schemas.topics import TopicNames
from sinks.quarantine import Suspect, quarantine_value, reason_of

_TOPIC_CHARACTERS_MAX = 249  # Kafka's own limit


class _Origin(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    topic: Annotated[str, msgspec.Meta(max_length=_TOPIC_CHARACTERS_MAX)]
    generation: int
    partition: int
    offset: int
    row: int = 0


class _Source(msgspec.Struct):
    origin: _Origin


class _Sourced(msgspec.Struct):
    source: _Source


def quarantined(
    config: Config,
    run: Run,
    error: BaseException,
    *,
    stage: str,
    table: str | None,
    at: float,
    index: int = 0,
    generation: int = 0,
) -> bytes:
    """Return the entry of one record of `run`; a change of the contract keeps the origin that it had at first."""
    value = run.values()[index]
    read_at = _Origin(run.topic, generation, run.partition, run.offsets()[index])
    # Only on our own topics does a record say where it was read at first: a source's could name any place.
    ours = run.topic.startswith(f"{config.kafka.topic_prefix}.")
    origin = (_origin_of(value) if ours else None) or read_at
    place = (origin.topic, origin.generation, origin.partition, origin.offset)
    record = Suspect(place, run.keys()[index], value, run.headers(index), origin.row)
    limit = config.kafka.message_bytes_max
    return quarantine_value(error, record, stage=stage, table=table, at=at, message_bytes_max=limit)


class Quarantine:
    """Puts single records of the contract on the quarantine topic, for stages that write no topic of their own."""

    def __init__(
        self, config: Config, *, names: TopicNames, stage: Any, writer: Any, clock: Callable[[], float] = time.time
    ) -> None:
        """`writer` is a plain one: after a crash a record may be put there again, under the same origin."""
        self._config, self._names, self._stage, self._writer, self._clock = config, names, stage, writer, clock
        self._open = False
        self.counts: Counter[str] = Counter()

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

    async def close(self) -> None:
        """Close the producer, if one was opened."""
        if self._open:
            await self._writer.close()
            self._open = False


def _origin_of(value: bytes | None) -> _Origin | None:
    """Return where a change of the contract came from at first, None for anything else."""
    try:
        return msgspec.json.decode(value or b"", type=_Sourced).source.origin
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # it is in quarantine because it cannot be read
        return None
