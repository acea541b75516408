"""What resync takes on the command line, and what status says of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from headgate.cli.status import resync_said
from headgate.cli.tables import refuse_resync
from headgate.cli.tables_resync import _document, _where
from schemas.errors import ConfigurationError, TableStopped, naming
from schemas.table import TableEntry
from streams.resync import Beginning, Resync
from streams.resync_search import Begin


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (None, None),
        ("latest", "latest"),
        ("0=4711, 1=12", {0: 4711, 1: 12}),
        ("2026-11-20T19:45Z", datetime(2026, 11, 20, 19, 45, tzinfo=UTC)),
        ("2026-11-20T19:45", datetime(2026, 11, 20, 19, 45, tzinfo=UTC)),
    ],
)
def test_where_is_a_word_a_time_or_offsets(text: str | None, where: Any) -> None:
    """A time without a zone is UTC."""
    assert where == _where(text)


@pytest.mark.parametrize(("text", "error"), [("0=x", ConfigurationError), ("yesterday", typer.BadParameter)])
def test_what_is_no_place_is_refused(text: str, error: type[Exception]) -> None:
    """With what is one."""
    with pytest.raises(error, match="is no"):
        _where(text)


@pytest.mark.parametrize(
    ("snapshot", "said"),
    [
        ("open", "resyncing to epoch 2: 1200 rows of the snapshot, its end was not seen; 3 of 4 partitions have begun"),
        (
            "read",
            "resyncing to epoch 2: 1200 rows of the snapshot, its end is known; 1 of 4 partitions are still to be read",
        ),
    ],
)
def test_status_says_in_a_line_how_far_a_resync_is(snapshot: str, said: str) -> None:
    """Its rows, and what is waited for."""
    progress = {"epoch": 2, "rows": 1200, "partitions": 4, "begun": 3, "snapshot": snapshot, "left": 1}

    assert said == resync_said(progress)


def test_a_table_that_needs_one_says_so_with_the_command() -> None:
    """Where somebody tries to resume it, and where a worker has paused it."""
    with pytest.raises(TableStopped) as refused:
        refuse_resync("patients", "source_read_anew: rows of an initial snapshot come after changes")

    assert "`headgate tables resync patients`" in refused.value.hint
    assert "`headgate tables resync patients`" == naming("`headgate tables resync TABLE`", "patients")


def test_a_plan_as_json_says_each_partition() -> None:
    """Where the epoch begins, and how that is known."""
    spec = {"table": "patients", "topics": ["a"], "columns": {"id": "long"}}
    entry = TableEntry.model_validate({"spec": spec, "epoch": 1})
    begin = Begin({1: 9, 0: 14}, {0: "it stops", 1: "by time"})

    document = _document(Resync(entry, [Beginning("a", begin, 3, 2)]), written=False)

    partitions = [{"partition": 0, "begins": 14, "why": "it stops"}, {"partition": 1, "begins": 9, "why": "by time"}]
    assert [{"topic": "a", "generation": 2, "read_again": 3, "partitions": partitions}] == document["topics"]
    assert ("patients", 1, False, False) == tuple(document[name] for name in ("table", "epoch", "complete", "written"))
