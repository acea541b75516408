"""What happens when a step fails: the same group again, then its runs, then halves, at last one record to quarantine.

A group that is too wide for one transaction did not fail: its halves are worked on, each as a group.

Nothing is ever skipped: a group's runs end up answered (done or taken), lost, quarantined, or the error ends the
worker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time

from connectors.transport.chunk import Acknowledging, Group, Run
from connectors.transport.width import TransactionTooWide
from schemas.errors import BugError, ErrorKind, HeadgateError, TransportFatal, kind_of

Step = Callable[[Group], Awaitable[None]]
OnPoison = Callable[[Run, BaseException], Awaitable[None]]
Report = Callable[[str, Mapping[str, object]], None]
Sleep = Callable[[float], Awaitable[None]]

ATTEMPTS = 3
BUGS_IN_A_ROW_MAX = 50  # records in a row that fail by a fault of ours: then it is not the records
_BACKOFF_SECONDS = 0.1
_BACKOFF_SECONDS_MAX = 10.0
_BACKOFF_DOUBLINGS_MAX = 7
_AGAIN = frozenset({ErrorKind.UNAVAILABLE, ErrorKind.ABORTED})
_ENDS = frozenset({ErrorKind.CONFIGURATION, ErrorKind.FATAL})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a lane does not go on: shown in `status`, gone with the next success."""

    kind: ErrorKind
    message: str
    hint: str
    attempts: int
    since: float  # seconds since 1970


class Unanswered(TransportFatal):
    """A step returned without an answer for each live run: its window would stand still for ever."""


class Ladder:
    """Runs one lane's step, and decides what a failure means."""

    def __init__(
        self,
        lane: str,
        step: Step,
        acknowledging: Acknowledging,
        *,
        on_poison: OnPoison | None = None,
        report: Report,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take the lane's step; `sleep` and `jitter` are handed in for tests."""
        self.lane = lane
        self.trouble: Trouble | None = None
        self._step = step
        self._acknowledging = acknowledging
        self._on_poison = on_poison
        self._bugs_in_a_row = 0
        self._report = report
        self._sleep = sleep
        self._jitter = jitter

    async def climb(self, runs: Sequence[Run]) -> None:
        """Return once every one of `runs` is answered, quarantined or lost.

        Raises:
            Exception: what must end the worker.
        """
        error = await self._attempt(runs, attempts=ATTEMPTS)
        if isinstance(error, TransactionTooWide):
            for half in _halves(_open(runs)):
                await self.climb(half)
        elif error is not None:
            self._report("bisecting", {"lane": self.lane, "runs": len(runs), "error": describe(error)})
            for run in runs:
                await self._isolate(run, error if len(runs) == 1 else None)
        self.trouble = None

    async def _isolate(self, run: Run, error: BaseException | None) -> None:
        """Work on one run, alone; `error` is what working on exactly this run raised, if it was tried already."""
        if error is None:
            error = await self._attempt([run], attempts=1)
        left = _open([run])
        if error is None or not left:
            return
        if len(run) == 1:
            await self._quarantine(run, error)
            return
        # Where the step answered for some of it before it failed, what is left is tried by itself.
        for part in _halves_of(run) if left == [run] else left:
            await self._isolate(part, None)

    async def _attempt(self, runs: Sequence[Run], *, attempts: int) -> BaseException | None:
        """Run the step until it succeeds or failed `attempts` times; what is away or was aborted does not count."""
        failed = waits = 0
        while left := _open(runs):
            group = Group(left, self._acknowledging)
            try:
                await self._step(group)
                self._check(group)
            except TransactionTooWide as error:
                return error
            except Exception as error:  # noqa: BLE001 - this is the place that decides what a failed step means
                kind = self._decide(error, waits + failed + 1)
                if kind in _AGAIN:
                    waits += 1
                    await self._backoff(waits)
                    continue
                failed += 1
                if failed >= attempts:
                    return error
                await self._backoff(failed)
                continue
            self._bugs_in_a_row = 0
            return None
        return None

    async def _quarantine(self, run: Run, error: BaseException) -> None:
        if self._on_poison is None:
            raise error
        self._count_bug(error)
        waits = 0
        while _open([run]):
            try:
                await self._on_poison(run, error)
            except Exception as failure:
                if self._decide(failure, waits + 1) not in _AGAIN:
                    raise
                waits += 1
                await self._backoff(waits)
                continue
            self._report(
                "quarantined", {"lane": self.lane, "topic": run.topic, "partition": run.partition, "offset": run.first}
            )
            if not run.answered:
                self._acknowledging.done([run])
            return

    def _count_bug(self, error: BaseException) -> None:
        """Raise what ends the worker once it must be ours: a whole topic in quarantine helps nobody."""
        self._bugs_in_a_row += kind_of(error) is ErrorKind.BUG
        if self._bugs_in_a_row > BUGS_IN_A_ROW_MAX:
            raise BugError(
                f"lane {self.lane}: {BUGS_IN_A_ROW_MAX} records in a row failed, the last by {describe(error)}",
                hint="they are in quarantine and can be sent again; report this, and run the version before",
            ) from error

    def _decide(self, error: Exception, attempts: int) -> ErrorKind:
        """Note the trouble and return its kind; raise what ends the worker."""
        kind = kind_of(error)
        since = self.trouble.since if self.trouble is not None else time()
        hint = error.hint if isinstance(error, HeadgateError) else ""
        self.trouble = Trouble(kind, describe(error), hint, attempts, since)
        if kind in _ENDS:
            raise error
        self._report(
            "step_failed", {"lane": self.lane, "kind": kind.value, "error": describe(error), "attempt": attempts}
        )
        return kind

    async def _backoff(self, attempt: int) -> None:
        seconds = _BACKOFF_SECONDS * 2 ** min(attempt - 1, _BACKOFF_DOUBLINGS_MAX)
        await self._sleep(min(seconds, _BACKOFF_SECONDS_MAX) * (0.5 + 0.5 * self._jitter()))

    def _check(self, group: Group) -> None:
        unanswered = group.unanswered()
        if unanswered:
            raise Unanswered(
                f"lane {self.lane}: the step returned and said neither done nor taken for {unanswered[0]!r}",
                hint="a stage answers for each live run before its step returns",
            )


def _open(runs: Iterable[Run]) -> list[Run]:
    """Return what is neither answered nor lost: slices of a run that was answered in part."""
    return [part for run in runs if not run.lost for part in run.unanswered()]


def _halves(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    """Yield halves of several runs, or of the records of one, in their order; the second as far as it is still ours."""
    if len(runs) > 1:
        middle = len(runs) // 2
        yield runs[:middle]
        yield _open(runs[middle:])
    else:
        for run in runs:
            yield from ([half] for half in _halves_of(run))


def _halves_of(run: Run) -> Iterator[Run]:
    """Yield the first half of a run's records, then the second; a single record as it is."""
    if len(run) == 1:
        yield run
        return
    middle = len(run) // 2
    yield run.slice(0, middle)
    if _open([run]):  # the second half may be lost by now; a lost run's records may be gone
        yield run.slice(middle, len(run))


def describe(error: BaseException) -> str:
    """Return an error in words that hold no values: our own message as it is, of others the type's name and place."""
    if isinstance(error, HeadgateError):
        return error.message
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


__all__ = ["ATTEMPTS", "BUGS_IN_A_ROW_MAX", "Ladder", "Trouble", "Unanswered", "describe"]
