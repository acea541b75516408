"""A list of topics in a CSV: what it may say, and which line is not right."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli.topic_lists import COLUMNS, Listed, read_list
from schemas.errors import ConfigurationError
from tests.unit.docs.pages import ROOT, blocks_of, rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that a test may fill."""
    return tmp_path / "tables.csv"


def test_a_list_says_what_is_known_of_topics(file: Path) -> None:
    """What it leaves empty is inferred; lines that begin with # are for people."""
    file.write_text(
        "topic,table,key,format,source_table\n"
        "# the ward's\n"
        "clinic.public.visits,visits,id,,\n"
        "\n"
        '"dms-billing",items,invoice_id item_no,dms,billing.items\n'
        "^clinic[.]lab[.]\n"
    )

    assert [
        Listed("clinic.public.visits", "visits", ("id",), None, None, f"{file}:3"),
        Listed("dms-billing", "items", ("invoice_id", "item_no"), "dms", "billing.items", f"{file}:5"),
        Listed("^clinic[.]lab[.]", None, (), None, None, f"{file}:6"),
    ] == read_list(file)


def test_the_list_of_the_page_is_one(file: Path) -> None:
    """With every column that there is, and each of them explained."""
    page = ROOT / "docs" / "tables.md"
    (block,) = (block for block in blocks_of(page) if block.text.startswith("topic,"))
    file.write_text(block.text)

    assert 3 == len(read_list(file))
    assert list(COLUMNS) == block.text.splitlines()[0].split(",")
    assert [f"`{name}`" for name in COLUMNS] == [cells[0] for cells in rows(page, "column")]


def test_a_list_of_a_spreadsheet_is_read_as_it_comes(file: Path) -> None:
    """With semicolons, a mark of its encoding, and other ends of lines."""
    file.write_bytes("\ufeffTopic;Key\r\nclinic.a;id\r\nclinic.b;\r\n".encode())

    assert [("clinic.a", ("id",)), ("clinic.b", ())] == [(each.topic, each.key) for each in read_list(file)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tables.csv is empty"),
        ("topik,table\na,b\n", "tables.csv:1: no column 'topik'; did you mean 'topic'?"),
        ("table\nvisits\n", "tables.csv:1: there is no column `topic`"),
        ("topic,topic\na,b\n", "tables.csv:1: column 'topic' stands there twice"),
        ("topic,table\na,b,c\n", "tables.csv:2: 3 fields, and the list has 2 columns"),
        ("topic,table\n,b\n", "tables.csv:2: `topic` is empty"),
        ("topic,table\na,Clinic Visits\n", "tables.csv:2: table 'Clinic Visits' is no name that can be used; write"),
        ("topic,format\na,debezium-jsn\n", "tables.csv:2: 'debezium-jsn' is no format; did you mean 'debezium-json'?"),
        ("topic,table\n^a,b\n", "tables.csv:2: a pattern means many topics"),
        ("topic\na\nb\na\n", "tables.csv:4: a stands here again, first in"),
        ("topic,table\na,t\nb,t\n", "tables.csv:3: table t stands here again, first in"),
        ('topic\n"a\n', "tables.csv:2: not CSV"),
    ],
)
def test_a_line_that_is_not_right_is_named(file: Path, text: str, said: str) -> None:
    """With what would be right; nothing is read from Kafka before."""
    file.write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        read_list(file)

    assert said in raised.value.message


def test_every_line_that_is_not_right_is_named(file: Path) -> None:
    """People mend them in one go."""
    file.write_text("topic,format\na,x\nb,\nc,y\n")

    with pytest.raises(ConfigurationError) as raised:
        read_list(file)

    assert ["2", "4"] == [line.split(":")[1] for line in raised.value.message.splitlines()]


def test_what_is_no_list_is_refused(file: Path, tmp_path: Path) -> None:
    """A file that is not there, a folder, bytes."""
    with pytest.raises(ConfigurationError, match="name a CSV file"):
        read_list(file)
    with pytest.raises(ConfigurationError, match="name a CSV file"):
        read_list(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_list(file)
