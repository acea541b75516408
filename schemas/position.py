"""Where a change stands in its source's log, as fixed-width digits, so that comparing text compares order.

The layouts are frozen: they persist in Redis, in the lake and in topics (docs/positions.md).

| connector      | layout                                             | digits |
|----------------|----------------------------------------------------|--------|
| postgresql     | epoch(4) c(20) streamed(1) lsn(20)                 | 45     |
| mysql, mariadb | epoch(4) file(10) pos(20) streamed(1) row(10)      | 45     |
| maxwell        | epoch(4) streamed(1) file(10) pos(20) row(20) half(1) | 56  |
| canal          | epoch(4) streamed(1) time(20) batch(20) offset(20) row(10) half(1) | 76 |
| goldengate     | epoch(4) streamed(1) pos(40) half(1)               | 46     |
| qlik           | epoch(4) streamed(1) sequence(40) half(1)          | 46     |
| sequin         | epoch(4) streamed(1) lsn(20) idx(20) half(1)       | 46     |

`c` is the commit before the change (`source.sequence[0]`); `streamed` is 0 for rows of a snapshot and 1 for changes, so
that a chunk of an incremental snapshot, read while a transaction was open, loses to that transaction. `half` is 0 for
the delete that a change of a key begins with, and 1 for all else.
"""

from __future__ import annotations

from schemas.errors import PoisonRecord

EPOCH_MAX = 9_999
_U64_MAX = 2**64 - 1
_FILE_MAX = 10**10 - 1
_ROW_MAX = 10**10 - 1
_DIGITS_MAX = 100  # of a number as text, before it is read


def postgresql_position(epoch: int, commit: int, lsn: int, *, streamed: bool) -> str:
    """Return the 45 digits of a PostgreSQL change; `commit` is c of the table above.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= commit <= _U64_MAX and 0 <= lsn <= _U64_MAX):
        raise _out_of_range("postgresql")
    return f"{epoch:04d}{commit:020d}{streamed:d}{lsn:020d}"


def mysql_position(epoch: int, file: str, pos: int, row: int, *, streamed: bool) -> str:
    """Return the 45 digits of a MySQL or MariaDB change; `file` is the binary log's name, ordered by its number.

    Raises:
        PoisonRecord: `file` does not end in a number, or a part does not fit its width.
    """
    _, _, suffix = file.rpartition(".")
    if not (suffix.isascii() and suffix.isdigit()):
        raise _out_of_range("mysql")
    number = int(suffix)
    if not (0 <= epoch <= EPOCH_MAX and number <= _FILE_MAX and 0 <= pos <= _U64_MAX and 0 <= row <= _ROW_MAX):
        raise _out_of_range("mysql")
    return f"{epoch:04d}{number:010d}{pos:020d}{streamed:d}{row:010d}"


def maxwell_position(epoch: int, file: int, pos: int, row: int, half: int, *, streamed: bool = True) -> str:
    """Return the 56 digits of a change of Maxwell, of a bootstrap's row if not `streamed`.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    return _digits("maxwell", epoch, streamed, (file, 10), (pos, 20), (row, 20), (half, 1))


def canal_position(epoch: int, time: int, batch: int, offset: int, row: int, half: int) -> str:
    """Return the 76 digits of a change of Canal; `time` in microseconds, `offset` that of the origin.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    return _digits("canal", epoch, True, (time, 20), (batch, 20), (offset, 20), (row, 10), (half, 1))


def goldengate_position(epoch: int, pos: str, half: int) -> str:
    """Return the 46 digits of a change of GoldenGate; `pos` are the digits of its place in the trail.

    Raises:
        PoisonRecord: `pos` is no number, or does not fit its width.
    """
    return _digits("goldengate", epoch, True, (_number("goldengate", pos), 40), (half, 1))


def qlik_position(epoch: int, sequence: str, half: int) -> str:
    """Return the 46 digits of a change of Qlik Replicate; `sequence` are the digits of its changeSequence.

    Raises:
        PoisonRecord: `sequence` is no number, or does not fit its width.
    """
    return _digits("qlik", epoch, True, (_number("qlik", sequence), 40), (half, 1))


def qlik_load_position(epoch: int, time: int, offset: int, half: int) -> str:
    """Return the 46 digits of a row of a full load; `time` in microseconds, `offset` that of the origin.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    return _digits("qlik", epoch, False, (time, 20), (offset, 20), (half, 1))


def sequin_position(epoch: int, lsn: int, number: int, half: int, *, streamed: bool) -> str:
    """Return the 46 digits of a change of Sequin; of a backfill's row, of its time and the origin's offset.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    return _digits("sequin", epoch, streamed, (lsn, 20), (number, 20), (half, 1))


def _number(connector: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX):
        raise _out_of_range(connector)
    return int(digits)


def _digits(connector: str, epoch: int, streamed: bool, *parts: tuple[int, int]) -> str:  # noqa: FBT001 - it is one of the parts
    """Return epoch(4), streamed(1) and the parts, each of its width."""
    if not 0 <= epoch <= EPOCH_MAX or any(not 0 <= number < 10**width for number, width in parts):
        raise _out_of_range(connector)
    return f"{epoch:04d}{streamed:d}" + "".join([f"{number:0{width}d}" for number, width in parts])


def _out_of_range(connector: str) -> PoisonRecord:
    return PoisonRecord(
        "bad_position",
        f"the position of a {connector} change is missing or out of range",
        hint="look at `source` of the record; a converter that drops its fields makes order impossible",
    )
