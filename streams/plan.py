"""The difference between specs and what runs: what an apply would do, and for whom that would be a surprise. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.compatibility import CompatibilityRule, Difference, differences, incompatible
from schemas.errors import ConfigurationError, TableStopped
from schemas.masked import masked_spec
from schemas.table import TableEntry, TableSpec
from streams.source_topics import Notice

Action = Literal["added", "changed", "unchanged"]

SHOWN = 20
WAYS_OUT = (
    "three ways out: another version beside the old (a name of its own in `table:`, and `beside: {table}`), "
    "after which readers move, and `headgate tables remove {table}` ends the old; or what is compatible ({instead}); "
    "or --force, after you have told those who read it"
)


@dataclass(slots=True)
class TablePlan:
    """What becomes of one table; `before` and `after` stand for its spec as it runs and as it is in the files."""

    table: str
    action: Action
    schema_version: int
    before: str
    after: str
    contract: list[Difference] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)  # topics, with their partitions
    foreseen: dict[str, str] = field(default_factory=dict)  # tables that a template makes of topics that are there
    lake: dict[str, str] = field(default_factory=dict)  # by column; "" is the table itself
    views: dict[str, str] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    @property
    def breaks(self) -> list[Difference]:
        """What those who read the table already cannot go on with."""
        return incompatible(self.contract)

    def document(self) -> dict[str, Any]:
        """Return it for scripts."""
        short = {"table": self.table, "action": self.action, "schema_version": self.schema_version}
        notices = [
            {"rule": each.rule, "what": each.what, "hint": each.hint, "refuses": each.refuses} for each in self.notices
        ]
        contract = [
            {"rule": said.rule, "column": said.column, "what": said.what, "why": said.why}
            | {"compatible": said.compatible, "instead": said.instead}
            for said in self.contract
        ]
        return {
            **short,
            "before": self.before,
            "after": self.after,
            "compatible": not self.breaks,
            "contract": contract,
            "topics": self.made,
            "tables": self.foreseen,
            "lake": self.lake,
            "views": self.views,
            "rules": self.rules,
            "notices": notices,
        }


@dataclass(slots=True)
class Plan:
    """What an apply of a folder does: to each of its tables, and what it writes. `left` are tables of no file."""

    tables: dict[str, TablePlan]
    left: list[str]
    entries: list[TableEntry] = field(default_factory=list)
    forget: list[bytes] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)  # of no table

    @property
    def changes(self) -> list[TablePlan]:
        """The tables that are not as they were."""
        return [each for each in self.tables.values() if each.action != "unchanged"]

    def refusals(self, *, force: bool) -> list[TableStopped]:
        """Return why it is not applied, an error for each table; with `force` readers of before are passed over."""
        found = []
        for each in self.changes:
            if each.breaks and not force:
                found.append(refused(each))
            found += [
                TableStopped(notice.rule, f"{each.table}: {notice.what}", hint=notice.hint)
                for notice in each.notices
                if notice.refuses
            ]
        return found

    def document(self) -> dict[str, Any]:
        """Return it for scripts; `headgate tables apply --plan` reads it."""
        counts = dict.fromkeys(("added", "changed", "unchanged"), 0)
        for each in self.tables.values():
            counts[each.action] += 1
        notices = [{"rule": each.rule, "what": each.what, "hint": each.hint} for each in self.notices]
        tables = [each.document() for each in self.tables.values()]
        return {"counts": counts, "tables": tables, "not_in_files": self.left, "notices": notices}


def refused(plan: TablePlan) -> TableStopped:
    """Return the error of a change that breaks those who read the table already: the rules, and the ways out."""
    said = "; ".join(map(str, plan.breaks[:SHOWN]))
    more = f"; and {len(plan.breaks) - SHOWN} more" if len(plan.breaks) > SHOWN else ""
    instead = "; ".join(dict.fromkeys(each.instead for each in plan.breaks))
    return TableStopped(
        "incompatible",
        f"{plan.table} would change under those who read it: {said}{more}",
        hint=WAYS_OUT.format(table=plan.table, instead=instead),
    )


def plan_table(action: Action, before: TableEntry | None, after: TableEntry) -> TablePlan:
    """Return what becomes of a table, both entries as they are in force."""
    spec = after.spec
    old = before.spec if before is not None and before.spec.template is None else None
    plan = TablePlan(spec.table, action, after.schema_version, digest(before), digest(after))
    if action == "unchanged":
        return plan
    if before is not None and before.replay is not None:
        plan.notices.append(_is_replayed(spec.table))
    if old is None and spec.template is not None:  # nobody reads a template
        return plan
    plan.contract = _contract(old, spec) if old is not None else []
    plan.lake = dict(_lake(None if old is None else masked_spec(old), masked_spec(spec)))
    plan.views = dict(_views(old, spec))
    plan.rules = dict(_rules(old, spec))
    return plan


def _is_replayed(table: str) -> Notice:
    """Return why no other spec is taken: the rest of the replay would be written by the one of before, or by both."""
    return Notice(
        table,
        "replaying",
        "a replay of it is not through",
        f"let it end, or give it up: `headgate tables replay {table} --cancel`",
        refuses=True,
    )


def _contract(old: TableSpec, new: TableSpec) -> list[Difference]:
    if new.template is None:
        return differences(old, new)
    return [Difference(CompatibilityRule.TABLE_RENAMED, None, old.table, f"a template of {new.template}")]


def digest(entry: TableEntry | None) -> str:
    """Return a short text that stands for a spec as it is in force; empty for none."""
    if entry is None:
        return ""
    return hashlib.sha256(entry.spec.model_dump_json().encode()).hexdigest()[:16]


def _lake(before: TableSpec | None, after: TableSpec) -> Iterator[tuple[str, str]]:
    was = before is not None and before.lake.enabled
    if not after.lake.enabled or after.template is not None:
        if was:
            yield "", "gets no more rows; what is there stays"
        return
    if before is None or not was:
        yield "", "is made, or goes on if it is there"
        return
    yield from _columns_of_lake(before, after)


def _columns_of_lake(before: TableSpec, after: TableSpec) -> Iterator[tuple[str, str]]:
    """Yield what becomes of the columns of the lake's table, as LAKE will do it."""
    from sinks.lake.evolve import changes_for  # noqa: PLC0415 - pyiceberg costs a second, and most plans change no column
    from sinks.lake.types import stored  # noqa: PLC0415 - the same

    if before.columns == after.columns:
        return
    there = {name: stored(column.type) for name, column in before.columns.items()}
    try:
        changes = changes_for(after.table, there, {name: column.type for name, column in after.columns.items()})
    except TableStopped as stop:
        yield "", f"LAKE would pause: {stop.message}; {stop.hint}"
        return
    for name, former in changes.aside.items():
        yield former, f"keeps what {name} was"
    for name, type_ in changes.added.items():
        yield name, f"is added as {type_}"
    for name, type_ in changes.widened.items():
        yield name, f"becomes {type_}"
    for name in before.columns:
        if name not in after.columns:
            yield name, "stays, and is null from then on"


def _views(before: TableSpec | None, after: TableSpec) -> Iterator[tuple[str, str]]:
    """Yield what becomes of the keys in Redis, by view and version."""
    old = {view.view: view for view in before.features} if before is not None else {}
    new = {view.view: view for view in after.features}
    for name, view in new.items():
        if name not in old:
            yield view.id, "is new: pending until it is filled from the output topic, or the lake"
        elif old[name].version != view.version:
            yield view.id, "is filled anew under this version, and pending until then"
            yield old[name].id, f"stays as it is for its readers; `headgate features forget {name}` clears it"
        elif old[name] != view:
            yield view.id, "feature updates begin" if view.emit and not old[name].emit else "is read as it is"
    for name, view in old.items():
        if name not in new:
            yield view.id, f"is kept up no more; `headgate features forget {name}` clears it"


def _rules(before: TableSpec | None, after: TableSpec) -> Iterator[tuple[str, str]]:
    old = {rule.rule: rule for rule in before.rules} if before is not None else {}
    new = {rule.rule: rule for rule in after.rules}
    for name, rule in new.items():
        if name not in old:
            yield name, "is new: it fires for what comes from now on"
        elif old[name] != rule:
            yield name, "is another: it fires for what comes from now on"
    for name in old:
        if name not in new:
            yield name, "goes"


def check_as_planned(now: Plan, planned: Mapping[str, Any], registered: Mapping[str, TableEntry]) -> None:
    """Check that a plan made now says of each table what an earlier one said, given by its document.

    Raises:
        TableStopped: it does not; each such table is named, with who has applied it and when.
        ConfigurationError: what is given is no plan.
    """
    try:
        then = {each["table"]: (each["action"], each["before"], each["after"]) for each in planned["tables"]}
    except (KeyError, TypeError) as exc:
        raise ConfigurationError("this is no plan", hint="`headgate tables plan DIR --json` prints one") from exc
    mine = {each.table: (each.action, each.before, each.after) for each in now.tables.values()}
    differing = sorted(table for table in then.keys() | mine.keys() if then.get(table) != mine.get(table))
    if not differing:
        return
    files = [table for table in differing if then.get(table, _NOT_THERE)[2] != mine.get(table, _NOT_THERE)[2]]
    why = "the files are not those of the plan" if files else "what runs is not what the plan was made from"
    said = "; ".join(_applied(table, registered.get(table)) for table in (files or differing)[:SHOWN])
    raise TableStopped(
        "plan_is_old", f"nothing was applied: {why}: {said}", hint="look at `headgate tables plan DIR` again"
    )


_NOT_THERE = ("", "", "")


def _applied(table: str, entry: TableEntry | None) -> str:
    if entry is None:
        return f"{table} is not registered"
    return f"{table} was applied by {entry.applied_by or 'somebody'} at {entry.applied_at or 'some time'}"
