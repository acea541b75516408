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
from connectors.registry.known import KnownSchemas
from connectors.wire import Schemas
from schemas.config import Config, LimitsConfig
from schemas.errors import ConfigurationError, VersionRefused
from schemas.feature import View
from schemas.masked import masked_spec
from schemas.mistakes import nearest
from schemas.output import latest_view_name
from schemas.table import RuleStart, TableEntry, TableSpec, own_view_name
from schemas.tenant import begin_of
from schemas.topics import TopicNames
from streams.avro_outputs import check_outputs
from streams.latest_views import check_latest, with_latest_view
from streams.mask_keys import mask_keys_of, pinned_for
from streams.registration import load_tables, open_admin, write_entries
from streams.rule_starts import rules_from, starts_now, topics_to_ask
from streams.rule_views import check_rules, with_own_views
from streams.rules import RuleEngine
from streams.spec_places import place_in
from streams.specs import SpecMistake, SpecMistakes, read_spec, read_specs
from streams.tables import check_topics
from streams.tenants import check_names

__all__ = [
    "TableChange",
    "apply_folder",
    "check_specs",
    "check_versions",
    "merge",
    "read_spec",
    "read_specs",
]
NO_KEYS: Mapping[str, Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class TableChange:
    """What an apply does to one table."""

    table: str
    action: Literal["added", "changed", "unchanged"]
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


def check_versions(entries: Mapping[str, TableEntry], specs: Mapping[str, TableSpec]) -> None:
    """Check that a view of other columns than before has another version: the rows of before would stay as they are.

    Raises:
        ConfigurationError: the first such view, with the version to give it.
    """
    for table, spec in specs.items():
        known = {view.view: view for view in entries[table].spec.features} if table in entries else {}
        for at, view in enumerate(spec.features):
            old = known.get(view.view)
            if old is not None and old.version == view.version and _read_by(old) != _read_by(view):
                raise SpecMistake(
                    table,
                    ["features", at],
                    f"view {view.view} is not as it was registered, and has the same version {view.version}",
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
    mask_keys: Mapping[str, Mapping[str, str]] = NO_KEYS,
) -> dict[str, tuple[TableChange, TableEntry]]:
    """Return what becomes of each of `specs`; pure. What the verbs set (pause, epoch, generation) stays as it is.

    `starts` are the ends of the topics that new and changed rules read, by topic; `mask_keys` what the entries of
    tables with masks keep of their keys.
    """
    result = {}
    for table, spec in specs.items():
        old, pinned = entries.get(table), dict(mask_keys.get(table, {}))
        version = _schema_version(old, spec)
        spec = with_latest_view(spec, version)  # noqa: PLW2901 - it is of this version
        if old is None:
            begin = rules_from(None, spec, starts, names)
            entry = TableEntry(spec=spec, applied_at=at, rules_from=begin, mask_keys=pinned)
            action = "added"
        elif old.spec == spec:
            entry, action = old, "unchanged"
        else:
            begin = rules_from(old, spec, starts, names)
            update = {"spec": spec, "schema_version": version, "applied_at": at, "rules_from": begin}
            update["mask_keys"] = pinned
            entry, action = old.model_copy(update=update), "changed"
        result[table] = (TableChange(table, action, entry.schema_version), entry)  # type: ignore[arg-type]
    return result


def _schema_version(old: TableEntry | None, spec: TableSpec) -> int:
    """Return the version that a spec's columns and key have."""
    if old is None:
        return 1
    same = (old.spec.columns, old.spec.key, old.spec.masks) == (spec.columns, spec.key, spec.masks)
    return old.schema_version + (0 if same else 1)


def apply_folder(config: Config, folder: Path, *, env: str | None = None) -> list[TableChange]:
    """Apply the specs of a folder; running workers take them up within seconds. The same files again change nothing.

    `env` is the environment whose overlay is laid over them. A rule that is new or changed starts at the end of the
    topic that it reads, as it is now.

    Raises:
        ConfigurationError: a mistake in a file, or between files and what is registered; nothing was written.
    """
    read = read_specs(folder, env=env)
    tables = load_tables(config)
    for table in read:  # the entry of a newer release says what we would forget: pause, epoch, generation
        if isinstance(refused := tables.unreadable.get(table), VersionRefused):
            raise refused
    registered = tables.registered
    with read.naming_places():
        complete = check_specs({**{name: entry.spec for name, entry in registered.items()}, **read}, config)
        specs = {table: complete[table] for table in read}
        pinned = pinned_for(mask_keys_of(config.masks), specs.values(), registered)
        check_versions(registered, specs)
        check_latest(config, registered, specs)
        check_outputs(config, specs)
    names = TopicNames(config.kafka.topic_prefix)
    asked = topics_to_ask(registered, specs, names)
    starts = starts_now(open_admin(config), asked) if asked else {}
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    merged = merge(registered, specs, at=at, starts=starts, names=names, mask_keys=pinned)
    of_before = [each.key for table in specs.keys() - registered.keys() for each in tables.evolved(table).values()]
    write_entries(
        config, [entry for change, entry in merged.values() if change.action != "unchanged"], forget=of_before
    )
    return [change for change, _ in merged.values()]
