"""Why the lake did not take something: what a file system or a catalogue raised, said without a value of a row."""

from __future__ import annotations

import errno
import os
import sqlite3

from schemas.errors import SinkUnavailable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def not_taken(table: str, cause: BaseException) -> SinkUnavailable:
    """Return the error for a write to `table` that failed of `cause`; of a system's error also what the system says.

    The text of `cause` is left out: of a database's it may hold a statement with its values.
    """
    number = system_error(cause)
    why = type(cause).__name__ if number is None else f"{type(cause).__name__}: {os.strerror(number)}"
    hint = "see whether the warehouse and its catalogue answer: `headgate check`"
    if number in _NO_ROOM:
        hint = "make room where the warehouse and its catalogue lie: LAKE goes on by itself"
    return SinkUnavailable(f"the lake did not take table {table}: {why}", hint=hint)


def system_error(cause: BaseException) -> int | None:
    """Return the number of the system's error behind an exception, None where there is none."""
    if isinstance(cause, OSError):
        return cause.errno
    below = getattr(cause, "orig", cause)  # SQLAlchemy keeps what the driver raised there
    if isinstance(below, sqlite3.Error) and getattr(below, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return errno.ENOSPC
    return None
