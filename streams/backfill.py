"""A backfill: a connector is told to read a table's rows again, and says how far it is. Nothing of a row is shown."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors.sources.signalling import write_signal
from connectors.transport.following import ends_of, follow
from connectors.transport.producer import plain_outbox
from connectors.transport.scan import scan_between
from schemas.config import Config
from schemas.errors import ConfigurationError, PoisonRecord, SourceUnavailable, TableStopped
from schemas.signals import Signals
from schemas.table import TableSpec
from streams.registration import open_admin
from streams.settings import client_settings

WHERE_CHARACTERS_MAX = 10_000
PATIENCE_SECONDS = 120.0
NOTICES_BACK = 1_000  # how far before its end the notifications are searched for a backfill that is under way

INCREMENTAL, BLOCKING = "INCREMENTAL", "BLOCKING"
SUCCEEDED = frozenset({"SUCCEEDED", "EMPTY", None})
STARTED, SCANNED, COMPLETED, ABORTED = "STARTED", "TABLE_SCAN_COMPLETED", "COMPLETED", "ABORTED"
_ENDS = frozenset({COMPLETED, ABORTED})
_AGGREGATES = {INCREMENTAL: "Incremental Snapshot", BLOCKING: "Initial Snapshot"}


@dataclass(frozen=True, slots=True)
class Signal:
    """What a connector is told: an id, a type of Debezium's, and its data as JSON."""

    id: str
    type: str
    data: str


class Notice(msgspec.Struct, frozen=True):
    """What a connector said: of which signal, what happened, and how many rows and chunks of how many are read."""

    id: str
    aggregate: str
    status: str
    at_ms: int = 0
    collection: str = ""
    outcome: str | None = None
    rows: int | None = None
    rows_total: int | None = None
    chunk: int | None = None
    chunks: int | None = None


class _Said(msgspec.Struct):
    id: str
    type: str
    aggregate_type: str
    additional_data: dict[str, str | None] | None = None
    timestamp: int = 0


class _Wrapped(msgspec.Struct):
    payload: _Said


_said = msgspec.json.Decoder(_Said).decode
_wrapped = msgspec.json.Decoder(_Wrapped).decode


def collection_of(spec: TableSpec) -> str:
    """Return what the connector calls a table.

    Raises:
        ConfigurationError: the spec has no signals, or does not say it.
    """
    signals = signals_of(spec)
    if (said := signals.collection or spec.source_table) is not None:
        return said
    start = f"{signals.server}."
    if len(spec.topics) == 1 and spec.topics[0].startswith(start):
        return spec.topics[0].removeprefix(start)
    raise ConfigurationError(
        f"{spec.table}: what does the connector {signals.server} call this table?",
        hint="write signals.collection into its spec, such as public.patients",
    )


def signals_of(spec: TableSpec) -> Signals:
    """Return the channels of a table's connector.

    Raises:
        ConfigurationError: the spec does not name them.
    """
    if spec.signals is None:
        raise ConfigurationError(
            f"{spec.table}: its spec does not say how its connector is told to read rows again",
            hint="add `signals: {server: TOPIC_PREFIX, topic: SIGNAL_TOPIC, notifications: TOPIC}`; docs/tables.md",
        )
    return spec.signals


def start_signal(spec: TableSpec, where: str | None, *, blocking: bool) -> Signal:
    """Return the signal that has a table read again, all of it or the rows that `where`, an SQL condition, names.

    Raises:
        ConfigurationError: the spec does not say enough, or the condition is too long.
    """
    collection = collection_of(spec)
    data: dict[str, Any] = {"data-collections": [collection], "type": BLOCKING if blocking else INCREMENTAL}
    if where is not None:
        if not 0 < len(where) <= WHERE_CHARACTERS_MAX:
            raise ConfigurationError(f"--where takes 1 to {WHERE_CHARACTERS_MAX} characters", hint="make it shorter")
        data["additional-conditions"] = [{"data-collection": collection, "filter": where}]
    return Signal(f"headgate-{uuid.uuid4().hex[:12]}", "execute-snapshot", json.dumps(data))


def stop_signal(spec: TableSpec) -> Signal:
    """Return the signal that ends the incremental snapshot of a table; raises what `start_signal` does."""
    data = {"data-collections": [collection_of(spec)], "type": INCREMENTAL}
    return Signal(f"headgate-{uuid.uuid4().hex[:12]}", "stop-snapshot", json.dumps(data))


def send(config: Config, signals: Signals, signal: Signal, source: str | None) -> None:
    """Return once a signal is where the connector reads it: in the source's table, if `source` is an address.

    Raises:
        SourceUnavailable: what it is written to does not answer.
        ConfigurationError: there is no such topic or table, or it refuses.
    """
    if source is not None:
        if signals.table is None:
            raise ConfigurationError("the spec names no signals.table", hint="leave --source out, or name it")
        write_signal(source, signals.table, (signal.id, signal.type, signal.data))
        return
    if signals.topic is None:
        raise ConfigurationError(
            "the spec names no signals.topic", hint="--source DSN writes into signals.table; or name a topic"
        )
    if not open_admin(config).describe([signals.topic]):
        raise ConfigurationError(
            f"there is no topic {signals.topic}",
            hint="the connector's signal.kafka.topic: make it with one partition, and have the connector read it",
        )
    document = {"id": signal.id, "type": signal.type, "data": json.loads(signal.data)}
    with plain_outbox(client_settings(config)) as outbox:
        outbox.produce(signals.topic, None, signals.server.encode(), json.dumps(document).encode())


def read_notice(value: bytes | None) -> Notice | None:
    """Return what a record of the notifications' topic says; None for what is none.

    Raises:
        PoisonRecord: it is a notification whose figures cannot be read.
    """
    if value is None:
        return None
    try:
        said = _said(value)
    except msgspec.MsgspecError:
        try:
            said = _wrapped(value).payload
        except msgspec.MsgspecError:
            return None
    more = said.additional_data or {}
    collection = more.get("scanned_collection") or more.get("current_collection_in_progress")
    return Notice(
        said.id,
        said.aggregate_type,
        said.type,
        said.timestamp,
        collection or more.get("data_collections") or "",
        more.get("status"),
        _count(more, "total_rows_scanned"),
        _count(more, "total_rows"),
        _count(more, "chunk_index"),
        _count(more, "total_chunks"),
    )


def _count(more: Mapping[str, str | None], name: str) -> int | None:
    text = more.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004 - digits of a 64-bit integer
        raise PoisonRecord("bad_notification", f"{name} of a notification is no number", hint="who writes it?")
    return int(text)


class Following:
    """The notifications of one backfill of a table, as they come."""

    def __init__(self, config: Config, spec: TableSpec, *, blocking: bool = False) -> None:
        """Take note of where the notifications end now: what the backfill brings comes behind.

        Raises:
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: the spec names no topic of notifications.
        """
        topic = signals_of(spec).notifications
        if topic is None:
            raise ConfigurationError(
                f"{spec.table}: its spec does not say where its connector tells how far a snapshot is",
                hint="add signals.notifications, the connector's notification.sink.topic.name; or use --no-wait",
            )
        self._topic, self._client, self._admin = topic, client_settings(config), open_admin(config)
        self._collection, self._blocking = collection_of(spec), blocking
        self._aggregate = _AGGREGATES[BLOCKING if blocking else INCREMENTAL]
        self._starts = ends_of(topic, self._admin)

    def of(
        self, signal_id: str, *, patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[Notice]:  # fmt: skip
        """Yield what the connector says of a signal that was sent since, up to the end.

        Raises:
            SourceUnavailable: nothing was heard of it for `patience_seconds`.
        """
        yield from self._live(signal_id, self._starts, patience_seconds, clock)

    def latest(
        self, *, patience_seconds: float = PATIENCE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Notice]:
        """Yield what the connector said, and says, of the backfill of the table that was begun last; as `of`.

        Raises:
            TableStopped: of none is told in the last notifications.
        """
        held = self._last_begun()
        if not held:
            raise TableStopped(
                "no_backfill",
                f"none of the last {NOTICES_BACK} notifications of {self._topic} begins one of {self._collection}",
                hint="it ended long ago, or none was begun",
            )
        yield from held
        if held[-1].status not in _ENDS:
            yield from self._live(held[0].id, self._starts, patience_seconds, clock)

    def _live(
        self, signal_id: str, starts: Mapping[int, int], patience_seconds: float, clock: Callable[[], float]
    ) -> Iterator[Notice]:
        until = clock() + patience_seconds
        for record in follow(self._topic, self._client, self._admin, starts):
            notice = read_notice(record.value) if record is not None else None
            if notice is not None and self._is_of(notice, signal_id):
                until = clock() + patience_seconds
                yield notice
                if notice.status in _ENDS:
                    return
            if clock() > until:
                raise SourceUnavailable(
                    f"{self._topic} says nothing of it for {patience_seconds:.0f} s",
                    hint="does the connector run, with signal.enabled.channels and notification.enabled.channels set, "
                    "and is this its notification.sink.topic.name?",
                )

    def _last_begun(self) -> list[Notice]:
        """Return what was said until now of the backfill of the table that was begun last."""
        held: list[Notice] = []
        stretches = {number: (max(end - NOTICES_BACK, 0), end) for number, end in self._starts.items()}
        for record in scan_between(self._topic, self._client, stretches):
            notice = read_notice(record.value)
            if notice is None:
                continue
            of_table = self._collection in notice.collection.split(",")
            if notice.status == STARTED and notice.aggregate == self._aggregate and of_table:
                held = [notice]
            elif held and self._is_of(notice, held[0].id):
                held.append(notice)
        return held

    def _is_of(self, notice: Notice, signal_id: str) -> bool:
        """Tell whether a notice is of the signal; those of a blocking snapshot name none."""
        return notice.aggregate == self._aggregate and (notice.id == signal_id or self._blocking)
