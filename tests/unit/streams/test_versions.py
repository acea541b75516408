"""What was persisted by the releases before is read, what a newer one persisted is refused with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.transport.commit_metadata import CommitMetadata, read_commit_metadata
from connectors.transport.tail import Entry
from headgate.local_stages import ask_local_stages
from schemas import versions
from schemas.change import Height
from schemas.errors import HeadgateError, VersionRefused
from schemas.evolution import Evolved, read_evolved
from schemas.rule import Alert
from schemas.table import TableEntry, TableSpec
from schemas.versions import FORMS, Form
from sinks.lake.stand import Stand, read_stand
from sinks.quarantine import Suspect, quarantine_value, read_quarantined
from sinks.redis.layout import Layout
from sinks.redis.migrate import check_readable, read_marker
from streams.alert_state import StateChange, read_states
from streams.chains import Link, read_link
from streams.quarantine import Settled, read_settled
from streams.retry import DeadLetter, Waiting, read_dead_letter, read_waiting
from streams.tables import read_entry
from streams.workers import state_of_record

ALERT = Alert("i", "r", 1, "info", "t", "patients", {"id": 1}, "insert", "0001", "2026", {}, ("t", 0, 0, 1), late=False)
WAITING = Waiting("ops", 5, 1, 2, "500", ALERT)
DEAD = DeadLetter("ops", "500", 3, 2, 9, ALERT)
ENTRY = TableEntry(spec=TableSpec.model_validate({"table": "p", "topics": ["t"], "columns": {"id": "long"}}))
QUARANTINED = quarantine_value(
    ValueError(), Suspect(("t", 0, 0, 1), None, b"{", []), stage="lake", table="p", at=1.0, message_bytes_max=100_000
)
LAYOUT = Layout("hg", 64)
((_, HEIGHTS),) = StateChange(heights={3: {"a": 7}}).records(0)
assert HEIGHTS is not None, "a height is written, not taken away"
STAND = Stand("t", "id", 5, {("t", 0, 0): Height(4, 1)})

# How each form is read, and what this release writes.
JSON_FORMS: dict[Form, tuple[Callable[[bytes], Any], bytes]] = {
    versions.TABLE_ENTRY: (read_entry, ENTRY.model_dump_json().encode()),
    versions.EVOLVED: (read_evolved, Evolved(table="t", slot="s", revision=1, columns={}).encoded()),
    versions.QUARANTINED: (read_quarantined, QUARANTINED),
    versions.SETTLED: (read_settled, msgspec.json.encode(Settled("dropped", "2026", ("t", 0, 0, 1)))),
    versions.PREVIOUS: (read_link, msgspec.json.encode(Link(0, 7))),
    versions.WAITING: (read_waiting, WAITING.encoded()),
    versions.DEAD_LETTER: (read_dead_letter, DEAD.encoded()),
    versions.ALERTS_STATE: (lambda value: read_states({b'[0,"height",3]': value}, [0]), HEIGHTS),
    versions.LAKE_STAND: (lambda value: read_stand(value.decode()), STAND.to_text().encode()),
}


def with_version(value: bytes, version: object) -> bytes:
    """Return a JSON value with another version; None takes it away."""
    return json.dumps({**json.loads(value), "v": version} if version is not None else without(value)).encode()


def without(value: bytes) -> dict[str, Any]:
    """Return a JSON value as it was written before it had a version."""
    return {name: each for name, each in json.loads(value).items() if name != "v"}


@pytest.mark.parametrize("form", JSON_FORMS, ids=lambda form: form.name)
def test_what_this_release_writes_carries_its_version_and_is_read(form: Form) -> None:
    """The version is the one that the page tells of."""
    read, value = JSON_FORMS[form]

    assert form.writes == json.loads(value)["v"]
    assert form.writes in form.reads
    read(value)


@pytest.mark.parametrize("form", [each for each in JSON_FORMS if each is not versions.LAKE_STAND], ids=lambda f: f.name)
def test_what_was_written_before_it_had_a_version_is_read(form: Form) -> None:
    """As the first releases wrote it, with the same meaning."""
    read, value = JSON_FORMS[form]

    assert read(value) == read(json.dumps(without(value)).encode())


@pytest.mark.parametrize("form", JSON_FORMS, ids=lambda form: form.name)
def test_what_a_newer_release_wrote_is_refused_by_all_that_it_says(form: Form) -> None:
    """Also where nothing else of it is as we know it."""
    read, value = JSON_FORMS[form]
    for newer in (with_version(value, max(form.reads) + 1), b'{"v": 7, "all": "else"}'):
        with pytest.raises(HeadgateError, match=r"has version [237], this release reads 1( and 2)? \(") as caught:
            read(newer)
        assert "upgrade this one" in caught.value.hint
        assert form.name in caught.value.message


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "one", "1" * 40, [], {"name": "Ada"}])
def test_what_is_no_version_is_refused_without_repeating_it(version: object) -> None:
    """It may be anybody's value."""
    with pytest.raises(VersionRefused, match="no Headgate wrote it") as caught:
        versions.TABLE_ENTRY.check_json(json.dumps({"v": version}), "it")

    assert "Ada" not in str(caught.value)


def test_a_version_that_is_no_longer_read_names_the_way_up() -> None:
    """A release in between."""
    form = Form("it", "there", "`v`", writes=4, reads=(3, 4))

    assert [3, 4] == [form.check(3, "it"), form.check("4", "it")]
    with pytest.raises(VersionRefused, match=r"version 2, this release reads 3 and 4 .*release in between"):
        form.check(2, "it")


def test_committed_offsets_of_a_newer_release_are_refused() -> None:
    """Reading on from them could be a jump."""
    assert CommitMetadata("A", 1, "x") == read_commit_metadata("v1 A 1 x")
    with pytest.raises(VersionRefused, match=r"version 2, this release reads 1 .*upgrade this one"):
        read_commit_metadata("v2 A 1 x")


def test_the_marker_of_the_first_release_is_read_and_a_newer_one_refused() -> None:
    """Readers too: they would misread every row. What a step has not finished is not read yet."""
    check_readable(b'{"layout": 2, "buckets": 64}', LAYOUT)
    check_readable(None, LAYOUT)
    for held, why in [
        (b'{"layout":3,"buckets":64}', "has version 3, this release reads 1 and 2"),
        (b'{"layout":2,"buckets":64,"from":1}', "which is read once FEATURES has brought it to 2"),
        (
            b'{"layout":1,"buckets":64}',
            "Redis holds layout 1 under hg, which is read once FEATURES has brought it to 2",
        ),
        (b'{"layout":2,"buckets":8}', "Redis holds 8 buckets under hg, redis.buckets says 64"),
        (b'"Ada"', "hg:layout is not ours"),
        (b"{}", "has version none"),
    ]:
        with pytest.raises(HeadgateError, match=why):
            check_readable(held, LAYOUT)
    assert 1 == read_marker(b'{"layout": 1, "buckets": 64}', LAYOUT).layout


def test_a_worker_of_a_newer_release_is_shown_as_one_that_cannot_be_read() -> None:
    """With what to do; the others are shown as ever."""
    entry = Entry(0, 0, 1_000, b"lake-there-0", b'{"v": 2}')

    worker = state_of_record(entry, now=2.0)

    assert worker is not None
    assert ("lake-there-0", "unreadable") == (worker.stage, worker.state)
    assert "upgrade this one" in worker.status["last_error"]["hint"]


async def test_a_state_file_of_a_newer_release_is_told_of_and_one_without_a_version_read(tmp_path: Path) -> None:
    """The workers of this machine, of releases before and behind."""
    state = {"pid": 1, "url": "http://127.0.0.1:9", "stage": "lake", "instance": "here"}
    (tmp_path / "lake-here-0.json").write_text(json.dumps({**state, "slot": 0}))
    (tmp_path / "lake-here-1.json").write_text(json.dumps({**state, "slot": 1, "v": 2}))

    assert ["dead", "unreadable"] == [each.state for each in await ask_local_stages(tmp_path, timeout_seconds=1)]


def test_every_form_is_tested_here_or_where_its_sink_is() -> None:
    """The lake's layout by tests/contract/test_lake_sink.py, Redis' also by test_ledger_servers.py.

    Those of subscribers by tests/unit/contracts/test_contract.py and tests/unit/client/test_rule.py.
    """
    elsewhere = {versions.LAKE_LAYOUT, versions.CONTRACT_FILE, versions.CLIENT_PLACE}
    here = {*JSON_FORMS, versions.REDIS_LAYOUT, versions.COMMIT_METADATA, versions.STATUS, versions.STATE_FILE}

    assert set(FORMS) == here | elsewhere
