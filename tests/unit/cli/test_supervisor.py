"""The supervisor with tiny children: it starts the dead again, stops all within its bound, and leaves none behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import headgate
from headgate.supervisor import Place, Supervisor, Worker, backoff_seconds, places, reason_of, worker_command
from tests.services import until

SLEEPS = "import time; time.sleep(60)"
IGNORES = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
HOME = Path(headgate.__file__).parents[1]


class Record:
    """What a supervisor told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take note of an event."""
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of the events of one name."""
        return [fields for name, fields in self.events if name == event]


def supervisor(code: str, record: Record, *, stages: tuple[str, ...] = ("lake",), **options: Any) -> Supervisor:
    """A supervisor whose workers run a line of Python."""
    return Supervisor(
        [Place(stage, 0) for stage in stages], lambda _: [sys.executable, "-c", code], on_event=record, **options
    )


def test_an_installation_has_a_worker_per_stage_and_destination() -> None:
    """And more of a stage where they are asked for."""
    names = [str(place) for place in places(["ops"], {"normalize": 2})]

    assert names == ["normalize-0", "normalize-1", "features-0", "alerts-0", "lake-0", "notify-ops-0"]


async def test_stop_ends_all_workers_and_the_exit_code_says_how() -> None:
    """Ended by SIGTERM counts as a failure: a worker that drains exits with 0."""
    record = Record()
    boss = supervisor(SLEEPS, record, stages=("lake", "alerts"))
    running = asyncio.create_task(boss.run())
    await until(lambda: all(worker.pid for worker in boss.workers))
    pids = [worker.pid for worker in boss.workers]

    boss.stop()

    assert await asyncio.wait_for(running, 30) == 1
    assert [] == record.named("worker_killed")
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)


async def test_workers_that_finish_on_sigterm_make_exit_code_0(tmp_path: Path) -> None:
    """The clean way."""
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    boss = supervisor(code, Record(), log=lambda _: log)
    running = asyncio.create_task(boss.run())
    await until(lambda: log.exists() and "up" in log.read_text())

    boss.stop()

    assert await asyncio.wait_for(running, 30) == 0


async def test_a_killed_worker_is_started_again_at_once() -> None:
    """The first death costs nothing: its transactional id must come back soon."""
    record = Record()
    boss = supervisor(SLEEPS, record)
    running = asyncio.create_task(boss.run())
    await until(lambda: boss.workers[0].pid)
    first = boss.workers[0].pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    await until(lambda: boss.workers[0].pid not in {None, first})
    boss.stop()
    await running

    assert record.named("worker_died") == [{"worker": "lake-0", "reason": "ended by SIGKILL", "again_in_seconds": 0.0}]


async def test_a_worker_that_dies_again_and_again_is_waited_for_and_the_reason_is_given(tmp_path: Path) -> None:
    """Backoff doubles; the reason quotes the last error in its log."""
    record = Record()
    code = "import sys; print('error: no disk left', file=sys.stderr); sys.exit(5)"
    boss = supervisor(code, record, log=lambda _: tmp_path / "log")
    running = asyncio.create_task(boss.run())
    await until(lambda: len(record.named("worker_died")) == 3)
    boss.stop()
    code_seen = await asyncio.wait_for(running, 30)

    died = record.named("worker_died")
    assert [0.0, 0.5, 1.0] == [fields["again_in_seconds"] for fields in died]
    assert died[0]["reason"] == "exit code 5 (a fault of Headgate): no disk left"
    assert code_seen == 1


async def test_a_worker_that_does_not_hear_is_killed_after_the_bound(tmp_path: Path) -> None:
    """Nothing outlives the bound."""
    record, log = Record(), tmp_path / "log"
    boss = supervisor(IGNORES, record, stop_seconds=0.2, log=lambda _: log)
    running = asyncio.create_task(boss.run())
    await until(lambda: log.exists() and "deaf" in log.read_text())
    pid = boss.workers[0].pid

    boss.stop()

    assert await asyncio.wait_for(running, 30) == 1
    assert record.named("worker_killed") == [{"worker": "lake-0", "after_seconds": 0.2}]
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_a_second_stop_does_not_wait(tmp_path: Path) -> None:
    """A second Ctrl-C ends at once what did not hear the first."""
    log = tmp_path / "log"
    boss = supervisor(IGNORES, Record(), stop_seconds=60, log=lambda _: log)
    running = asyncio.create_task(boss.run())
    await until(lambda: log.exists() and "deaf" in log.read_text())

    boss.stop()
    boss.stop()

    assert await asyncio.wait_for(running, 30) == 1


async def test_when_no_worker_is_configured_right_the_supervisor_ends_and_says_so() -> None:
    """Starting them again would mend nothing."""
    boss = supervisor("import sys; sys.exit(3)", Record(), stages=("lake", "alerts"))

    assert await asyncio.wait_for(boss.run(), 25) == 3  # the next start would be after 30 s


async def test_a_worker_that_cannot_be_started_for_now_does_not_end_the_others(tmp_path: Path) -> None:
    """Of memory or processes there may be enough again later; its reason says what was lacking."""
    record, program = Record(), tmp_path / "program"
    boss = Supervisor(
        [Place("lake", 0), Place("alerts", 0)],
        lambda place: [str(program)] if place.stage == "lake" else [sys.executable, "-c", SLEEPS],
        on_event=record,
    )
    running = asyncio.create_task(boss.run())
    await until(lambda: len(record.named("worker_died")) == 2)
    await until(lambda: boss.workers[1].pid)
    alive = not running.done()
    program.write_text(f"#!{sys.executable}\n{SLEEPS}\n")
    program.chmod(0o700)
    await until(lambda: boss.workers[0].pid)
    boss.stop()
    await running

    assert {("lake-0", "cannot be started: No such file or directory")} == {
        (died["worker"], died["reason"]) for died in record.named("worker_died")
    }
    assert alive


async def test_one_worker_configured_wrong_does_not_end_the_others() -> None:
    """One bad thing stops one thing."""
    record = Record()
    boss = Supervisor(
        [Place("lake", 0), Place("alerts", 0)],
        lambda place: [sys.executable, "-c", "import sys; sys.exit(3)" if place.stage == "lake" else SLEEPS],
        on_event=record,
    )
    running = asyncio.create_task(boss.run())
    await until(lambda: record.named("worker_died"))
    await until(lambda: boss.workers[1].pid)

    assert record.named("worker_died")[0]["worker"] == "lake-0"
    assert not running.done()
    boss.stop()
    await running


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no time to stop anybody, and still nobody is left."""
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(HOME)!r})
from headgate.supervisor import Place, Supervisor
child = '''
import os, sys, time
sys.path.insert(0, {str(HOME)!r})
from headgate.leash import follow
assert follow(os.environ, stop_seconds=0.2)
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(60)
'''
asyncio.run(Supervisor([Place("lake", 0)], lambda _: [sys.executable, "-c", child], on_event=lambda *_: None).run())
"""
    boss = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    process = psutil.Process(child)

    boss.kill()
    boss.wait(10)

    gone, _ = psutil.wait_procs([process], timeout=10)
    assert [child] == [each.pid for each in gone]


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (6, 8.0), (9, 30.0), (1_000, 30.0)]
)
def test_backoff_doubles_up_to_its_maximum(deaths: int, seconds: float) -> None:
    """Quick deaths only count in a row."""
    assert seconds == backoff_seconds(deaths)


def test_an_unknown_exit_code_is_given_as_it_is() -> None:
    """No meaning is made up."""
    assert reason_of(77, None) == "exit code 77"


def test_a_signal_without_a_name_is_given_by_its_number() -> None:
    """Real-time signals have none: a worker that one of them ended takes no other down."""
    assert ("ended by SIGKILL", "ended by signal 40") == (reason_of(-9, None), reason_of(-40, None))


def test_a_worker_is_started_by_path_and_without_the_users_folder() -> None:
    """`-P`, so that no package beside the user's files gets in the way."""
    command = worker_command(Place("lake", 1), config=Path("c.yaml"), instance="here")

    assert command[1] == "-P"
    assert command[3:] == ["run", "--stage", "lake", "--slot", "1", "--instance", "here", "--config", "c.yaml"]


def test_a_worker_begins_without_a_process() -> None:
    """And without a death."""
    worker = Worker(Place("lake", 0))

    assert (worker.pid, worker.deaths) == (None, 0)
