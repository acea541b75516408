"""Three tables as they are created, and the changes of their schemas that are made while rows flow.

Each table has what a writer puts into its columns, and what a spec calls them: at first, and after all changes. One
table is created mid-stream. Statements are of both dialects; where they differ, a change has one for each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

Make = Callable[[random.Random], Any]
POSTGRES, MARIADB = "postgres", "mariadb"
INT_MAX = 2**31 - 1
REVISION = "revision"  # rises with each update, so that none changes nothing: MariaDB would not log it
_WORDS = ("Ada", "Grace", "Müller", "山田", "O'Hara", "Zoë 😀", 'quote"', "back\\slash", "tab\there", "")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _short(chance: random.Random) -> str:
    return chance.choice(_WORDS)


def _long(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.randrange(1, 40)))


def _ward(chance: random.Random) -> int:
    return chance.randrange(-30, 30)


def _wide_ward(chance: random.Random) -> int:
    return chance.choice((chance.randrange(-30, 30), INT_MAX, INT_MAX + 1 + chance.randrange(2**62)))


def _decimal(digits: int, scale: int) -> Make:
    return lambda chance: Decimal(chance.randrange(-(10**digits) + 1, 10**digits)).scaleb(-scale)


def _moment(chance: random.Random) -> datetime:
    return _EPOCH + timedelta(microseconds=chance.randrange(10**14))


def _zoneless(chance: random.Random) -> datetime:
    return _moment(chance).replace(tzinfo=None)


def _one_of(*values: Any) -> Make:
    return lambda chance: chance.choice(values)


def or_null(make: Make) -> Make:
    """Return `make`, but null one time in eight."""
    return lambda chance: None if chance.randrange(8) == 0 else make(chance)


@dataclass(frozen=True, slots=True)
class ChangingTable:
    """A table: its key, how it is created, what is written, and what its spec says at first and in the end.

    `gone` are the columns that a spec found on the way keeps, though the source has them no more.
    """

    name: str
    create: Mapping[str, str]
    values: Mapping[str, Make]
    key: tuple[str, ...]
    at_first: Mapping[str, str]
    in_the_end: Mapping[str, str]
    gone: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] = ()  # the columns of its view from the beginning

    @property
    def ever(self) -> dict[str, str]:
        """The columns that it ever had, as the last of their types."""
        return {**self.in_the_end, **self.gone}


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One change of a table's schema. `values` are its columns' from then on, None for a column that is gone.

    `silent`: rows that are there get other cells, and no change in the log says so.
    """

    what: str
    table: str
    statements: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Make | None] = field(default_factory=dict)
    silent: bool = False
    creates: bool = False


def _both(*statements: str) -> dict[str, tuple[str, ...]]:
    return {POSTGRES: statements, MARIADB: statements}


def _each(postgres: str, mariadb: str) -> dict[str, tuple[str, ...]]:
    return {POSTGRES: (postgres,), MARIADB: (mariadb,)}


PATIENTS = ChangingTable(
    name="patients",
    create={
        POSTGRES: """
            create type mood as enum ('calm', 'busy');
            create table patients (id int primary key, ward int not null, name varchar(20) not null,
                balance numeric(10,2), score double precision, mood mood, code int, born date, seen timestamp,
                revision int not null)""",
        MARIADB: """
            create table patients (id int primary key, ward int not null, name varchar(20) not null,
                balance decimal(10,2), score double, mood enum('calm', 'busy'), code int, born date, seen datetime(6),
                revision int not null)""",
    },
    values={
        "ward": _ward,
        "name": _short,
        "balance": or_null(_decimal(10, 2)),
        "score": or_null(lambda chance: chance.uniform(-1e6, 1e6)),
        "mood": or_null(_one_of("calm", "busy")),
        "code": or_null(lambda chance: chance.randrange(-INT_MAX, INT_MAX)),
        "born": or_null(lambda chance: date(1900, 1, 1) + timedelta(days=chance.randrange(45_000))),
        "seen": or_null(_zoneless),
    },
    key=("id",),
    at_first={
        "id": "int", "ward": "int", "name": "string", "balance": "decimal(10,2)", "score": "double", "mood": "string",
        "code": "int", "born": "date", "seen": "timestamp", REVISION: "int",
    },
    in_the_end={
        "id": "long", "ward": "long", "name": "string", "balance": "decimal(14,2)", "mood": "string", "code": "string",
        "born": "date", "seen": "timestamp", REVISION: "int", "note": "string", "height": "decimal(5,1)",
        "checked": "timestamptz",
    },
    gone={"score": "double"},
    shown=("ward", "name", "balance", "mood", "code", "born", "seen", REVISION),
)  # fmt: skip
VISITS = ChangingTable(
    name="visits",
    create=dict.fromkeys(
        (POSTGRES, MARIADB),
        """create table visits (id bigint primary key, patient int not null, place varchar(20) not null,
            cost decimal(8,2), revision int not null)""",
    ),
    values={"patient": lambda chance: chance.randrange(1_000), "place": _short, "cost": _decimal(8, 2)},
    key=("id",),
    at_first={"id": "long", "patient": "int", "place": "string", "cost": "decimal(8,2)", REVISION: "int"},
    in_the_end={
        "id": "long", "patient": "int", "cost": "decimal(8,2)", REVISION: "int", "room": "string", "tier": "string",
    },
    gone={"place": "string"},
    shown=("patient", "cost", REVISION),
)  # fmt: skip
BEDS = ChangingTable(
    name="beds",
    create=dict.fromkeys(
        (POSTGRES, MARIADB),
        """create table beds (ward int, number bigint, label varchar(20), free int not null, revision int not null,
            primary key (ward, number))""",
    ),
    values={"label": or_null(_short), "free": _one_of(0, 1)},
    key=("ward", "number"),
    at_first={"ward": "int", "number": "long", "label": "string", "free": "int", REVISION: "int"},
    in_the_end={"ward": "int", "number": "long", "label": "string", "free": "int", REVISION: "int"},
    shown=("label", "free", REVISION),
)
TABLES = {table.name: table for table in (PATIENTS, VISITS, BEDS)}

CHANGES = (
    SchemaChange("column added", "patients", _both("alter table patients add column note text"),
        {"note": or_null(_long)}, silent=True),
    SchemaChange("column with a default added", "visits",
        _both("alter table visits add column tier varchar(10) not null default 'basic'"),
        {"tier": _one_of("basic", "gold")}, silent=True),
    SchemaChange("columns of other types added", "patients", _each(
        "alter table patients add column height numeric(5,1), add column checked timestamptz",
        "alter table patients add column height decimal(5,1), add column checked timestamp(6) null"),
        {"height": or_null(_decimal(5, 1)), "checked": or_null(_moment)}, silent=True),
    SchemaChange("column renamed", "visits", _both("alter table visits rename column place to room"),
        {"place": None, "room": _short}, silent=True),
    SchemaChange("int made bigint", "patients", _each(
        "alter table patients alter column ward type bigint", "alter table patients modify ward bigint not null"),
        {"ward": _wide_ward}),
    SchemaChange("decimal widened", "patients", _each(
        "alter table patients alter column balance type numeric(14,2)",
        "alter table patients modify balance decimal(14,2)"),
        {"balance": or_null(_decimal(14, 2))}),
    SchemaChange("varchar made text", "patients", _each(
        "alter table patients alter column name type text", "alter table patients modify name text not null"),
        {"name": _long}),
    SchemaChange("table created", "beds", {
        POSTGRES: (BEDS.create[POSTGRES], "alter publication {publication} add table beds"),
        MARIADB: (BEDS.create[MARIADB],)}, BEDS.values, creates=True),
    SchemaChange("column dropped", "patients", _both("alter table patients drop column score"), {"score": None}),
    SchemaChange("value of an enum added", "patients", _each(
        "alter type mood add value 'wild'", "alter table patients modify mood enum('calm', 'busy', 'wild')"),
        {"mood": or_null(_one_of("calm", "wild"))}),
    SchemaChange("column made nullable", "visits", _each(
        "alter table visits alter column patient drop not null", "alter table visits modify patient int null"),
        {"patient": or_null(lambda chance: chance.randrange(1_000))}),
    SchemaChange("number made text", "patients", _each(
        "alter table patients alter column code type text using code::text", "alter table patients modify code text"),
        {"code": or_null(_one_of("A-12", "007", "-5", "12.50", "ü", ""))}),
    SchemaChange("column made NOT NULL (and moved, where that can be)", "visits", _each(
        "alter table visits alter column cost set not null",
        "alter table visits modify cost decimal(8,2) not null after id")),
    SchemaChange("key made bigint", "patients", _each(
        "alter table patients alter column id type bigint", "alter table patients modify id bigint not null")),
)  # fmt: skip
