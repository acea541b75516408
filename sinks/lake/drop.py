"""A table of the lake dropped with its files, once nobody writes to it any more."""

from __future__ import annotations

from pyiceberg.exceptions import NoSuchTableError

from schemas.config import LakeConfig
from schemas.errors import HeadgateError, SinkUnavailable
from sinks.lake.storage import is_made, list_tables, open_catalog


def drop_table(config: LakeConfig, table: str) -> bool:
    """Drop a table and delete the files that its snapshots name; False where there is none.

    Raises:
        SinkUnavailable: the catalogue or the files' storage does not answer; it may be dropped with files left.
        ConfigurationError: as `open_catalog`.
    """
    try:
        if not is_made(config) or table not in list_tables(config):
            return False
        open_catalog(config).purge_table((config.namespace, table))
    except NoSuchTableError:  # somebody else was quicker
        return False
    except HeadgateError:
        raise
    except Exception as exc:  # whatever the catalogue's client raises: here it means that the lake cannot be asked
        raise SinkUnavailable(
            f"lake table {table} was not dropped, or not with all its files: {type(exc).__name__}",
            hint="look at `headgate check`, then drop it with an engine that knows the catalogue",
        ) from exc
    return True
