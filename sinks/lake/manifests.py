"""The manifests of a snapshot: few, because every commit lists them; each written seldom, because writing is slow.

Manifests are merged by size, as log-structured stores do: ten of the same magnitude become one of the next. A data
file's entry is so rewritten at most three times, a commit lists about thirty manifests and one per thousand files, and
the thousandth commit does the work of the tenth.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.manifest import ManifestWriter as IcebergManifestWriter
from pyiceberg.table import Table

MERGE_COUNT = 10
ENTRIES_MAX = 1_000  # larger manifests are left as they are
_COMPRESSION: Literal["zstandard"] = "zstandard"


def magnitude(entries: int) -> int:
    """Return 0 for 1 to 9 entries, 1 for 10 to 99, and so on."""
    assert entries > 0, "a manifest has entries"
    return len(str(entries)) - 1


def to_merge(entries: Sequence[int]) -> list[list[int]]:
    """Return the groups of indexes to make one manifest of each: of one magnitude, at least ten, below the limit."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, count in enumerate(entries):
        if 0 < count < ENTRIES_MAX:
            groups[magnitude(count)].append(index)
    return [group for group in groups.values() if len(group) >= MERGE_COUNT]


class ManifestWriter:
    """Writes the manifests of one snapshot of `table`; `paths` are the files written so far."""

    def __init__(self, table: Table, snapshot_id: int) -> None:
        self._table = table
        self._snapshot_id = snapshot_id
        self._name = uuid.uuid4()
        self.paths: list[str] = []

    def added(self, files: Sequence[DataFile]) -> ManifestFile:
        """Write one manifest of the files that this snapshot adds."""
        assert files, "a manifest has entries"
        with self._writer(self._table.spec().spec_id) as writer:
            for file in files:
                status = ManifestEntryStatus.ADDED
                writer.add(ManifestEntry.from_args(status=status, snapshot_id=self._snapshot_id, data_file=file))
        return writer.to_manifest_file()

    def merged(self, manifests: Sequence[ManifestFile]) -> list[ManifestFile]:
        """Return manifests with the same live entries, of which those that are due have become one."""
        own_spec = self._table.spec().spec_id
        mergeable = [
            manifest
            for manifest in manifests
            if manifest.partition_spec_id == own_spec and manifest.content == ManifestContent.DATA
        ]
        groups = [[mergeable[index] for index in group] for group in to_merge([_entries(one) for one in mergeable])]
        gone = {manifest.manifest_path for group in groups for manifest in group}
        kept = [manifest for manifest in manifests if manifest.manifest_path not in gone]
        return [*(self._one(group) for group in groups), *kept]

    def listed(self, manifests: Sequence[ManifestFile], *, parent_id: int | None, sequence_number: int) -> str:
        """Write the manifest list and return where it lies."""
        path = self._path(f"snap-{self._snapshot_id}-0-{self._name}.avro")
        with write_manifest_list(
            format_version=2,
            output_file=self._table.io.new_output(path),
            snapshot_id=self._snapshot_id,
            parent_snapshot_id=parent_id,
            sequence_number=sequence_number,
            avro_compression=_COMPRESSION,
        ) as writer:
            writer.add_manifests(list(manifests))
        return path

    def _one(self, manifests: Sequence[ManifestFile]) -> ManifestFile:
        with self._writer(manifests[0].partition_spec_id) as writer:
            for manifest in manifests:
                for entry in manifest.fetch_manifest_entry(self._table.io):
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _writer(self, spec_id: int) -> IcebergManifestWriter:
        return write_manifest(
            format_version=2,
            spec=self._table.specs()[spec_id],
            schema=self._table.schema(),
            output_file=self._table.io.new_output(self._path(f"{self._name}-m{len(self.paths)}.avro")),
            snapshot_id=self._snapshot_id,
            avro_compression=_COMPRESSION,
        )

    def _path(self, name: str) -> str:
        path: str = self._table.location_provider().new_metadata_location(name)
        self.paths.append(path)
        return path


def _entries(manifest: ManifestFile) -> int:
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
