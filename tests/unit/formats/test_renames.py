"""Statements of MySQL and MariaDB: which columns they rename, and which only look as if."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.renames import STATEMENT_CHARACTERS_MAX, renames_of

ANY_NAME = st.text(min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("alter table customers change extra extra2 int", {"extra": "extra2"}),
        ("ALTER TABLE shop.customers RENAME COLUMN `a` TO `b`;", {"a": "b"}),
        ("alter table if exists `s`.`t` change column a b int, add c int, rename column d to e", {"a": "b", "d": "e"}),
        ("/* why */ alter -- how\n online # so\n table t change b a int, change a b int", {"b": "a", "a": "b"}),
        ('alter table t change "a b" "c,d" enum(\'x, change y z\', "change y z")', {"a b": "c,d"}),
        ("alter table t change a b text comment 'it''s, change c d', drop e", {"a": "b"}),
        ("alter table t change a b text default 'x\\', change c d'", {"a": "b"}),
        ("alter table t change größe grösse int", {"größe": "grösse"}),
        ("alter table t change a a bigint", {}),
        ("alter table t rename to u", {}),
        ("alter table t rename index a to b", {}),
        ("alter table t add (a int, change b c int)", {}),
        ("rename table a to b", {}),
        ("create table t (a int) comment 'alter table t change a b int'", {}),
        ("alter user a rename column b to c", {}),
        ("alter table t change", {}),
        ("alter table t change ( )", {}),
        ("alter table", {}),
        ("", {}),
    ],
)
def test_what_a_statement_renames(statement: str, found: dict[str, str]) -> None:
    """Names in quotes, comments, texts that look like clauses, and statements that rename no column."""
    assert found == renames_of(statement)


@given(ANY_NAME, ANY_NAME)
def test_any_name_in_backticks_is_read_as_it_is(old: str, new: str) -> None:
    """Two backticks stand for one."""
    first, second = (name.replace("`", "``") for name in (old, new))
    found = {} if old == new else {old: new}

    assert found == renames_of(f"alter table `t` add x int, change `{first}` `{second}` int not null")
    assert found == renames_of(f"alter table `t` rename column `{first}` to `{second}`, add x int")


@given(st.text(alphabet="alter table`\"'()/*-#\\,;.change ab\n"))
def test_what_is_no_statement_renames_nothing_that_it_does_not_name(text: str) -> None:
    """It is read to its end, whatever is missing there."""
    assert all(old in text.replace("``", "`") for old in renames_of(f"alter table t change {text}"))


def test_a_statement_without_end_is_not_read() -> None:
    """One of an insert is not in a topic; one of 100 kB is no change of columns by hand."""
    assert {} == renames_of(f"alter table t change a b int{' ' * STATEMENT_CHARACTERS_MAX}")
