"""Files of the lake that nothing refers to any more, deleted after a grace period.

Two kinds, with two graces:

* what an expired snapshot left behind, known by name: a reader of that snapshot may still hold it (`grace_seconds`);
* orphans of commits that died, found by listing: a commit of another worker may be about to refer to them, so they are
  at least a quarter of an hour old, whatever the configuration says. What another worker let expire is found with
  them, so they have the grace of readers as well.

Promise: nothing that a kept snapshot refers to is deleted; what cannot be deleted now is found again as an orphan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import fsspec
import structlog
from pyiceberg.table import Table

from sinks.lake.storage import S3_SCHEMES, LakeFileIO

ORPHAN_GRACE_SECONDS_MIN = 900.0
ORPHANS_EVERY_SECONDS = 3_600.0
DELETE_AT_ONCE = 30  # S3 deletes many for the price of one

log = structlog.get_logger(__name__)


class Sweeper:
    """Deletes what commits to one table left behind."""

    def __init__(self, table: Table, *, grace_seconds: float, clock: Callable[[], float]) -> None:
        self._files = _file_system(table)
        self._table_name = table.name()[-1]
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._left: deque[tuple[float, str]] = deque()  # when due, path
        self._orphans_at = 0.0
        self.orphan_grace_seconds = max(grace_seconds, ORPHAN_GRACE_SECONDS_MIN)

    def leave(self, paths: Iterable[str]) -> None:
        """Take note of files that nothing refers to from now on."""
        due = self._clock() + self._grace_seconds
        self._left.extend((due, path) for path in paths)

    def discard(self, paths: Iterable[str]) -> None:
        """Delete files that nothing has ever referred to."""
        self._delete(list(paths))

    def sweep(self, table: Table) -> int:
        """Delete what is due, and look for orphans once an hour; return how many files were deleted."""
        now = self._clock()
        searched = now >= self._orphans_at
        if searched:
            self._orphans_at = now + ORPHANS_EVERY_SECONDS
            self.leave(self._orphans(table, older_than=now - self.orphan_grace_seconds))
        due = sum(1 for at, _ in self._left if at <= now)
        if due >= DELETE_AT_ONCE or searched:
            return self._delete([self._left.popleft()[1] for _ in range(due)])
        return 0

    def _orphans(self, table: Table, *, older_than: float) -> list[str]:
        """Return the files in the table's folders that no kept snapshot refers to; none where nothing can be listed."""
        if self._files is None:
            return []
        old = [path for path, entry in self._listed(table) if _modified(entry) < older_than]
        if not old:
            return []
        referred = {_bare(path) for path in referred_files(table)}
        left = {_bare(path) for _, path in self._left}  # these have a grace of their own
        return [path for path in old if _bare(path) not in referred and _bare(path) not in left]

    def _listed(self, table: Table) -> Iterable[tuple[str, dict[str, Any]]]:
        for folder in ("metadata", "data"):
            yield from self._files.find(f"{table.location()}/{folder}", detail=True).items()

    def _delete(self, paths: list[str]) -> int:
        """Delete, whether the files are there or not; a failure is logged and left to the next search for orphans."""
        if not paths or self._files is None:
            return 0
        try:
            if isinstance(self._files.protocol, str | tuple) and "s3" in self._files.protocol:
                self._files.rm(paths)  # answers as if they had been there
            else:
                _delete_local(self._files, paths)
        except OSError as exc:
            log.warning("lake.sweep_failed", table=self._table_name, files=len(paths), error=type(exc).__name__)
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
