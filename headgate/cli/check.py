"""`headgate check`: is the configuration right, and does everything that it names answer?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import ConfigurationError, HeadgateError, SinkUnavailable, SourceUnavailable, TableStopped

if TYPE_CHECKING:
    from schemas.config import Config, Destination
    from streams.tables import TableDirectory

EPILOG = epilog(
    ["headgate check", "headgate check --config production.yaml --json"],
    {
        ExitCode.OK: "the configuration is right and everything answers",
        ExitCode.FOUND: "something does not answer; the hint says what to look at",
        ExitCode.CONFIGURATION: "the configuration is not right",
    },
)
LEFT_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was tried: what was seen, or the error and what to do about it."""

    what: str
    ok: bool
    seconds: float
    seen: str
    hint: str = ""


def check(config: ConfigOption = DEFAULT_FILE, as_json: JsonOption = False) -> int:
    """Check the configuration, then every connection: Kafka, our topics, Redis, the lake, the destinations' names.

    Nothing is made or changed. Of our topics it tells where retention or cleanup loses something, of masks whether
    their secrets can be read.
    """
    settings = load_config(config, os.environ)
    results = [Checked("configuration", ok=True, seconds=0.0, seen=str(config))]
    for what, look in checks(settings):
        results.append(try_one(what, look))
        if not as_json and not results[-1].ok:
            say(f"error: {what}: {results[-1].seen}\nhint: {results[-1].hint}")
    if as_json:
        print_json([{name: getattr(result, name) for name in Checked.__slots__} for result in results])
    else:
        print_table(["what", "result", "time", "seen"], [_row(result) for result in results])
    return ExitCode.OK if all(result.ok for result in results) else ExitCode.FOUND


def checks(settings: Config) -> list[tuple[str, Callable[[], str]]]:
    """Return what to try, in order; each returns what it saw or raises an error of ours."""
    return [
        ("kafka", lambda: _kafka(settings)),
        ("topics", lambda: _topics(settings)),
        ("masks", lambda: _masks(settings)),
        ("redis", lambda: asyncio.run(_redis(settings))),
        ("lake", lambda: _lake(settings)),
        *(
            (f"notify.{name}", lambda n=name, d=destination: asyncio.run(_destination(n, d)))
            for name, destination in settings.notify.items()
        ),
        ("destinations", lambda: _removed_destinations(settings)),
        ("views", lambda: _removed_views(settings)),
    ]


def try_one(what: str, look: Callable[[], str]) -> Checked:
    """Try one thing; an error that is not ours is a fault to be reported, and ends the verb."""
    started = time.perf_counter()
    try:
        seen, hint, ok = look(), "", True
    except HeadgateError as error:
        seen, hint, ok = error.message, error.hint, False
    return Checked(what, ok, round(time.perf_counter() - started, 3), seen, hint)


def _kafka(settings: Config) -> str:
    from schemas.topics import TopicNames
    from streams.registration import load_tables, open_admin

    names, admin = TopicNames(settings.kafka.topic_prefix), open_admin(settings)
    found = admin.describe([names.tables, names.quarantine, names.alerts])
    tables = load_tables(settings) if names.tables in found else {}
    sources = admin.describe(topic for entry in tables.values() for topic in entry.spec.topics)
    return (
        f"{settings.kafka.bootstrap} answers; {len(found)} of our topics are there, "
        f"and {len(sources)} that {len(tables)} tables are read from"
    )


def _topics(settings: Config) -> str:
    from streams.policies import look_at_topics, mended
    from streams.registration import own_topic

    looked_at, differing = look_at_topics(settings, _tables(settings))
    if differing:
        told = [f"{topic}: {why}" for topic, whys in sorted(differing.items()) for why in whys.values()]
        topic, whys = min(differing.items())
        alter = f"kafka-configs.sh --alter --topic {topic} --add-config {mended(own_topic(settings, topic), whys)}"
        raise ConfigurationError("; ".join(told), hint=f"alter them: {alter}; docs/topics.md says what each must have")
    return f"{looked_at} of our topics looked at: retention and cleanup lose nothing"


def _masks(settings: Config) -> str:
    from streams.mask_keys import mask_keys_of

    keys = mask_keys_of(settings.masks)
    for name in keys.names:
        keys.secret(name)
        keys.ciphers(name)
    try:
        tables = _tables(settings)
    except SourceUnavailable:  # which has a line of its own
        return f"{len(keys.names)} keys can be read; the tables were not looked at"
    masked = [entry for name in sorted(tables) if (entry := tables.unmasked(name)).spec.is_masked]
    stops = [stop for entry in masked if (stop := keys.stop_of(entry)) is not None]
    if stops:
        raise ConfigurationError("; ".join(stop.message for stop in stops[:LEFT_SHOWN]), hint=stops[0].hint)
    return f"{len(keys.names)} keys can be read; {len(masked)} tables have masks"


async def _redis(settings: Config) -> str:
    from redis.asyncio import Redis
    from redis.exceptions import AuthenticationError, RedisError

    from sinks.redis.layout import Layout
    from sinks.redis.migrate import check_readable

    layout = Layout(settings.redis.key_prefix, settings.redis.buckets)
    timeout = settings.redis.timeout_seconds
    url = settings.redis.url.get_secret_value()
    try:
        async with Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
            info = await client.info("server")
            check_readable(await client.get(layout.marker), layout)
    except AuthenticationError as exc:
        raise SinkUnavailable("Redis refuses the password", hint="look at `redis.url`") from exc
    except ValueError as exc:
        raise SinkUnavailable("`redis.url` is no address of a Redis", hint="write redis://host:6379/0") from exc
    except (RedisError, OSError) as exc:
        raise SinkUnavailable(
            f"Redis does not answer: {type(exc).__name__}", hint="is `redis.url` right, and does it run?"
        ) from exc
    return f"Redis {info.get('redis_version', 'of an unknown version')}"


def _lake(settings: Config) -> str:
    from sinks.lake.storage import is_made, list_tables

    try:
        if not is_made(settings.lake):
            return f"{settings.lake.warehouse} is not there yet, and can be made"
        tables = list_tables(settings.lake)
    except HeadgateError:
        raise
    except Exception as exc:  # whatever the catalogue's client raises: here it means that the lake cannot be used
        raise SinkUnavailable(
            f"the catalogue of {settings.lake.warehouse} does not answer: {type(exc).__name__}",
            hint="look at `lake.warehouse`, `lake.catalog_uri` and the keys; HEADGATE_DEBUG=1 shows the whole of it",
        ) from exc
    return f"{settings.lake.warehouse}, {len(tables)} tables"


async def _destination(name: str, destination: Destination) -> str:
    from yarl import URL

    from sinks.addresses import AddressRefused, is_public
    from sinks.webhook import WebhookSink

    WebhookSink(name, destination)  # it refuses what cannot be used: an address, a secret
    url = URL(destination.url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port)
    except (OSError, UnicodeError) as exc:  # UnicodeError: what can be no name at all
        raise SourceUnavailable("its name is not known to DNS", hint="look at the destination's `url`") from exc
    addresses = {str(entry[4][0]) for entry in found}
    if not destination.allow_private_addresses and not all(map(is_public, addresses)):
        raise AddressRefused
    return f"resolves to {len(addresses)} addresses; nothing was sent"


def _removed_destinations(settings: Config) -> str:
    from streams.destinations import left_over

    found = [] if settings.kafka.broker == "embedded" else left_over(settings)
    waiting = [each for each in found if each.waiting and not each.members]
    if waiting:
        named = ", ".join(f"{each.destination} ({each.waiting} alerts wait)" for each in waiting)
        raise TableStopped(
            "destination_removed",
            f"not in `notify`, with alerts that wait: {named}",
            hint=f"name it in `notify` again, or `headgate alerts forget {waiting[0].destination}`",
        )
    named = ", ".join(f"{each.destination}{' (runs elsewhere)' if each.members else ''}" for each in found)
    return f"left over, and nothing waits: {named}" if found else "none is left over"


def _removed_views(settings: Config) -> str:
    from streams.left_views import left_views

    try:
        found = asyncio.run(left_views(settings, _tables(settings)))
    except (SinkUnavailable, ConfigurationError) as error:  # of Redis, which has a line of its own, or of an entry
        return f"not looked at: {error.message}"
    if not found:
        return "none is left over"
    shown = [f"{each.view} ({len(each.ids)} in Redis, {len(each.topics)} topics)" for each in found[:LEFT_SHOWN]]
    more = f" and {len(found) - LEFT_SHOWN} more" if len(found) > LEFT_SHOWN else ""
    return f"no table has them: {', '.join(shown)}{more}; `headgate features forget {found[0].view}` clears one"


def _tables(settings: Config) -> TableDirectory:
    """Return what is registered, without making the topic of it."""
    from schemas.topics import TopicNames
    from streams.registration import load_tables, open_admin
    from streams.tables import TableDirectory

    there = open_admin(settings).describe([TopicNames(settings.kafka.topic_prefix).tables])
    return load_tables(settings) if there else TableDirectory()


def _row(result: Checked) -> tuple[Any, ...]:
    mark = Text("ok", style="green") if result.ok else Text("failed", style="bold red")
    return (result.what, mark, f"{result.seconds:.2f} s", result.seen)
