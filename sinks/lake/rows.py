"""Changes of the contract as rows of the lake: columns renamed, dated and filled, none looked at row by row."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from schemas.table import TableSpec
from sinks.lake import table as lake

ROWS_READ = frozenset({"key", "old_key", "new_key", "after"})  # what the contract reader must be asked for

_RENAMED = {
    lake.OP: "op",
    lake.POSITION: "position",
    lake.TOPIC: "origin_topic",
    lake.GENERATION: "origin_generation",
    lake.PARTITION: "origin_partition",
    lake.OFFSET: "origin_offset",
    lake.PREVIOUS: "previous",
    lake.TS: "ts",
    lake.TX: "tx",
    lake.SNAPSHOT: "snapshot",
    lake.UNAVAILABLE: "unavailable",
}
_RENAMED_ROWS = {lake.ROW: "origin_row", lake.ROWS: "rows"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATETIME_SECONDS_MAX = 253_402_300_799  # the last second of the year 9999
_DATETIME_SECONDS_MIN = -62_135_596_800  # the first of the year 1
_FIRST_DAY, _LAST_DAY = pa.scalar(date.min, pa.date32()), pa.scalar(date.max, pa.date32())


def lake_rows(spec: TableSpec, changes: pa.Table, values: Sequence[bytes], *, ingested: datetime) -> pa.Table:
    """Return one row of the lake per change; `values` are what `changes` were read from, for the text of changed keys.

    A delete has no row any more: its key columns come from its key, the others are null. `lake.ROW_COLUMNS` are there
    where a record made several of the changes.
    """
    after = _combined(changes.column("after"))
    columns: dict[str, pa.Array] = _fields(after)
    if after.null_count:
        key = _fields(_combined(changes.column("key")))
        columns |= {name: pc.coalesce(columns[name], key[name]) for name in spec.key}
    for own, name in _RENAMED.items():
        columns[own] = changes.column(name)
    columns[lake.INGESTED] = pa.repeat(pa.scalar(ingested, lake.OWN_ARROW[lake.INGESTED]), len(changes))
    columns[lake.OLD_KEY] = _key_texts(changes.column("old_key"), values, "old_key")
    columns[lake.NEW_KEY] = _key_texts(changes.column("new_key"), values, "new_key")
    columns[lake.COMMIT_DATE] = commit_dates(_combined(changes.column("ts")), spec.lake.time_zone)
    names = [*spec.columns, *lake.OWN_COLUMNS]
    if (pc.max(changes.column("rows")).as_py() or 1) > 1:
        columns |= {own: changes.column(name) for own, name in _RENAMED_ROWS.items()}
        names += lake.ROW_COLUMNS
    return pa.table({name: columns[name] for name in names})


def commit_dates(moments: pa.Array, time_zone: str) -> pa.Array:
    """Return the day of each moment as the clocks of `time_zone` show it, summer time included.

    Python's time zones, once for each different second: Arrow's need a database that a slim machine has not. A moment
    that `datetime` does not know counts as the nearest day that it does: no source committed then, and a partition is
    named by its day.
    """
    if time_zone == "UTC":
        days = pc.cast(moments, pa.date32(), safe=False)  # the day begun, also before 1970
        return pc.min_element_wise(pc.max_element_wise(days, _FIRST_DAY), _LAST_DAY)
    seconds = pc.divide(pc.cast(pc.floor_temporal(moments, unit="second"), pa.int64()), 1_000_000)
    encoded = pc.dictionary_encode(seconds)
    zone = zoneinfo.ZoneInfo(time_zone)
    days = pa.array([_day(second, zone) for second in encoded.dictionary.to_pylist()], pa.date32())
    return days.take(encoded.indices)


def _day(second: int, zone: zoneinfo.ZoneInfo) -> date:
    """Return the local day."""
    known = min(max(second, _DATETIME_SECONDS_MIN + 86_400), _DATETIME_SECONDS_MAX - 86_400)
    return datetime.fromtimestamp(known, zone).date()


def _combined(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def _fields(rows: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip((field.name for field in rows.type), rows.flatten(), strict=True))  # null where the row is


def _key_texts(keys: pa.ChunkedArray, values: Sequence[bytes], name: str) -> pa.Array:
    """Return the keys as the contract's JSON; key changes are rare, so the few are read again."""
    if keys.null_count == len(keys):
        return pa.nulls(len(keys), pa.string())
    there = keys.is_valid().to_pylist()
    texts = [
        orjson.dumps(orjson.loads(value)[name]).decode() if is_there else None
        for value, is_there in zip(values, there, strict=True)
    ]
    return pa.array(texts, pa.string())
