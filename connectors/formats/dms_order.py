"""Positions and commit times of AWS DMS: a position of the source's log where it writes one, else what is weaker.

The layouts are those of schemas/position.py. A stream position is parsed where its form is known, of MySQL
(`file.number:position:row:…`) and of PostgreSQL (`LSN.index.LSN`); the order of any other source is its commit time,
and then the offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from connectors.formats import temporal
from connectors.formats.positions import all_digits
from connectors.formats.reasons import Rejection
from schemas.errors import PoisonRecord
from schemas.position import source_position

RANK_DIGITS = 6  # epoch, streamed, exact
_EXACT, _WEAK, _NONE = 2, 1, 0
_FILE, _POS, _SMALL, _LSN, _INDEX, _COMMIT, _OFFSET = 10, 20, 10, 20, 20, 20, 30
_MYSQL_PARTS = 3  # at least: file, place in it, row
_WIDTH = RANK_DIGITS + 50

_MYSQL = re.compile(r"^[^:\n]*\.([0-9]{1,10}):([0-9]{1,19}):(-1|[0-9]{1,9})(?::[^\n]*)?$", re.MULTILINE)
_POSTGRESQL = re.compile(r"^([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\.([0-9]{1,19})(?:\.[^\n]*)?$", re.MULTILINE)


def load_position(epoch: int) -> str:
    """Return the position of every row of a full load: below all changes."""
    return source_position(epoch, (0, _WIDTH - RANK_DIGITS), streamed=False, exact=_NONE)


def positions(metadata: Sequence[Any], offsets: Sequence[int], epoch: int) -> tuple[list[str], dict[int, Rejection]]:
    """Return the position of each record, and which have none, by index."""
    load = load_position(epoch)
    places: Sequence[int] = range(len(metadata))
    if any(one.operation == "load" for one in metadata):
        places = [i for i in places if metadata[i].operation != "load"]
        metadata = [metadata[i] for i in places]
    found = [load] * len(offsets)
    streamed = _alike(metadata, epoch) if metadata else []
    if streamed is not None:
        for i, position in zip(places, streamed, strict=True):
            found[i] = position
        return found, {}
    faults: dict[int, Rejection] = {}
    for i, one in zip(places, metadata, strict=True):
        try:
            found[i] = _one(one, offsets[i], epoch)
        except (PoisonRecord, Rejection):
            faults[i] = Rejection("bad_position", "the record's place in the source's log is out of range")
    return found, faults


def _alike(metadata: Sequence[Any], epoch: int) -> list[str] | None:
    """Return the positions where all stream positions have one known form; None if not."""
    texts = [one.stream_position for one in metadata]
    records = [one.transaction_record_id or 0 for one in metadata]
    head = f"{epoch:04d}1{_EXACT}"
    try:
        tails = {record: f"{record:010d}" for record in set(records)}
        found = _mysql(texts, records, tails, head)
        if found is None and len(parts := _POSTGRESQL.findall("\n".join(texts))) == len(texts):
            found = [
                f"{head}{int(high, 16) << 32 | int(low, 16):020d}{index:0>20}{tails[record]}"
                for (high, low, index), record in zip(parts, records, strict=True)
            ]
    except (AttributeError, TypeError, ValueError):  # one has no stream position, or a number that is none
        return None
    whole = "".join(found or ())
    return found if set(map(len, found or ())) == {_WIDTH} and all_digits(whole) else None


def _mysql(texts: list[str], records: list[int], tails: dict[int, str], head: str) -> list[str] | None:
    """Return the positions of MySQL's, of which only the place in the file differs from one to the next."""
    parts = [text.split(":", 3) for text in texts]
    if min(map(len, parts)) < _MYSQL_PARTS:
        return None
    files, rows = {part[0] for part in parts}, {part[2] for part in parts}
    if not all(_MYSQL.fullmatch(one) for one in [f"{file}:0:0" for file in files] + [f".0:0:{row}" for row in rows]):
        return None
    starts = {file: f"{head}{file.rpartition('.')[2]:0>10}" for file in files}
    ends = {row: f"{int(row) + 1:010d}" for row in rows}
    return [
        starts[part[0]] + part[1].zfill(_POS) + ends[part[2]] + tails[record]
        for part, record in zip(parts, records, strict=True)
    ]


def _one(metadata: Any, offset: int, epoch: int) -> str:
    """Return a position, of whatever the record says."""
    text = metadata.stream_position
    record = metadata.transaction_record_id or 0
    whole = int(record) if isinstance(record, int) or str(record).isdecimal() else 0
    if isinstance(text, str) and (match := _MYSQL.fullmatch(text)):
        file, pos, row = map(int, match.groups())
        return source_position(
            epoch, (file, _FILE), (pos, _POS), (row + 1, _SMALL), (whole, _SMALL), streamed=True, exact=_EXACT
        )
    if isinstance(text, str) and (match := _POSTGRESQL.fullmatch(text)):
        lsn = int(match[1], 16) << 32 | int(match[2], 16)
        return source_position(
            epoch, (lsn, _LSN), (int(match[3]), _INDEX), (whole, _SMALL), streamed=True, exact=_EXACT
        )
    if not metadata.commit_timestamp:
        return source_position(epoch, (0, _COMMIT), (offset, _OFFSET), streamed=True, exact=_NONE)
    commit = temporal.micros_of(metadata.commit_timestamp)
    return source_position(epoch, (commit, _COMMIT), (offset, _OFFSET), streamed=True, exact=_WEAK)


def commit_times(metadata: Iterable[Any]) -> tuple[list[str], dict[int, Rejection]]:
    """Return the commit times as the contract has them, and which are none; of a load, when DMS wrote the record."""
    texts = [one.commit_timestamp or one.timestamp for one in metadata]
    try:
        return temporal.zoned_column(texts), {}
    except Exception:  # noqa: BLE001 - one is missing or odd: each is looked at
        return _each_time(texts)


def _each_time(texts: list[Any]) -> tuple[list[str], dict[int, Rejection]]:
    found: list[str] = []
    faults: dict[int, Rejection] = {}
    for i, text in enumerate(texts):
        try:
            found.append(temporal.timestamp_text(temporal.micros_of(text or "")) + "Z")
        except Rejection:
            found.append("")
            faults[i] = Rejection("bad_time", "`metadata` has no commit time that is one")
    return found, faults
