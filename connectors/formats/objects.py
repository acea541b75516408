"""JSON objects taken apart into their members as they are written, for formats whose rows are not written as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from connectors.formats.inspection import inspect
from connectors.formats.reasons import Rejection

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def members(raw: Any, *, depth_max: int) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object.

    Raises:
        Rejection: it is none, or names one twice.
    """
    try:
        found = _members(raw)
    except RecursionError:
        raise Rejection("too_deep", "nested deeper than the decoder reads") from None
    except msgspec.MsgspecError:
        raise Rejection("no_row", "what should be an object is none") from None
    written = bytes(raw)
    if written.count(b":") != len(found) + sum(bytes(one).count(b":") for one in found.values()):
        inspect(written, depth_max=depth_max)  # one named twice, or with a colon in its name
    return found


def check_unique(raw: Any, quoted: Sequence[bytes], *, depth_max: int) -> None:
    """Refuse an object that has one of some members twice; `quoted` are their names as JSON.

    Raises:
        Rejection: it has, or is no object.
    """
    written = bytes(raw)
    if b"\\" in written or any(written.count(name) > 1 for name in quoted):  # an escape may hide a name
        members(raw, depth_max=depth_max)


def elements(raw: Any) -> list[msgspec.Raw]:
    """Return the elements of a JSON array.

    Raises:
        Rejection: it is none.
    """
    try:
        return _elements(raw)
    except RecursionError:
        raise Rejection("too_deep", "nested deeper than the decoder reads") from None
    except msgspec.MsgspecError:
        raise Rejection("bad_type", "what should be an array is none") from None


def written(found: Mapping[str, Any]) -> bytes:
    """Return the JSON object that has these members, each written as it is."""
    return _encode(found)
