"""Imports go down only, and the contract that says so can be broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("schemas", "connectors", "sinks", "streams", "headgate")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the rooms below a folder."""
    # Without the site's own path of this repository: the rooms of `folder` are meant.
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copy_rooms(folder: Path) -> None:
    """Every room with its modules."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))


def test_the_rooms_keep_the_contract() -> None:
    """headgate, streams, connectors | sinks, schemas; Faust and confluent-kafka where they belong."""
    run = lint(ROOT)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("schemas/planted.py", "import connectors"),
        ("connectors/planted.py", "import sinks"),
        ("sinks/planted.py", "import connectors"),
        ("streams/planted.py", "import headgate"),
        ("sinks/planted.py", "import faust"),
        ("connectors/formats/planted.py", "import mode"),
        ("streams/planted.py", "import confluent_kafka"),
        ("schemas/planted.py", "import redis"),
    ],
)
def test_a_planted_import_in_the_wrong_direction_is_found(tmp_path: Path, module: str, line: str) -> None:
    """The contract can fail, for each of its sentences."""
    copy_rooms(tmp_path)
    (tmp_path / module).write_text(line + "\n")

    run = lint(tmp_path)

    assert run.returncode != 0
    assert "1 broken" in run.stdout, run.stdout + run.stderr
    assert "planted" in run.stdout
