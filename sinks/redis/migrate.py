"""The layout in Redis brought to the one that this release writes: a function per step, begun again by whoever comes.

`<prefix>:layout` says what is there. While a step runs it names the layout to come, and `from`, the one that was: so a
worker of before, whose script is thrown away at that moment, connects anew, meets the marker and refuses. A worker that
meets `from` does the step again, since whoever began it may be dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from schemas.errors import ConfigurationError, SinkUnavailable
from schemas.versions import REDIS_LAYOUT, Form
from sinks.redis.layout import Layout
from sinks.redis.steps import STEPS, Exchange, Step
from sinks.redis.wire import checked

_SWAP = b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])
"""

log = structlog.get_logger("sinks.redis")


class Marker(msgspec.Struct, omit_defaults=True):
    """What `<prefix>:layout` holds."""

    layout: Any = None
    buckets: int = 0
    before: int | None = msgspec.field(default=None, name="from")


async def brought_up(
    exchange: Exchange, layout: Layout, *, form: Form = REDIS_LAYOUT, steps: Mapping[int, Step] = STEPS
) -> None:
    """Return once what is under the prefix has the layout that this release writes; an empty one is given it.

    Raises:
        SinkUnavailable: Redis does not answer.
        VersionRefused: the layout there is not one that this release reads.
        ConfigurationError: there is another number of buckets, or the marker is not ours.
    """
    own = _text(Marker(form.writes, layout.buckets))
    _, held = [checked(r) for r in await exchange([("SET", layout.marker, own, "NX"), ("GET", layout.marker)])]
    marker = read_marker(held, layout, form=form)
    while marker.before is not None or marker.layout != form.writes:
        if marker.before is None:  # begin: whoever is first writes it, and all go on from what is there then
            held = await _swapped(exchange, layout, held, Marker(marker.layout + 1, layout.buckets, marker.layout))
            (flushed,) = await exchange([("SCRIPT", "FLUSH")])
            checked(flushed)
        else:
            log.info("layout_migrates", before=marker.before, after=marker.layout)
            await steps[marker.before](exchange, layout)
            held = await _swapped(exchange, layout, held, Marker(marker.layout, layout.buckets))
        marker = read_marker(held, layout, form=form)


async def _swapped(exchange: Exchange, layout: Layout, held: bytes, new: Marker) -> bytes:
    """Write the marker, unless another worker has done so since; return what is there then."""
    (reply,) = await exchange([("EVAL", _SWAP, 1, layout.marker, held, _text(new))])
    return bytes(checked(reply) or b"")


def read_marker(held: bytes | str | None, layout: Layout, *, form: Form = REDIS_LAYOUT) -> Marker:
    """Return the marker that `held` is, of a layout that this release reads and of our number of buckets.

    Raises:
        VersionRefused: this release does not read the layout.
        ConfigurationError: there is another number of buckets, or the marker is not ours.
    """
    try:
        marker = msgspec.json.decode(held or b"", type=Marker)
    except msgspec.MsgspecError:  # its message may hold a piece of what is there
        raise ConfigurationError(f"{layout.marker} is not ours", hint="choose another redis.key_prefix") from None
    form.check(marker.layout, f"the layout in Redis under {layout.prefix}")
    if marker.buckets != layout.buckets:
        raise ConfigurationError(
            f"Redis holds {marker.buckets} buckets under {layout.prefix}, redis.buckets says {layout.buckets}",
            hint="the number of buckets is fixed for a layout: set redis.buckets back",
        )
    return marker


def check_readable(held: bytes | str | None, layout: Layout) -> None:
    """Refuse to read what this release would misread; `held` is the marker, None where nothing was written yet.

    Raises:
        SinkUnavailable: it is being brought to another layout.
        ConfigurationError: as `read_marker`.
    """
    if held is None:
        return
    marker = read_marker(held, layout)
    if marker.before is not None or marker.layout != REDIS_LAYOUT.writes:
        raise SinkUnavailable(
            f"Redis holds layout {marker.before or marker.layout} under {layout.prefix}, which is read once FEATURES "
            f"has brought it to {REDIS_LAYOUT.writes}",
            hint="start a FEATURES worker of this release, or wait for it",
        )


def _text(marker: Marker) -> bytes:
    return msgspec.json.encode(marker)
