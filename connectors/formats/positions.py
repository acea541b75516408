"""Positions of Debezium's changes, by connector, and the rows of a snapshot that must not come after changes.

The layouts are those of schemas/position.py; which of `source`'s fields fill them stands in docs/positions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from connectors.formats.base import PartitionMemory
from connectors.formats.envelope import INCREMENTAL, MysqlSource, OracleSource, PostgresSource, SqlserverSource
from connectors.formats.reasons import Rejection
from connectors.formats.texts import whole_texts
from schemas.errors import PoisonRecord
from schemas.position import (
    DB2_COMMIT_END,
    ORACLE_COMMIT_END,
    SQLSERVER_COMMIT_END,
    db2_position,
    mysql_position,
    oracle_position,
    postgresql_position,
    sqlserver_position,
)

NO_SNAPSHOT = frozenset({"false", None, False})
_LSN_DIGITS = 20
_LSN_MAX = 2**64 - 1
# How many digits stand behind what says the transaction.
_BEHIND_COMMITS = {
    "sqlserver": 75 - SQLSERVER_COMMIT_END,
    "db2": 105 - DB2_COMMIT_END,
    "oracle": 65 - ORACLE_COMMIT_END,
}


def is_snapshot(op: str, source: Any) -> bool:
    """Tell whether a record is a row read, not changed."""
    return op == "r" or source.snapshot not in NO_SNAPSHOT


def is_initial(source: Any) -> bool:
    """Tell whether a row of a snapshot belongs to one that reads a source from its beginning.

    A blocking snapshot looks like one but in PostgreSQL; there the position tells them apart.
    """
    if source.snapshot == INCREMENTAL:
        return False
    if isinstance(source, PostgresSource):
        return source.lsn is not None and _sequence(source.sequence)[0] is None
    return True


def reads_anew(position: str, source: Any, memory: PartitionMemory) -> bool:
    """Tell whether a row of an initial snapshot contradicts what was seen before: the source is being read anew."""
    if not memory.streamed:
        return False
    if isinstance(source, PostgresSource):
        return True
    # A blocking snapshot may begin at the very commit that was the last: only what counts transactions is compared.
    behind = _BEHIND_COMMITS.get(source.connector, 0)
    return position[: len(position) - behind] < memory.last[: len(memory.last) - behind]


def positions(
    operations: list[str], sources: list[Any], offsets: list[int], epoch: int
) -> tuple[list[str], list[bool], dict[int, Rejection]]:
    """Return each record's position, whether it is a row of a snapshot, and which have no position, by index.

    `offsets` are those of the records: the last part of a position where its connector does not count that far.
    """
    postgres = isinstance(sources[0], PostgresSource)
    changes = "r" not in operations and {source.snapshot for source in sources} <= NO_SNAPSHOT
    if changes:
        snapshots = [False] * len(sources)
        if postgres and (fast := _streamed(sources, epoch)) is not None:
            return fast, snapshots, {}
    else:
        snapshots = [is_snapshot(op, source) for op, source in zip(operations, sources, strict=True)]
    one = _ONE[type(sources[0])]
    found: list[str] = []
    faults: dict[int, Rejection] = {}
    last = None
    for index, (source, snapshot, offset) in enumerate(zip(sources, snapshots, offsets, strict=True)):
        same = (source.sequence, source.lsn, snapshot) if postgres else None
        if same is not None and same == last:  # all rows of an initial snapshot, and of a COPY
            found.append(found[-1])
            continue
        try:
            found.append(one(source, _Place(epoch, offset, snapshot)))
            last = same
        except (PoisonRecord, ValueError):
            faults[index] = Rejection("bad_position", "the position in `source` is missing or out of range")
            found.append("")
            last = None
    return found, snapshots, faults


def _streamed(sources: list[PostgresSource], epoch: int) -> list[str] | None:
    """Return the positions of ordinary changes; None if one is not.

    The second part of `sequence` is the record's `lsn` in every capture, and is text already.
    """
    texts = [source.sequence for source in sources]
    if None in texts:
        return None
    found = _alike(texts, epoch)  # type: ignore[arg-type]
    return found if found is not None else _parted(texts, epoch)  # type: ignore[arg-type]


def _alike(texts: list[str], epoch: int) -> list[str] | None:
    """Return the positions where all texts are as wide as the first, which they are until a number gains a digit.

    The digits are moved by column, each to its place in a line of zeros for every record.
    """
    first, count = texts[0], len(texts)
    width, comma = len(first), first.find(",")
    digits = (comma - 3, width - comma - 4)  # of the commit and of the change
    if set(map(len, texts)) != {width} or not 0 < min(digits) <= max(digits) < _LSN_DIGITS:
        return None
    joined = "".join(texts).encode()
    marks = {0: b"[", 1: b'"', comma - 1: b'"', comma: b",", comma + 1: b'"', width - 2: b'"', width - 1: b"]"}
    if len(joined) != width * count or joined.translate(None, b"0123456789") != b'["",""]' * count:
        return None
    if any(joined[at::width] != mark * count for at, mark in marks.items()):
        return None
    template = f"{epoch:04d}{'0' * _LSN_DIGITS}1{'0' * _LSN_DIGITS}\n".encode()
    line, lines = len(template), bytearray(template * count)
    for start, many, end in ((2, digits[0], 4 + _LSN_DIGITS), (comma + 2, digits[1], line - 1)):
        for place in range(many):
            lines[end - many + place :: line] = joined[start + place :: width]
    return lines[:-1].decode().split("\n")


def _parted(texts: list[str], epoch: int) -> list[str] | None:
    """Return the positions of texts of any widths; None if one does not hold two numbers that surely have 64 bits."""
    commit = head = ""
    found = []
    width = len(postgresql_position(epoch, 0, 0, streamed=True))
    for text in texts:
        try:
            _, first, comma, lsn, _ = text.split('"')
        except ValueError:
            return None
        if comma != "," or not 0 < len(first) < _LSN_DIGITS or not 0 < len(lsn) < _LSN_DIGITS:
            return None
        if first != commit:
            commit = first
            head = f"{epoch:04d}{first.zfill(_LSN_DIGITS)}1"
        found.append(head + lsn.zfill(_LSN_DIGITS))
    joined = "".join(found)
    return found if all_digits(joined) and set(map(len, found)) == {width} else None


def all_digits(text: str) -> bool:
    """Tell whether a text has digits of ASCII alone; of a long one, twelve times as fast as asking the text itself."""
    return text.isascii() and text.encode().isdigit()


def _sequence(text: str | None) -> tuple[int | None, int | None]:
    """Return the last commit and the position of a change, as the connector writes them: `["24023119","24023128"]`."""
    if text is None:
        return None, None
    first, _, second = text.removeprefix("[").removesuffix("]").partition(",")
    return _number(first), _number(second)


def _number(text: str) -> int | None:
    digits = text.strip().strip('"')
    return None if digits == "null" else int(_digits(digits))


def _digits(text: str) -> str:
    if not (text.isdecimal() and text.isascii()):
        raise ValueError("a part of a position")
    return text


class _Place(NamedTuple):
    """What a position needs beside its source."""

    epoch: int
    offset: int
    snapshot: bool


def _postgresql(source: PostgresSource, place: _Place) -> str:
    epoch, _, snapshot = place
    commit, at = _sequence(source.sequence)
    # Both are the same, but should they differ: `_streamed` goes by `sequence` alone.
    by_sequence = source.lsn is None or (at is not None and commit is not None and not snapshot)
    lsn = at if by_sequence else source.lsn
    if lsn is None and source.snapshot == INCREMENTAL:
        lsn = _LSN_MAX  # above a row of the initial snapshot, and all the same below whatever was streamed since
    if lsn is None:
        raise ValueError("lsn")
    if snapshot:
        return postgresql_position(epoch, commit or 0, lsn, streamed=False)
    return postgresql_position(epoch, lsn if commit is None else commit, lsn, streamed=True)


def _mysql(source: MysqlSource, place: _Place) -> str:
    if source.file is None or source.pos is None:
        raise ValueError("file")
    return mysql_position(place.epoch, source.file, source.pos, source.row or 0, streamed=not place.snapshot)


def _sqlserver(source: SqlserverSource, place: _Place) -> str:
    """A row of a snapshot has the last commit before it was read (none in an empty log), and no change of its own."""
    made = db2_position if source.connector == "db2" else sqlserver_position
    if place.snapshot:
        return made(place.epoch, source.commit_lsn, None, place.offset, streamed=False)
    if source.commit_lsn is None or source.change_lsn is None:
        raise ValueError("lsn")
    last = _whole(source.event_serial_no)
    return made(
        place.epoch, source.commit_lsn, source.change_lsn, place.offset if last is None else last, streamed=True
    )


def _oracle(source: OracleSource, place: _Place) -> str:
    """A transaction without the SCN of its commit is placed by the change's own, which rises by key all the same."""
    scn, commit = _whole(source.scn), _commit_scn(source.commit_scn)
    if place.snapshot:
        if scn is None and commit is None:
            raise ValueError("scn")
        return oracle_position(place.epoch, max(scn or 0, commit or 0), 0, place.offset, streamed=False)
    if scn is None:
        raise ValueError("scn")
    last = _whole(source.txSeq)
    return oracle_position(
        place.epoch, scn if commit is None else commit, scn, place.offset if last is None else last, streamed=True
    )


def _commit_scn(value: int | str | None) -> int | None:
    """Return the SCN of a commit; of a list with one for each redo thread, the highest, for that never goes back."""
    if isinstance(value, str) and ("," in value or ":" in value):
        return max(int(_digits(entry.partition(":")[0])) for entry in value.split(","))
    return _whole(value)


def _whole(value: int | str | None) -> int | None:
    return int(_digits(value)) if isinstance(value, str) else value


_ONE: dict[Any, Callable[[Any, _Place], str]] = {
    PostgresSource: _postgresql,
    MysqlSource: _mysql,
    SqlserverSource: _sqlserver,
    OracleSource: _oracle,
}


def transactions(sources: list[Any]) -> list[str | None]:
    """Return the transaction of each change as its source names it: an id, a GTID, or where its commit stands."""
    if sources and isinstance(sources[0], PostgresSource):
        ids = [source.txId for source in sources]
        if set(map(type, ids)) == {int}:
            return whole_texts(ids)  # type: ignore[return-value]
        return list(map(str, ids)) if None not in ids else [None if one is None else str(one) for one in ids]
    if sources and isinstance(sources[0], SqlserverSource):
        return [source.commit_lsn if source.snapshot in NO_SNAPSHOT else None for source in sources]
    return [source.txId if isinstance(source, OracleSource) else source.gtid for source in sources]
