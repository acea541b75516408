"""What rows take along when their key changes: the steps of `handover.lua`, put together for calls, and done in order.

The old key and the new one lie in different buckets. First the old key's says what its row knows, then the new key's
is given that, and on to where its row may have gone since; only then is the old row deleted (`HandOver.leaving`). Each
step can be repeated, and whoever dies between them leaves the delete to be done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.failpoints import failpoint
from schemas.position import just_below
from sinks.redis.generation import above_generations
from sinks.redis.layout import Layout
from sinks.redis.rows import DELETE, TableRows, ViewPlan, section_header
from sinks.redis.sharing import Telling, tellings

if TYPE_CHECKING:
    from sinks.redis.fold import Gatherer
    from sinks.redis.ledger import Applied

HAND, GIVE, NOTE = "h", "g", "m"  # before the kind of a view's rows
MOVES_AT_ONCE = 500  # what their rows know is held meanwhile

Steps = dict[int, dict[str, "Step | Telling"]]
Send = Callable[[Mapping[int, Mapping[str, Any]]], Awaitable["Applied"]]


class Move(NamedTuple):
    """A change of a key, for one view: the old key's delete at `position`, and what caused it if the view emits."""

    plan: ViewPlan
    key: str
    position: str
    to: str
    filling: bool  # older changes of the key may still come from the lake
    cause: str


class Gift(NamedTuple):
    """What a new key is given just below the change of the key: columns and values, false a null and true an absent."""

    view: str
    key: str
    position: str
    values: list[Any]
    cause: str


class HandOver:
    """The changes of keys of one round: `leaving` has the deletes of old keys, and what came of these behind them."""

    def __init__(self, leaving: Gatherer) -> None:
        self.leaving = leaving
        self.moves: list[Move] = []
        self.plans: dict[str, ViewPlan] = {}
        self._old: set[tuple[int, str]] = set()

    def waits_for(self, table: TableRows, key: str) -> bool:
        """Say whether a key is an old one, whose further rows come behind its delete."""
        return (id(table), key) in self._old

    def add(
        self, table: TableRows, keys: Sequence[str], changes: Sequence[Any], causes: Mapping[str, Sequence[str]]
    ) -> None:
        """Take deletes of old keys, with their causes by view."""
        self._old.update((id(table), key) for key in keys)
        new_keys = table.texts([change.new_key for change in changes])
        for plan in table.plans:
            self.plans[plan.id] = plan
            said = causes.get(plan.id) or [""] * len(keys)
            for key, change, to, cause in zip(keys, changes, new_keys, said, strict=True):
                self.moves.append(Move(plan, key, change.position, to, plan.filling, cause))


class Step:
    """One step of changes of keys, of one view and bucket."""

    def __init__(self, plan: ViewPlan, step: str) -> None:
        self.emits = plan.emits
        self._header = section_header(step + plan.kind, plan, plan.columns)
        self._flat: list[Any] = []

    def add(self, *parts: Any) -> None:
        """Take a row of the step."""
        self._flat += parts

    def arguments(self) -> list[Any]:
        """Return the section as `ledger.lua` reads it."""
        return [*self._header, len(self._flat), *self._flat]


def moves_in(changes: Sequence[Any]) -> list[int]:
    """Return which changes are deletes of keys that have a new one."""
    return [
        index
        for index, change in enumerate(changes)
        if change.new_key is not None and change.key is not None and change.op == DELETE
    ]


def handings(layout: Layout, moves: Iterable[Move]) -> Steps:
    """Return what the old keys' buckets are asked."""
    found: Steps = {}
    for plan, key, position, to, filling, cause in moves:
        step = _step(found, layout.bucket(key), plan, HAND)
        step.add(key, position, to, above_generations(just_below(position)), plan.handed, "1" if filling else "", cause)
    return found


def givings(layout: Layout, gifts: Iterable[Gift], plans: Mapping[str, ViewPlan]) -> Steps:
    """Return what the new keys' buckets are told."""
    found: Steps = {}
    for view, key, position, values, cause in gifts:
        _step(found, layout.bucket(key), plans[view], GIVE).add(key, position, values, cause)
    return found


def notings(table: TableRows, layout: Layout, moves: Sequence[Any], since: Sequence[str]) -> Steps:
    """Return what old keys' buckets are told of changes of keys of the lake, and of what these did not hand over."""
    found: Steps = {}
    keys, new_keys = table.keys(moves), table.texts([move.new_key for move in moves])
    for plan in table.plans:
        for move, key, to, begun in zip(moves, keys, new_keys, since, strict=True):
            unknown = {index for name in move.unavailable for index in plan.made_from.get(name, ())}
            names = [plan.columns[index] for index in sorted(unknown) if plan.handed[index] == HAND]
            if names:
                step = _step(found, layout.bucket(key), plan, NOTE)
                step.add(key, begun, move.position, to, above_generations(just_below(move.position)), names)
    return found


def _step(steps: Steps, bucket: int, plan: ViewPlan, step: str) -> Step:
    views = steps.setdefault(bucket, {})
    if plan.id not in views:
        views[plan.id] = Step(plan, step)
    found = views[plan.id]
    assert isinstance(found, Step), "steps only"
    return found


def gifts_of(handed: Sequence[Sequence[Any]]) -> list[Gift]:
    """Return what the ledger's answers say is to be given."""
    return [
        Gift(view.decode(), key.decode(), position.decode(), [_value(part) for part in values], cause.decode())
        for view, key, position, values, cause in handed
    ]


def _value(part: Any) -> Any:
    """Return a part of a gift as it came; Redis answers null for false, and 1 for true."""
    return False if part is None else part.decode() if isinstance(part, bytes) else True


def gifts_of_rows(table: TableRows, changes: Sequence[Any], causes: Mapping[str, Sequence[str]]) -> list[Gift]:
    """Return what changes say, as gifts to their keys; what is unavailable in them is not given.

    They are the lake's, which has them just below changes of keys.
    """
    keys, gifts = table.keys(changes), []
    positions = [above_generations(change.position) for change in changes]
    for plan in table.plans:
        said = causes.get(plan.id) or [""] * len(keys)
        rows = plan.rows(keys, positions, changes, lambda _: "")
        for (key, position, state, *values), cause in zip(rows, said, strict=True):
            given = _given(plan, state or "v" * len(plan.columns), values)
            gifts.append(Gift(plan.id, key, position, given, cause))
    return gifts


def _given(plan: ViewPlan, state: str, values: Iterable[Any]) -> list[Any]:
    left, given = iter(values), []
    for name, letter, handed in zip(plan.columns, state, plan.handed, strict=True):
        value = str(next(left)) if letter == "v" else letter == "a"
        if handed == HAND and letter != "u":
            given += [name, value]
    return given


async def hand_over(send: Send, layout: Layout, found: HandOver) -> int:
    """Give new keys what the rows of old ones know, whose deletes are still to come; return how many gifts that were.

    Raises:
        SinkUnavailable: Redis does not answer; do it again.
        OutboxFull: so, too.
    """
    given = 0
    for first in range(0, len(found.moves), MOVES_AT_ONCE):
        applied = await send(handings(layout, found.moves[first : first + MOVES_AT_ONCE]))
        failpoint("features.before_giving")
        given += await give(send, layout, gifts_of(applied.handed), found.plans)
    failpoint("features.before_leaving")
    return given


async def note(send: Send, layout: Layout, table: TableRows, moves: Sequence[Any], since: Sequence[str]) -> None:
    """Have old keys pass on what they are given from now on; `since` is when the row lived that each move ended.

    Raises:
        SinkUnavailable: Redis does not answer; do it again.
    """
    applied = await send(notings(table, layout, moves, since))
    await give(send, layout, gifts_of(applied.handed), {plan.id: plan for plan in table.plans})


async def give(send: Send, layout: Layout, gifts: Sequence[Gift], plans: Mapping[str, ViewPlan]) -> int:
    """Bring gifts to where their rows are, and tell entities that rows share; return how many that were.

    It ends: what goes on from key to key has an ever higher position.

    Raises:
        SinkUnavailable: Redis does not answer; do it again.
        OutboxFull: so, too.
    """
    given = 0
    while gifts:
        given += len(gifts)
        applied = await send(givings(layout, gifts, plans))
        entities = tellings(layout, applied.told, plans)
        if entities:
            await send(entities)
        gifts = gifts_of(applied.handed)
    return given
