"""`headgate features rebuild`: a table's views emptied in Redis, so that its FEATURES workers fill them again.

A worker does what it does after any loss: it finds that the views' offsets are gone, and reads the log from its
beginning, or fills the views from the lake. So none need be told, and none be restarted. Nothing is taken away before
it is certain that log or lake have all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.config import Config
from schemas.errors import HeadgateError, SinkUnavailable, SourceUnavailable, TableStopped, naming
from schemas.feature import View
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from sinks.redis.views import Views
from streams.place import Log, begins_late, is_gone, lake_lacks, moved
from streams.registration import open_admin
from streams.settings import is_transactional


@dataclass(frozen=True, slots=True)
class OutputLog(Log):
    """The log of a partition of a table's output topic, as it is now."""

    topic: str
    partition: int
    topic_id: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What is to be rebuilt, and from where: the lake, where the log of a partition has lost its beginning."""

    table: str
    topic: str
    topic_id: str
    views: tuple[str, ...]
    from_lake: bool
    records: int  # that the log holds


def plan_rebuild(config: Config, entry: TableEntry, view: str | None = None) -> Rebuild:
    """Return what a rebuild of a table's views, or of one of them, would do.

    Raises:
        TableStopped: there is no such view, the table is paused, or neither log nor lake have all that it holds.
        SourceUnavailable: Kafka does not answer.
        SinkUnavailable: the lake is needed, and does not answer.
    """
    spec = entry.spec
    views = _chosen(spec, view)
    if entry.paused is not None:
        raise TableStopped(
            "paused",
            f"{spec.table} is paused: {entry.paused}",
            hint=f"`headgate tables resume {spec.table}` first: nothing would fill its views again before that",
        )
    topic = TopicNames(config.kafka.topic_prefix).changes(spec.table)
    logs = _logs(config, topic)
    transactional = is_transactional(config)
    short = [log for log in logs if is_gone(log, 0, transactional=transactional)]
    if short:
        _check_lake(config, spec, short, transactional=transactional)
    ids = tuple(each.id for each in views)
    return Rebuild(spec.table, topic, logs[0].topic_id, ids, bool(short), sum(log.high - log.low for log in logs))


async def empty_views(config: Config, plan: Rebuild) -> int:
    """Empty the views in Redis, which are pending from now on; return how many keys were taken away.

    Raises:
        SourceMoved: what Redis has is of another life of the output topic.
        TableStopped: rows below a floor are on their way out: filled again without them, nobody would be told of that.
        SinkUnavailable: Redis does not answer; what is gone is pending, and is filled again.
    """
    async with Views(config.redis) as views:
        if sweeping := await views.sweeping(plan.views):
            what = f"rows of {plan.table} below a floor are on their way out of view {', '.join(sweeping)}"
            hint = "nothing was taken away: do it again once `headgate status` does not say `sweeping` any more"
            raise TableStopped("sweeping", what, hint=hint)
        held = await views.topic_ids()
        for view in plan.views:
            for topic, topic_id in held.get(view, ()):
                if topic == plan.topic and topic_id and plan.topic_id and topic_id != plan.topic_id:
                    stopped = moved(topic)
                    stopped.hint = naming(stopped.hint, plan.table)
                    raise stopped
        return await views.empty(plan.views)


def _chosen(spec: TableSpec, view: str | None) -> Sequence[View]:
    if not spec.features:
        raise TableStopped(
            "no_features", f"{spec.table} has no features", hint="`headgate tables list` shows the views of each table"
        )
    found = [each for each in spec.features if view in {None, each.view}]
    if not found:
        raise TableStopped(
            "no_view",
            f"{spec.table} has no view {view!r}",
            hint=f"it has {', '.join(each.view for each in spec.features)}",
        )
    return found


def _logs(config: Config, topic: str) -> list[OutputLog]:
    admin = open_admin(config)
    said = admin.describe([topic]).get(topic)
    if said is None:
        raise TableStopped(
            "no_output_topic", f"there is no topic {topic}", hint="NORMALIZE makes it: does it run, and read the table?"
        )
    keys = [(topic, number) for number in range(said.partitions)]
    found = admin.watermarks_now(keys)
    if missing := [number for _, number in keys if (topic, number) not in found]:
        raise SourceUnavailable(f"{topic}: partition {missing[0]} does not answer", hint="try again in a moment")
    return [OutputLog(topic, number, said.topic_id, *found[topic, number]) for _, number in keys]


def _check_lake(config: Config, spec: TableSpec, short: Sequence[OutputLog], *, transactional: bool) -> None:
    """Return if the lake has what these logs have lost."""
    if not spec.lake.enabled:
        raise _refused(short[0], "the table does not go to the lake")
    from sinks.lake.stand import read_stands  # noqa: PLC0415 - pyiceberg costs a second, and is seldom needed
    from sinks.lake.storage import open_catalog  # noqa: PLC0415
    from sinks.lake.table import load_table  # noqa: PLC0415

    try:
        catalog = open_catalog(config.lake)
        try:
            stands = read_stands(load_table(catalog, config.lake.namespace, spec.table).properties)
        finally:
            catalog.close()
    except TableStopped as stopped:
        raise _refused(short[0], stopped.message) from stopped
    except HeadgateError:
        raise
    except Exception as exc:  # whatever the catalogue's client raises: here it means that the lake cannot be used
        raise SinkUnavailable(
            f"the lake could not be read: {type(exc).__name__}", hint="see whether it answers: `headgate check`"
        ) from exc
    for log in short:
        stand = stands.get(log.partition)
        if why := lake_lacks(log, stand, transactional=transactional) or begins_late(stand):
            raise _refused(log, why)


def _refused(log: OutputLog, why: str) -> TableStopped:
    """Return why nothing was taken away: it would not come back."""
    return TableStopped(
        "history_gone",
        f"nothing was taken away: the log of {log.topic}[{log.partition}] begins at {log.low}, and {why}",
        hint="the table must have gone to the lake from its beginning on, and the lake have committed; else have the "
        "source's rows read again: `headgate tables replay`, or a new snapshot",
    )
