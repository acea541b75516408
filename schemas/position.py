"""Where a change stands in its source's log, as fixed-width digits, so that comparing text compares order.

The layouts are frozen: they persist in Redis, in the lake and in topics (docs/positions.md).

| connector      | layout                                                             | digits |
|----------------|--------------------------------------------------------------------|--------|
| postgresql     | epoch(4) c(20) streamed(1) lsn(20)                                 | 45     |
| mysql, mariadb | epoch(4) file(10) pos(20) streamed(1) row(10)                      | 45     |
| sqlserver      | epoch(4) commit(10,10,5) streamed(1) change(10,10,5) last(20)      | 75     |
| db2            | epoch(4) commit(10,10,20) streamed(1) change(10,10,20) last(20)    | 105    |
| oracle         | epoch(4) commit(20) streamed(1) scn(20) last(20)                   | 65     |
| mongodb        | epoch(4) ts(20) streamed(1) ord(10) offset(20)                     | 55     |
| maxwell        | epoch(4) streamed(1) file(10) pos(20) row(20) half(1)              | 56     |
| canal          | epoch(4) streamed(1) time(20) batch(20) offset(20) row(10) half(1) | 76     |
| goldengate     | epoch(4) streamed(1) pos(40) half(1)                               | 46     |
| qlik           | epoch(4) streamed(1) sequence(40) half(1)                          | 46     |
| sequin         | epoch(4) streamed(1) lsn(20) idx(20) half(1)                       | 46     |

Of flattened records: epoch(4) 1, then the rest of the connector's layout; or epoch(4) 0 offset(20).

Formats whose tools write another position than the log's own, or none: epoch(4) streamed(1) exact(1), then parts.

| format         | exact | parts                                                        | digits |
|----------------|-------|--------------------------------------------------------------|--------|
| dms            | 2     | MySQL: file(10) pos(20) row(10) record(10)                   | 56     |
|                | 2     | PostgreSQL: lsn(20) index(20) record(10)                     | 56     |
|                | 1     | any other source: commit time(20) offset(30)                 | 56     |
|                | 0     | no transaction details: zeros(20) offset(30)                 | 56     |
| dynamodb       | 2     | SequenceNumber(40)                                           | 46     |
|                | 1     | Kinesis: creation time(20) offset(20)                        | 46     |
| s3             | 2     | sequencer(40)                                                | 46     |
| json           | 2     | the parts that the spec names, of their declared widths      |        |
|                | 0     | none named: offset(20)                                       | 26     |

`c` is the commit before the change (`source.sequence[0]`); `streamed` is 0 for rows of a snapshot and 1 for changes, so
that a chunk of an incremental snapshot, read while a transaction was open, loses to that transaction. `last` is what
the connector counts within one place, else the record's offset: the order in which the changes were sent. `half` is 0
for the delete that a change of a key within one record begins with, and 1 for all else.
"""

from __future__ import annotations

import functools
import re

from schemas.errors import PoisonRecord

EPOCH_MAX = 9_999
SQLSERVER_COMMIT_END = 29  # how many digits say the epoch and the transaction
DB2_COMMIT_END = 44
ORACLE_COMMIT_END = 24
MYSQL_DIGITS, MYSQL_ROW_DIGITS = 45, 10  # all, and how many of them say the row within an event
FLAT_BY_OFFSET, FLAT_BY_SOURCE = "0", "1"  # behind the epoch: the more exact order wins
_U64_MAX = 2**64 - 1
_LSNS_KEPT = 256
_FILE_MAX = 10**10 - 1
_ROW_MAX = 10**10 - 1
_SCN_MAX = 10**20 - 1
_PLACE_MAX = 10**20 - 1
_HALF_MAX = 9
_SQLSERVER_LSN = re.compile(r"([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,4})")
_DB2_LSN = re.compile(r"([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,16})")
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


def sqlserver_position(epoch: int, commit: str | None, change: str | None, last: int, *, streamed: bool) -> str:
    """Return the 75 digits of a SQL Server change; its LSNs are hexadecimal, `00000027:00000ac0:0007`, None is zero.

    Raises:
        PoisonRecord: an LSN is none, or a part does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= last <= _U64_MAX):
        raise _out_of_range("sqlserver")
    return f"{epoch:04d}{_sqlserver_digits(commit)}{streamed:d}{_sqlserver_digits(change)}{last:020d}"


def db2_position(epoch: int, commit: str | None, change: str | None, last: int, *, streamed: bool) -> str:
    """Return the 105 digits of a Db2 change, whose LSNs are as those of SQL Server, but of 16 bytes.

    Raises:
        PoisonRecord: an LSN is none, or a part does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= last <= _U64_MAX):
        raise _out_of_range("db2")
    return f"{epoch:04d}{_db2_digits(commit)}{streamed:d}{_db2_digits(change)}{last:020d}"


def oracle_position(epoch: int, commit: int, scn: int, last: int, *, streamed: bool) -> str:
    """Return the 65 digits of an Oracle change; `commit` is the SCN of its transaction's commit.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= commit <= _SCN_MAX and 0 <= scn <= _SCN_MAX and 0 <= last <= _U64_MAX):
        raise _out_of_range("oracle")
    return f"{epoch:04d}{commit:020d}{streamed:d}{scn:020d}{last:020d}"


def flat_position(epoch: int, offset: int) -> str:
    """Return the 25 digits of a flattened change that does not say where it stands: its place in its partition.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= offset <= _U64_MAX):
        raise _out_of_range("flattened")
    return f"{epoch:04d}{FLAT_BY_OFFSET}{offset:020d}"


def flat_position_of(position: str) -> str:
    """Return the position of a flattened change that says where it stands as its connector's own records do."""
    return f"{position[:4]}{FLAT_BY_SOURCE}{position[4:]}"


@functools.lru_cache(maxsize=_LSNS_KEPT)  # all changes of a transaction share one
def _sqlserver_digits(text: str | None) -> str:
    first, second, third = _lsn(_SQLSERVER_LSN, text, "sqlserver")
    return f"{first:010d}{second:010d}{third:05d}"


@functools.lru_cache(maxsize=_LSNS_KEPT)
def _db2_digits(text: str | None) -> str:
    first, second, third = _lsn(_DB2_LSN, text, "db2")
    return f"{first:010d}{second:010d}{third:020d}"


def _lsn(form: re.Pattern[str], text: str | None, connector: str) -> tuple[int, int, int]:
    if text is None:
        return 0, 0, 0
    found = form.fullmatch(text)
    if found is None:
        raise _out_of_range(connector)
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)


def mongodb_position(epoch: int, millis: int, order: int, offset: int, *, streamed: bool) -> str:
    """Return the 55 digits of a MongoDB change: cluster time in milliseconds, order within it, and the origin's offset.

    All changes of a transaction share a cluster time, so that only the offset tells two of one document apart.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    if not (0 <= epoch <= EPOCH_MAX and 0 <= millis <= _U64_MAX and 0 <= order <= _ROW_MAX and 0 <= offset <= _U64_MAX):
        raise _out_of_range("mongodb")
    return f"{epoch:04d}{millis:020d}{streamed:d}{order:010d}{offset:020d}"


def maxwell_position(epoch: int, file: int, pos: int, row: int, half: int, *, streamed: bool = True) -> str:
    """Return the 56 digits of a change of Maxwell, of a bootstrap's row if not `streamed`.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    fits = 0 <= file <= _FILE_MAX and 0 <= pos <= _PLACE_MAX and 0 <= row <= _PLACE_MAX and 0 <= half <= _HALF_MAX
    if not (fits and 0 <= epoch <= EPOCH_MAX):
        raise _out_of_range("maxwell")
    return f"{epoch:04d}{streamed:d}{file:010d}{pos:020d}{row:020d}{half:d}"


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


def just_below(position: str) -> str:
    """Return the position next below: what is put there loses to what stands at `position`, and to nothing older.

    Nothing is below the lowest of all, which stays.
    """
    return f"{max(int(position) - 1, 0):0{len(position)}d}"


def _number(connector: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX):
        raise _out_of_range(connector)
    return int(digits)


def _digits(connector: str, epoch: int, streamed: bool, *parts: tuple[int, int]) -> str:  # noqa: FBT001 - it is one of the parts
    """Return epoch(4), streamed(1) and the parts, each of its width."""
    if not 0 <= epoch <= EPOCH_MAX or any(not 0 <= number < 10**width for number, width in parts):
        raise _out_of_range(connector)
    return f"{epoch:04d}{streamed:d}" + "".join([f"{number:0{width}d}" for number, width in parts])


def source_position(epoch: int, *parts: tuple[int, int], streamed: bool, exact: int) -> str:
    """Return the digits of a change of the second table above; parts are numbers with their widths.

    Raises:
        PoisonRecord: a part is negative or does not fit its width.
    """
    texts = [f"{number:0{width}d}" for number, width in parts]
    fits = all(number >= 0 and len(text) == width for text, (number, width) in zip(texts, parts, strict=True))
    if not (fits and 0 <= epoch <= EPOCH_MAX):
        raise _out_of_range("streamed")
    return f"{epoch:04d}{streamed:d}{exact:d}{''.join(texts)}"


def _out_of_range(connector: str) -> PoisonRecord:
    return PoisonRecord(
        "bad_position",
        f"the position of a {connector} change is missing or out of range",
        hint="look at `source` of the record; a converter that drops its fields makes order impossible",
    )
