"""What is refused before a signal is written into a source."""

from __future__ import annotations

import pytest

from connectors.sources.signalling import write_signal
from schemas.errors import ConfigurationError

ROW = ("id", "execute-snapshot", "{}")


@pytest.mark.parametrize("table", ["", ".", "public.", ".signal", "a.b.c"])
def test_a_name_that_is_no_tables_is_refused(table: str) -> None:
    """Nothing is connected to."""
    with pytest.raises(ConfigurationError, match="names no table"):
        write_signal("postgresql://secret@127.0.0.1:1/none", table, ROW)


@pytest.mark.parametrize(
    "dsn", ["oracle://u:secret@db.example/x", "secret", "postgresql://u:secret@[", "mysql://u:secret@[/x"]
)
def test_an_address_that_is_none_is_refused_without_being_repeated(dsn: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as refused:
        write_signal(dsn, "public.signal", ROW)

    assert "secret" not in refused.value.message + refused.value.hint
