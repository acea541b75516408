"""Which stage is made of what: the one place where stages meet the transport and the sinks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from connectors.transport.producer import PlainWriter
from connectors.transport.service import ConsumerService
from connectors.transport.topics import TopicAdmin
from connectors.transport.transaction import TransactionalWriter
from schemas.config import Config
from schemas.errors import BugError, TopicRefused, TransactionAborted
from schemas.topics import TopicNames
from streams.loads import BESIDE_LIVE_RECORDS_MAX, add_lanes, limit_of
from streams.memory import map_large_pieces
from streams.poison import Quarantine
from streams.registration import ensure_fixed_topics, own_topic, write_evolved
from streams.resume import book_of, decided
from streams.schema_gate import CatchUp, nothing_new
from streams.settings import is_embedded, is_transactional, producer_settings
from streams.stage import MAIN_LANE, Stage
from streams.tables import TableDirectory

if TYPE_CHECKING:
    from streams.evolutions import Evolutions
    from streams.normalize import NormalizeStage
    from streams.relay import Relay

STAGES = ("normalize", "features", "alerts", "lake")
ALERTS_GATHER_SECONDS = 0.05  # an evaluation costs 6 ms however few the changes
FEATURES_GROUP_RECORDS_MAX = 4_000  # where rows share entities these are seconds of work, done again after a kill
LAKE_GROUP_RECORDS_MAX = 4_000  # what is read at once costs several times its bytes
LAKE_LANE_SHARE = 4  # of a lane's bytes LAKE needs a quarter: it has a buffer of its own behind it
SMALL_LANE_SHARE = 8  # of a lane's bytes: what is sent again, or was parked, is seldom much
NOTIFY_LANE_SHARE = 8  # of a lane's bytes, for each of the seven lanes in which alerts wait
WIDE_GROUP_RECORDS_MAX = 64_000  # what a transaction over many output partitions gathers at most

log = structlog.get_logger("streams.wiring")


def stage_names(config: Config) -> list[str]:
    """Return the stages of an installation: the four, and one NOTIFY per destination."""
    return [*STAGES, *(f"notify-{name}" for name in config.notify)]


@dataclass(frozen=True, slots=True)
class Parts:
    """What every stage is made from."""

    config: Config
    names: TopicNames
    tables: TableDirectory
    consumer: ConsumerService
    admin: TopicAdmin
    slot: str
    catch_up: CatchUp = nothing_new


@dataclass(frozen=True, slots=True)
class Wired:
    """A stage whose lanes are registered with the consumer, and the quarantine of one that writes no topic itself."""

    stage: Stage
    quarantine: Quarantine | None = None

    def counters(self) -> dict[str, float]:
        """Return what was counted since the start, also what went to quarantine."""
        aside = self.quarantine.counts if self.quarantine is not None else {}
        return {**self.stage.counters(), **aside}

    def quarantined(self) -> Counter[tuple[str, str]]:
        """Return what went to quarantine since the start, by table ("" for none) and reason."""
        found: Counter[tuple[str, str]] = Counter(getattr(self.stage, "quarantined", {}))
        found.update({} if self.quarantine is None else dict(self.quarantine.by_table))
        return found

    def emitted(self) -> Counter[tuple[str, str]]:
        """Return the changes written to output topics since the start, by table and operation."""
        return Counter(getattr(self.stage, "emitted", {}))

    async def stop(self) -> None:
        """Stop the stage, then close what it puts records aside with; once the consumer hands out nothing more."""
        try:
            await self.stage.stop()
        finally:
            if self.quarantine is not None:
                await self.quarantine.close()


def wire(stage: str, parts: Parts) -> Wired:
    """Make the stage named `stage`, and give the consumer its lanes."""
    if stage.startswith("notify-"):
        return _notify(stage.removeprefix("notify-"), parts)
    makers: Mapping[str, Callable[[Parts], Wired]] = {
        "normalize": _normalize, "features": _features, "alerts": _alerts, "lake": _lake,
    }  # fmt: skip
    return makers[stage](parts)


def writer_of(parts: Parts, *, transactional: bool) -> TransactionalWriter | PlainWriter:
    """Return the producer of this worker's slot."""
    settings = producer_settings(parts.config, parts.slot, transactional=transactional)
    if transactional:
        return TransactionalWriter(settings, parts.consumer, on_event=_warn)
    return PlainWriter(settings)


def _warn(event: str, fields: Mapping[str, object]) -> None:
    log.warning(event, **fields)


# Each worker loads only what its stage needs: DuckDB and pyiceberg cost 150 MB and a second. Hence the imports inside.


def _normalize(parts: Parts) -> Wired:
    from streams.chains import chains_of
    from streams.evolutions import Evolutions
    from streams.normalize import NormalizeStage
    from streams.output_topics import Output
    from streams.stands import NormalizeStands
    from streams.templates import Templates

    config, transactional = parts.config, is_transactional(parts.config)

    def ensure(wanted: Mapping[str, Output]) -> dict[str, int]:
        # A source that this user may not read is its table's trouble, not that of all others.
        sources = {source for output in wanted.values() for source in output.sources}
        found = parts.admin.describe(sources, allowed_only=True)
        sizes = {
            name: max([output.partitions, *(found[source].partitions for source in output.sources if source in found)])
            for name, output in wanted.items()
        }
        settings = {name: own_topic(config, name, partitions=size) for name, size in sizes.items() if size}
        return parts.admin.ensure_all(settings)

    async def ensure_outputs(wanted: Mapping[str, Output]) -> Mapping[str, int]:
        try:
            return await asyncio.to_thread(ensure, wanted)
        except TopicRefused as error:  # it would end the worker, and with it what all other tables bring
            raise TransactionAborted(error.message, hint=error.hint, topic=error.topic) from error

    writer = writer_of(parts, transactional=transactional)
    evolutions = Evolutions(parts.slot, parts.tables, parts.consumer, lambda found: write_evolved(config, found))

    async def exist(topics: Collection[str]) -> Collection[str]:
        return await asyncio.to_thread(lambda: list(parts.admin.describe(topics)))

    stage = NormalizeStage(
        config, names=parts.names, tables=parts.tables, writer=writer, consumer=parts.consumer,
        chains=chains_of(config), ensure_outputs=ensure_outputs, evolutions=evolutions, exist=exist,
        broker=None if is_embedded(config) else NormalizeStands(config, parts.admin),
        templates=None if is_embedded(config) else Templates(config, parts.tables),
    )  # fmt: skip

    def group_records_max() -> int:
        return WIDE_GROUP_RECORDS_MAX if stage.group_wait_seconds() else config.limits.group_records_max

    _lane(
        parts,
        stage,
        topics=[topic for topic in stage.topics() if stage.lane_of(topic) == MAIN_LANE],
        group_records_max=group_records_max,
        group_partitions_max=writer.partitions_max,
        group_wait=stage.group_wait_seconds,
        commits=not transactional,
        book=book_of(config, "normalize"),
        rereads=True,
        starts=stage.starts,
    )

    async def ensure_sizes(sizes: Mapping[str, int]) -> Mapping[str, int]:
        return await ensure_outputs({name: Output([], size) for name, size in sizes.items()})

    _redrive(parts, stage, writer, ensure_sizes, evolutions)
    _parked(parts, stage, writer, ensure_sizes)
    return Wired(stage)


def _redrive(
    parts: Parts, stage: NormalizeStage, writer: Any, ensure: Callable[[Mapping[str, int]], Awaitable[Any]],
    evolutions: Evolutions,
) -> None:  # fmt: skip
    """Give NORMALIZE the lane of what is sent again."""
    from streams.chains import chains_of
    from streams.redriven import REDRIVE_LANE, RedriveLane

    chains = chains_of(parts.config)
    lane = RedriveLane(
        parts.config, names=parts.names, tables=parts.tables, writer=writer, chains=chains,
        ensure_outputs=ensure, stage=stage, evolutions=evolutions,
    )  # fmt: skip
    most = writer.partitions_max
    _small_lane(parts, REDRIVE_LANE, [parts.names.redrive], lane, regains=chains.behind, group_partitions_max=most)


def _parked(
    parts: Parts, stage: NormalizeStage, writer: Any, ensure: Callable[[Mapping[str, int]], Awaitable[Any]]
) -> None:
    """Give NORMALIZE the lane of what was parked; the stage adds its topics."""
    from streams.chains import chains_of
    from streams.parked import ParkedLane
    from streams.parking import PARKED_LANE

    chains = chains_of(parts.config)
    lane = ParkedLane(
        parts.config, names=parts.names, tables=parts.tables, writer=writer, consumer=parts.consumer,
        chains=chains, ensure_outputs=ensure, stage=stage, evolve=True,
    )  # fmt: skip
    most = writer.partitions_max
    _small_lane(parts, PARKED_LANE, [], lane, starts=lane.starts, regains=chains.behind, group_partitions_max=most)


def _small_lane(parts: Parts, name: str, topics: Sequence[str], lane: Any, **options: Any) -> None:
    """Give NORMALIZE a lane of records that it read before, beside its main one; a live change waits for one group."""
    transactional, limits = is_transactional(parts.config), _limits(parts)
    parts.consumer.lane(
        name,
        topics,
        lane.step,
        on_poison=lane.on_poison,
        bytes_max=limits["bytes_max"] // SMALL_LANE_SHARE,
        group_records_max=min(limits["group_records_max"], BESIDE_LIVE_RECORDS_MAX),
        commits=not transactional,
        transactional=transactional,
        book=book_of(parts.config, "normalize"),
        goes_on=True,  # its topics are nobody's source: there is none to be asked for a decision
        **options,
    )


def _alerts(parts: Parts) -> Wired:
    from streams.alert_state import PartitionState
    from streams.alert_state_topic import load_states
    from streams.alerts import UPDATES_LANE, AlertsStage

    transactional = is_transactional(parts.config)

    async def states(view: str, partitions: Sequence[int]) -> Mapping[int, PartitionState]:
        return await asyncio.to_thread(load_states, parts.config, parts.admin, view, partitions)

    writer = writer_of(parts, transactional=transactional)
    stage = AlertsStage(
        parts.config, names=parts.names, tables=parts.tables, writer=writer, consumer=parts.consumer,
        load_states=states,
    )  # fmt: skip
    stage.gate.catch_up = parts.catch_up
    for lane in (MAIN_LANE, UPDATES_LANE):
        topics = [topic for topic in stage.topics() if stage.lane_of(topic) == lane]
        # Updates are not written by transactions, and are remembered by their numbers wherever their topic begins.
        special = {"transactional": transactional, "book": book_of(parts.config, "alerts")}
        _lane(
            parts,
            stage,
            lane=lane,
            topics=topics,
            starts=stage.starts,
            commits=not transactional,
            group_partitions_max=writer.partitions_max,
            group_wait=ALERTS_GATHER_SECONDS,
            **(special if lane == MAIN_LANE else {"goes_on": True}),
        )
    return Wired(stage)


def _features(parts: Parts) -> Wired:
    from streams.features import FeaturesStage

    relay = _relay(parts)
    stage = FeaturesStage(
        parts.config, names=parts.names, tables=parts.tables, consumer=parts.consumer, relay=relay,
        logs=parts.admin.watermarks,
        lags=lambda: {(each.topic, each.partition): each.lag for each in parts.consumer.snapshot().partitions},
    )  # fmt: skip
    stage.gate.catch_up = parts.catch_up
    quarantine = _quarantine(parts, stage)
    _lane(
        parts,
        stage,
        on_poison=quarantine.put,
        starts=stage.starts,
        group_records_max=min(FEATURES_GROUP_RECORDS_MAX, parts.config.limits.group_records_max),
        transactional=is_transactional(parts.config),
    )
    return Wired(stage, quarantine)


def _relay(parts: Parts) -> Relay:
    from streams.latest import LatestTopics
    from streams.relay import RELAY_LANE, Relay

    async def ensure_topics(topics: Iterable[str]) -> Mapping[str, int]:
        return await asyncio.to_thread(ensure_fixed_topics, parts.config, parts.admin, topics)

    writer = PlainWriter(producer_settings(parts.config, parts.slot, transactional=False))
    # Its transactions also say who owns a bucket: by the offset of a topic in which nothing ever stands.
    transactional = is_transactional(parts.config)
    latest = LatestTopics(
        parts.names, parts.tables, writer=writer_of(parts, transactional=transactional), catch_up=parts.catch_up
    )
    relay = Relay(
        parts.config, names=parts.names, tables=parts.tables, consumer=parts.consumer, writer=writer, latest=latest,
        ensure_topics=ensure_topics,
    )  # fmt: skip
    parts.consumer.lane(
        RELAY_LANE, relay.topics(), relay.step, commits=not transactional, goes_on=True, **_limits(parts)
    )
    return relay


def _lake(parts: Parts) -> Wired:
    from streams.lake import LakeStage

    map_large_pieces()
    stage = LakeStage(parts.config, names=parts.names, tables=parts.tables, consumer=parts.consumer)
    stage.gate.catch_up = parts.catch_up
    quarantine = _quarantine(parts, stage)
    _lane(
        parts,
        stage,
        on_poison=quarantine.put,
        starts=stage.starts,
        on_leaving=stage.leaving,
        group_records_max=LAKE_GROUP_RECORDS_MAX,
        bytes_max=parts.config.limits.lane_bytes_max // LAKE_LANE_SHARE,
        transactional=is_transactional(parts.config),
        loads=False,  # what is live waits for the age of a commit anyway
    )
    return Wired(stage, quarantine)


def _notify(destination: str, parts: Parts) -> Wired:
    from streams.destinations import prepare
    from streams.notify import NotifyStage

    if destination not in parts.config.notify:
        raise BugError(f"notify-{destination} is no stage of this configuration")
    stage = NotifyStage(
        parts.config, destination=destination, names=parts.names, writer=writer_of(parts, transactional=False),
        consumer=parts.consumer, prepare=lambda: prepare(parts.config, destination),
    )  # fmt: skip
    hooks = {"on_poison": stage.on_poison, "on_leaving": stage.on_leaving, "on_left": stage.on_left, "goes_on": True}
    by_transactions = {parts.names.alerts, parts.names.alerts_redrive} if is_transactional(parts.config) else set()
    for name, (topics, step) in stage.lanes().items():
        limits = _limits(parts)
        if name != parts.names.alerts:
            limits["bytes_max"] //= NOTIFY_LANE_SHARE
        transactional = by_transactions.issuperset(topics)
        parts.consumer.lane(name, topics, step, **{**limits, **hooks, "transactional": transactional})
    return Wired(stage)


def _quarantine(parts: Parts, stage: Stage) -> Quarantine:
    return Quarantine(parts.config, names=parts.names, stage=stage, writer=writer_of(parts, transactional=False))


def _lane(
    parts: Parts, stage: Any, *, lane: str = MAIN_LANE, topics: Sequence[str] | None = None, loads: bool = True,
    **options: Any,
) -> None:  # fmt: skip
    """Give the consumer a lane of the stage, for all its topics unless some are named; beside it one for `loads`."""
    defaults = {
        "on_poison": getattr(stage, "on_poison", None), "decided": decided(parts.names, parts.tables), **_limits(parts)
    }  # fmt: skip
    chosen = stage.topics() if topics is None else topics
    if loads and lane == MAIN_LANE:
        limit = limit_of(parts.config, parts.names, parts.tables)
        add_lanes(parts.consumer, chosen, stage.step, {**defaults, "limit_of": limit, **options})
    else:
        parts.consumer.lane(lane, chosen, stage.step, **{**defaults, **options})


def _limits(parts: Parts) -> dict[str, Any]:
    limits = parts.config.limits
    return {"bytes_max": limits.lane_bytes_max, "group_records_max": limits.group_records_max}


__all__ = ["MAIN_LANE", "STAGES", "Parts", "Wired", "stage_names", "wire", "writer_of"]
