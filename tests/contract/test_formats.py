"""Every capture of a real connector, folded by position per key, gives the rows that its database ended up with."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

import pytest

from connectors.formats import PartitionMemory, encode_row, format_of
from schemas.batch import Batch
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.captures import FOLDER, is_envelope_json, oracle, runs, spec_of, topic_of
from tests.unit.formats.likeness import differences

# Types that are not in the event, or whose text by the database is no other writing of what is there.
NOT_COMPARED = {
    "interval",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "geometry",
    "hstore",
    "name",
    "comp",
    "tsquery",
    "pg_lsn",
    "int4multirange",
    "money[]",
}

CUT_TO_MILLIS = "time inside arrays is cut to milliseconds by the connector"
CONNECT_MILLIS = "time.precision.mode=connect has milliseconds"
PADDED = "char(n) and inet are written otherwise by a cast to text"
NOT_A_NUMBER = "precise decimals have no NaN: null arrives"
FLOATING = "decimal.handling.mode=double has 53 bits"
NANOS = "nanoseconds of 64 bits reach from 1677 to 2262: null arrives"
LITERAL = "the placeholder's text as real data cannot be told from the placeholder"
ZERO_DATES = "zero and invalid dates of MariaDB arrive as null, as the default or as another date"
UNSIGNED = "bigint unsigned wraps unless bigint.unsigned.handling.mode=precise"
DEFAULTED = "replace.null.with.default: the default arrives for null"
BEFORE_CHRIST = "a snapshot gives years before 1 as if after"
ROUNDED = "money.fraction.digits=0 rounds"
ADDED = "a column added later was never sent for rows that did not change"
UNKNOWN_TYPES = "include.unknown.datatypes gives bytes of the text"
AFTERWARDS = "the table went on after the capture"

_TIMES = {"ta": CUT_TO_MILLIS}
_CONNECT = {
    "t": CONNECT_MILLIS,
    "t6": CONNECT_MILLIS,
    "ts": CONNECT_MILLIS,
    "ts6": CONNECT_MILLIS,
    "tsa": CONNECT_MILLIS,
    **_TIMES,
}
_ZERO = dict.fromkeys(("dt", "dtm", "dtm3", "dtm6", "ts", "ts3", "ts6", "dnn", "dtnn", "tsnn"), ZERO_DATES)
_NAN = dict.fromkeys(("n", "n0", "n2", "n38", "nneg", "nbig", "na"), NOT_A_NUMBER)

LOSSY: dict[str, dict[str, str]] = {
    "mariadb-types": {
        "biu": UNSIGNED,
        "nd": DEFAULTED,
        "dt": ZERO_DATES,
        "dtm": ZERO_DATES,
        "dtm3": ZERO_DATES,
        "dtm6": ZERO_DATES,
        "dnn": ZERO_DATES,
    },
    "mariadb-types-precise-unsigned-connect-string": {
        "nd": DEFAULTED,
        "tm": ZERO_DATES,
        "tm3": ZERO_DATES,
        "tm6": CONNECT_MILLIS,
        "yr": ZERO_DATES,
        **_ZERO,
    },
    "mariadb-types-schema": {"biu": UNSIGNED},
    "pg-avro-twin-json": {"extra": ADDED},
    "pg-heartbeat": {"n": AFTERWARDS},
    "pg-null-with-default-envelope-replace-true": dict.fromkeys(("n", "s", "b", "d", "ts"), DEFAULTED),
    "pg-toast": {"t": LITERAL},
    "pg-toast-reselect": {"t": LITERAL},
    "pg-types-decimal-double": {"n38": FLOATING, "nbig": FLOATING, "m": FLOATING, "na": NOT_A_NUMBER},
    "pg-types-decimal-precise": _NAN,
    "pg-types-decimal-schema-double": {"n38": FLOATING, "nbig": FLOATING},
    "pg-types-general": {"c": PADDED, "ip": PADDED},
    "pg-types-general-schema": {"c": PADDED},
    "pg-types-general-unknown": {"c": PADDED, "ip": PADDED},
    "pg-types-money-fraction-0": {"m": ROUNDED},
    "pg-types-time-connect": _CONNECT,
    "pg-types-time-schema-connect": _CONNECT,
    "pg-types-time-nanoseconds": {"ts": NANOS, "ts0": NANOS, "ts3": NANOS, "ts6": NANOS, **_TIMES},
    "pg-types-time-extreme-snapshot": {"d": BEFORE_CHRIST},
    **{
        f"pg-types-time-{mode}": _TIMES
        for mode in ("adaptive", "adaptive_time_microseconds", "isostring", "microseconds", "structured")
    },
    **{
        f"pg-types-time-schema-{mode}": _TIMES
        for mode in ("adaptive", "adaptive_time_microseconds", "isostring", "microseconds", "nanoseconds", "structured")
    },
}

INFINITE = "infinity has no form as a date"
DAY_24 = "24:00 has no form as a time"
# What is refused, by reason, in captures that hold what the contract has no form for.
REFUSED: dict[str, dict[str, int]] = {
    "mariadb-types": {"out_of_range": 4},  # TIME below 0 and above 24 h
    "pg-types-decimal-string": {"out_of_range": 1},  # NaN as text
    **{
        f"pg-types-time-{mode}": {"out_of_range": 2}  # DAY_24
        for mode in (
            *("adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"),
            "structured",
        )
    },
    **{
        f"pg-types-time-extreme-{mode}": {"out_of_range": 3}  # INFINITE
        for mode in ("adaptive", "adaptive_time_microseconds", "connect", "microseconds", "snapshot")
    },
}
STOPS = {
    ("pg-copy-shared-lsn", "public.item"): "truncate",
    ("pg-truncate", "public.child"): "truncate",
    ("pg-truncate", "public.other"): "truncate",
    ("pg-truncate", "public.parent"): "truncate",
    ("pg-partitioned-root-false", "public.ev_01"): "truncate",
    ("pg-new-slot-new-snapshot", "public.t"): "source_read_anew",
}
# Tables whose topics cannot give their rows, with the reason; their records are decoded in the test of all records.
NOT_FOLDED = {
    ("mariadb-ddl", "capmddl.t"): "its key and columns were changed midway",
    ("mariadb-row-image-minimal", "capmmin.customers"): "the connector stopped at the first partial row",
    ("mariadb-row-image-minimal", "capmmin.items"): "the connector stopped at the first partial row",
    ("pg-message-key-columns", "public.orders"): "the record's key is not the table's",
    (
        "pg-odd-identifiers",
        "Odd Schema.Straße mit.Punkt",
    ): "names with quotes and backslashes: see test_debezium_json.py",
    ("pg-partitioned-root-false", "public.ev"): "the parent has the rows of the snapshot only",
    ("pg-replica-identity", "public.ri_index"): "deletes carry the zero value of the key column",
    ("pg-schema-change-race", "public.t_new"): "rows from before the renaming are in another topic",
    ("pg-schema-change-schemaless", "public.t_new"): "rows from before the renaming are in another topic",
}


# Rows that are gone, of which the transformation said nothing: it drops truncates, and deletes where it is told to.
LEFT: dict[tuple[str, str], set[str]] = {
    ("pg-unwrap-rewrite", "public.t"): {'["1"]', '["20"]'},
    ("pg-unwrap-tombstone", "public.t"): {'["1"]', '["20"]'},
    ("pg-unwrap-drop", "public.t"): {'["1"]', '["2"]', '["20"]'},
    ("pg-unwrap-drop", "public.f"): {'["1"]'},
}


class Folded(NamedTuple):
    """Rows by key, and what did not become a row."""

    rows: dict[str, dict[str, Any]]
    refused: dict[str, int]
    stop: str | None


def tables() -> list[tuple[str, str]]:
    """Return every captured table that has a topic and a key."""
    cases = sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and is_envelope_json(path.name))
    return [
        (case, table)
        for case in cases
        for table, known in oracle(case).items()
        if known["primary_key"] and runs(case, topic_of(case, table))
    ]


def folded(case: str, table: str, **changes: Any) -> Folded:
    """Return the rows that the changes of a table's topic leave, the highest position of a key winning."""
    spec = spec_of(case, table, **changes)
    state: dict[str, tuple[str, Any]] = {}
    refused: Counter[str] = Counter()
    stop = None
    for run in runs(case, topic_of(case, table)):
        decoded = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory())
        refused.update(rejected.error.reason for rejected in decoded.rejected)  # type: ignore[attr-defined]
        stop = decoded.stop.reason if decoded.stop else stop
        _fold(decoded.batch, state)
    names = spec.key
    rows = {json.dumps([str(row[name]) for name in names]): row for _, row in state.values() if row is not None}
    return Folded(rows, dict(refused), stop)


def _fold(batch: Batch, state: dict[str, tuple[str, Any]]) -> None:
    for i, position in enumerate(batch.positions):
        key = encode_row(batch.keys[i]).decode()
        before = state.get(key)
        if before is not None and position < before[0]:
            continue
        row: Any = None if batch.afters[i] is None else json.loads(encode_row(batch.afters[i]))
        source = before
        if batch.old_keys[i] is not None:  # a row whose key changed takes what it lacks from the old one
            source = state.get("was " + encode_row(batch.old_keys[i]).decode())
        for name in batch.unavailable[i]:
            assert name not in row, "an unavailable column has no field"
            if source is not None and source[1] is not None and name in source[1]:
                row[name] = source[1][name]
        if row is None and before is not None and batch.new_keys[i] is not None:
            state["was " + key] = before
        state[key] = (position, row)
    for name in [name for name in state if name.startswith("was ")]:
        del state[name]


@pytest.mark.parametrize(
    ("case", "table"), [entry for entry in tables() if entry not in NOT_FOLDED and entry not in STOPS]
)
def test_the_folded_changes_are_the_rows_of_the_database(case: str, table: str) -> None:
    """Every value of every row is the database's, but for those that the source itself loses, named above."""
    known = oracle(case)[table]
    expected = {json.dumps([str(row[name]) for name in known["primary_key"]]): row for row in known["rows"]}
    got = folded(case, table)
    unlike: dict[str, str] = {}
    for key in expected.keys() & got.rows.keys():
        for name, sql_type in known["columns"].items():
            if sql_type in NOT_COMPARED or name not in expected[key] or name == "ia2":
                continue
            if difference := differences(sql_type, got.rows[key].get(name), expected[key][name]):
                unlike[name] = difference
    lossy = LOSSY.get(case, {})

    assert REFUSED.get(case, {}) == got.refused
    assert expected.keys() - got.rows.keys() == set() or got.refused
    assert LEFT.get((case, table), set()) == got.rows.keys() - expected.keys()
    assert {} == {name: difference for name, difference in unlike.items() if name not in lossy}
    assert lossy.keys() & known["columns"].keys() <= unlike.keys() or len(oracle(case)) > 1, (
        "a reason that is not needed is not stated"
    )


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_nothing_is_refused_where_what_cannot_be_held_may_be_null(case: str) -> None:
    """Every infinity, NaN and 24:00 of the captures: null and counted, while all else in its row is kept."""
    for table, known in oracle(case).items():
        spec = spec_of(case, table)
        columns = {
            name: {**column.model_dump(), "unrepresentable": "quarantine" if name in spec.key else "null"}
            for name, column in spec.columns.items()
        }
        strict, lenient = folded(case, table), folded(case, table, columns=columns)

        assert {} == lenient.refused
        assert known["rows"] == [] or len(lenient.rows) == len(known["rows"])
        assert strict.rows == {key: lenient.rows[key] for key in strict.rows}


@pytest.mark.parametrize(("case", "table"), sorted(STOPS))
def test_a_table_stops_where_going_on_would_be_wrong(case: str, table: str) -> None:
    """A truncate, and a source that was read anew, stop the table; nothing behind the stop is decoded."""
    got = folded(case, table)

    assert STOPS[case, table] == got.stop


def test_a_redelivery_of_older_records_does_not_stop_a_table() -> None:
    """A connector that was killed repeats records: older states, but no new snapshot."""
    got = folded("pg-redelivery-after-kill", "public.t")

    assert got.stop is None


@pytest.mark.parametrize("case", sorted({case for case, _ in tables()}))
def test_each_record_is_in_exactly_one_place(case: str) -> None:
    """A change, a rejection, a skipped record, or at or behind the stop: nothing is lost and nothing is twice."""
    for table in oracle(case):
        columns = spec_of(case, table).columns
        if any(set('"\\') & set(name) for name in columns):
            continue
        for run in runs(case, topic_of(case, table)):
            spec = spec_of(case, table)
            decoded = (
                format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory())
            )
            end = len(run) if decoded.stop_index is None else decoded.stop_index

            assert end == len(decoded.batch) + len(decoded.rejected) + sum(decoded.skipped.values())
            assert sorted(decoded.batch.offsets) == decoded.batch.offsets


@pytest.mark.parametrize(
    ("case", "table"),
    [entry for entry in tables() if "redel" not in entry[0] and "new-slot" not in entry[0] and entry not in NOT_FOLDED],
)
def test_positions_rise_with_the_offsets_of_a_key(case: str, table: str) -> None:
    """Within one key, the order of positions is the order in which the connector sent the changes."""
    spec = spec_of(case, table)
    for run in runs(case, topic_of(case, table)):
        batch = (
            format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig()).decode(run, PartitionMemory()).batch
        )
        last: dict[bytes, str] = {}
        for key, position in zip(map(encode_row, batch.keys), batch.positions, strict=True):
            assert last.get(key, "") <= position
            last[key] = position


def test_schema_blocks_change_nothing() -> None:
    """The same statements captured with and without schema blocks give the same rows."""
    with_blocks, without = (
        folded("pg-json-with-schema", "public.customers"),
        folded("pg-json-schemaless", "public.customers"),
    )

    assert without.rows == with_blocks.rows
    assert 3 == len(without.rows)
