"""The demo as people start it: all four ends, the suggested commands during and after it, and nothing left behind."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import headgate

START = [sys.executable, "-P", str(Path(headgate.__file__).with_name("__main__.py"))]
START_SECONDS_MAX = 90.0  # for all four ends, on a machine that is busy with other tests
STOP_SECONDS_MAX = 40.0
BRIEF_SECONDS = 20


class RunningDemo:
    """A demo in a folder of its own, with what it prints in a file."""

    def __init__(self, folder: Path, seconds: int) -> None:
        """Start it."""
        self.folder, self.output = folder, folder.with_suffix(".out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*START, "demo", "--folder", str(folder), "--seconds", str(seconds), "--plain"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder.parent,
            )

    def text(self) -> str:
        """Return what it has printed."""
        return self.output.read_text()

    def until(self, condition: Callable[[str], object], seconds: float = START_SECONDS_MAX) -> str:
        """Wait until what it printed fulfils a condition, and return it."""
        deadline = time.monotonic() + seconds
        while not condition(text := self.text()):
            assert self.process.poll() is None, f"the demo has ended\n{text}"
            assert time.monotonic() < deadline, f"not within {seconds} s\n{text}\n{self.logs()}"
            time.sleep(0.1)
        return text

    def logs(self) -> str:
        """Return the end of each stage's log."""
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(self.folder.glob("log/*.log")))

    def family(self) -> list[psutil.Process]:
        """Return its processes, itself included."""
        demo = psutil.Process(self.process.pid)
        return [demo, *demo.children(recursive=True)]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb with the demo's configuration."""
        command = [*START, *arguments, "--config", str(self.folder / "headgate.yaml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def four_ends(text: str) -> bool:
    """Tell whether each end has shown life."""
    return {"events", "features", "alerts", "lake"} == set(re.findall(r"first sign of (\w+):", text))


def assert_gone(family: list[psutil.Process]) -> None:
    """Nothing of the demo runs."""
    _, alive = psutil.wait_procs(family, timeout=30)
    left = [process.cmdline() for process in alive]

    assert left == []


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[[int], RunningDemo]]:
    """`start_demo(seconds)`; whatever the test does, the demo's processes end with it."""
    started: list[RunningDemo] = []

    def start(seconds: int) -> RunningDemo:
        started.append(RunningDemo(tmp_path / "demo", seconds))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGTERM)
            demo.process.wait(STOP_SECONDS_MAX)


def test_the_demo_shows_four_ends_and_what_it_suggests_works(start_demo: Callable[[int], RunningDemo]) -> None:
    """While it runs, and on what it left behind."""
    demo = start_demo(600)
    demo.until(four_ends)
    demo.until(lambda text: "half a record arrives" in text)
    family = demo.family()

    status = demo.ask("status", "--json")
    features = demo.ask("features", "get", "patient", "42")
    tables = demo.ask("tables", "list")
    quarantine = demo.ask("quarantine", "list", "--json")
    demo.process.send_signal(signal.SIGINT)
    code = demo.process.wait(STOP_SECONDS_MAX)

    assert (status.returncode, features.returncode, tables.returncode) == (0, 0, 0), status.stderr + features.stderr
    assert "glucose" in features.stdout or "potassium" in features.stdout or "creatinine" in features.stdout
    assert '"reason": "broken_json"' in quarantine.stdout
    assert code == 0, demo.text() + demo.logs()
    assert "critical: Glucose is critically high" in demo.text()
    assert_gone(family)
    suggested = [line.strip() for line in demo.text().splitlines() if line.startswith("  ")]
    assert len(suggested) == 2
    for line in suggested:
        command = [*START, *shlex.split(line[line.index(" lake ") :])]
        done = subprocess.run(command, cwd=demo.folder.parent, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert "every change is there exactly once" in done.stdout


def test_the_demo_ends_by_itself_when_its_time_is_over(start_demo: Callable[[int], RunningDemo]) -> None:
    """However far it has come by then."""
    demo = start_demo(BRIEF_SECONDS)
    demo.until(lambda text: "broker at" in text)
    family = demo.family()

    assert demo.process.wait(BRIEF_SECONDS + STOP_SECONDS_MAX) == 0, demo.text()
    assert "Out came: events" in demo.text()
    assert_gone(family)


def test_ctrl_c_ends_the_demo_with_a_summary_and_no_process(start_demo: Callable[[int], RunningDemo]) -> None:
    """Exit code 0, no traceback, everything stopped."""
    demo = start_demo(120)
    demo.until(lambda text: "first sign of events" in text)
    family = demo.family()

    demo.process.send_signal(signal.SIGINT)
    code = demo.process.wait(STOP_SECONDS_MAX)

    assert code == 0, demo.text()
    assert "Out came: events" in demo.text()
    assert "Traceback" not in demo.text()
    assert_gone(family)


def test_a_killed_stage_comes_back_while_the_demo_goes_on(start_demo: Callable[[int], RunningDemo]) -> None:
    """The supervisor tells of it and starts it again."""
    demo = start_demo(120)
    demo.until(lambda text: "first sign of events" in text)
    killed = int((demo.folder / "state" / "alerts-demo-0.lock").read_text())

    os.kill(killed, signal.SIGKILL)
    # Behind the signal stands the last error that the stage has logged, if there was one.
    demo.until(lambda text: re.search(r"worker alerts-0 died \(ended by SIGKILL.*\), started again", text))
    family = demo.family()
    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(STOP_SECONDS_MAX) == 0, demo.text()
    assert_gone(family)


def test_a_second_demo_in_the_same_folder_is_refused_and_a_killed_one_leaves_no_process(
    start_demo: Callable[[int], RunningDemo], tmp_path: Path
) -> None:
    """It names who is there. SIGKILL gives nobody time to clean up: the stages follow their leash, Redis the kernel."""
    demo = start_demo(120)
    demo.until(lambda text: "broker at" in text)

    second = subprocess.run(
        [*START, "demo", "--folder", str(demo.folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    demo.until(lambda text: "first sign of events" in text)
    family = demo.family()
    demo.process.kill()
    demo.process.wait()

    assert second.returncode == 3
    assert f"a demo runs in {demo.folder} already: process {demo.process.pid}" in second.stderr
    assert len(family) >= 7
    assert_gone(family)
