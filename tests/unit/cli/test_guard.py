"""A foreign package with the name of one of our rooms is found and named."""

import subprocess
import sys
from pathlib import Path

import headgate
from headgate.guard import ROOMS, find_shadows

HOME = Path(headgate.__file__).parents[1]


def test_our_own_rooms_shadow_nothing() -> None:
    """The tests themselves run with the right rooms."""
    found = find_shadows()

    assert found == []


def test_rooms_elsewhere_than_wanted_are_all_found(tmp_path: Path) -> None:
    """Seen from another folder, our own rooms are the foreigners."""
    found = find_shadows(tmp_path)

    assert list(ROOMS) == [shadow.room for shadow in found]
    assert {HOME / room for room in ROOMS} == {shadow.found for shadow in found}


def test_a_shadowed_room_ends_the_command_line_and_names_the_path(tmp_path: Path) -> None:
    """Somebody's own `schemas` on PYTHONPATH must not become ours silently."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("")

    done = subprocess.run(
        [sys.executable, "-c", "from headgate.cli.main import main; main(['version'])"],
        env={"PYTHONPATH": f"{tmp_path}:{HOME}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3
    assert (
        f"error: the package 'schemas' would come from {tmp_path / 'schemas'}, not from {HOME / 'schemas'}"
        in done.stderr
    )
    assert "hint: start headgate from another folder" in done.stderr


def test_a_module_that_shadows_a_room_is_named(tmp_path: Path) -> None:
    """A single file `sinks.py` shadows as well as a folder does."""
    (tmp_path / "sinks.py").write_text("")

    done = subprocess.run(
        [sys.executable, "-c", "from headgate.cli.main import main; main(['version'])"],
        env={"PYTHONPATH": f"{tmp_path}:{HOME}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3
    assert str(tmp_path / "sinks.py") in done.stderr


def test_the_way_that_workers_are_started_is_not_disturbed_by_the_users_folder(tmp_path: Path) -> None:
    """Workers start by path and with -P, so a `schemas` where the user stands does not matter."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise RuntimeError")

    done = subprocess.run(
        [sys.executable, "-P", str(HOME / "headgate" / "__main__.py"), "version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("headgate ")


def test_a_process_ends_whatever_still_runs_in_it_and_does_what_was_left_for_its_end() -> None:
    """A worker that was asked to stop has seconds: Python would wait for threads, and take all apart that it loaded."""
    text = (
        "import atexit, threading; from headgate.cli.main import main; atexit.register(print, 'left');"
        "threading.Thread(target=threading.Event().wait).start(); main(['version'])"
    )

    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "left"
