"""The oracle of objects finds what nothing refers to, and what is referred to and is not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog

from tests.oracles import Verdict
from tests.oracles.stray import check_no_stray

NAME, NAMESPACE = "orders", "lake"


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A lake with a table of three commits."""
    properties = {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}"}
    catalog = load_catalog("headgate", type="sql", **properties)
    catalog.create_namespace(NAMESPACE)
    rows = pa.table({"id": pa.array([1, 2], pa.int64())})
    table = catalog.create_table((NAMESPACE, NAME), schema=rows.schema)
    for _ in range(3):
        table.append(rows)
    catalog.close()
    return tmp_path


def checked(warehouse: Path, files: list[str]) -> Verdict:
    """Ask the oracle about these files."""
    return check_no_stray(NAME, warehouse, NAMESPACE, {}, files, len(files))


def files_of(warehouse: Path) -> list[str]:
    """Return what lies there."""
    return [str(path) for path in warehouse.rglob("*") if path.is_file() and path.name != "catalog.db"]


def test_a_table_without_rubbish_holds(warehouse: Path) -> None:
    """Every kind of file that Iceberg writes is known."""
    verdict = checked(warehouse, files_of(warehouse))

    assert verdict.holds, str(verdict)
    assert verdict.figures["objects"] == verdict.figures["referred to"] > 3 * 3


@pytest.mark.parametrize("where", ["data", "metadata"])
def test_a_stray_object_is_reported(warehouse: Path, where: str) -> None:
    """By its name."""
    folder = next(path for path in warehouse.rglob(where) if path.is_dir())
    (folder / "planted.parquet").write_bytes(b"x")

    assert "planted.parquet" in str(checked(warehouse, files_of(warehouse)))


@pytest.mark.parametrize("ending", [".parquet", ".avro", ".metadata.json"])
def test_an_object_that_is_gone_is_reported(warehouse: Path, ending: str) -> None:
    """A sweep that took too much is the worse fault."""
    gone = next(path for path in files_of(warehouse) if path.endswith(ending))
    verdict = checked(warehouse, [path for path in files_of(warehouse) if path != gone])

    assert not verdict.holds
    assert "missing" in str(verdict)
