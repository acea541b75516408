"""Risks of tables, by name: what each may do to whoever reads the rows, and how it is settled.

A risk is no mistake: the spec can be applied. Somebody should know of it, and settle it or accept it with a reason
(`accepted_risks` of a spec); until then `headgate tables lint` says it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_NAMES_SHOWN = 8


class RiskName(StrEnum):
    """The names, as specs and `--json` have them; none is ever given another meaning."""

    NO_KEY = "no_key"
    NO_BEFORE_IMAGE = "no_before_image"
    DECIMAL_WITHOUT_SCALE = "decimal_without_scale"
    DECIMAL_AS_FLOAT = "decimal_as_float"
    INTEGER_MAY_BE_TIME = "integer_may_be_time"
    TYPE_NOT_KNOWN = "type_not_known"
    NULLS_LEFT_OUT = "nulls_left_out"
    WEAK_ORDER = "weak_order"
    LOOKS_PERSONAL = "looks_personal"
    OPEN_PATTERN = "open_pattern"
    KEYS_MAY_CLASH = "keys_may_clash"
    TRUNCATES_IGNORED = "truncates_ignored"
    # Told by records alone.
    APPEND_ONLY = "append_only"
    NO_TOPIC = "no_topic"
    REFUSED_RECORDS = "refused_records"
    UNKNOWN_COLUMNS = "unknown_columns"
    NULL_OR_DEFAULT = "null_or_default"
    CUT_TO_MILLIS = "cut_to_millis"
    NULL_BEYOND_NANOS = "null_beyond_nanos"
    LENGTH_UNKNOWN = "length_unknown"
    OUT_OF_LINE = "out_of_line"
    ZERO_KEY = "zero_key"


class Level(StrEnum):
    """Whether a risk keeps `lint` from being content, or is only said."""

    RISK = "risk"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Known:
    """What a risk means, how it is settled, and how much it weighs."""

    what: str
    settle: str
    level: Level = Level.RISK


@dataclass(frozen=True, slots=True)
class Risk:
    """A risk of one table. `columns` are those it is about, `path` is where the spec says it, in keys and numbers.

    `case` is what it means and how it is settled here, where more can be said than of the risk as such.
    """

    name: RiskName
    columns: tuple[str, ...] = ()
    path: tuple[str | int, ...] = ()
    case: tuple[str, str] | None = None

    @property
    def level(self) -> Level:
        """How much it weighs."""
        return RISKS[self.name].level

    @property
    def what(self) -> str:
        """What it means."""
        return RISKS[self.name].what if self.case is None else self.case[0]

    @property
    def settle(self) -> str:
        """How it is settled."""
        return RISKS[self.name].settle if self.case is None else self.case[1]

    def __str__(self) -> str:
        """Say it in a line, with some of its columns."""
        said = f"{self.what}: {self.settle}"
        return f"{shown(self.columns)}: {said}" if self.columns else said


def shown(names: Iterable[str]) -> str:
    """Return some of many names."""
    some = list(names)
    more = f" and {len(some) - _NAMES_SHOWN} more" if len(some) > _NAMES_SHOWN else ""
    return ", ".join(some[:_NAMES_SHOWN]) + more


RISKS: dict[RiskName, Known] = {
    RiskName.NO_KEY: Known(
        "a table without a key goes to its topic and the lake only: no features, no latest rows, and a delete takes "
        "nothing away",
        "give the source's table a primary key, or name columns that tell its rows apart in `key`",
    ),
    RiskName.NO_BEFORE_IMAGE: Known(
        "`before` is null in every change: subscribers and rules do not see what a row was, nor what a delete took",
        "have the source log whole rows (PostgreSQL: REPLICA IDENTITY FULL; MySQL: binlog_row_image=FULL) and say "
        "`before: full`",
        Level.NOTE,
    ),
    RiskName.DECIMAL_WITHOUT_SCALE: Known(
        "decimals as text keep all digits, but cannot be summed or compared as numbers",
        "give the source's column a scale, such as numeric(12,2), and declare decimal(12,2)",
    ),
    RiskName.DECIMAL_AS_FLOAT: Known(
        "what looks like an amount is a binary float: sums of it drift by the last digits",
        "declare it decimal(p,s) where records write it as a decimal; of Debezium set decimal.handling.mode=precise",
    ),
    RiskName.INTEGER_MAY_BE_TIME: Known(
        "integers that may be days, milliseconds or microseconds: as numbers nobody downstream can tell",
        "look at the source's type and declare it, such as {type: timestamp, encoding: time.MicroTimestamp}",
    ),
    RiskName.TYPE_NOT_KNOWN: Known(
        "no value said the column's type, or values of several kinds did: it is a text of anything",
        "declare the source's type",
        Level.NOTE,
    ),
    RiskName.NULLS_LEFT_OUT: Known(
        "the source leaves null columns out, so a null and a column that it does not have look the same",
        'AWS DMS: set IncludeNullAndEmpty and say `absent: absent`, or say what it means here: `absent: "null"`',
    ),
    RiskName.WEAK_ORDER: Known(
        "changes say no exact place in the source's log: a key must stay in one partition, and what is sent again is "
        "applied again",
        "see docs/positions.md for what to set in the tool",
    ),
    RiskName.LOOKS_PERSONAL: Known(
        "the column's name says something of a person, and it goes out as it is: topic, Redis, lake, alerts",
        "give the column a mask, leave it out of `columns`, or say why it may be read",
    ),
    RiskName.OPEN_PATTERN: Known(
        "the pattern of topics has no end: it also takes up topics whose names only begin so",
        "end it with $",
    ),
    RiskName.KEYS_MAY_CLASH: Known(
        "several topics feed the table, and rows of one key in two of them overwrite each other",
        "make a table for each topic, or make sure that each key comes from one of them",
    ),
    RiskName.TRUNCATES_IGNORED: Known(
        "a truncate at the source takes no row away here",
        "say `truncate: apply`, or `pause` to decide when one comes",
    ),
    RiskName.APPEND_ONLY: Known(
        "only inserts were seen: the table is append-only, or updates and deletes do not arrive",
        "look whether the source ever changes a row; of Debezium look at skipped.operations",
        Level.NOTE,
    ),
    RiskName.NO_TOPIC: Known(
        "there is no such topic yet", "look at its name; a topic that is made later is taken up by itself"
    ),
    RiskName.REFUSED_RECORDS: Known(
        "some of the topic's records would go to quarantine",
        "`headgate decode --topic TOPIC --spec FILE` shows which, and why",
    ),
    RiskName.UNKNOWN_COLUMNS: Known(
        "records have columns that the spec does not name, and they are passed over",
        "name them, or say `unknown_columns: add`",
        Level.NOTE,
    ),
    RiskName.NULL_OR_DEFAULT: Known(
        "a null of this column may arrive as its DEFAULT",
        "set value.converter.replace.null.with.default, and replace.null.with.default of transformations, to false",
    ),
    RiskName.CUT_TO_MILLIS: Known(
        "the source's microseconds are cut off, and times below 0 or from 24:00 on are null",
        "set time.precision.mode to another mode than connect",
    ),
    RiskName.NULL_BEYOND_NANOS: Known(
        "what lies outside the years 1677 to 2262 arrives as null",
        "set time.precision.mode to another mode than nanoseconds",
    ),
    RiskName.LENGTH_UNKNOWN: Known(
        "the bits arrive without their number, and zeros at the high end are lost", "give the column a length"
    ),
    RiskName.OUT_OF_LINE: Known(
        "a large value that an update did not change may arrive as plain null, and is then taken for one",
        "set REPLICA IDENTITY FULL, or use the ReselectColumns post-processor",
    ),
    RiskName.ZERO_KEY: Known(
        "deletes carry zeros for their key and are refused (zero_key), for REPLICA IDENTITY USING INDEX logs no other",
        "set the identity to DEFAULT or FULL",
    ),
}
# What the spec alone does not tell, or not always.
FROM_RECORDS = frozenset(
    {
        RiskName.APPEND_ONLY,
        RiskName.NO_TOPIC,
        RiskName.REFUSED_RECORDS,
        RiskName.UNKNOWN_COLUMNS,
        RiskName.WEAK_ORDER,
        RiskName.INTEGER_MAY_BE_TIME,
        RiskName.NULL_OR_DEFAULT,
        RiskName.CUT_TO_MILLIS,
        RiskName.NULL_BEYOND_NANOS,
        RiskName.LENGTH_UNKNOWN,
        RiskName.OUT_OF_LINE,
        RiskName.ZERO_KEY,
    }
)
ALL_COLUMNS = "*"
assert RISKS.keys() == set(RiskName), "each risk is explained"
