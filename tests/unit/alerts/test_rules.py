"""Rules in SQL: what fires, what is refused and why, and the forms of their values."""

from __future__ import annotations

import datetime as dt
import random
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigurationError, TransportFatal
from streams.rule_database import COMPARED_CHARACTERS_MAX
from streams.rules import Evaluation, RuleEngine
from tests.unit.alerts.rows import AT, changes, spec_of


@pytest.fixture(scope="module")
def engine() -> RuleEngine:
    """One database for all tests of the module: rule sets must not disturb one another."""
    return RuleEngine()


def evaluate(engine: RuleEngine, rule: dict[str, Any], *rows: dict[str, Any]) -> Evaluation:
    """Evaluate one rule over `rows`."""
    spec = spec_of(rule)
    rules = engine.compile(spec)
    return rules.evaluate(changes(rules, spec, *rows))


def fired(engine: RuleEngine, when: str, *rows: dict[str, Any]) -> list[int]:
    """Return the rows on which `when` fires."""
    return [firing.row for firing in evaluate(engine, {"when": when}, *rows).firings]


def test_a_rule_fires_on_true_alone(engine: RuleEngine) -> None:
    """NULL is not true, and false is not."""
    rows = [{"after": {"score": score}} for score in (1.0, 5.0, None)]

    assert [1] == fired(engine, "after.score > 3", *rows)


def test_an_error_does_not_fire_and_is_counted(engine: RuleEngine) -> None:
    """A cast that fails on one row leaves its neighbours alone."""
    rows = [{"after": {"name": name}} for name in ("7", "seven", None, "1")]

    result = evaluate(engine, {"when": "CAST(after.name AS INTEGER) > 3"}, *rows)

    assert [0] == [firing.row for firing in result.firings]
    assert {"r0": 1} == result.errors


def test_a_failing_rule_leaves_its_neighbours_alone(engine: RuleEngine) -> None:
    """Two rules of one query: one fails on every row, the other fires on every row."""
    spec = spec_of({"when": "CAST(after.name AS INTEGER) > 3"}, {"when": "after.name = 'x'"})
    rules = engine.compile(spec)

    result = rules.evaluate(changes(rules, spec, *[{"after": {"name": "x"}}] * 3))

    assert [(0, "r1"), (1, "r1"), (2, "r1")] == [(firing.row, firing.rule.rule) for firing in result.firings]
    assert {"r0": 3} == result.errors


def test_a_failing_value_is_null_and_counted_while_the_rule_fires(engine: RuleEngine) -> None:
    """The alert matters more than one of its values."""
    rule = {"when": "true", "values": {"number": "CAST(after.name AS INTEGER)", "none": "after.score"}}

    result = evaluate(engine, rule, {"after": {"name": "x"}})

    assert [{"number": None, "none": None}] == [firing.values for firing in result.firings]
    assert {"r0": 1} == result.errors


def test_after_is_null_for_a_delete(engine: RuleEngine) -> None:
    """A row that is null differs from a row whose columns all are."""
    rows: list[dict[str, Any]] = [
        {"op": "delete", "before": {"id": 1}, "after": None},
        {"before": {"id": 1}, "after": {}},
    ]

    assert [0] == fired(engine, "after IS NULL", *rows)
    assert [1] == fired(engine, "after IS NOT NULL AND after.name IS NULL", *rows)
    assert [0] == fired(engine, "op = 'delete' AND before IS NOT NULL", *rows)
    assert [0] == fired(engine, "after.name IS NULL AND NOT (after IS NOT NULL)", *rows)


def test_before_and_after_are_compared(engine: RuleEngine) -> None:
    """What rules are for: a column that became something else."""
    rows: list[dict[str, Any]] = [
        {"before": {"name": "ok"}, "after": {"name": "critical"}},
        {"before": {"name": "critical"}, "after": {"name": "critical"}},
        {"op": "insert", "before": None, "after": {"name": "critical"}},
    ]

    assert [0, 2] == fired(engine, "after.name = 'critical' AND before.name IS DISTINCT FROM after.name", *rows)


def test_decimals_are_compared_as_decimals(engine: RuleEngine) -> None:
    """0.10 three times is 0.30, which floats would deny."""
    row = {"after": {"amount": Decimal("0.10")}}

    assert [0] == fired(engine, "after.amount + after.amount + after.amount = 0.30", row)
    assert [0] == fired(engine, "after.amount < 0.11 AND after.amount > 0.0999", row)


def test_columns_that_differ_by_case_alone_are_told_apart(engine: RuleEngine) -> None:
    """DuckDB itself would read the first of them for both."""
    row = {"after": {"amount": Decimal(1), "Amount": Decimal(2)}}

    result = evaluate(engine, {"when": "true", "values": {"a": "after.amount", "b": 'after."Amount"'}}, row)

    assert [{"a": "1.00", "b": "2.00"}] == [firing.values for firing in result.firings]


@pytest.mark.parametrize("name", ["größe in cm", 'a"; DROP TABLE x; --', "select"])
def test_any_name_of_a_column_can_be_read(engine: RuleEngine, name: str) -> None:
    """Quoted, a column may be called whatever its database lets it be called."""
    quoted = name.replace('"', '""')
    value: Any = 7 if name.startswith("g") else "7"

    rows = [{"after": {name: value}}, {"after": {name: None}}]

    assert [0] == fired(engine, f"CAST(after.\"{quoted}\" AS VARCHAR) = '7'", *rows)
    assert [0] == fired(engine, f"CAST(after['{name}'] AS VARCHAR) = '7'", *rows)


def test_only_the_columns_that_rules_use_are_asked_for(engine: RuleEngine) -> None:
    """The reader decodes no more."""
    rules = engine.compile(
        spec_of({"when": "after.score > 1"}, {"when": "before.name = 'x'", "values": {"k": "key.id"}})
    )

    assert frozenset({"after", "before", "key"}) == rules.rows
    assert frozenset({"score", "name", "id"}) == rules.columns


def test_whether_a_row_is_there_asks_for_one_column_only(engine: RuleEngine) -> None:
    """A struct without any column could not say whether it is null."""
    rules = engine.compile(spec_of({"when": "after IS NULL"}))

    assert (frozenset({"after"}), frozenset({"id"})) == (rules.rows, rules.columns)


def test_a_rule_without_columns_asks_for_none(engine: RuleEngine) -> None:
    """Such as one about deletes."""
    rules = engine.compile(spec_of({"when": "op = 'delete'"}))

    assert (frozenset(), frozenset()) == (rules.rows, rules.columns)
    assert [1] == fired(engine, "op = 'delete'", {}, {"op": "delete"})


def test_values_have_the_forms_of_the_contract(engine: RuleEngine) -> None:
    """As in `headgate.changes`: 64-bit integers and decimals as text, times as ISO 8601, bytes as base64."""
    row = {
        "key": {"id": 2**62},
        "after": {
            "id": 2**62,
            "amount": Decimal("-12.50"),
            "größe in cm": 181,
            "name": "ü",
            "score": float("nan"),
            "seen": AT,
            "local": AT.replace(tzinfo=None),
            "born": dt.date(2024, 2, 29),
            "at": dt.time(13, 45, 6, 789),
            "picture": b"\x00\xff",
            "tags": ["a", None],
            "doc": '{"a": 1}',
        },
    }
    names = ["id", "amount", "größe in cm", "score", "seen", "local", "born", "at", "picture", "tags", "doc"]
    values = {f"v{at}": f'after."{name}"' for at, name in enumerate(names)}
    more = {
        "interval": "INTERVAL 3 DAY",
        "huge": "170141183460469231731687303715884105727",
        "json": "after.doc -> '$.a'",
        "key": "key",
        "moment": "ts",
        "big": "CAST('Infinity' AS DOUBLE)",
    }

    firing = evaluate(engine, {"when": "true", "values": {**values, **more}}, row).firings[0]

    assert {
        "v0": str(2**62),
        "v1": "-12.50",
        "v2": 181,
        "v3": "NaN",
        "v4": "2026-11-20T19:45:57.123456Z",
        "v5": "2026-11-20T19:45:57.123456",
        "v6": "2024-02-29",
        "v7": "13:45:06.000789",
        "v8": "AP8=",
        "v9": ["a", None],
        "v10": '{"a": 1}',
        "interval": "3 days",
        "huge": "170141183460469231731687303715884105727",
        "json": "1",
        "key": {"id": str(2**62)},
        "moment": "2026-11-20T19:45:57.123456Z",
        "big": "Infinity",
    } == firing.values


def test_dates_beyond_what_python_knows_are_written(engine: RuleEngine) -> None:
    """A year of five digits is a value like another."""
    firing = evaluate(engine, {"when": "true", "values": {"d": "make_timestamp(12024, 1, 2, 3, 4, 5.5)"}}, {}).firings[
        0
    ]

    assert {"d": "12024-01-02T03:04:05.500000"} == firing.values


@pytest.mark.parametrize(
    "when",
    [
        "list_contains(after.tags, 'b')",
        "len(list_filter(after.tags, lambda tag: tag = 'b')) = 1",
        "[t FOR t IN after.tags IF t = 'b'] = ['b']",
        "CASE WHEN after.name = 'x' THEN true ELSE false END",
        "after.name IN ('x', 'y') AND after.name NOT IN ('z')",
        "after.name LIKE 'x%' AND regexp_matches(after.name, '^x$')",
        "replace(after.name, 'x', 'yy') = 'yy' AND regexp_replace(after.name, 'x', 'z', 'g') = 'z'",
        "array_to_string(after.tags, '-') = 'a-b'",
        "levenshtein(after.name, 'xyz') = 2 AND editdist3(after.name, before.name) IS NULL",
        "after.doc ->> '$.a' = '1'",
        "json_extract_string(after.doc, '$.a') = '1'",
        "after.score BETWEEN 1 AND 3",
        "coalesce(after.score, 0) = 2 AND nullif(after.score, 3) = 2",
        "if(after.score > 1, true, false)",
        "extract(year FROM ts) = 2026 AND date_trunc('day', after.seen) < ts",
        "AFTER.NAME = 'x' -- in whatever case",
        "after IS NOT NULL AND try_cast(after.name AS INTEGER) IS NULL",
        'after."Amount"::DOUBLE > 1.5',
    ],
)
def test_ordinary_sql_works(engine: RuleEngine, when: str) -> None:
    """Lists, lambdas, JSON, patterns, CASE, times."""
    row = {
        "after": {"tags": ["a", "b"], "name": "x", "doc": '{"a": 1}', "score": 2.0, "seen": AT, "Amount": Decimal(2)}
    }

    assert [0] == fired(engine, when, row, {"after": None})


def test_nothing_outside_can_be_reached(engine: RuleEngine) -> None:
    """Whatever got through the check would find the doors of the database shut, and the locks without a key."""
    for statement in (
        "SELECT * FROM read_csv('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SET threads = 4",
        "LOAD httpfs",
    ):
        with pytest.raises(Exception, match=r"disabled|locked"):
            engine.database.execute(statement)


def test_a_query_that_cannot_run_is_narrowed_to_the_rows_at_fault(
    engine: RuleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TRY does not take, such as memory that runs out, costs those rows and that rule only."""
    import duckdb  # noqa: PLC0415  # its error, raised in place of a real shortage

    spec = spec_of({"when": "after.score > 0"}, {"when": "after.score > 1"})
    rules = engine.compile(spec)
    table = changes(rules, spec, *[{"after": {"score": float(score)}} for score in range(8)])
    query = rules._query  # noqa: SLF001  # stands in for a shortage of memory

    def short_of_memory(sql: str, view: pa.Table) -> pa.Table:
        bad = 5 in view["_hg_row"].to_pylist()
        if bad and "> 0" in sql:
            raise duckdb.OutOfMemoryException("no memory")
        return query(sql, view)

    monkeypatch.setattr(rules, "_query", short_of_memory)
    result = rules.evaluate(table)

    assert {"r0": 1} == result.errors
    assert [1, 2, 3, 4, 6, 7] == [firing.row for firing in result.firings if firing.rule.rule == "r0"]
    assert [2, 3, 4, 5, 6, 7] == [firing.row for firing in result.firings if firing.rule.rule == "r1"]


ENDLESS = "SELECT count(*) FROM range(1_000_000_000_000_000) t(i) WHERE i % 7 = 9"


def test_a_query_that_takes_too_long_costs_the_rows_at_fault(
    engine: RuleEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended; halves without the row are evaluated."""
    monkeypatch.setattr("streams.rule_database.QUERY_SECONDS_MAX", 1.0)

    class Slow:
        """The database, which never comes to an end with the third row."""

        is_endless = False

        def register(self, name: str, view: pa.Table) -> None:
            self.is_endless = 2 in view["_hg_row"].to_pylist()
            engine.database.register(name, view)

        def execute(self, sql: str) -> Any:
            return engine.database.execute(ENDLESS if self.is_endless else sql)

        def __getattr__(self, name: str) -> Any:
            return getattr(engine.database, name)

    spec = spec_of({"when": "after.score > 0"})
    rules = engine.compile(spec)
    monkeypatch.setattr(rules, "_database", Slow())
    result = rules.evaluate(changes(rules, spec, *[{"after": {"score": 1.0}}] * 4))

    assert [0, 1, 3] == [firing.row for firing in result.firings]
    assert {"r0": 1} == result.errors


def test_texts_that_are_too_long_to_be_compared_are_null(engine: RuleEngine) -> None:
    """A distance of two texts takes as many steps as their lengths multiplied, and cannot be ended."""
    long = "x" * COMPARED_CHARACTERS_MAX
    rows = [{"after": {"name": name}} for name in ("xy", long, long + "x", None)]

    assert [0, 1] == fired(engine, "levenshtein(after.name, 'y') > 0", *rows)
    assert [2, 3] == fired(engine, "levenshtein(after.name, 'y') IS NULL", *rows)


@pytest.mark.parametrize("error", ["FatalException", "InternalException"])
def test_a_broken_database_ends_the_worker(engine: RuleEngine, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """It would fail for every row of every rule from then on, and pass over all of them."""
    import duckdb  # noqa: PLC0415  # its error, raised in place of a real fault

    class Broken:
        """A database that fails."""

        def __getattr__(self, name: str) -> Any:
            if name in {"execute", "sql"}:
                raise getattr(duckdb, error)("broken")
            return getattr(engine.database, name)

    spec = spec_of({"when": "after.score > 0"})
    rules = engine.compile(spec)
    monkeypatch.setattr(rules, "_database", Broken())

    with pytest.raises(TransportFatal):
        rules.evaluate(changes(rules, spec, {"after": {"score": 1.0}}))


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30), cut=st.integers(0, 30))
def test_any_grouping_gives_the_same_firings(scores: list[int | None], cut: int) -> None:
    """A rule is a function of one change: how changes come together does not matter, and Python agrees with SQL."""
    spec = spec_of({"when": "after.score > 2 OR after.score < -3", "values": {"score": "after.score"}})
    rules = _ENGINE.compile(spec)
    rows = [{"after": {"score": None if score is None else float(score)}} for score in scores]
    whole = [(firing.row, firing.values) for firing in rules.evaluate(changes(rules, spec, *rows)).firings]
    first = rules.evaluate(changes(rules, spec, *rows[:cut])).firings
    second = rules.evaluate(changes(rules, spec, *rows[cut:])).firings
    parts = [(f.row, f.values) for f in first] + [(f.row + min(cut, len(rows)), f.values) for f in second]
    expected = [(at, {"score": float(s)}) for at, s in enumerate(scores) if s is not None and (s > 2 or s < -3)]

    assert expected == whole == parts


_ENGINE = RuleEngine()


def test_no_text_of_a_rule_reaches_a_query() -> None:
    """Random pieces of SQL, put together, are either refused or an expression whose rows are those given."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    pieces = [
        "true",
        "after.name",
        "= 'x'",
        ")",
        "(",
        ",",
        ";",
        "--",
        "/*",
        "*/",
        "SELECT",
        "FROM",
        "read_csv('x')",
        "AND",
        "'",
    ]
    for _ in range(150):
        text = " ".join(source.choices(pieces, k=source.randint(1, 7)))
        try:
            spec = spec_of({"when": text})
            rules = _ENGINE.compile(spec)
        except ConfigurationError:
            continue
        sql = re.sub("'(?:[^']|'')*'", "''", rules._compiled[0].when)  # noqa: SLF001  # what would be run, without texts
        assert not {";", "SELECT", "FROM", "read_csv"} & set(sql.split()), text
        assert len(rules.evaluate(changes(rules, spec, {"after": {"name": "x"}})).firings) <= 1
