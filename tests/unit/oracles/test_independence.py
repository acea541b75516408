"""What judges the product shares no code with it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import oracles, workloads

ROOMS = {"schemas", "connectors", "sinks", "streams", "headgate"}
MODULES = [path for package in (oracles, workloads) for path in sorted(Path(package.__path__[0]).glob("*.py"))]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_oracles_and_workloads_import_nothing_of_the_product(module: Path) -> None:
    """Neither at the top nor inside of a function."""
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert set() == imported & ROOMS


def test_there_are_modules_to_look_at() -> None:
    """A check of nothing is no check."""
    assert {"lake", "topic", "features", "model"} <= {path.stem for path in MODULES}
