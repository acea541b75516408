"""A model of an Iceberg table: snapshots, properties, and commits that assert what they replace.

Files, manifests and their lists are values in memory: what is written is kept, what nothing refers to harms nobody.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import UNASSIGNED_SEQ, DataFileContent
from pyiceberg.schema import Schema

from schemas.table import TableSpec
from sinks.lake.table import lake_schema
from tests.simulation.loop import PROCESS, Killed, pause
from tests.simulation.network import Network

UUID = "11111111-1111-4111-8111-111111111111"


class Snapshot(NamedTuple):
    """One state of the table."""

    snapshot_id: int
    sequence_number: int
    manifest_list: str
    lists: dict[str, list[Manifest]]
    timestamp_ms: int
    summary: Any = None

    def manifests(self, io: Any) -> list[Manifest]:
        return self.lists[self.manifest_list]


class Ref(NamedTuple):
    """A name of a snapshot."""

    snapshot_id: int


@dataclass(frozen=True)
class Metadata:
    """What a catalogue knows of a table."""

    properties: dict[str, str] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    main: int | None = None
    metadata_log: tuple[Any, ...] = ()
    table_uuid: str = UUID
    current_schema_id: int = 0
    last_updated_ms: int = 0

    @property
    def refs(self) -> dict[str, Ref]:
        return {} if self.main is None else {"main": Ref(self.main)}

    def current_snapshot(self) -> Snapshot | None:
        return None if self.main is None else self.snapshot_by_id(self.main)

    def snapshot_by_id(self, snapshot_id: int) -> Snapshot | None:
        return next((one for one in self.snapshots if one.snapshot_id == snapshot_id), None)

    def new_snapshot_id(self) -> int:
        return next(Catalogue.ids)

    def next_sequence_number(self) -> int:
        return len(self.snapshots) + 1 if not self.snapshots else self.snapshots[-1].sequence_number + 1


@dataclass(eq=False)
class File:
    """A data file."""

    rows: pa.Table
    file_path: str
    file_size_in_bytes: int = 1
    content: DataFileContent = DataFileContent.DATA
    partition: tuple[Any, ...] = ()

    @property
    def record_count(self) -> int:
        return len(self.rows)


@dataclass
class Manifest:
    """A manifest: the files of one commit."""

    files: tuple[File, ...]
    manifest_path: str
    sequence_number: int = UNASSIGNED_SEQ
    min_sequence_number: int = UNASSIGNED_SEQ


class Catalogue:
    """One table, many writers; a commit may be refused, lost, or come through without an answer."""

    ids = itertools.count(1)

    def __init__(self, network: Network) -> None:
        self.network = network
        self.current = Metadata()
        self.lists: dict[str, list[Manifest]] = {}
        self.commits = 0
        self.deleted: set[str] = set()
        self.trouble = 0.0

    def request(self) -> str:
        """Take the time of a request; say whether it is to be lost."""
        self.check()
        pause(self.network.delay())
        self.check()
        lossy = max(self.trouble, self.network.trouble)
        if self.network.random.random() >= lossy:
            return ""
        return self.network.random.choice(["before", "behind"])

    def check(self) -> None:
        """Answer nobody that is no more."""
        process = PROCESS.get()
        if self.network.over or process is None or not process.alive:
            raise Killed

    def commit_table(self, table: Table, requirements: Sequence[Any], updates: Sequence[Any]) -> Any:
        lost = self.request()
        if lost == "before":
            raise TimeoutError("the catalogue does not answer")
        for requirement in requirements:
            self._require(requirement)
        self.current = self._updated(updates)
        self.commits += 1
        pause(self.network.delay())
        self.check()
        if lost:
            raise TimeoutError("the catalogue has not answered")
        return _Response(self.current, f"metadata-{self.commits}")

    def _require(self, requirement: Any) -> None:
        match requirement.type:
            case "assert-table-uuid":
                assert str(requirement.uuid) == self.current.table_uuid, "there is one table"
            case "assert-ref-snapshot-id":
                if requirement.snapshot_id != self.current.main:
                    raise CommitFailedException("the branch has moved")
            case other:
                raise AssertionError(f"no requirement of ours: {other}")

    def _updated(self, updates: Sequence[Any]) -> Metadata:
        made = self.current
        for update in updates:
            match update.action:
                case "add-snapshot":
                    one = update.snapshot
                    added = Snapshot(
                        one.snapshot_id, one.sequence_number, one.manifest_list, self.lists, one.timestamp_ms
                    )
                    made = replace(made, snapshots=(*made.snapshots, added), last_updated_ms=one.timestamp_ms)
                case "set-snapshot-ref":
                    made = replace(made, main=update.snapshot_id)
                case "set-properties":
                    made = replace(made, properties={**made.properties, **update.updates})
                case "remove-snapshots":
                    kept = tuple(one for one in made.snapshots if one.snapshot_id not in update.snapshot_ids)
                    made = replace(made, snapshots=kept)
                case other:
                    raise AssertionError(f"no update of ours: {other}")
        return made

    def close(self) -> None:
        """Nothing is held."""

    def files(self) -> list[File]:
        """Return the files of the table as it is."""
        snapshot = self.current.current_snapshot()
        return [] if snapshot is None else [f for one in self.lists[snapshot.manifest_list] for f in one.files]


class _Response(NamedTuple):
    metadata: Metadata
    metadata_location: str


class Table:
    """The table, as one worker has loaded it."""

    io = None

    def __init__(self, catalogue: Catalogue, spec: TableSpec) -> None:
        self.catalog, self._schema = catalogue, lake_schema(spec)
        self.metadata = catalogue.current
        self.metadata_location = "metadata-0"

    @property
    def properties(self) -> dict[str, str]:
        return self.metadata.properties

    def name(self) -> tuple[str, str]:
        return "headgate", "patients"

    def schema(self) -> Schema:
        """What the world's only spec needs, from the first day on."""
        return self._schema

    def spec(self) -> None:
        """Nothing asks how it is partitioned."""

    def refresh(self) -> Table:
        if self.catalog.request():
            raise TimeoutError("the catalogue does not answer")
        self.metadata = self.catalog.current
        return self


class ManifestWriter:
    """Stands in for `sinks.lake.manifests.ManifestWriter`."""

    def __init__(self, table: Table, snapshot_id: int) -> None:
        self._lists = table.catalog.lists
        self._snapshot_id = snapshot_id
        self.paths: list[str] = []

    def added(self, files: Sequence[File]) -> Manifest:
        return Manifest(tuple(files), f"manifest-{self._snapshot_id}")

    def merged(self, manifests: Sequence[Manifest]) -> list[Manifest]:
        return list(manifests)

    def listed(self, manifests: Sequence[Manifest], *, parent_id: int | None, sequence_number: int) -> str:
        path = f"list-{self._snapshot_id}"
        self._lists[path] = list(manifests)
        return path


class Sweeper:
    """Stands in for `sinks.lake.sweep.Sweeper`: what is deleted is no longer there for a commit."""

    orphan_grace_seconds = 900.0

    def __init__(self, table: Table, **_: Any) -> None:
        self._table = table

    def leave(self, paths: Sequence[str]) -> None:
        """Nothing reads them."""

    def discard(self, paths: Sequence[str]) -> None:
        self._table.catalog.deleted |= set(paths)

    def sweep(self) -> int:
        return 0


def write_files(table: Table, rows: pa.Table) -> list[File]:
    """Stand in for `sinks.lake.files.write_files`."""
    if table.catalog.request():
        raise OSError("the storage does not answer")
    return [File(rows, f"file-{next(Catalogue.ids)}")]
