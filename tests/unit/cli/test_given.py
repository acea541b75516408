"""What a list and the specs that are there say of tables before they are proposed, also of topics of several tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.captured import OneRecord
from connectors.inference import Proposal, new_samples
from headgate.cli.given import given_of, settled, unread
from headgate.cli.topic_lists import Listed
from schemas.errors import ConfigurationError
from streams.specs import Specs, read_specs
from tests.workloads.dms_topic import dms_record

SHARED = "dms-clinic"


def proposals(*tables: str, topic: str = SHARED) -> list[Proposal]:
    """Return what a topic proposes into which AWS DMS sends these tables."""
    samples = new_samples()
    for at, table in enumerate(tables * 3):
        samples.add(OneRecord(topic, 0, at, None, dms_record(table, at, {"id": at, "name": "x"}), ()))
    return samples.tables()


def line(topic: str, *, table: str | None = None, key: str = "", source_table: str | None = None) -> Listed:
    """Return a line of a list, the seventh."""
    return Listed(topic, table, tuple(key.split()), None, source_table, "list.csv:7")


def settle(
    found: list[Proposal], *lines: Listed, known: Specs | None = None, overwrite: bool = False
) -> dict[str, tuple[str | None, list[str]]]:
    """Return the source's table and the key by the names that tables keep."""
    there = [SHARED, "visits"]
    given = given_of(lines, there, known, overwrite=overwrite)
    return {each.spec.table: (each.spec.source_table, each.spec.key) for each in settled(found, given, "")}


@pytest.fixture
def known(tmp_path: Path) -> Specs:
    """A spec of one table of the shared topic, and one that has its topic alone."""
    (tmp_path / "visits.yaml").write_text("table: visits\ntopics: ['^vis']\ncolumns: {id: long}\n")
    (tmp_path / "invoices.yaml").write_text(
        f"table: invoices\ntopics: [{SHARED}]\nformat: dms\nsource_table: clinic.invoices\ncolumns: {{id: long}}\n"
    )
    return read_specs(tmp_path)


def test_a_list_names_the_tables_of_a_shared_topic() -> None:
    """Each by what its source calls it; those that it does not name are called so."""
    lines = line(SHARED, table="bills", key="id name", source_table="clinic.invoices")

    assert {"bills": ("clinic.invoices", ["id", "name"]), "clinic.visits": ("clinic.visits", ["id"])} == settle(
        proposals("invoices", "visits"), lines
    )


def test_a_table_that_is_alone_needs_no_name_of_its_source() -> None:
    """It may have one."""
    found = proposals("invoices")

    assert {"bills": (None, ["id"])} == settle(found, line(SHARED, table="bills"))
    assert {"bills": (None, ["id"])} == settle(found, line(SHARED, table="bills", source_table="clinic.invoices"))


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (line(SHARED, table="bills"), "holds several tables: clinic.invoices, clinic.visits"),
        (line(SHARED, source_table="clinic.bills"), "holds no table clinic.bills: clinic.invoices, clinic.visits"),
        (line(SHARED, key="idd", source_table="clinic.visits"), "have no column idd; did you mean 'id'?"),
    ],
)
def test_a_line_about_what_is_not_there_is_named(listed: Listed, said: str) -> None:
    """Nothing is left out without a word."""
    with pytest.raises(ConfigurationError, match=r"^list\.csv:7: ") as raised:
        settle(proposals("invoices", "visits"), listed)

    assert said in raised.value.message


def test_topics_that_a_spec_reads_alone_are_not_read_again(known: Specs) -> None:
    """A shared one is: it may hold more."""
    assert [SHARED, "others"] == unread([SHARED, "visits", "visits_2", "others"], known)
    assert ["visits"] == unread(["visits"], None)


def test_what_a_spec_has_of_a_shared_topic_is_left_out(known: Specs) -> None:
    """What is new is told apart, also where it came alone this time."""
    new = {"clinic.visits": ("clinic.visits", ["id"])}

    assert new == settle(proposals("invoices", "visits"), known=known)
    assert new == settle(proposals("visits"), known=known)
    assert {} == settle(proposals("invoices"), known=known)


def test_what_is_inferred_anew_keeps_its_name(known: Specs) -> None:
    """So that it goes to the file that it has."""
    assert {"invoices": ("clinic.invoices", ["id"]), "clinic.visits": ("clinic.visits", ["id"])} == settle(
        proposals("invoices", "visits"), known=known, overwrite=True
    )
