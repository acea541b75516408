"""Files of the lake that nothing refers to any more, deleted after a grace period.

Two kinds, with two graces:

* what an expired snapshot left behind, known by name: a reader of that snapshot may still hold it (`grace_seconds`);
* orphans of commits that died, found by listing: a commit of another worker, or of another engine, may be about to
  refer to them, so they are at least a quarter of an hour old, whatever the configuration says. What another worker let
  expire is found with them, so they have the grace of readers as well: one search notes them, and a later one deletes
  what it finds unreferred still.

A search asks the table as it is then, after the listing, and judges ages by the storage's clock: that of a worker may
be an hour ahead. It deletes nothing in a folder in which another table lies.

Promise: nothing that a kept snapshot refers to is deleted; what cannot be deleted now is found again as an orphan.
"""

from __future__ import annotations

import gzip
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import fsspec
import orjson
import structlog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from sinks.lake.storage import S3_SCHEMES, LakeFileIO

ORPHAN_GRACE_SECONDS_MIN = 900.0
ORPHANS_EVERY_SECONDS = 3_600.0
DELETE_AT_ONCE = 30  # S3 deletes many for the price of one

_UNIQUE = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}/?$")  # the end of a folder that is one table's
_METADATA = re.compile(r"\.metadata\.json(?:\.gz)?$")
_GZIP = b"\x1f\x8b"

log = structlog.get_logger(__name__)


class _Listed(NamedTuple):
    """A file as it was listed: how its file system calls it, and when it was written, in seconds since 1970."""

    path: str
    modified: float


class Sweeper:
    """Deletes what commits to one table left behind; it looks at `table` as whoever commits to it has it loaded."""

    def __init__(self, table: Table, *, grace_seconds: float, clock: Callable[[], float]) -> None:
        self._table = table
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._left: deque[tuple[float, str]] = deque()  # when due, path
        self._noted: dict[str, float] = {}  # orphans, and when a search found them first
        self._orphans_at = 0.0
        self._newest = ("", 0.0)  # the newest metadata file, and when this worker knew of it first
        self._own: set[str] = set()  # metadata files of this table, in a folder that may be another's as well
        self._is_told = False
        self.orphan_grace_seconds = max(grace_seconds, ORPHAN_GRACE_SECONDS_MIN)

    def leave(self, paths: Iterable[str]) -> None:
        """Take note of files that nothing refers to from now on."""
        due = self._clock() + self._grace_seconds
        self._left.extend((due, path) for path in paths)

    def discard(self, paths: Iterable[str]) -> None:
        """Delete files that nothing has ever referred to."""
        self._delete(_file_system(self._table), list(paths))

    def sweep(self) -> int:
        """Delete what is due, and look for orphans once an hour; return how many files were deleted."""
        now, files = self._clock(), _file_system(self._table)
        self._look(now)
        orphans: list[str] = []
        searched = now >= self._orphans_at
        if searched:
            self._orphans_at = now + ORPHANS_EVERY_SECONDS
            orphans = self._due_orphans(files, now)
        due = sum(1 for at, _ in self._left if at <= now)
        if due >= DELETE_AT_ONCE or searched:
            return self._delete(files, [*(self._left.popleft()[1] for _ in range(due)), *orphans])
        return 0

    def _look(self, now: float) -> None:
        """Take note of what the table's metadata says of its files, and of the moment."""
        if self._table.metadata_location != self._newest[0]:
            self._newest = (self._table.metadata_location, now)
        if not _is_unique(self._table):
            log_of_files = self._table.metadata.metadata_log
            self._own |= {_bare(path) for path in (self._newest[0], *(entry.metadata_file for entry in log_of_files))}

    def _due_orphans(self, files: Any, now: float) -> list[str]:
        """Return the orphans that an earlier search has found, the grace ago; note the others."""
        if files is None:
            return []
        found = self._orphans(files, now)
        self._noted = {path: self._noted.get(path, now) for path in found}
        return [path for path, at in self._noted.items() if at + self._grace_seconds <= now]

    def _orphans(self, files: Any, now: float) -> list[str]:
        """Return the files in the table's folders that no kept snapshot refers to; none where that cannot be told."""
        listed = _listed(files, self._table)
        newest, known_at = self._newest
        here = listed.get(_bare(newest))
        if here is None:  # it lies elsewhere, so what the storage's time is, and whose folder this is, is not known
            return []
        old_at = here.modified + max(0.0, now - known_at) - self.orphan_grace_seconds
        old = {bare for bare, file in listed.items() if file.modified < old_at}
        if not old:
            return []
        fresh = self._as_it_is()
        if fresh is None:
            return []
        kept = {_bare(path) for path in referred_files(fresh)}
        kept |= {_bare(path) for _, path in self._left}  # these have a grace of their own
        if _is_unique(fresh):
            return [listed[bare].path for bare in old - kept]
        self._own &= listed.keys()
        others = self._of_others(files, fresh, {bare: file.path for bare, file in listed.items() if bare not in kept})
        return [] if others is None else [listed[bare].path for bare in old - kept - others]

    def _as_it_is(self) -> Table | None:
        """Return the table, loaded apart from the one that commits are made to; None where it is gone."""
        try:
            fresh = self._table.catalog.load_table(self._table.name())
        except NoSuchTableError:
            return None
        return fresh if fresh.metadata.table_uuid == self._table.metadata.table_uuid else None

    def _of_others(self, files: Any, fresh: Table, paths: Mapping[str, str]) -> set[str] | None:
        """Return metadata files, of `paths`, that are of other tables without any file; None where one has files.

        Such a table lies here if it was moved aside, and this one was made under its name before each had a folder of
        its own. Each table has its metadata beside its files, wherever its name stands now.
        """
        uuid = str(fresh.metadata.table_uuid)
        others: set[str] = set()
        for bare, path in paths.items():
            if bare in self._own or not _METADATA.search(bare):
                continue
            try:
                content = _metadata(files.cat_file(path))
            except FileNotFoundError:  # another worker swept it
                continue
            if content is None:
                continue
            if content.get("table-uuid") == uuid:
                self._own.add(bare)
            elif content.get("snapshots"):
                self._tell_shared()
                return None
            else:
                others.add(bare)
        return others

    def _tell_shared(self) -> None:
        if not self._is_told:
            log.warning("lake.folder_shared", table=self._table.name()[-1], folder=self._table.location())
        self._is_told = True

    def _delete(self, files: Any, paths: list[str]) -> int:
        """Delete, whether the files are there or not; a failure is logged and left to the next search for orphans."""
        if not paths or files is None:
            return 0
        try:
            if isinstance(files.protocol, str | tuple) and "s3" in files.protocol:
                files.rm(paths)  # answers as if they had been there
            else:
                _delete_local(files, paths)
        except OSError as exc:
            log.warning("lake.sweep_failed", table=self._table.name()[-1], files=len(paths), error=type(exc).__name__)
            return 0
        return len(paths)


def referred_files(table: Table) -> set[str]:
    """Return every file that the table, as it is loaded, refers to."""
    metadata = table.metadata
    files = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    files |= {statistics.statistics_path for statistics in (*metadata.statistics, *metadata.partition_statistics)}
    manifests = {}
    for snapshot in metadata.snapshots:
        files.add(snapshot.manifest_list)
        manifests.update({manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)})
    for path, manifest in manifests.items():
        files.add(path)
        files |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)}
    return files


def _file_system(table: Table) -> Any:
    """Return what can list and delete the table's files, or None for a file system that we do not know."""
    scheme, separator, _ = table.location().partition("://")
    if not separator or scheme == "file":
        return fsspec.filesystem("file")
    return table.io.get_fs(scheme) if isinstance(table.io, LakeFileIO) and scheme in S3_SCHEMES else None


def _listed(files: Any, table: Table) -> dict[str, _Listed]:
    """Return the files in the table's folders."""
    return {
        _bare(path): _Listed(path, _modified(entry))
        for folder in ("metadata", "data")
        for path, entry in files.find(f"{table.location()}/{folder}", detail=True).items()
    }


def _is_unique(table: Table) -> bool:
    """Tell whether the table's folder has a name that no other table's can have."""
    return _UNIQUE.search(table.location()) is not None


def _metadata(content: bytes) -> dict[str, Any] | None:
    """Return what a metadata file says, None where whoever wrote it died meanwhile: such a file is no table's."""
    try:
        found = orjson.loads(gzip.decompress(content) if content.startswith(_GZIP) else content)
    except (orjson.JSONDecodeError, EOFError, gzip.BadGzipFile):
        return None
    return found if isinstance(found, dict) else None


def _delete_local(files: Any, paths: list[str]) -> None:
    for path in paths:
        try:
            files.rm_file(_bare(path))
        except FileNotFoundError:
            continue  # another worker swept it


def _bare(path: str) -> str:
    return path.partition("://")[2] if "://" in path else path


def _modified(entry: dict[str, Any]) -> float:
    """Return when a listed file was written, in seconds since 1970."""
    moment = entry.get("LastModified", entry.get("mtime"))
    return moment.timestamp() if isinstance(moment, datetime) else float(moment or 0.0)
