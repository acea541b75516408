"""`headgate features get ENTITY ID`: what Redis holds of an entity, over all views of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import SinkUnavailable, TableStopped

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.feature import View
    from schemas.table import TableEntry
    from sinks.redis.read import EntityRead, FeatureRow
    from sinks.redis.standing import Standing

app = typer.Typer(
    help="Features in Redis: read an entity, fill views again, clear removed ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_CODES = {
    ExitCode.OK: "the entity is there",
    ExitCode.FOUND: "no such entity, or no row of it in any view",
    ExitCode.CONFIGURATION: "the configuration is not right",
    ExitCode.UNAVAILABLE: "Kafka or Redis does not answer",
}


@dataclass(frozen=True, slots=True)
class EntityView:
    """A view of the entity that was asked for: its table, and the columns that its id consists of."""

    table: str
    view: View
    key: list[str]


@app.command(
    "get",
    epilog=epilog(
        ["headgate features get patient 42", "headgate features get visit patient=42,day=2026-11-20"], _CODES
    ),
)
def get(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="What the features are about, such as patient.")],
    identity: Annotated[str, typer.Argument(metavar="ID", help="Its id; of several columns as a=1,b=2.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Print the latest values of an entity; null and unavailable (the source did not send it) are told apart.

    A view that is still being filled is PENDING: what it says may be old, and what it does not say may be there. One
    whose table was truncated is SWEEPING until Redis has deleted the rows of before; they are not shown any more.
    """
    from streams.registration import load_tables

    settings = load_config(config, os.environ)
    views = views_of(entity, load_tables(settings))
    rows = asyncio.run(read_rows(settings, views, identity))
    pending = [(view.view.view, found.standing) for view, found in rows if found.standing.pending]
    if as_json:
        print_json({"entity": entity, "id": identity, "views": [as_document(view, found) for view, found in rows]})
    else:
        _print_rows(rows)
        for name, standing in pending:
            say(f"PENDING: view {name} is being filled, {progress(standing)}")
        for name in [view.view.view for view, found in rows if found.sweeping]:
            say(f"SWEEPING: view {name}: rows below a floor are still being deleted, none is shown")
    if all(found.row is None for _, found in rows):
        hint = "its view is being filled, ask again later" if pending else "it was never seen, or its row was deleted"
        say(f"error: no {entity} {identity} in Redis\nhint: {hint}")
        return ExitCode.FOUND
    return ExitCode.OK


def progress(standing: Standing) -> str:
    """Return how far a view is that is not complete."""
    if not standing.total:
        return "nothing is known of it yet: does FEATURES run?"
    return f"{standing.done} of {standing.total} ({standing.done * 100 // standing.total} %)"


def views_of(entity: str, tables: Mapping[str, TableEntry]) -> list[EntityView]:
    """Return the views of an entity over all tables.

    Raises:
        TableStopped: no view is about it; the hint names what there is.
    """
    found = [
        EntityView(table, view, view.entity_key or entry.spec.key)
        for table, entry in sorted(tables.items())
        for view in entry.spec.features
        if view.entity == entity
    ]
    if not found:
        known = sorted({view.entity for entry in tables.values() for view in entry.spec.features})
        raise TableStopped(
            "no_view", f"no view is about {entity!r}", hint=f"there are views about {', '.join(known) or 'nothing'}"
        )
    return found


def key_parts(view: EntityView, identity: str) -> list[str]:
    """Return the texts of the view's key columns, in their order.

    Raises:
        typer.BadParameter: `identity` does not name just these columns.
    """
    if len(view.key) == 1:
        return [identity.removeprefix(f"{view.key[0]}=")]
    pairs = dict(part.partition("=")[::2] for part in identity.split(","))
    if set(pairs) != set(view.key) or identity.count(",") != len(view.key) - 1:
        wanted = ",".join(f"{name}=…" for name in view.key)
        raise typer.BadParameter(f"view {view.view.view} is looked up by {wanted}, not by {identity!r}")
    return [pairs[name] for name in view.key]


async def read_rows(config: Config, views: Sequence[EntityView], identity: str) -> list[tuple[EntityView, EntityRead]]:
    """Return what each view says of the entity.

    Raises:
        SinkUnavailable: Redis does not answer.
        ConfigurationError: it holds a layout that this release does not read, or another number of buckets.
    """
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from sinks.redis.layout import Layout
    from sinks.redis.migrate import check_readable
    from sinks.redis.read import read_entity

    keys = [key_parts(view, identity) for view in views]
    timeout = config.redis.timeout_seconds
    async with Redis.from_url(
        config.redis.url.get_secret_value(),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=False,
    ) as client:
        try:
            layout = Layout(config.redis.key_prefix, config.redis.buckets)
            check_readable(await client.get(layout.marker), layout)
            return [
                (view, await read_entity(client, config.redis, view.view, key))
                for view, key in zip(views, keys, strict=True)
            ]
        except (RedisError, OSError, TimeoutError) as exc:
            raise SinkUnavailable(
                f"Redis does not answer: {type(exc).__name__}", hint="is `redis.url` right, and does it run?"
            ) from exc


def as_document(view: EntityView, found: EntityRead) -> dict[str, Any]:
    """Return what `--json` says of one view: null are `row` where it has none, `pending` where the view is complete."""
    row, standing = found.row, found.standing
    pending = {"done": standing.done, "total": standing.total} if standing.pending else None
    head = {"view": view.view.view, "version": view.view.version, "table": view.table, "pending": pending}
    head["sweeping"] = found.sweeping
    if row is None:
        return {**head, "row": None}
    return {
        **head,
        "row": {
            "values": {**row.values, **dict.fromkeys(sorted(row.null))},
            "unavailable": sorted(row.unavailable),
            "position": row.position,
            "event_time": row.event_time,
        },
    }


def column_state(column: str, row: FeatureRow) -> str:
    """Return what people read of one column: its value, or which kind of nothing it is."""
    if column in row.values:
        return row.values[column]
    if column in row.null:
        return "(null)"
    if column in row.unavailable:
        return "(unavailable: the source did not send it)"
    return "(absent)"


def _print_rows(rows: Sequence[tuple[EntityView, EntityRead]]) -> None:
    lines = [
        (view.view.view, column, column_state(column, row))
        for view, found in rows
        if (row := found.row) is not None
        for column in view.view.columns
    ]
    if lines:
        print_table(["view", "column", "value"], lines)
