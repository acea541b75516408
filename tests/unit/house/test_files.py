"""Files of the house that machines read: constraints, the Makefile, what CI runs."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_constraints_are_names_and_versions_only() -> None:
    """No host and no path: it works with every package index."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]

    assert len(lines) > 50
    assert [] == [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]


def test_every_requirement_has_a_tested_version() -> None:
    """A requirement without a constraint could be another version tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[\[<>=;]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}

    assert set() == names - pinned


def test_ci_runs_what_the_readme_tells_people() -> None:
    """One way to run the tests."""
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"
    assert "```sh\nmake test\n```" in (ROOT / "README.md").read_text()


def test_make_help_names_the_targets_of_the_readme() -> None:
    """Every `make …` of the README is a target that explains itself."""
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    told = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()))

    assert {"demo", "test", "bench", "help"} <= told
    assert set() == told - set(re.findall(r"^make ([a-z-]+) ", text, flags=re.MULTILINE))
