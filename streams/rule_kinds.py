"""What the kinds of rules are in SQL: one condition over before and after, and for a rule that remembers what arms it.

A row that is not there is null in every column, so an insert and a delete change what they bring and take. A column
that is not known on one side changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigurationError
from schemas.rule import Rule
from streams.rule_sql import Reference, Rewriter, Sides

KNOWN_BEFORE, KNOWN_AFTER = "known_before", "known_after"  # whether a column of before, of after, is known

TypeOf = Callable[[str, str], str]  # SQL, and how errors call it: the type that DuckDB finds

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule in SQL.

    Only of one that remembers: `was`, beyond its bound before; `rearms`, back behind the other; `was_armed`, so before.
    """

    rule: Rule
    when: str
    values: dict[str, str]
    was: str = "false"
    rearms: str = "false"
    was_armed: str = "false"


def compile_rule(rule: Rule, rewriter: Rewriter, type_of: TypeOf) -> Compiled:
    """Return a rule in SQL over the rewriter's names.

    Raises:
        ConfigurationError: it names rule, key and reason.
    """
    where = f"rule {rule.rule}"
    values = {name: rewriter.rewrite(text, f"{where}: values.{name}") for name, text in rule.values.items()}
    when = None if rule.when is None else rewriter.rewrite(rule.when, f"{where}: when")
    if rule.kind == "match":
        assert when is not None, "a match rule has a condition"
        return Compiled(rule, when, values)
    if when is not None and (found := type_of(when, f"{where}: when")) != "BOOLEAN":
        raise ConfigurationError(f"{where}: when gives {found}, not BOOLEAN", hint="write a comparison")
    sides = [rewriter.rewrite_sides(text, f"{where}: of") for text in rule.of]
    if rule.kind == "threshold":
        return _threshold(rule, values, sides[0], rewriter, type_of)
    condition = _any_of(_differs(side, rewriter) for side in sides)
    if rule.kind == "transition":
        condition = _all_of([condition, *_ends(rule, sides[0], rewriter, type_of)])
    return Compiled(rule, _all_of([condition, *([] if when is None else [when])]), values)


def _threshold(rule: Rule, values: dict[str, str], of: Sides, rewriter: Rewriter, type_of: TypeOf) -> Compiled:
    where = f"rule {rule.rule}: of"
    if not (found := type_of(of.after, where)).startswith(_NUMBERS):
        raise ConfigurationError(f"{where}: gives {found}, not a number", hint="CAST(… AS DOUBLE), or another column")
    rising = rule.above is not None
    bound, rearm = (rule.above, rule.rearm_below) if rising else (rule.below, rule.rearm_above)
    beyond, back = (">", "<") if rising else ("<", ">")
    limit, home = (rewriter.rewrite(repr(number), where) for number in (bound, rearm))
    known_before, known_after = _known(of, KNOWN_BEFORE, rewriter), _known(of, KNOWN_AFTER, rewriter)
    if found in {"FLOAT", "DOUBLE"}:  # DuckDB holds NaN above every number; here it is none, and changes nothing
        known_before, known_after = [*known_before, f"NOT isnan({of.before})"], [*known_after, f"NOT isnan({of.after})"]
    return Compiled(
        rule,
        when=_all_of([*known_after, f"{of.after} {beyond} {limit}"]),
        values=values,
        was=_all_of([*known_before, f"{of.before} {beyond} {limit}"]),
        rearms=_all_of([*known_after, f"{of.after} {back} {home}"]),
        was_armed=_all_of([*known_before, f"{of.before} {back} {home}"]),
    )


def _differs(of: Sides, rewriter: Rewriter) -> str:
    known = [*_known(of, KNOWN_BEFORE, rewriter), *_known(of, KNOWN_AFTER, rewriter)]
    return _all_of([*known, f"({of.before}) IS DISTINCT FROM ({of.after})"])


def _known(of: Sides, root: str, rewriter: Rewriter) -> list[str]:
    return [rewriter.named(Reference(root, column)) for column in sorted(of.columns)]


def _ends(rule: Rule, of: Sides, rewriter: Rewriter, type_of: TypeOf) -> Iterable[str]:
    where = f"rule {rule.rule}"
    type_ = type_of(of.after, f"{where}: of")
    for name, sql, values in (("from", of.before, rule.from_values), ("to", of.after, rule.to_values)):
        if values is not None:
            literals = [_literal(each, type_, f"{where}: {name}", rewriter) for each in values if each is not None]
            among = [f"coalesce(({sql}) IN ({', '.join(literals)}), false)"] if literals else []
            yield _any_of([*among, *([f"({sql}) IS NULL"] if None in values else [])])


def _literal(value: Any, type_: str, where: str, rewriter: Rewriter) -> str:
    """Return a value as SQL of the type of what it is compared with."""
    wanted = {"VARCHAR": str, "BOOLEAN": bool}.get(type_)
    if isinstance(value, bool) if wanted is None else not isinstance(value, wanted):
        raise ConfigurationError(f"{where}: {value!r} is no {type_}", hint="quote what is text, and nothing else")
    is_text = isinstance(value, str)
    text = "'" + value.replace("'", "''") + "'" if is_text else repr(value)
    sql = f"CAST({rewriter.rewrite(text, where)} AS {type_})"
    if not rewriter.is_exact(sql, None if is_text else text):
        raise ConfigurationError(f"{where}: {value!r} is no {type_}", hint="write a value that `of` can have")
    return sql


def _all_of(conditions: Iterable[str]) -> str:
    return " AND ".join(f"({each})" for each in conditions)


def _any_of(conditions: Iterable[str]) -> str:
    return " OR ".join(f"({each})" for each in conditions)


def known_column(root: str, column: str | None) -> str:
    """Return the name of the column that says whether a row's column is known."""
    return f"{root} {column}"
