"""Hostile names where people look: on a terminal, in a log, in a browser; and in SQL, where one is quoted."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import duckdb
import pytest
import structlog

from headgate.cli.failures import report
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.tables_show import as_yaml as exported_yaml
from headgate.contracts.documents import as_yaml as contract_yaml
from headgate.contracts.documents import documents
from schemas.config import KafkaConfig
from schemas.contract import contract_of
from schemas.document import read_document
from schemas.errors import TableStopped
from schemas.shown import shown
from schemas.table import TableEntry, TableSpec
from sinks.lake.quoting import literal, quoted
from sinks.redis.layout import Layout
from sinks.redis.steps import rank_rows
from streams.logs import TEXT_MAX, configure_logs
from streams.page import page
from streams.workers import WorkerState
from tests.unit.tenants.hostile import HOSTILE

# A terminal's own signs, an end of a line that is none of ours, directions, and halves of characters.
OBEYED = {chr(number) for number in [*range(9), *range(11, 32), *range(127, 160)]}
OBEYED |= set("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
OBEYED |= {chr(number) for number in range(0xD800, 0xE000)}
TEXTS = [*HOSTILE, "".join(sorted(OBEYED - {chr(number) for number in range(0xDC00, 0xE000)})), "half \udc00"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_verbs_print_nothing_that_a_terminal_obeys(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In tables, in lines for people, in errors and hints; and JSON is the same document all the same."""
    print_table(["name"], [[text]])
    say(text)
    report(TableStopped("unregistered", f"no table {text}", hint=text))
    said = capsys.readouterr()
    print_json({text: [text]})
    printed = capsys.readouterr().out

    assert not OBEYED & set(said.out + said.err + printed)
    assert {text: [text]} == json.loads(printed)


def test_names_of_columns_are_written_as_yaml_that_a_terminal_does_not_obey() -> None:
    """And that is read as the same: specs are exported, contracts generated, of whatever a source calls its columns."""
    names = [name for name in TEXTS if len(name) <= 1_000 and not name.startswith("_hg_") and "\udc00" not in name]
    columns = {name.encode("utf-8", "replace").decode(): "string" for name in names}
    spec = TableSpec.model_validate({"table": "t", "topics": ["t"], "key": ["id"], "columns": {"id": "int", **columns}})
    exported = exported_yaml(TableEntry(spec=spec))
    contract = contract_yaml(documents(contract_of(spec, topic="t"), KafkaConfig())["asyncapi"])

    assert spec == read_document(exported, TableSpec, name="t")
    assert "größe" in contract_yaml({"größe": 1})
    assert not OBEYED & set(exported + contract)


@pytest.mark.parametrize("text", ["größe 🏥", "tab\tand\nline", "", "\\x1b"])
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    """Letters of any script, and what tables and lines of text are made of."""
    assert text == shown(text)


@pytest.mark.parametrize("console", [True, False], ids=["terminal", "json"])
def test_a_log_holds_one_line_for_each_event(console: bool) -> None:
    """Whatever a topic or a table is called; nobody writes a line of his own into it."""
    kept = logging.getLogger().handlers[:], logging.getLogger().level, structlog.get_config()
    stream = io.StringIO()
    try:
        configure_logs(stream=stream, console=console)
        for text in TEXTS:
            structlog.get_logger("t").warning("source_moved", topic=text, tables=[text[:100]])
    finally:
        logging.getLogger().handlers[:] = kept[0]
        logging.getLogger().setLevel(kept[1])
        structlog.configure(**kept[2])
    lines = stream.getvalue().split("\n")

    assert len(TEXTS) + 1 == len(lines)
    assert not (OBEYED - ({"\x1b"} if console else set())) & set(stream.getvalue())  # colours are ours
    if not console:
        topics = [json.loads(line)["topic"] for line in lines[:-1]]
        assert [shown(text) for text in TEXTS if len(text) <= TEXT_MAX] == [each for each in topics if "…" not in each]


class Seen(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_a_page_has_no_element_that_is_not_ours(text: str) -> None:
    """A name is text, in every cell of it."""
    row = {"table": text, "topic": text, "paused": text, "hint": text}
    error = {"message": text, "hint": text, "kind": "table", "at": ""}
    status = {"host": text, "tables": [row], "last_error": error, "state": text}
    worker = WorkerState("normalize", text, 0, text, status=status)

    seen = Seen()
    seen.feed(page([worker], ["normalize", text]))

    assert seen.tags <= {"html", "head", "meta", "title", "style", "body", "h2", "table", "tr", "th", "td"}
    assert shown(text) in seen.text or "\r" in shown(text)
    assert not OBEYED & set(seen.text)


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\0" not in text], ids=lambda text: ascii(text)[:30])
def test_sql_takes_a_name_and_a_text_as_they_are(text: str) -> None:
    """Quoted, a name is a name and a text a text, in DuckDB."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE {quoted(text)} AS SELECT {literal(text)} AS {quoted(text)}")
        cursor = connection.execute(f"SELECT * FROM {quoted(text)}")

        assert (text, [(text,)]) == (cursor.description[0][0], cursor.fetchall())


def test_a_scan_finds_the_keys_of_its_view_alone() -> None:
    """Not those of another one whose entity holds what the view's keys begin with."""
    layout = Layout("hg", 16)
    own = [layout.values("acme.person.1", text).encode() for text in HOSTILE]
    others = [layout.values("zeta.person.1", f"x}}:f:acme.person.1:{text}").encode() for text in HOSTILE]
    others += [layout.values("acme.person.11", "1").encode(), layout.ledger("r", "acme.person.1", "1").encode()]

    assert own == layout.of_view([*others, *own], "fez", "acme.person.1")


async def test_a_step_of_the_layout_takes_no_row_for_an_entity() -> None:
    """However its entity is called: a scan for entities finds it as well."""
    layout, asked = Layout("hg", 4), list[Sequence[Any]]()
    own = layout.ledger("e", "acme.person.1", "7")

    async def exchange(commands: Sequence[Sequence[Any]]) -> list[Any]:
        if commands[0][0] == "SCAN":
            return [[b"0", [own.encode(), layout.values("zeta.person.1", "x}:e:acme.person.1:7").encode()]]]
        asked.extend(commands)
        return [1] * len(commands)

    await rank_rows(exchange, layout)
    (call,) = asked

    assert own.encode() in call
    assert not any(b"zeta" in part for part in call if isinstance(part, bytes))
