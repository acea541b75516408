"""How pytest-xdist spreads the suite over processes: whole files, those that wait for services first.

Promise: each process has services and ports of its own (`tests/services`): no two tests of one moment share a server.
The two services that are slow to start, Kafka Connect and PostgreSQL, are started by one process only.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# What asks for Connect or PostgreSQL; a test holds this against the files.
OF_THE_SOURCE_DATABASE = frozenset(
    {
        "tests/integration/test_backfill.py",
        "tests/integration/test_connect_sink.py",
        "tests/integration/test_ddl.py",
        "tests/integration/test_end_to_end.py",
        "tests/integration/test_services.py",
        "tests/integration/test_verify_sources.py",
    }
)


class WholeFiles(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each process one file after another, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # by number of tests, it would have the slow files run last
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """Return what stays in one process: a test's file, or all files of the source database together."""
    file = nodeid.partition("::")[0]
    return "the source database" if file in OF_THE_SOURCE_DATABASE else file


def waits_longest_first(item: pytest.Item) -> int:
    """Return a key to sort by: short files come last, so that no process is left alone with a long one."""
    if item.nodeid.partition("::")[0] in OF_THE_SOURCE_DATABASE:
        return 0
    return 1 if item.get_closest_marker("integration") or item.get_closest_marker("chaos") else 2
