"""The views that rules read: which rules read which, and the small views that rules make for themselves.

A rule without a view of its table has one of its own: of the columns that it uses, of the row, kept in Redis like any
other. It is in the entry of `headgate.tables`, where `apply` puts it, and not in the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from schemas.feature import View
from schemas.rule import Rule
from schemas.table import TableSpec, own_view_name, view_of
from streams.rule_sql import Scope
from streams.rules import RuleEngine, RuleSet

_VERSION_MAX = 2**31 - 1


def rules_on(spec: TableSpec, view: str) -> list[Rule]:
    """Return the rules of a table that read the updates of `view`."""
    return [rule for rule in spec.rules if rule.reads_updates and view_of(spec, rule) == view]


def scope_of(spec: TableSpec, columns: Sequence[str]) -> Scope:
    """Return what rules on a view of these columns may name; what an entity was before is always known."""
    types = {name: column.type for name, column in spec.columns.items()}
    return Scope({name: types[name] for name in columns}, {name: types[name] for name in spec.key})


def with_own_views(spec: TableSpec, engine: RuleEngine) -> TableSpec:
    """Return the spec with the views that its rules make for themselves; of one that has them already, the same.

    Raises:
        ConfigurationError: a rule cannot be compiled.
    """
    own = [_own_view(spec, rule, engine) for rule in spec.rules if rule.reads_updates and rule.view is None]
    names = {view.view for view in own}
    return spec.model_copy(update={"features": [*(v for v in spec.features if v.view not in names), *own]})


def check_rules(spec: TableSpec, engine: RuleEngine) -> None:
    """Compile all rules of a spec that has its rules' views.

    Raises:
        ConfigurationError: the first that cannot be, with the reason.
    """
    engine.compile(spec)
    for view in spec.features:
        if rules := rules_on(spec, view.view):
            RuleSet(rules, scope_of(spec, view.columns), engine)


def _own_view(spec: TableSpec, rule: Rule, engine: RuleEngine) -> View:
    """Return the view of the columns that one rule uses.

    Its version is made of their names and types: with others it is another view, filled anew.
    """
    used = RuleSet([rule], scope_of(spec, list(spec.columns)), engine).compared
    columns = [name for name in spec.columns if used is None or name in used]
    text = json.dumps([[name, str(spec.columns[name].type)] for name in columns])
    version = zlib.crc32(text.encode()) % _VERSION_MAX + 1
    name = own_view_name(spec, rule.rule)
    return View(view=name, version=version, entity=name, columns=columns)
