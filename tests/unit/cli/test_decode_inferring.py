"""`headgate decode` without a spec: the records say what their tables are, and the verb says what it took them for."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.captured import OneRecord, read_captured
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.document import read_document
from schemas.table import TableSpec
from streams.looked import NO_LIFE
from tests.unit.cli.test_decode import ADA, RECORDS, SIDE, TOPIC, change, record

KINDS = Path(__file__).parents[2] / "fixtures" / "kinds"
Output = tuple[int, list[Any], str]
ROW = {"table": "public.customers", "key": {"id": "1"}, "row": {"id": "1", "name": "Ada", "note": "kept"}}


def lines(records: list[dict[str, Any]]) -> str:
    """Return a file of records."""
    return "".join(json.dumps(each) + "\n" for each in records)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that a test may fill."""
    return tmp_path / "events.jsonl"


def decode(capfd: pytest.CaptureFixture[str], *arguments: str) -> Output:
    """Return the exit code, the documents printed, and what was said."""
    code = entry.run(["decode", *arguments])
    out, err = capfd.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_a_file_needs_no_spec(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The table has the source's name, and the key that the records have."""
    file.write_text(lines(RECORDS))
    code, found, said = decode(capfd, str(file))

    assert code == ExitCode.OK
    assert ["change"] * 4 + ["tombstone"] == [line["kind"] for line in found]
    assert {"public.customers"} == {line["table"] for line in found}
    assert ({"id": "1", "name": "Ada"}, ["note"]) == (found[1]["change"]["after"], found[1]["change"]["unavailable"])
    assert f"{TOPIC}: debezium-json of postgresql, no schema block, key id\n4 change, 1 tombstone\n" == said


def test_standard_input_is_read_twice(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept meanwhile."""

    class Input:
        buffer = io.BytesIO(lines(RECORDS).encode())

    monkeypatch.setattr("sys.stdin", Input)

    assert [ROW] == decode(capfd, "-", "--rows")[1]


def test_what_is_proposed_can_be_kept_and_used(file: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A document per table, which the same verb takes."""
    file.write_text(lines(RECORDS))
    code = entry.run(["decode", str(file), "--print-spec"])
    printed = capfd.readouterr().out
    spec = tmp_path / "kept.yaml"
    spec.write_text(printed)

    assert code == ExitCode.OK
    assert ["id"] == read_document(printed, TableSpec, name="printed").key
    assert [ROW] == decode(capfd, str(file), "--rows", "--spec", str(spec))[1]


def test_what_the_source_may_lose_is_said_and_kept(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On stderr with the records, and as a comment of the spec: a change of Maxwell that says no position."""
    change = {"database": "shop", "table": "t", "type": "insert", "ts": 1, "xid": 1, "data": {"id": 1}}
    record = {
        "topic": "m",
        "partition": 0,
        "offset": 0,
        "value": base64.b64encode(json.dumps(change).encode()).decode(),
    }
    file.write_text(json.dumps(record) + "\n")
    code, _, said = decode(capfd, str(file))
    printed = entry.run(["decode", str(file), "--print-spec"])
    spec = capfd.readouterr().out

    assert (ExitCode.OK, ExitCode.OK) == (code, printed)
    assert "risk of shop.t: changes say no position" in said
    assert "noted: 1 weak_order" in said
    assert "# risk: changes say no position" in spec


def test_a_table_that_is_not_there_is_not_printed(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With another exit code, so that a script notices."""
    file.write_text(lines(RECORDS))

    assert ExitCode.CONFIGURATION == entry.run(["decode", str(file), "--print-spec", "--table", "others"])
    assert "no table others was recognised" in capfd.readouterr().err


def test_topics_are_told_apart(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each one's format is said; what no format takes is refused with its reason."""
    flat = record({"id": 1, "__deleted": "false"}, key={"id": 1}, topic="shop.public.flat")
    avro = record(b"\x00\x00\x00\x00\x01\x02", topic="shop.avro")
    side = [record(value, topic="shop.side") for _, value in SIDE]
    file.write_text(lines([*RECORDS, flat, avro, *side, record(b"{", topic="shop.broken")]))
    code, found, said = decode(capfd, str(file))

    assert code == ExitCode.CONFIGURATION
    assert ["broken_json", "broken_json"] == [line["error"]["kind"] for line in found if line["kind"] == "quarantine"]
    assert ["change"] == [line["kind"] for line in found if line["table"] == "public.flat"]
    assert [kind for kind, _ in SIDE] == [line["kind"] for line in found if line["origin"][0] == "shop.side"]
    assert f"{TOPIC}: debezium-json of postgresql" in said
    assert "shop.public.flat: debezium-flat, no schema block, key id" in said
    assert "shop.avro: debezium-avro; no spec can be proposed" in said
    assert "shop.side: no change of a row" in said


def test_a_given_format_is_not_guessed(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is that of all records."""
    file.write_text(lines(RECORDS))

    assert [ROW] == decode(capfd, str(file), "--rows", "--format", "debezium-json")[1]


def test_a_line_that_is_no_record_is_named_after_those_before_it(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They were looked at and are decoded; the first line alone is enough to stop."""
    file.write_text(lines(RECORDS) + "{\n")
    code, found, said = decode(capfd, str(file))
    assert (ExitCode.CONFIGURATION, len(RECORDS)) == (code, len(found))
    assert "events.jsonl:6: not a record" in said

    file.write_text("{\n")
    code, found, said = decode(capfd, str(file))
    assert (ExitCode.CONFIGURATION, 0) == (code, len(found))
    assert "events.jsonl:1: not a record" in said


def test_a_value_that_no_type_holds_with_the_others_is_kept_as_text(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the column is named, without its values."""
    file.write_text(lines([change("c", 1, 10, {**ADA, "note": 7}), change("u", 1, 11, {**ADA, "note": "seven"})]))
    code, found, said = decode(capfd, str(file))

    assert code == ExitCode.OK
    assert ["7", "seven"] == [line["change"]["after"]["note"] for line in found]
    assert "look at public.customers: note: values of several kinds" in said
    assert "seven" not in said


def test_headers_that_are_no_text_and_an_empty_file_do_no_harm(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is recognised in nothing."""
    odd = {**RECORDS[0], "headers": [["__debezium.oldkey", {"base64": base64.b64encode(b'{"id":7}').decode()}]]}
    file.write_text(lines([odd]))
    assert {"id": "7"} == decode(capfd, str(file))[1][0]["change"]["old_key"]

    file.write_text("")
    assert (ExitCode.OK, [], "no records\n") == decode(capfd, str(file))


@pytest.mark.parametrize("last", [None, "1"])
def test_a_topic_that_no_table_reads_says_what_it_is(
    last: str | None, file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first records propose the spec, or those that are asked for; more of them may be decoded."""
    asked: list[int | None] = []

    def of_topic(_topic: str, last: int | None, _settings: Any) -> Iterator[OneRecord]:
        asked.append(last)
        return read_captured(lines(RECORDS).encode().splitlines(), name="the topic")

    monkeypatch.setattr("headgate.cli.records._of_topic", of_topic)
    monkeypatch.setattr("headgate.cli.decode._registered", lambda _settings, _topic: NO_LIFE)
    monkeypatch.setattr("headgate.cli.decode.SAMPLED_MAX", 1)
    file.write_text("")
    some = [] if last is None else ["--last", last]
    code, found, said = decode(capfd, "--topic", TOPIC, "--config", str(file), *some)

    assert code == ExitCode.OK
    assert len(RECORDS) == len(found)
    assert [None if last is None else 1] * 2 == asked
    assert f"{TOPIC}: debezium-json" in said


@pytest.mark.parametrize("name", ["29-dms-two-tables-in-one-topic", "20-types-schemas-on", "25-flattened-rewrite"])
def test_what_is_printed_as_specs_reads_the_same(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where tables share a topic, and are told apart by what their records name."""
    events = str(KINDS / name / "events.jsonl")
    _, inferred, _ = decode(capfd, events)
    entry.run(["decode", events, "--print-spec"])
    for number, text in enumerate(capfd.readouterr().out.split("---\n")):
        (tmp_path / f"{number}.yaml").write_text(text)

    assert inferred == decode(capfd, events, "--spec", str(tmp_path))[1]


def test_a_table_of_signals_is_printed_for_who_names_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody else wants its rows."""
    events = str(KINDS / "27-signal-table" / "events.jsonl")
    printed = []
    for more in ([], ["--table", "public.debezium_signal"]):
        entry.run(["decode", events, "--print-spec", *more])
        printed.append([line for line in capfd.readouterr().out.splitlines() if line.startswith("table:")])

    assert [["table: public.t"], ["table: public.debezium_signal"]] == printed
    assert ["public.debezium_signal", "public.t"] == sorted(
        {line["table"] for line in decode(capfd, events, "--rows")[1]}
    )
