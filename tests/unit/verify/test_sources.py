"""What is asked of a source database, and what is refused before anything is asked."""

from collections.abc import Sequence
from typing import Any

import psycopg
import pymysql
import pytest

from connectors.sources import mysql, postgresql
from connectors.sources.base import Driver, KeyRange, SourceTable, open_table
from connectors.sources.opening import open_source
from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.table import TableSpec
from schemas.types import parse_type
from streams.verify.table import source_name


class Asked:
    """A session that keeps what is asked."""

    def __init__(self, answer: Sequence[Sequence[Any]] = ()) -> None:
        self.answer, self.asked = answer, list[tuple[str, list[Any]]]()

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        self.asked.append((query, list(parameters)))
        return self.answer

    def moment(self) -> str:
        return ""

    def leaves_open(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is open."""


def test_a_chunk_is_read_behind_a_key_of_several_columns_and_within_the_range() -> None:
    """Order and comparison are of columns, not of the texts that are selected."""
    session = Asked()
    columns = {"a": parse_type("long"), "b": parse_type("string")}
    table = SourceTable(session, postgresql.DIALECT, '"s"."t"', ["a", "b"], columns, KeyRange("5", "9"))
    assert table.rows_after(["7", "x"], 10).num_rows == 0
    query, parameters = session.asked[0]
    assert query == (
        'SELECT t."a"::text, t."b"::text FROM "s"."t" AS t WHERE t."a" >= %s AND t."a" <= %s AND '
        't."a" >= %s AND ((t."a" > %s) OR (t."a" = %s AND t."b" > %s)) ORDER BY t."a", t."b" LIMIT 10'
    )
    assert parameters == ["5", "9", "7", "7", "7", "x"]


@pytest.mark.parametrize("dialect", [postgresql.DIALECT, mysql.DIALECT])
def test_names_cannot_leave_their_quotes(dialect: Any) -> None:
    """Nor can a percent sign be taken for a parameter."""
    quote = dialect.quote("a")[0]
    assert dialect.quote(f"x{quote}; --%s") == f"{quote}x{quote}{quote}; --%%s{quote}"


def test_a_table_that_is_not_there_or_has_another_key_is_refused() -> None:
    """With the way to name the right one."""
    columns = {"id": parse_type("long")}
    with pytest.raises(ConfigurationError, match=r"no table s[.]t") as refused:
        open_table(Asked(), postgresql.DIALECT, ("s", "t"), ["id"], columns, KeyRange())
    assert "--source-table" in refused.value.hint
    with pytest.raises(ConfigurationError, match="no key column id"):
        open_table(Asked([("other",)]), postgresql.DIALECT, ("s", "t"), ["id"], columns, KeyRange())


@pytest.mark.parametrize(
    "dsn",
    ["oracle://x/y", "postgresql://user:hunter2@host/db?nonsense=1", "mysql://user:hunter2@host:port/db", "nothing"],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(dsn: str) -> None:
    """A password may stand in it."""
    with pytest.raises(ConfigurationError) as refused:
        open_source(dsn, ("s", "t"), ["id"], {"id": parse_type("long")}, KeyRange())
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"


def test_the_sources_table_is_the_end_of_the_topic_unless_it_is_named() -> None:
    """A pattern, or several topics, do not say it."""
    spec = TableSpec.model_validate(
        {"table": "t", "topics": ["clinic.public.patients"], "key": ["id"], "columns": {"id": "long"}}
    )
    assert source_name(spec, None) == ("public", "patients")
    assert source_name(spec, "other.people") == ("other", "people")
    assert source_name(spec.model_copy(update={"source_table": "hr.staff"}), None) == ("hr", "staff")
    for topics in (["^clinic[.].*"], ["a.b.c", "a.b.d"], ["one"]):
        with pytest.raises(ConfigurationError, match="which table"):
            source_name(spec.model_copy(update={"topics": topics}), None)


@pytest.mark.parametrize(
    ("driver", "away", "refused"),
    [
        (postgresql.DRIVER, psycopg.OperationalError("gone\nsecond line"), psycopg.errors.SyntaxError("at 'secret'")),
        (mysql.DRIVER, pymysql.err.OperationalError("gone"), pymysql.err.ProgrammingError("at 'secret'")),
        (mysql.DRIVER, ConnectionResetError("gone"), pymysql.err.InternalError("at 'secret'")),
    ],
)
def test_what_a_driver_raises_becomes_an_error_of_ours(driver: Driver, away: Exception, refused: Exception) -> None:
    """Of a server that is away what to do; of one that refuses nothing that the driver knows beside."""
    with (
        pytest.raises(SourceUnavailable, match=r"the source database: gone \(wait\)$") as told,
        driver.translated(hint="wait"),
    ):
        raise away
    with pytest.raises(ConfigurationError, match="the source database refuses: ") as no, driver.translated():
        raise refused

    assert (away, None) == (told.value.__cause__, no.value.__cause__)


def test_what_is_no_error_of_the_driver_is_nobodys_to_translate() -> None:
    """A fault of ours is shown as one."""
    with pytest.raises(ZeroDivisionError), postgresql.DRIVER.translated():
        raise ZeroDivisionError


class _MySQL(mysql.MySQLSession):
    """A session of no server: what a question is answered with, or refused."""

    def __init__(self, answer: Sequence[Sequence[Any]] | Exception) -> None:
        self._answer = answer

    def run(self, _query: str, _parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([(1,)], "binlog_transaction_compression=ON"),
        ([(0,)], ""),
        (ConfigurationError("1193 Unknown system variable"), ""),
        (SourceUnavailable("1193 Unknown system variable"), ""),
    ],
)
def test_mysql_says_whether_its_transactions_are_compressed(answer: Any, expected: str) -> None:
    """MariaDB and older MySQLs do not know the setting, and do not compress so."""
    assert expected == _MySQL(answer).leaves_open()
