"""Bugs to plant: each undoes one thing that the product does for a reason. The simulation must find every one."""

# ruff: noqa: SLF001 - a bug is planted where the product does the thing

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from pyiceberg.table.update import AssertTableUUID

from connectors.transport.chunk import Group
from connectors.transport.partition import Partition
from connectors.transport.transaction import TransactionalWriter, offset_of
from connectors.transport.window import Window
from sinks.lake import commit as commit_module
from sinks.lake.commit import LakeTable
from sinks.redis.ledger import Refused
from sinks.redis.offsets import Moves, OffsetBook
from sinks.redis.store import Fallen, FeatureStore
from streams.attempt import Attempt
from streams.features import FeaturesStage
from streams.normalize import NormalizeStage
from tests.simulation.iceberg import UUID
from tests.simulation.run import Outcome, run_seed


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug: in which world it shows, and within how many seeds it must be found.

    What is rare among all faults is looked for among some of them.
    """

    name: str
    world: str
    seeds: int
    plant: Callable[[], AbstractContextManager[Any]]
    faults: tuple[str, ...] = ()

    def hunt(self) -> Outcome | None:
        """Return the first seed that finds it."""
        with self.plant():
            return next((one for one in map(self._run, range(self.seeds)) if one.error), None)

    def _run(self, seed: int) -> Outcome:
        return run_seed(seed, [self.world], self.faults)


def run_planted(seed: int, worlds: Sequence[str], name: str | None) -> Outcome:
    """Run one seed as the command line asks for it: with a bug planted if one is named."""
    bug = next((bug for bug in BUGS if bug.name == name), None)
    with bug.plant() if bug is not None else nullcontext():
        return run_seed(seed, worlds, bug.faults if bug is not None else ())


def run_briefly(seed: int, worlds: Sequence[str], name: str | None) -> Outcome:
    """Run one of many: without its trace, which a replay gives."""
    outcome = run_planted(seed, worlds, name)
    outcome.trace.clear()
    return outcome


def _head_is_end() -> AbstractContextManager[Any]:
    return patch.object(Window, "head", property(lambda self: self.end))


def _lane_changed_in_work() -> AbstractContextManager[Any]:
    return patch.object(Partition, "holds_nothing", property(lambda _: True))


def _lake_done_when_taken() -> AbstractContextManager[Any]:
    return patch.object(Group, "taken", Group.done)


def _features_done_before_durable() -> AbstractContextManager[Any]:
    write = FeaturesStage._write

    async def begun(self: FeaturesStage, runs: Sequence[Any]) -> bool:
        asyncio.create_task(write(self, runs))  # noqa: RUF006 - that nobody waits for it is the bug
        return False

    return patch.object(FeaturesStage, "_write", begun)


def _offsets_before_rows() -> AbstractContextManager[Any]:
    send = FeatureStore._send

    def apart(self: FeatureStore, sections: Mapping[int, Any], moves: Moves) -> asyncio.Task[bool]:
        if sections and moves:
            send(self, {}, moves)
            return send(self, sections, {})
        return send(self, sections, moves)

    return patch.object(FeatureStore, "_send", apart)


def _loss_taken_over() -> AbstractContextManager[Any]:
    def refused(self: OffsetBook, refusal: Refused) -> bool:
        mark = self.marks.get(refusal.move.field)
        if mark is not None and refusal.held is not None:
            mark.seen[refusal.bucket] = mark.sent[refusal.bucket] = refusal.held
        return False

    return patch.object(OffsetBook, "refused", refused)


def _connection_not_looked_at() -> AbstractContextManager[Any]:
    return patch.object(OffsetBook, "compare", lambda *_: None)


def _quiet_worker_asks_nothing() -> AbstractContextManager[Any]:
    async def move_all(self: FeatureStore) -> Fallen:
        moves: Moves = {}
        for mark in self._book.marks.values():
            for bucket, move in mark.moves(mark.reached):
                moves.setdefault(bucket, []).append(move)
        return await self.read_again() if moves and await self._send({}, moves) else {}

    return patch.object(FeatureStore, "move_all", move_all)


def _fencing_comes_too_late() -> AbstractContextManager[Any]:
    def commit(self: TransactionalWriter, advances: Sequence[Any], metadata: Any) -> None:
        producer = self._producer
        assert producer is not None
        metadata = self._consumer.group_metadata_now(fresh=True)
        offsets = [offset_of(each) for each in advances]
        self._until_known("offsets", lambda: producer.send_offsets_to_transaction(offsets, metadata, 1.0))
        self._until_known("commit", lambda: producer.commit_transaction(1.0))

    stack = ExitStack()
    stack.enter_context(patch.object(TransactionalWriter, "_commit", commit))
    stack.enter_context(patch.object(Partition, "drained", property(lambda _: True)))
    return stack


def _offsets_in_a_second_transaction() -> AbstractContextManager[Any]:
    def commit(self: TransactionalWriter, advances: Sequence[Any], metadata: Any) -> None:
        producer = self._producer
        assert producer is not None
        offsets = [offset_of(each) for each in advances]
        self._until_known("commit", lambda: producer.commit_transaction(1.0))
        self._begin()
        self._until_known("offsets", lambda: producer.send_offsets_to_transaction(offsets, metadata, 1.0))
        self._until_known("commit", lambda: producer.commit_transaction(1.0))

    return patch.object(TransactionalWriter, "_commit", commit)


def _state_kept_of_what_was_aborted() -> AbstractContextManager[Any]:
    attempt = NormalizeStage._attempt

    def kept(self: NormalizeStage, work: Attempt, outbox: Any, runs: Sequence[Any]) -> Any:
        advances = attempt(self, work, outbox, runs)
        self._settle(work)
        return advances

    return patch.object(NormalizeStage, "_attempt", kept)


def _lake_commit_asserts_nothing() -> AbstractContextManager[Any]:
    class Nothing:
        @staticmethod
        def model_validate(_: Any) -> AssertTableUUID:
            return AssertTableUUID.model_validate({"uuid": UUID})

    return patch.object(commit_module, "AssertRefSnapshotId", Nothing)


def _lake_commits_where_it_does_not_stand() -> AbstractContextManager[Any]:
    return patch.object(LakeTable, "_refuse_moved", lambda *_: None)


def _lake_forgets_that_it_is_unsure() -> AbstractContextManager[Any]:
    commit = LakeTable.commit

    def sure(self: LakeTable, batch: Any) -> Any:
        batch.unsure = False
        return commit(self, batch)

    return patch.object(LakeTable, "commit", sure)


_LOSSES = ("redis_wiped", "redis_lost_last", "join")
_REPLACED = ("redis_replaced", "redis_flushed")
_LATE = ("trouble", "freeze", "join", "join", "leave")
BUGS = (
    Bug("the window commits over what is not done", "lake", 20, _head_is_end),
    Bug("LAKE says done when it has only copied", "lake", 20, _lake_done_when_taken),
    Bug("a lake commit does not assert what it replaces", "lake", 20, _lake_commit_asserts_nothing),
    Bug("a lake batch is committed wherever the lake stands", "lake", 30, _lake_commits_where_it_does_not_stand),
    Bug("a lake commit without an answer counts as none", "lake", 30, _lake_forgets_that_it_is_unsure),
    Bug("FEATURES says done before Redis answers", "features", 20, _features_done_before_durable),
    Bug("a bucket's offset is moved before its rows", "features", 20, _offsets_before_rows),
    Bug("a refused move is taken for another worker's", "features", 100, _loss_taken_over, _REPLACED),
    Bug("a new connection's fields are not compared", "features", 100, _connection_not_looked_at, _LOSSES),
    Bug("a worker without records asks Redis nothing", "features", 150, _quiet_worker_asks_nothing, _LOSSES),
    Bug("a revocation does not wait, nor is it seen", "normalize", 100, _fencing_comes_too_late, _LATE),
    Bug("offsets go with a second transaction", "normalize", 50, _offsets_in_a_second_transaction),
    Bug("what an aborted attempt remembered is kept", "normalize", 100, _state_kept_of_what_was_aborted),
    Bug("a partition changes its lane while it is worked on", "normalize", 100, _lane_changed_in_work),
)
