"""What is risky of tables, told by samples of their topics: what records lose, refuse or have beside the spec."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from connectors.inference import Proposal, new_samples
from connectors.inference.numbers import MAY_BE_TIME
from connectors.transport.sampling import SampleBounds, Sampling
from connectors.transport.topics import TopicAdmin
from connectors.wire import Schemas
from schemas.config import Config
from schemas.risk import Risk, RiskName
from schemas.table import TableSpec
from schemas.types import Kind
from streams.looked import QUARANTINE, Looker
from streams.proposing import is_own
from streams.settings import client_settings
from streams.tables import reads

APPENDED_MIN = 100  # changes without an update or a delete, before anything is said of it
_REASONS_SHOWN = 5
_INSERTS = frozenset("cr")


def sampled_risks(
    specs: Mapping[str, TableSpec],
    config: Config,
    admin: TopicAdmin,
    bounds: SampleBounds,
    *,
    schemas: Schemas | None = None,
    on_wave: Callable[[int], None] = lambda _topics: None,
) -> dict[str, list[Risk]]:
    """Return what samples of the topics of some tables tell, by table.

    Raises:
        SourceUnavailable, RegistryUnavailable: Kafka, or the schema registry, does not answer.
        ConfigurationError: the broker refuses.
    """
    there = [topic for topic in admin.names() if not is_own(topic, config.kafka.topic_prefix)]
    read = {table: [topic for topic in there if reads(spec, topic)] for table, spec in specs.items()}
    samples = new_samples(schemas=schemas)
    for table, topics in read.items():
        for topic in topics:
            samples.know(topic, specs[table].format)
    looker = Looker(specs, config.limits, schemas)
    refused: defaultdict[str, Counter[str]] = defaultdict(Counter)
    looked: Counter[str] = Counter()

    def after_wave(topics: int) -> None:
        samples.absorb()
        on_wave(topics)

    wanted = sorted({topic for topics in read.values() for topic in topics})
    sampling = Sampling(wanted, client_settings(config), admin, bounds, on_wave=after_wave)
    with closing(iter(sampling)) as records:
        for record in records:
            samples.add(record)
            for found in looker.look(record):
                if found.table is not None:
                    looked[found.table] += 1
                    if found.kind == QUARANTINE and found.error is not None:
                        refused[found.table][found.error["reason"]] += 1
    proposals = samples.tables()
    return {
        table: [
            *_missing(spec, there),
            *_refused(refused[table], looked[table]),
            *(risk for each in _of_table(proposals, spec, read[table]) for risk in risks_of_records(each, spec)),
        ]
        for table, spec in specs.items()
    }


def joined(risks: Iterable[Risk]) -> list[Risk]:
    """Return each risk once, with the columns of all that have its name, and the case that was told last."""
    found: dict[tuple[RiskName, tuple[str | int, ...]], Risk] = {}
    for risk in risks:
        place = risk.name, () if risk.columns or risk.path[:1] != ("topics",) else risk.path
        old = found.get(place)
        if old is None:
            found[place] = risk
            continue
        columns = tuple(dict.fromkeys((*old.columns, *risk.columns)))
        found[place] = Risk(risk.name, columns, old.path or risk.path, risk.case or old.case)
    return list(found.values())


def _missing(spec: TableSpec, there: Sequence[str]) -> Iterable[Risk]:
    for at, name in enumerate(spec.topics):
        one = spec.model_copy(update={"topics": [name]})
        if not any(reads(one, topic) for topic in there):
            what = f"no topic matches {name}" if name.startswith("^") else f"there is no topic {name}"
            yield Risk(RiskName.NO_TOPIC, path=("topics", at), case=(what, "look at its name, and at kafka.bootstrap"))


def _refused(reasons: Counter[str], looked: int) -> Iterable[Risk]:
    if reasons:
        said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(_REASONS_SHOWN))
        what = f"{reasons.total()} of {looked} sampled records would go to quarantine: {said}"
        settle = "`headgate decode --topic TOPIC --spec FILE` shows which, and why"
        yield Risk(RiskName.REFUSED_RECORDS, path=("columns",), case=(what, settle))


def _of_table(proposals: Iterable[Proposal], spec: TableSpec, topics: Sequence[str]) -> list[Proposal]:
    mine = [each for each in proposals if not set(topics).isdisjoint(each.spec.topics)]
    return [each for each in mine if spec.source_table in {None, each.source}]


def risks_of_records(proposal: Proposal, spec: TableSpec) -> Iterable[Risk]:
    """Yield what the records of a table tell that its spec does not say, or says otherwise."""
    for risk in proposal.risks:
        columns = tuple(name for name in risk.columns if name in spec.columns)
        if columns or not risk.columns:
            yield Risk(risk.name, columns, ("columns", columns[0]) if columns else (), risk.case)
    if times := [name for name, evidence in proposal.columns.items() if _may_be_time(spec, name, evidence.warning)]:
        yield Risk(RiskName.INTEGER_MAY_BE_TIME, tuple(times), ("columns", times[0]))
    known = spec.columns.keys() | spec.sent_as().keys()
    new = [name for name in proposal.columns if name not in known]
    if new and spec.unknown_columns == "ignore":
        yield Risk(RiskName.UNKNOWN_COLUMNS, tuple(new), ("unknown_columns",))
    if proposal.records >= APPENDED_MIN and _INSERTS.issuperset(proposal.operations):
        yield Risk(RiskName.APPEND_ONLY)


def _may_be_time(spec: TableSpec, name: str, warning: str) -> bool:
    column = spec.columns.get(name)
    whole = column is not None and column.type.kind in {Kind.INT, Kind.LONG} and column.encoding in {None, "int"}
    return whole and warning.startswith(MAY_BE_TIME)
