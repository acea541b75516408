"""The demo's source: a real database, its log, and envelopes that look as Debezium's do."""

import base64
import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.demo.connector import TownConnector
from headgate.demo.database import TABLES, TownDatabase
from headgate.demo.envelope import SNAPSHOT_LSN, SourceRecord, encode_row, topic_of
from headgate.demo.folder import MARKER, DemoFolder, example_specs
from headgate.demo.story import WATCHED_PATIENT, Story
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.table import TableSpec

# Field names in the order of records captured from Debezium 3.7 (PostgreSQL, JSON without schema block).
ENVELOPE = ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]
SOURCE = "version connector name ts_ms snapshot db sequence ts_us ts_ns schema table txId lsn xmin origin origin_lsn"


class Town:
    """A database with a connector whose records are kept."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[SourceRecord] = []
        self.database = TownDatabase(folder / "town.db")
        self.connector = TownConnector(self.database, self.sent.append)
        self.story = Story(self.database, self.connector, seed=1)

    def values(self) -> list[dict[str, Any]]:
        """Return what was sent, without tombstones and broken records."""
        return [json.loads(r.value) for r in self.sent if r.value is not None and r.value.endswith(b"}")]

    def state(self) -> dict[tuple[str, int], Any]:
        """Return the rows that the records add up to: what any consumer should end with."""
        rows: dict[tuple[str, int], tuple[int, Any]] = {}
        for value in self.values():
            source = value["source"]
            key = (source["table"], (value["after"] or value["before"])["id"])
            if source["lsn"] >= rows.get(key, (0, None))[0]:
                rows[key] = (source["lsn"], value["after"])
        return {key: row for key, (_, row) in rows.items() if row is not None}


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """A settled town whose snapshot was sent."""
    town = Town(tmp_path)
    town.story.settle()
    town.connector.snapshot()
    return town


def test_what_was_sent_adds_up_to_the_database(town: Town) -> None:
    """After a hundred ticks, accidents included, replaying by position gives the database row by row."""
    for number in range(100):
        town.story.tick()
        if number % 10 == 0:
            town.story.move_twice()
        town.connector.stream()
        if number % 25 == 0:
            town.connector.send_late()
            town.connector.send_broken()

    rows = {(table, row["id"]): encode_row(row) for table in TABLES for row in town.database.rows(table)}
    assert rows == town.state()
    assert {"snapshot", "inserts", "updates", "deletes", "late", "broken"} == set(town.connector.sent)


def test_envelopes_have_the_fields_of_captured_ones(town: Town) -> None:
    """Names and order, of the snapshot and of changes."""
    town.story.tick()
    town.connector.stream()

    for value in town.values():
        assert list(value) == ENVELOPE
        assert " ".join(value["source"]) == SOURCE


def test_snapshot_rows_share_a_position_and_are_marked(town: Town) -> None:
    """First … last, sequence without a commit before."""
    values = town.values()
    markers = [value["source"]["snapshot"] for value in values]

    assert markers == ["first", *["true"] * (len(values) - 2), "last"]
    assert {(value["op"], value["source"]["lsn"], value["source"]["sequence"]) for value in values} == {
        ("r", SNAPSHOT_LSN, f'[null,"{SNAPSHOT_LSN}"]')
    }


def test_positions_rise_and_name_the_commit_before(town: Town) -> None:
    """`sequence[0]` is below the change's own lsn and the same within a transaction."""
    town.sent.clear()
    for _ in range(20):
        town.story.tick()
        town.connector.stream()

    lsns = [value["source"]["lsn"] for value in town.values()]
    commits = {(value["source"]["txId"], int(json.loads(value["source"]["sequence"])[0])) for value in town.values()}
    assert sorted(set(lsns)) == lsns
    assert len({tx for tx, _ in commits}) == len(commits)
    assert all(int(json.loads(v["source"]["sequence"])[0]) < v["source"]["lsn"] for v in town.values())


def test_a_delete_carries_the_key_only_and_a_tombstone_follows(town: Town) -> None:
    """Replica identity DEFAULT."""
    town.sent.clear()
    with town.database.transaction() as db:
        db.execute("DELETE FROM patients WHERE id = 43")
    town.connector.stream()

    deleted, tombstone = town.sent
    assert deleted.value is not None
    assert json.loads(deleted.value)["before"] == {"id": 43, **dict.fromkeys(TABLES["patients"][1:])}
    assert (tombstone.key, tombstone.value) == (b'{"id":43}', None)


def test_a_change_made_by_another_program_flows_like_any_other(town: Town, tmp_path: Path) -> None:
    """Triggers write the log, whoever changes the row."""
    town.sent.clear()
    with sqlite3.connect(tmp_path / "town.db") as other:
        other.execute("UPDATE patients SET ward = 'by hand' WHERE id = ?", (WATCHED_PATIENT,))
    other.close()
    town.connector.stream()

    assert [value["after"]["ward"] for value in town.values()] == ["by hand"]


def test_a_transaction_that_fails_is_not_in_the_log(town: Town) -> None:
    """Rolled back is never sent."""

    def fail() -> None:
        with town.database.transaction() as db:
            db.execute("DELETE FROM patients")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert town.connector.stream() == 0
    assert len(town.database.rows("patients")) == 12


def test_a_late_record_is_older_than_one_that_was_sent_of_its_key(town: Town) -> None:
    """Otherwise it would prove nothing."""
    assert town.connector.send_late() is None
    town.story.move_twice()
    town.connector.stream()
    assert town.connector.send_late() == topic_of("patients")

    newer, late = (json.loads(record.value or b"") for record in town.sent[-2:])
    assert newer["after"]["id"] == late["after"]["id"]
    assert late["source"]["lsn"] < newer["source"]["lsn"]


@pytest.mark.parametrize("text", ["0.000", "123.456", "-1.000", "9731.250", "0.128", "-0.129", "99999999.999"])
def test_decimals_are_the_bytes_of_connect(text: str) -> None:
    """Unscaled, big-endian, two's complement, base64."""
    row = encode_row({"kwh": text})

    assert row is not None
    unscaled = int.from_bytes(base64.b64decode(row["kwh"]), "big", signed=True)
    assert Decimal(text) == Decimal(unscaled).scaleb(-3)


def test_example_specs_fit_the_database() -> None:
    """Each table of the town has a spec with just its columns."""
    specs = {
        spec.table: spec
        for name, text in example_specs().items()
        for spec in [read_document(text, TableSpec, name=name)]
    }

    assert {table: list(columns) for table, columns in TABLES.items()} == {t: list(specs[t].columns) for t in TABLES}
    assert all(specs[table].topics == [topic_of(table)] for table in TABLES)


def test_a_folder_that_no_demo_made_is_not_touched(tmp_path: Path) -> None:
    """Somebody's own lake may lie there."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "precious").touch()

    with pytest.raises(ConfigurationError, match="no demo made it"):
        DemoFolder(tmp_path).claim()

    assert ["lake"] == [path.name for path in tmp_path.iterdir()]


def test_a_demos_own_folder_is_made_anew_but_other_files_stay(tmp_path: Path) -> None:
    """Only what the demo made goes."""
    folder = DemoFolder(tmp_path / "demo")
    for _ in range(2):
        folder.claim()
        folder.clear()
        folder.write_specs()
        (folder.lake / "old").touch()
        (folder.path / "notes.txt").touch()
    folder.clear()

    assert not (folder.lake / "old").exists()
    assert {MARKER, "lake", "log", "notes.txt", "state"} == {path.name for path in folder.path.iterdir()}


def test_the_demos_configuration_keeps_its_secret_from_others(tmp_path: Path) -> None:
    """Paths are absolute, so the suggested commands work from any folder; the file is its owner's only."""
    folder = DemoFolder(tmp_path / "demo")
    folder.claim()
    config = folder.write_config(
        bootstrap="127.0.0.1:1",
        redis_url="redis://127.0.0.1:2/0",
        receiver_url="http://127.0.0.1:3/alerts",
        receiver_secret="whsec_eA==",
    )

    assert folder.config_file.stat().st_mode & 0o777 == 0o600
    assert Path(config.lake.warehouse).is_absolute()
    assert yaml.safe_load(folder.config_file.read_text())["kafka"]["broker"] == "embedded"
