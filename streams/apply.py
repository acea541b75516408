"""Tables applied: specs as files read, checked as a whole, and written to `headgate.tables`.

All or nothing: no entry is written while one of the specs has a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.formats import format_of
from connectors.registry import registry_of
from connectors.registry.known import KnownSchemas
from connectors.wire import Schemas
from schemas.config import Config, LimitsConfig
from schemas.errors import ConfigurationError, TableStopped, VersionRefused
from schemas.evolution import in_force
from schemas.masked import masked_spec
from schemas.mistakes import nearest
from schemas.output import latest_view_name
from schemas.removed import Removed
from schemas.table import RuleStart, TableEntry, TableSpec, own_view_name
from schemas.tenant import begin_of
from schemas.topics import TopicNames
from schemas.views_left import views_left
from streams.avro_outputs import check_outputs
from streams.door import open_door
from streams.lake_names import check_lake_names
from streams.latest_views import check_latest, with_latest_view
from streams.mask_keys import mask_keys_of, pinned_for
from streams.plan import Action, Plan, TablePlan, check_as_planned, plan_table
from streams.plan_masks import notices_of_masks
from streams.registration import look_at_tables, open_admin
from streams.rule_starts import rules_from, starts_now, topics_to_ask
from streams.rule_views import check_rules, with_own_views
from streams.rules import RuleEngine
from streams.source_topics import look_at_sources
from streams.spec_places import place_in
from streams.specs import SpecMistake, SpecMistakes, Specs, read_spec, read_specs
from streams.tables import TableDirectory, check_topics
from streams.template_tables import check_template
from streams.tenants import check_names, check_tenants_stay
from streams.view_versions import check_versions

__all__ = [
    "TableChange",
    "apply_folder",
    "apply_plan",
    "check_specs",
    "merge",
    "plan_folder",
    "prepared",
    "read_spec",
    "read_specs",
]
NO_KEYS: Mapping[str, Mapping[str, str]] = {}
REFUSALS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TableChange:
    """What an apply does to one table."""

    table: str
    action: Action
    schema_version: int


def check_specs(
    specs: Mapping[str, TableSpec], config: Config, *, alone: bool = False, schemas: Schemas | None = None
) -> dict[str, TableSpec]:
    """Check what one spec alone cannot tell: topics apart, encodings known, rules that compile, views named once.

    Returns the specs as they are registered: with the views that their rules make for themselves. `alone` is for who
    has no configuration: destinations and the registry are taken for those that the specs mean. `schemas` are instead
    of the registry's.

    Raises:
        ConfigurationError: a SpecMistake, or SpecMistakes: one of each table that has any.
    """
    check_topics(specs, config.kafka.topic_prefix)
    views: dict[str, str] = {}
    complete: dict[str, TableSpec] = {}
    registry = schemas or (KnownSchemas({}) if alone else registry_of(config.registry))
    mistakes: list[SpecMistake] = []
    right: set[str] = set()
    with closing(RuleEngine()) as engine:  # one for all: opening a database costs more than a table's rules
        for table, spec in specs.items():
            known = (form := _form_of(spec)) in right
            try:
                if not known:
                    format_of(spec.format, registry).decoder(TableEntry(spec=spec), LimitsConfig())
                    check_template(spec, registry)
                behind = with_own_views(masked_spec(spec), engine)  # rules read what the masks leave
                complete[table] = spec.model_copy(update={"features": behind.features})
                if not known:
                    check_rules(behind, engine)
                    right.add(form)
                _check_start(spec)
                _check_views(complete[table], views)
                if not alone:
                    _check_destinations(spec, config)
            except SpecMistake as exc:
                mistakes.append(exc)
            except ConfigurationError as exc:
                mistakes.append(SpecMistake(table, place_in(spec, exc.message), exc.message, hint=exc.hint))
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else SpecMistakes(mistakes)
    check_names(complete)
    return complete


def _form_of(spec: TableSpec) -> str:
    """Return all of a spec that encodings and rules are made of: thousands of tenants may have it of one template."""
    own = {latest_view_name(spec.table), *(own_view_name(spec, rule.rule) for rule in spec.rules)}
    written = spec.model_copy(update={"features": [view for view in spec.features if view.view not in own]})
    text = written.model_dump_json(exclude={"table", "tenant", "topics"})
    return text if spec.tenant is None else text.replace(f'"view":"{begin_of(spec.tenant)}', '"view":"')


def _check_start(spec: TableSpec) -> None:
    """Refuse what would be ignored: a worker begins at the start of a topic of which nothing is committed."""
    if spec.start != "earliest":
        raise SpecMistake(
            spec.table,
            ["start"],
            f"start: {spec.start} is not built yet",
            hint="leave it out: all is read that there is",
        )


def _check_views(spec: TableSpec, views: dict[str, str]) -> None:
    """Add the spec's views to those named so far, with their tables."""
    for at, view in enumerate(spec.features):
        if views.setdefault(view.view, spec.table) != spec.table:
            raise SpecMistake(
                spec.table,
                ["features", at, "view"],
                f"view {view.view} is one of {views[view.view]} already",
                hint="give it another name",
            )


def _check_destinations(spec: TableSpec, config: Config) -> None:
    for at, rule in enumerate(spec.rules):
        for number, name in enumerate(rule.destinations or ()):
            if name not in config.notify:
                raise SpecMistake(
                    spec.table,
                    ["rules", at, "destinations", number],
                    f"a rule names the destination {name}",
                    hint=f"the configuration names its destinations in `notify`: {nearest(name, config.notify)}",
                )


def merge(
    entries: Mapping[str, TableEntry],
    specs: Mapping[str, TableSpec],
    *,
    at: str,
    starts: Mapping[str, RuleStart],
    names: TopicNames,
    by: str = "",
    mask_keys: Mapping[str, Mapping[str, str]] = NO_KEYS,
    removed: Mapping[str, Removed] | None = None,
) -> dict[str, tuple[TableChange, TableEntry]]:
    """Return what becomes of each of `specs`; pure. What the verbs set (pause, epoch, generation) stays as it is.

    `starts` are the ends of the topics that new and changed rules read, by topic; `mask_keys` what the entries of
    tables with masks keep of their keys. `removed` is what stays of tables that were registered before: one of them
    goes on where it stood.
    """
    result = {}
    for table, spec in specs.items():
        old, was = entries.get(table), (removed or {}).get(table)
        begun = old if old is not None or was is None else was.entry(spec)
        version = _schema_version(begun, spec)
        if spec.template is None:
            spec = with_latest_view(spec, version)  # noqa: PLW2901 - it is of this version
        if old is not None and old.spec == spec:
            result[table] = (TableChange(table, "unchanged", old.schema_version), old)
            continue
        applied = {"spec": spec, "schema_version": version, "applied_at": at, "applied_by": by}
        applied |= {"rules_from": rules_from(old, spec, starts, names), "mask_keys": dict(mask_keys.get(table, {}))}
        applied |= {"views_left": views_left(begun.views_left, begun.spec, spec) if begun is not None else {}}
        entry = (begun or TableEntry(spec=spec)).model_copy(update=applied)
        result[table] = (TableChange(table, "added" if old is None else "changed", version), entry)
    return result


def _schema_version(old: TableEntry | None, spec: TableSpec) -> int:
    """Return the version that a spec's columns and key have."""
    if old is None:
        return 1
    same = (old.spec.columns, old.spec.key, old.spec.masks) == (spec.columns, spec.key, spec.masks)
    return old.schema_version + (0 if same else 1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What becomes of specs that are to be applied, and all specs that are registered then."""

    merged: Mapping[str, tuple[TableChange, TableEntry]]
    complete: Mapping[str, TableSpec]
    forget: list[bytes]

    @property
    def entries(self) -> list[TableEntry]:
        """What is to be written."""
        return [entry for change, entry in self.merged.values() if change.action != "unchanged"]


def prepared(config: Config, specs: Mapping[str, TableSpec], tables: TableDirectory, *, by: str = "") -> Prepared:
    """Check specs as a whole, beside all that are registered, and return what becomes of them; nothing is written.

    A rule that is new or changed starts at the end of the topic that it reads, as it is now.

    Raises:
        ConfigurationError: a mistake in a spec, or between specs and what is registered; a mask key that is missing.
        TableStopped: the schema registry does not take a table's schemas, or its tenant would be another.
        SourceUnavailable, RegistryUnavailable: Kafka, or the schema registry, does not answer.
    """
    for table in specs:  # the entry of a newer release says what we would forget: pause, epoch, generation
        if isinstance(refused := tables.unreadable.get(table), VersionRefused):
            raise refused
    registered = tables.registered
    check_tenants_stay(specs, registered)
    complete = check_specs({**{name: entry.spec for name, entry in registered.items()}, **specs}, config)
    mine = {table: complete[table] for table in specs}
    of_tables = {table: spec for table, spec in mine.items() if spec.template is None}
    left = {table: tables.removed[table].entry(spec) for table, spec in mine.items() if table in tables.removed}
    pinned = pinned_for(mask_keys_of(config.masks), mine.values(), {**left, **registered})
    check_versions(registered, mine, tables.removed)
    check_lake_names(registered, of_tables)
    check_latest(config, registered, of_tables)
    check_outputs(config, of_tables)
    names = TopicNames(config.kafka.topic_prefix)
    asked = topics_to_ask(registered, mine, names)
    starts = starts_now(open_admin(config), asked) if asked else {}
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    merged = merge(registered, mine, at=at, starts=starts, names=names, by=by, mask_keys=pinned, removed=tables.removed)
    forget = [key for table in specs.keys() - registered.keys() for key in _left_of(table, tables)]
    return Prepared(merged, complete, forget)


def _left_of(table: str, tables: TableDirectory) -> list[bytes]:
    """Return the keys of what stands of a table that is registered no more."""
    found = [each.key for each in tables.evolved(table).values()]
    return [*found, tables.removed[table].key] if table in tables.removed else found


def make_plan(
    config: Config, specs: Mapping[str, TableSpec], tables: TableDirectory, *, by: str = "", sample: bool = True
) -> Plan:
    """Return what an apply of specs does to registered tables, with what is to be said of their topics.

    `sample` looks at records.

    Raises:
        ConfigurationError, TableStopped, SourceUnavailable, RegistryUnavailable: as `prepared`.
    """
    found = prepared(config, specs, tables, by=by)
    plan = Plan(
        {table: _plan_of(change, entry, tables) for table, (change, entry) in found.merged.items()},
        sorted(tables.registered.keys() - specs.keys()),
        entries=found.entries,
        forget=found.forget,
    )
    if plan.entries:
        _look(config, found.complete, plan, removed=tables.removed, sample=sample)
    return plan


def _plan_of(change: TableChange, entry: TableEntry, tables: TableDirectory) -> TablePlan:
    """Return the plan of a table: both sides are what workers run, with what they found of its columns."""
    table = change.table
    found = tables.evolved(table).values() if table in tables.registered else ()
    before = tables.unmasked(table) if table in tables else tables.templates.get(table)
    return plan_table(change.action, before, in_force(entry, found))


def _look(
    config: Config, complete: Mapping[str, TableSpec], plan: Plan, *, removed: Mapping[str, Removed], sample: bool
) -> None:
    """Add to a plan what the broker says."""
    changed = [each.table for each in plan.changes]
    seen = look_at_sources(config, complete, changed, removed=removed, sample=sample)
    seen.notices += notices_of_masks(complete, changed, mask_keys_of(config.masks).names)
    for each in plan.changes:
        each.made = seen.made.get(each.table, {})
        each.foreseen = seen.foreseen.get(each.table, {})
        each.notices += [notice for notice in seen.notices if notice.table == each.table]
    plan.notices = [notice for notice in seen.notices if notice.table not in plan.tables]


def plan_folder(config: Config, folder: Path, *, env: str | None = None) -> Plan:
    """Return what an apply of the specs of a folder would do; nothing is made or written.

    `env` is the environment whose overlay is laid over them.

    Raises:
        ConfigurationError: a mistake in a file, with its place, or between files and what is registered.
        TableStopped, SourceUnavailable, RegistryUnavailable: as `prepared`.
    """
    return _planned(config, read_specs(folder, env=env), look_at_tables(config))


def _planned(config: Config, read: Specs, tables: TableDirectory, *, by: str = "", sample: bool = True) -> Plan:
    with read.naming_places():
        return make_plan(config, read, tables, by=by, sample=sample)


def apply_folder(
    config: Config, folder: Path, *, env: str | None = None, by: str = "", force: bool = False
) -> list[TablePlan]:
    """Apply the specs of a folder, and return what that did to each table; as `apply_plan`."""
    return list(apply_plan(config, folder, env=env, by=by, force=force).tables.values())


def apply_plan(
    config: Config,
    folder: Path,
    *,
    env: str | None = None,
    by: str = "",
    force: bool = False,
    planned: Mapping[str, Any] | None = None,
) -> Plan:
    """Apply the specs of a folder; running workers take them up within seconds. The same files again change nothing.

    `env` is the environment whose overlay is laid over them, `by` is who applies. What breaks readers is refused unless
    `force`; so is all that is not as the plan that is given by its document, `planned`. All is written or nothing, and
    nothing over what others wrote meanwhile.

    Raises:
        ConfigurationError: a mistake in a file, or between files and what is registered; nothing was written.
        TableStopped: a change is refused, or others have written meanwhile; nothing was written.
        SourceUnavailable, RegistryUnavailable: Kafka, or the schema registry, does not answer.
    """
    specs = read_specs(folder, env=env)
    door = open_door(config)
    plan = _planned(config, specs, door.tables, by=by, sample=False)
    if planned is not None:
        check_as_planned(plan, planned, door.tables.registered)
    check_not_refused(plan, force=force)
    door.write(plan.entries, forget=plan.forget)
    return plan


def check_not_refused(plan: Plan, *, force: bool) -> None:
    """Let through what may be applied.

    Raises:
        TableStopped: it names each table that may not be, with the rule; the hint is of the first.
    """
    if refusals := plan.refusals(force=force):
        message = "\n".join(each.message for each in refusals[:REFUSALS_SHOWN])
        more = f"\nand {len(refusals) - REFUSALS_SHOWN} more" if len(refusals) > REFUSALS_SHOWN else ""
        raise TableStopped(refusals[0].reason, f"{message}{more}", hint=f"nothing was applied; {refusals[0].hint}")
