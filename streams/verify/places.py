"""The places that a table went to, each asked for its rows by key: the lake's latest rows, and each view in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import redis
from redis.exceptions import RedisError

from connectors.sources.base import KeyRange
from schemas.config import Config, LakeConfig, RedisConfig
from schemas.errors import SinkUnavailable
from schemas.feature import View
from schemas.table import LATEST, TableSpec
from schemas.types import ColumnType
from sinks.lake.quoting import quoted
from sinks.lake.view import show_tables
from sinks.redis.layout import ROW, SHARING_ROW, Layout
from sinks.redis.read import row_of
from sinks.redis.rows import is_own_entity
from streams.verify.compare import UNAVAILABLE
from streams.verify.typed import spelled, typed

SCANNED_AT_ONCE = 1_000
EXTRAS_MAX = 10_000


class Place(Protocol):
    """Somewhere that rows of the table went to."""

    name: str
    columns: Mapping[str, ColumnType]  # those that are compared here, the key's among them

    def rows(self, keys: pa.Table) -> pa.Table:
        """Return the rows that it has now of `keys`: typed, with `UNAVAILABLE`."""
        ...

    def first_rows(self, keys: pa.Table) -> pa.Table:
        """Return the same, as of the beginning where that is cheaper: what differs is asked for again."""
        ...

    def others(self, seen: str, bounds: pa.Table) -> pa.Table:
        """Return keys within `bounds` that are not in the table `seen`, at most `EXTRAS_MAX`."""
        ...


class LakePlace:
    """The latest rows of the lake; those of the beginning are kept in the workspace, which spills to disk.

    The workspace is a connection of `open_lake_sql`, and its bounds hold for what is read later, too.
    """

    name = "lake"

    def __init__(
        self,
        config: LakeConfig,
        spec: TableSpec,
        columns: Mapping[str, ColumnType],
        workspace: duckdb.DuckDBPyConnection,
    ) -> None:
        self.columns = columns
        self._config, self._spec, self._workspace = config, spec, workspace
        self._read = False

    def first_rows(self, keys: pa.Table) -> pa.Table:
        """Return what stood in the lake when it was first asked."""
        self._read_once()
        return self._of("_latest", keys)

    def rows(self, keys: pa.Table) -> pa.Table:
        """Return what stands in the lake now."""
        show_tables(self._workspace, self._config, [self._spec.table], keys={self._spec.table: self._spec.key})
        return self._of(quoted(self._spec.table + LATEST), keys)

    def others(self, seen: str, bounds: pa.Table) -> pa.Table:
        """Return keys of the beginning that the source did not show."""
        self._read_once()  # a source without a row in the range has asked for none
        key = ", ".join(map(quoted, self._spec.key))
        self._workspace.register("_bounds", bounds)
        first = quoted(self._spec.key[0])
        found = self._workspace.sql(
            f"SELECT {key} FROM _latest ANTI JOIN {seen} USING ({key}), _bounds "  # noqa: S608  quoted
            f"WHERE (_bounds.first IS NULL OR {first} >= _bounds.first) "
            f"AND (_bounds.last IS NULL OR {first} <= _bounds.last) LIMIT {EXTRAS_MAX}"
        ).to_arrow_table()
        self._workspace.unregister("_bounds")
        return spelled(found, {name: self.columns[name] for name in self._spec.key})

    def _read_once(self) -> None:
        if not self._read:
            self._read = True
            with_view = f"{self._select()} FROM {quoted(self._spec.table + LATEST)}"
            self._workspace.execute(f"CREATE TEMP TABLE _latest AS {with_view}")

    def _select(self) -> str:
        return f"SELECT {', '.join(map(quoted, self.columns))}, {quoted(UNAVAILABLE)}"

    def _of(self, relation: str, keys: pa.Table) -> pa.Table:
        self._workspace.register("_keys", keys)
        using = ", ".join(map(quoted, self._spec.key))
        query = f"{self._select()} FROM {relation} SEMI JOIN _keys USING ({using})"
        found: pa.Table = self._workspace.sql(query).to_arrow_table()
        self._workspace.unregister("_keys")
        lacking = found.column(UNAVAILABLE).cast(pa.list_(pa.string()))
        return spelled(found, self.columns).append_column(UNAVAILABLE, lacking)


class RedisPlace:
    """One view: the hash of each row, also of a view whose entities several rows share (there the row's ledger)."""

    def __init__(
        self,
        config: RedisConfig,
        spec: TableSpec,
        view: View,
        columns: Mapping[str, ColumnType],
        workspace: duckdb.DuckDBPyConnection,
    ) -> None:
        self.name = f"redis {view.id}"
        self.columns: Mapping[str, ColumnType] = {
            name: type_ for name, type_ in columns.items() if name in view.columns or name in spec.key
        }
        self._values = [name for name in self.columns if name in view.columns and name not in spec.key]
        self._key = spec.key
        self._layout = Layout(config.key_prefix, config.buckets)
        self._kind = ROW if is_own_entity(spec, view) else SHARING_ROW
        self._id = view.id
        self._workspace = workspace
        self._client = redis.Redis.from_url(
            config.url.get_secret_value(), socket_timeout=config.timeout_seconds,
            socket_connect_timeout=config.timeout_seconds, decode_responses=False,
        )  # fmt: skip

    def first_rows(self, keys: pa.Table) -> pa.Table:
        """Return what Redis has now."""
        return self.rows(keys)

    def rows(self, keys: pa.Table) -> pa.Table:
        """Return what Redis has now."""
        texts = key_texts(keys).to_pylist()
        hashes = self._hashes([self._row_key(text) for text in texts])
        floors = self._floors({self._layout.bucket(text) for text in texts})
        read = [row_of(fields, floors[self._layout.bucket(text)]) for text, fields in zip(texts, hashes, strict=True)]
        here = [at for at, row in enumerate(read) if row is not None]
        found = [row for row in read if row is not None]
        arrays = {name: pa.array([row.values.get(name) for row in found], pa.string()) for name in self._values}
        columns = {name: self.columns[name] for name in self._values}
        values, _ = typed(pa.table(arrays), columns) if arrays else (pa.table({}), {})
        lacking = [[n for n in self._values if n not in row.values and n not in row.null] for row in found]
        table = keys.take(pa.array(here, pa.int64()))
        for name in self._values:
            table = table.append_column(name, values[name])
        return table.append_column(UNAVAILABLE, pa.array(lacking, pa.list_(pa.string())))

    def others(self, seen: str, bounds: pa.Table) -> pa.Table:
        """Return rows of Redis that the source did not show; only of a whole table, since Redis has no ranges."""
        if bounds["first"][0].is_valid or bounds["last"][0].is_valid:
            return self._keys_of([])
        extras: list[str] = []
        for texts in self._scan():
            self._workspace.register("_texts", pa.table({"_entity": texts}))
            query = f"SELECT _entity FROM _texts ANTI JOIN {seen} USING (_entity)"  # noqa: S608  ours
            extras += [row[0] for row in self._workspace.execute(query).fetchall()]
            self._workspace.unregister("_texts")
            if len(extras) >= EXTRAS_MAX:
                break
        return self._keys_of(extras[:EXTRAS_MAX])

    def _scan(self) -> Iterator[list[str]]:
        for bucket in range(self._layout.buckets):
            prefix = f"{self._layout.base(bucket)}{self._kind}:{self._id}:"
            cursor = -1
            while cursor != 0:
                cursor, names = self._ask(partial(self._client.scan, max(cursor, 0), f"{prefix}*", SCANNED_AT_ONCE))
                yield [name.decode()[len(prefix) :] for name in names]

    def _keys_of(self, texts: Sequence[str]) -> pa.Table:
        parts = list(zip(*map(self._parts, texts), strict=True)) or [() for _ in self._key]
        columns = {name: pa.array(part, pa.string()) for name, part in zip(self._key, parts, strict=True)}
        found, _ = typed(pa.table(columns), {name: self.columns[name] for name in self._key})
        return found

    def _parts(self, text: str) -> list[str]:
        if len(self._key) == 1:
            return [text]
        return [part.replace("%3A", ":").replace("%25", "%") for part in text.split(":")]

    def _row_key(self, text: str) -> str:
        return f"{self._layout.base(self._layout.bucket(text))}{self._kind}:{self._id}:{text}"

    def _floors(self, buckets: Iterable[int]) -> dict[int, str]:
        """Return the position below which rows are dead, by bucket."""
        asked = sorted(buckets)

        def ask() -> list[bytes | None]:
            pipeline = self._client.pipeline(transaction=False)
            for bucket in asked:
                pipeline.hget(self._layout.floors(bucket), self._id)
            found: list[bytes | None] = pipeline.execute()
            return found

        found = self._ask(ask) if asked else []
        return {bucket: (text or b"").decode() for bucket, text in zip(asked, found, strict=True)}

    def _hashes(self, names: Sequence[str]) -> list[dict[bytes, bytes]]:
        def ask() -> list[dict[bytes, bytes]]:
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(name)
            found: list[dict[bytes, bytes]] = pipeline.execute()
            return found

        return self._ask(ask) if names else []

    def _ask(self, ask: Callable[[], Any]) -> Any:
        """Return what Redis answers.

        Raises:
            SinkUnavailable: it does not.
        """
        try:
            return ask()
        except (RedisError, OSError) as exc:
            raise SinkUnavailable(f"Redis does not answer: {type(exc).__name__}", hint="is `redis.url` right?") from exc


def places_of(
    config: Config, spec: TableSpec, columns: Mapping[str, ColumnType], workspace: duckdb.DuckDBPyConnection
) -> list[Place]:
    """Return where the rows of a table went to."""
    lake: list[Place] = [LakePlace(config.lake, spec, columns, workspace)] if spec.lake.enabled else []
    views: list[Place] = [RedisPlace(config.redis, spec, view, columns, workspace) for view in spec.features]
    return [*lake, *views]


def bounds_of(bounds: KeyRange, column: ColumnType) -> pa.Table:
    """Return the ends of a range as one row of `first` and `last`, null where there is none."""
    texts = pa.table({"first": pa.array([bounds.first], pa.string()), "last": pa.array([bounds.last], pa.string())})
    found, _ = typed(texts, {"first": column, "last": column})
    return found


def key_texts(keys: pa.Table) -> pa.Array:
    """Return the text that names each row in Redis (`sinks.redis.layout.entity_text`), by column."""
    parts = [_key_text(column.combine_chunks()) for column in keys.columns]
    if len(parts) == 1:
        return parts[0]
    quoted_parts = [pc.replace_substring(pc.replace_substring(part, "%", "%25"), ":", "%3A") for part in parts]
    return pc.binary_join_element_wise(*quoted_parts, ":")


def source_key_texts(keys: pa.Table) -> list[list[str]]:
    """Return keys as a source takes them: a text for each part."""
    return [
        list(key)
        for key in zip(*(_key_text(column.combine_chunks()).to_pylist() for column in keys.columns), strict=True)
    ]


def _key_text(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    return pc.replace_substring(text, " ", "T") if pa.types.is_timestamp(column.type) else text
