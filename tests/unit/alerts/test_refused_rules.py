"""What is refused as a rule, and why."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigurationError
from streams.rules import RuleEngine
from tests.unit.alerts.rows import spec_of


@pytest.fixture(scope="module")
def engine() -> RuleEngine:
    """One database for all tests of the module: rule sets must not disturb one another."""
    return RuleEngine()


REFUSED = {
    "random() > 0.5": "random is volatile",
    "uuid() = 'x'": "uuid is volatile",
    "nextval('s') = 1": "nextval is volatile",
    "now() > ts": "now is volatile",
    "current_timestamp > ts": "clock",
    "localtimestamp > after.local": "clock",
    "age(after.seen) > INTERVAL 1 DAY": "clock",
    "ago(INTERVAL 1 DAY) < ts": "current_timestamp",
    "getvariable('x') IS NULL": "volatile",
    "pg_sleep(1)": "sleep_ms",
    "count(*) > 1": "aggregate",
    "sum(after.score) > 1": "aggregate",
    "sum(after.score) FILTER (WHERE true) > 1": "aggregate",
    "row_number() OVER () = 1": "window",
    "lag(after.score) OVER (ORDER BY ts) > 1": "window",
    "(SELECT true)": "subquery",
    "EXISTS (SELECT 1 FROM changes)": "subquery",
    "1 IN (SELECT 1)": "subquery",
    "3 = ANY(after.tags)": "subquery",
    "read_text('/etc/hostname') = 'x'": "table function",
    "unnest(after.tags) = 'x'": "table function",
    "damerau_levenshtein(after.name, before.name) > 3": "any amount of memory",
    "length(replace(after.name, 'a', before.name)) > 3": "unless what it puts in is a constant",
    "regexp_replace(after.name, '.', after.name, 'g') = 'x'": "unless what it puts in is a constant",
    "array_to_string(after.tags, after.name) = 'x'": "unless what it puts in is a constant",
    "list_aggr(after.tags, 'string_agg', after.name) = 'x'": "unless what it puts in is a constant",
    "levenshtein(levenshtein(after.name, 'x')::VARCHAR, 'y') > 1": "no distance of texts",
    "after.name": "VARCHAR, not BOOLEAN",
    "NULL": "not BOOLEAN",
    "true; SELECT true": "several statements",
    "true) , (true": "syntax error",
    "true FROM changes": "not a query",
    "DISTINCT true": "not a query",
    "true ORDER BY 1": "not a query",
    "true AS x": "without a name",
    "*": "name them",
    "COLUMNS('name') = 'x'": "name them",
    "$1": "parameter",
    "#1": "by number",
    "after.name.upper() = 'X'": "upper",
    "nosuch(1) = 1": "no function nosuch",
    "uper(after.name) = 'X'": "did you mean upper",
    "after.nam = 'x'": "did you mean 'name'",
    "name = 'x'": "after.name",
    "befor.name = 'x'": "did you mean before",
    "op.x = 1": "op has no columns",
    "after.doc.x = 1": "a column has no fields",
    "key.name = 'x'": "key has no column 'name'",
    "after = before": "differ by case alone",
    "repeat(after.name, 1000000000) = ''": "memory",
    "len(range(1000000000)) > 1": "memory",
    "lpad(after.name, 1000000000, 'x') = ''": "memory",
    "list_reduce(after.tags, lambda a, b: a || a) = ''": "memory",
    "reduce(after.tags, lambda a, b: a || a) = ''": "memory",
    "list_contains(list_transform(after.tags, lambda _hg_0: _hg_0), 'x')": "are ours",
    "len(list_filter(after.tags, lambda after: after = 'b')) = 1": "after is ours",
    "after.name > after.tags": "rule r0: when",
    "NOT " * 200 + "true": "nested deeper",
    "((((": "rule r0: when",
}


@pytest.mark.parametrize("when", REFUSED)
def test_what_is_no_pure_function_of_one_change_is_refused(engine: RuleEngine, when: str) -> None:
    """When it is compiled, with the rule's name and the reason, not when it first meets a row."""
    with pytest.raises(ConfigurationError) as raised:
        engine.compile(spec_of({"when": when}))

    assert str(raised.value).startswith("rule r0: when")
    assert REFUSED[when] in str(raised.value)


def test_a_value_is_checked_like_a_condition(engine: RuleEngine) -> None:
    """And named in the error."""
    with pytest.raises(ConfigurationError, match=r"rule r0: values\.v: random is volatile"):
        engine.compile(spec_of({"when": "true", "values": {"v": "random()"}}))


def test_before_is_refused_where_the_table_does_not_log_it(engine: RuleEngine) -> None:
    """It would be null, or the key alone, and the rule would quietly never fire."""
    for when in ("before.name = 'x'", "before IS NULL", "len(before['name']) = 1"):
        with pytest.raises(ConfigurationError, match="before is not logged"):
            engine.compile(spec_of({"when": when}, before="none"))


def test_key_is_refused_where_the_table_has_none(engine: RuleEngine) -> None:
    """There is nothing to read."""
    with pytest.raises(ConfigurationError, match="no key"):
        engine.compile(spec_of({"when": "key IS NULL"}, key=()))
