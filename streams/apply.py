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
from schemas.config import Config, LimitsConfig
from schemas.document import read_document
from schemas.errors import ConfigurationError, TableStopped, VersionRefused
from schemas.evolution import in_force
from schemas.feature import View
from schemas.removed import Removed
from schemas.table import RuleStart, TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.door import open_door
from streams.plan import Action, Plan, TablePlan, check_as_planned, plan_table
from streams.registration import look_at_tables, open_admin
from streams.rule_starts import rules_from, starts_now, topics_to_ask
from streams.rule_views import check_rules, with_own_views
from streams.rules import RuleEngine
from streams.source_topics import look_at_sources
from streams.tables import TableDirectory, check_topics
from streams.templates import check_template

SPEC_FILES_MAX = 10_000
REFUSALS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TableChange:
    """What an apply does to one table."""

    table: str
    action: Action
    schema_version: int


def read_specs(folder: Path) -> dict[str, TableSpec]:
    """Return the specs of all `*.yaml` files below `folder`, by table.

    Raises:
        ConfigurationError: it names each mistake of each file.
    """
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])[: SPEC_FILES_MAX + 1]
    if not files:
        raise ConfigurationError(f"{folder} holds no .yaml file", hint="one file per table; see docs/tables.md")
    specs: dict[str, TableSpec] = {}
    problems = []
    for file in files:
        try:
            spec = read_spec(file)
            if spec.table in specs:
                problems.append(f"{file}: table {spec.table} stands in another file as well")
            specs[spec.table] = spec
        except ConfigurationError as exc:
            problems.append(str(exc))
    if problems:
        raise ConfigurationError("\n".join(problems), hint="nothing was applied")
    return specs


def read_spec(file: Path) -> TableSpec:
    """Return the spec in one file.

    Raises:
        ConfigurationError: it cannot be read, or is not right; with file and line.
    """
    try:
        return read_document(file.read_text(encoding="utf-8"), TableSpec, name=str(file))
    except (UnicodeDecodeError, OSError) as exc:
        raise ConfigurationError(
            f"{file}: {exc}", hint="a spec is a YAML file of one table; see docs/tables.md"
        ) from exc


def check_specs(specs: Mapping[str, TableSpec], config: Config) -> dict[str, TableSpec]:
    """Check what one spec alone cannot tell: topics apart, encodings known, rules that compile, views named once.

    Returns the specs as they are registered: with the views that their rules make for themselves.

    Raises:
        ConfigurationError: the first mistake, with its table.
    """
    check_topics(specs, config.kafka.topic_prefix)
    views: dict[str, str] = {}
    complete: dict[str, TableSpec] = {}
    registry = registry_of(config.registry)
    with closing(RuleEngine()) as engine:  # one for all: opening a database costs more than a table's rules
        for table, written in specs.items():
            spec = written
            try:
                format_of(spec.format, registry).decoder(TableEntry(spec=spec), LimitsConfig())
                if spec.template is not None:
                    check_template(spec, registry)
                spec = complete[table] = with_own_views(written, engine)
                check_rules(spec, engine)
            except ConfigurationError as exc:
                raise ConfigurationError(f"{spec.table}: {exc.message}", hint=exc.hint) from exc
            _check_start(spec)
            _check_views(spec, views)
            _check_destinations(spec, config)
    return complete


def _check_start(spec: TableSpec) -> None:
    """Refuse what would be ignored: a worker begins at the start of a topic of which nothing is committed."""
    if spec.start != "earliest":
        raise ConfigurationError(
            f"{spec.table}: start: {spec.start} is not built yet", hint="leave it out: all is read that there is"
        )


def _check_views(spec: TableSpec, views: dict[str, str]) -> None:
    """Add the spec's views to those named so far, with their tables."""
    for view in spec.features:
        if views.setdefault(view.view, spec.table) != spec.table:
            raise ConfigurationError(
                f"{spec.table}: view {view.view} is one of {views[view.view]} already", hint="give it another name"
            )


def _check_destinations(spec: TableSpec, config: Config) -> None:
    unknown = {name for rule in spec.rules for name in rule.destinations or ()} - set(config.notify)
    if unknown:
        raise ConfigurationError(
            f"{spec.table}: a rule names the destination {min(unknown)}",
            hint=f"the configuration has {', '.join(config.notify) or 'none'}",
        )


def check_versions(entries: Mapping[str, TableEntry], specs: Mapping[str, TableSpec]) -> None:
    """Check that a view of other columns than before has another version: the rows of before would stay as they are.

    Raises:
        ConfigurationError: the first such view, with the version to give it.
    """
    for table, spec in specs.items():
        known = {view.view: view for view in entries[table].spec.features} if table in entries else {}
        for view in spec.features:
            old = known.get(view.view)
            if old is not None and old.version == view.version and _read_by(old) != _read_by(view):
                raise ConfigurationError(
                    f"{table}: view {view.view} is not as it was registered, and has the same version {view.version}",
                    hint=f"write version: {view.version + 1}; it is filled anew, and read under that version",
                )


def _read_by(view: View) -> tuple[object, ...]:
    return sorted(view.columns), view.entity_key, view.event_time


def merge(
    entries: Mapping[str, TableEntry],
    specs: Mapping[str, TableSpec],
    *,
    at: str,
    starts: Mapping[str, RuleStart],
    names: TopicNames,
    by: str = "",
    removed: Mapping[str, Removed] | None = None,
) -> dict[str, tuple[TableChange, TableEntry]]:
    """Return what becomes of each of `specs`; pure. What the verbs set (pause, epoch, generation) stays as it is.

    `starts` are the ends of the topics that new and changed rules read, by topic. `removed` is what stays of tables
    that were registered before: one of them goes on where it stood.
    """
    result = {}
    for table, spec in specs.items():
        old = entries.get(table)
        if old is not None and old.spec == spec:
            result[table] = (TableChange(table, "unchanged", old.schema_version), old)
            continue
        applied = {"applied_at": at, "applied_by": by, "rules_from": rules_from(old, spec, starts, names)}
        if old is None:
            was = (removed or {}).get(table)
            entry = (was.entry(spec) if was is not None else TableEntry(spec=spec)).model_copy(update=applied)
            result[table] = (TableChange(table, "added", entry.schema_version), entry)
            continue
        same = old.spec.columns == spec.columns and old.spec.key == spec.key
        version = old.schema_version + (0 if same else 1)
        entry = old.model_copy(update={**applied, "spec": spec, "schema_version": version})
        result[table] = (TableChange(table, "changed", version), entry)
    return result


def make_plan(
    config: Config, specs: Mapping[str, TableSpec], tables: TableDirectory, *, by: str = "", sample: bool = True
) -> Plan:
    """Return what an apply of specs does to registered tables, with what is to be said of their topics.

    A rule that is new or changed starts at the end of the topic that it reads, as it is now. `sample` looks at records.

    Raises:
        ConfigurationError: a mistake in a spec, or between specs and what is registered.
        SourceUnavailable: Kafka does not answer.
    """
    for table in specs:  # the entry of a newer release says what we would forget: pause, epoch, generation
        if isinstance(refused := tables.unreadable.get(table), VersionRefused):
            raise refused
    registered = tables.registered
    complete = check_specs({**{name: entry.spec for name, entry in registered.items()}, **specs}, config)
    mine = {table: complete[table] for table in specs}
    check_versions(registered, mine)
    names = TopicNames(config.kafka.topic_prefix)
    asked = topics_to_ask(registered, mine, names)
    starts = starts_now(open_admin(config), asked) if asked else {}
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    merged = merge(registered, mine, at=at, starts=starts, names=names, by=by, removed=tables.removed)
    changed = {table: entry for table, (change, entry) in merged.items() if change.action != "unchanged"}
    plan = Plan(
        {table: _plan_of(change, entry, tables) for table, (change, entry) in merged.items()},
        sorted(registered.keys() - specs.keys()),
        entries=list(changed.values()),
        forget=[key for table in changed.keys() - registered.keys() for key in _left_of(table, tables)],
    )
    if changed:
        _look(config, complete, plan, sample=sample)
    return plan


def _plan_of(change: TableChange, entry: TableEntry, tables: TableDirectory) -> TablePlan:
    """Return the plan of a table: both sides are what workers run, with what they found of its columns."""
    found = tables.evolved(change.table).values() if change.table in tables.registered else ()
    before = tables.get(change.table) or tables.templates.get(change.table)
    return plan_table(change.action, before, in_force(entry, found))


def _left_of(table: str, tables: TableDirectory) -> list[bytes]:
    """Return the keys of what stands of a table that is registered no more."""
    found = [each.key for each in tables.evolved(table).values()]
    return [*found, tables.removed[table].key] if table in tables.removed else found


def _look(config: Config, complete: Mapping[str, TableSpec], plan: Plan, *, sample: bool) -> None:
    """Add to a plan what the broker says."""
    seen = look_at_sources(config, complete, [each.table for each in plan.changes], sample=sample)
    for each in plan.changes:
        each.made = seen.made.get(each.table, {})
        each.foreseen = seen.foreseen.get(each.table, {})
        each.notices = [notice for notice in seen.notices if notice.table == each.table]
    plan.notices = [notice for notice in seen.notices if notice.table not in plan.tables]


def plan_folder(config: Config, folder: Path) -> Plan:
    """Return what an apply of the specs of a folder would do; nothing is made or written.

    Raises:
        ConfigurationError: a mistake in a file, or between files and what is registered.
        SourceUnavailable: Kafka does not answer.
    """
    return make_plan(config, read_specs(folder), look_at_tables(config))


def apply_folder(config: Config, folder: Path, *, by: str = "", force: bool = False) -> list[TablePlan]:
    """Apply the specs of a folder, and return what that did to each table; as `apply_plan`."""
    return list(apply_plan(config, folder, by=by, force=force).tables.values())


def apply_plan(
    config: Config, folder: Path, *, by: str = "", force: bool = False, planned: Mapping[str, Any] | None = None
) -> Plan:
    """Apply the specs of a folder; running workers take them up within seconds. The same files again change nothing.

    `by` is who applies. What breaks readers is refused unless `force`; so is all that is not as the plan that is given
    by its document, `planned`. All is written or nothing, and nothing over what others wrote meanwhile.

    Raises:
        ConfigurationError: a mistake in a file, or between files and what is registered; nothing was written.
        TableStopped: a change is refused, or others have written meanwhile; nothing was written.
        SourceUnavailable: Kafka does not answer.
    """
    specs = read_specs(folder)
    door = open_door(config)
    plan = make_plan(config, specs, door.tables, by=by, sample=False)
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
