"""Commits to one table of the lake: rows, the offsets they were read at, and the expiry of old snapshots, in one step.

| | |
|---|---|
| written together | data files and one property per input partition (`stand.py`): one Iceberg commit, no retry |
| if it dies in between | the files are orphans; `sweep.py` finds them |
| if it was frozen and wakes up | every commit asserts the snapshot that it loaded, and makes one: a conflict. Loaded \
again: our offsets unmoved, the files already written are committed again; moved, the batch is refused |

A commit of our own, instead of pyiceberg's transaction: that deep-copies the table's metadata some twenty times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import UNASSIGNED_SEQ, DataFile, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from schemas.errors import SinkUnavailable
from schemas.failpoints import failpoint
from sinks.base import Written
from sinks.lake.files import write_files
from sinks.lake.manifests import ManifestWriter
from sinks.lake.stand import OffsetsMoved, Stand, read_stands, written
from sinks.lake.sweep import Sweeper
from sinks.lake.table import ROW, add_row_columns, load_anew

CONFLICTS_MAX = 10  # then the stage waits and tries again


@dataclass(slots=True)
class LakeBatch:
    """Rows of one table, with where their input partitions stood when they were read, and where they stand with them.

    `before` holds the next offset of each partition of `after` as the lake has it, None where it has none.
    """

    table: str
    rows: pa.Table
    before: Mapping[int, int | None]
    after: Mapping[int, Stand]
    files: list[DataFile] | None = None  # written by an attempt whose commit has not come through
    files_at: float = 0.0
    files_of: UUID | None = None  # the table that they were written for: one made anew numbers its columns otherwise
    unsure: bool = field(default=False)  # an attempt ended without an answer: the files may be in use


class LakeTable:
    """One table of the lake, as one worker writes it; used by one thread at a time."""

    def __init__(
        self, table: Table, *, snapshots_kept: int, sweep_grace_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._table = table
        self._snapshots_kept = snapshots_kept
        self._grace_seconds = sweep_grace_seconds
        self._clock = clock
        self._manifests: dict[int, list[ManifestFile]] = {}  # of the snapshots that are kept, as far as known
        self._failed = False  # the last attempt: the table may be gone, or what it gave us to reach its files be void
        self._sweeper = Sweeper(table, grace_seconds=sweep_grace_seconds, clock=clock)

    @property
    def name(self) -> str:
        """The table's name, without the namespace."""
        return str(self._table.name()[-1])

    @property
    def iceberg(self) -> Table:
        """The table as of the last commit or load."""
        return self._table

    def stands(self) -> dict[int, Stand]:
        """Return where the lake stands in each input partition, as of the last commit or load."""
        return read_stands(self._table.properties)

    def load(self) -> None:
        """Load the table anew.

        Raises:
            TableStopped: it is not there any more; one of its name is another.
        """
        load_anew(self._table)

    def commit(self, batch: LakeBatch) -> Written:
        """Write the batch and return once it is part of the table; later calls with it write its files only once.

        Raises:
            OffsetsMoved: a partition stands elsewhere than `batch.before`; nothing was written.
            TableStopped: the table is not there any more, or has no column for one of the batch.
            SinkUnavailable: other workers were faster ten times in a row.
        """
        if batch.unsure or self._failed:
            self.load()
        self._failed = True
        for _ in range(CONFLICTS_MAX):
            if ROW in batch.rows.column_names:
                add_row_columns(self._table)  # may load the table anew: before what is checked and asserted
            checked = self._table.metadata
            self._refuse_moved(batch, checked)
            failpoint("lake.before_write")
            self._write_files(batch)
            nbytes = sum(file.file_size_in_bytes for file in batch.files or ())
            if self._commit_once(batch, checked):
                self._failed = False
                return Written(len(batch.rows), nbytes)
        raise SinkUnavailable(f"lake table {self.name}: lost the race for a commit {CONFLICTS_MAX} times")

    def sweep(self) -> int:
        """Delete what expired snapshots left behind, and now and then orphans; return the number of files deleted."""
        return self._sweeper.sweep()

    def _refuse_moved(self, batch: LakeBatch, metadata: TableMetadata) -> None:
        """Refuse a batch that was not read from where `metadata` says that the table stands."""
        stored = read_stands(metadata.properties)
        at = {partition: stored[partition].next_offset if partition in stored else None for partition in batch.after}
        if all(at[partition] == batch.before[partition] for partition in batch.after):
            return
        if batch.files and not batch.unsure:
            self._sweeper.discard([file.file_path for file in batch.files])
        batch.files = None
        raise OffsetsMoved(
            self.name, {partition: stored[partition] for partition in batch.after if partition in stored}
        )

    def _write_files(self, batch: LakeBatch) -> None:
        """Write the files unless they are there; those that a sweeper may soon take for orphans are written anew."""
        now, uuid = self._clock(), self._table.metadata.table_uuid
        age = now - batch.files_at  # below 0 where the clock was set back
        young = 0 <= age <= self._sweeper.orphan_grace_seconds / 2
        if batch.files is None or not young or batch.files_of != uuid:
            batch.files = write_files(self._table, batch.rows) if len(batch.rows) else []
            batch.files_at, batch.files_of = now, uuid

    def _commit_once(self, batch: LakeBatch, metadata: TableMetadata) -> bool:
        """Commit on top of `metadata`, where the batch was checked; return False on a conflict, with the table loaded.

        What is asserted is what was checked, whatever has been loaded in between.
        """
        table = self._table
        parent = metadata.current_snapshot()
        snapshot_id = metadata.new_snapshot_id()
        writer = ManifestWriter(table, snapshot_id)
        manifests = self._manifests_of(parent) if parent else []
        manifests = writer.merged(manifests)
        if batch.files:
            manifests = [writer.added(batch.files), *manifests]
        snapshot = self._snapshot(batch, snapshot_id, metadata, manifests, writer)
        expired = self._expired(metadata)
        requirements = (
            AssertTableUUID(uuid=metadata.table_uuid),
            AssertRefSnapshotId.model_validate(
                {"ref": MAIN_BRANCH, "snapshot-id": parent.snapshot_id if parent else None}
            ),
        )
        updates: list[TableUpdate] = [
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate.model_validate(
                {"ref-name": MAIN_BRANCH, "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot_id}
            ),
            SetPropertiesUpdate(updates=written(batch.after)),
        ]
        if expired:
            updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": [one.snapshot_id for one in expired]}))
        was_unsure, batch.unsure = batch.unsure, True
        failpoint("lake.before_commit")
        try:
            response = table.catalog.commit_table(table, requirements, tuple(updates))
        except CommitFailedException:
            self.load()
            # Clients that send again by themselves (that of Glue) hear of a conflict with their own commit.
            came_through = table.metadata.snapshot_by_id(snapshot_id) is not None
            if not came_through:
                self._sweeper.discard(writer.paths)
            batch.unsure = was_unsure or came_through
            return False
        failpoint("lake.after_commit")
        batch.unsure, batch.files = False, None  # the files are the table's now, whatever becomes of the batch
        table.metadata, table.metadata_location = response.metadata, response.metadata_location
        _number(manifests, snapshot)
        self._manifests[snapshot_id] = manifests
        self._left_behind(metadata, response.metadata, expired)
        return True

    def _snapshot(
        self,
        batch: LakeBatch,
        snapshot_id: int,
        metadata: TableMetadata,
        manifests: list[ManifestFile],
        writer: ManifestWriter,
    ) -> Snapshot:
        """Write the manifest list and return the snapshot that names it; one without rows is made too, as a fence."""
        parent = metadata.current_snapshot()
        parent_id = parent.snapshot_id if parent else None
        sequence_number = metadata.next_sequence_number()
        summary = SnapshotSummaryCollector()
        for file in batch.files or []:
            summary.add_file(file, schema=self._table.schema(), partition_spec=self._table.spec())
        totals = update_snapshot_summaries(
            Summary(operation=Operation.APPEND, **summary.build()),
            previous_summary=parent.summary.additional_properties if parent and parent.summary else None,
        )
        fields = {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": parent_id,
            "sequence-number": sequence_number,
            "timestamp-ms": self._moment_ms(metadata),
            "manifest-list": writer.listed(manifests, parent_id=parent_id, sequence_number=sequence_number),
            "schema-id": metadata.current_schema_id,
        }
        return Snapshot.model_validate({**fields, "summary": totals})

    def _moment_ms(self, metadata: TableMetadata) -> int:
        """Return the time of a snapshot on top of `metadata`: ours, and above all that the table has.

        Iceberg for Java, Rust and Go refuses a table whose times fall by more than a minute, as they would where the
        clocks of two workers differ. Above and not at: pyiceberg puts the time of day in the place of an equal one.
        """
        parent = metadata.current_snapshot()
        reached = max(metadata.last_updated_ms, parent.timestamp_ms if parent else 0)
        return max(int(self._clock() * 1000), reached + 1)

    def _manifests_of(self, snapshot: Snapshot) -> list[ManifestFile]:
        if snapshot.snapshot_id not in self._manifests:
            self._manifests[snapshot.snapshot_id] = list(snapshot.manifests(self._table.io))
        return self._manifests[snapshot.snapshot_id]

    def _expired(self, metadata: TableMetadata) -> list[Snapshot]:
        """Return the snapshots that the next commit removes: all but the newest, and those with a name of their own."""
        named = {ref.snapshot_id for ref in metadata.refs.values()}
        newest_first = sorted(metadata.snapshots, key=lambda one: one.sequence_number or 0, reverse=True)
        return [one for one in newest_first[self._snapshots_kept - 1 :] if one.snapshot_id not in named]

    def _left_behind(self, before: TableMetadata, after: TableMetadata, expired: list[Snapshot]) -> None:
        """Hand the files that only expired snapshots and forgotten metadata referred to over to the sweeper."""
        paths = {entry.metadata_file for entry in before.metadata_log} - {
            entry.metadata_file for entry in after.metadata_log
        }
        if expired:
            kept = {manifest.manifest_path for snapshot in after.snapshots for manifest in self._manifests_of(snapshot)}
            gone = {manifest.manifest_path for snapshot in expired for manifest in self._manifests_of(snapshot)}
            paths |= (gone - kept) | {snapshot.manifest_list for snapshot in expired}
        live = {snapshot.snapshot_id for snapshot in after.snapshots}
        self._manifests = {one: known for one, known in self._manifests.items() if one in live}
        self._sweeper.leave(sorted(paths))


def _number(manifests: Sequence[ManifestFile], snapshot: Snapshot) -> None:
    """Give the manifests that a snapshot wrote its sequence number, as its manifest list has them."""
    for manifest in manifests:
        for name in ("sequence_number", "min_sequence_number"):
            if getattr(manifest, name) == UNASSIGNED_SEQ:
                setattr(manifest, name, snapshot.sequence_number)
