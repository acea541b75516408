"""Positions as the ledger keeps them: with the generation in which a change was read, where that is above 0. Pure.

A replay says of the same positions what the spec of now makes of them, so at one position the higher generation wins.
Behind the digits of a position stand a dot and ten digits; so compared as text, which is all that the ledger does, the
position decides first. What a row takes from an old key lies above every generation of what stands just below the
change of the key: a delete there, also one that was read again, leaves it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from schemas.errors import PoisonRecord

_ABOVE = ".9"

_position_of = operator.attrgetter("position")
_origin_of = operator.attrgetter("source.origin")
_generation_of = operator.itemgetter(1)


def kept_positions(changes: Sequence[Any]) -> list[str]:
    """Return the position of each change as the ledger keeps it.

    Raises:
        PoisonRecord: an origin has no generation.
    """
    positions = list(map(_position_of, changes))
    if any(map(_generation_of, map(_origin_of, changes))):
        return [kept_position(each.position, each.source.origin[1]) for each in changes]
    return positions


def kept_position(position: str, generation: Any) -> str:
    """Return a position as the ledger keeps it.

    Raises:
        PoisonRecord: that is no generation.
    """
    if not isinstance(generation, int) or generation < 0:
        raise PoisonRecord("bad_contract", "an origin without its generation", hint="is another writer on the topic?")
    return f"{position}.{generation:010d}" if generation else position


def above_generations(position: str) -> str:
    """Return what the ledger keeps for what lies between a position, in any generation, and the next one."""
    return position + _ABOVE


def said_position(kept: str) -> str:
    """Return the position that a change had which the ledger keeps at `kept`."""
    return kept.partition(".")[0]
