"""Tables applied: specs as files read, checked as a whole, and written to `headgate.tables`.

All or nothing: no entry is written while one of the specs has a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from connectors.formats import format_of
from connectors.registry import registry_of
from schemas.config import Config, LimitsConfig
from schemas.document import read_document
from schemas.errors import ConfigurationError, VersionRefused
from schemas.feature import View
from schemas.table import RuleStart, TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.registration import load_tables, open_admin, write_entries
from streams.rule_starts import rules_from, starts_now, topics_to_ask
from streams.rule_views import check_rules, with_own_views
from streams.rules import RuleEngine
from streams.tables import check_topics
from streams.tenants import check_names

SPEC_FILES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class TableChange:
    """What an apply does to one table."""

    table: str
    action: Literal["added", "changed", "unchanged"]
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
                spec = complete[table] = with_own_views(written, engine)
                check_rules(spec, engine)
            except ConfigurationError as exc:
                raise ConfigurationError(f"{spec.table}: {exc.message}", hint=exc.hint) from exc
            _check_start(spec)
            _check_views(spec, views)
            _check_destinations(spec, config)
    check_names(complete)
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
) -> dict[str, tuple[TableChange, TableEntry]]:
    """Return what becomes of each of `specs`; pure. What the verbs set (pause, epoch, generation) stays as it is.

    `starts` are the ends of the topics that new and changed rules read, by topic.
    """
    result = {}
    for table, spec in specs.items():
        old = entries.get(table)
        if old is None:
            entry = TableEntry(spec=spec, applied_at=at, rules_from=rules_from(None, spec, starts, names))
            action = "added"
        elif old.spec == spec:
            entry, action = old, "unchanged"
        else:
            same = old.spec.columns == spec.columns and old.spec.key == spec.key
            version = old.schema_version + (0 if same else 1)
            begin = rules_from(old, spec, starts, names)
            update = {"spec": spec, "schema_version": version, "applied_at": at, "rules_from": begin}
            entry, action = old.model_copy(update=update), "changed"
        result[table] = (TableChange(table, action, entry.schema_version), entry)  # type: ignore[arg-type]
    return result


def apply_folder(config: Config, folder: Path) -> list[TableChange]:
    """Apply the specs of a folder; running workers take them up within seconds. The same files again change nothing.

    A rule that is new or changed starts at the end of the topic that it reads, as it is now.

    Raises:
        ConfigurationError: a mistake in a file, or between files and what is registered; nothing was written.
    """
    specs = read_specs(folder)
    tables = load_tables(config)
    for table in specs:  # the entry of a newer release says what we would forget: pause, epoch, generation
        if isinstance(refused := tables.unreadable.get(table), VersionRefused):
            raise refused
    registered = tables.registered
    complete = check_specs({**{name: entry.spec for name, entry in registered.items()}, **specs}, config)
    specs = {table: complete[table] for table in specs}
    check_versions(registered, specs)
    names = TopicNames(config.kafka.topic_prefix)
    asked = topics_to_ask(registered, specs, names)
    starts = starts_now(open_admin(config), asked) if asked else {}
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    merged = merge(registered, specs, at=at, starts=starts, names=names)
    of_before = [each.key for table in specs.keys() - registered.keys() for each in tables.evolved(table).values()]
    write_entries(
        config, [entry for change, entry in merged.values() if change.action != "unchanged"], forget=of_before
    )
    return [change for change, _ in merged.values()]
