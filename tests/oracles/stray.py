"""Objects of a table's folder that nothing refers to: what a sweep must have taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from tests.oracles.verdict import Verdict


def check_no_stray(
    name: str, warehouse: Path, namespace: str, storage: Mapping[str, str], files: Sequence[str], before: int
) -> Verdict:
    """Check that a table's snapshots refer to each of `files`, and that all that they refer to is there.

    `warehouse` is where the catalogue's file lies; `before` is how many files there were before the sweep.
    """
    catalog = load_catalog("headgate", type="sql", uri=f"sqlite:///{warehouse}/catalog.db", **storage)
    try:
        referred = {_bare(path) for path in _referred(catalog.load_table((namespace, name)))}
    finally:
        catalog.close()
    there = {_bare(path) for path in files}
    verdict = Verdict(
        f"objects of {name}", {"objects": len(there), "referred to": len(referred), "swept": before - len(files)}
    )
    for path in sorted(there - referred):
        verdict.differ(f"stray: {path}")
    for path in sorted(referred - there):
        verdict.differ(f"missing: {path}")
    verdict.at_least("referred to", 1)
    return verdict


def _referred(table: Table) -> set[str]:
    """Return what the metadata of a table leads to, by pyiceberg's own tables of itself."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    found |= {snapshot.manifest_list for snapshot in metadata.snapshots}
    found |= set(table.inspect.all_manifests().column("path").to_pylist())
    found |= set(table.inspect.all_files().column("file_path").to_pylist())
    return found


def _bare(path: str) -> str:
    return path.partition("://")[2] or path
