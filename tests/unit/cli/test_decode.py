"""`headgate decode` on files: a line per record, the rows that it comes to, and what is wrong with what cannot be."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from tests.services.registry import SchemaRegistry

SPEC = "table: customers\ntopics: [shop.public.customers]\nkey: [id]\ncolumns: {id: int, name: string, note: string}\n"
TOPIC = "shop.public.customers"
Run = Callable[..., tuple[int, list[Any], str]]


def change(op: str, key: int, lsn: int, row: dict[str, Any] | None) -> dict[str, Any]:
    """Return a record of Debezium for PostgreSQL."""
    source = {
        "connector": "postgresql", "name": "shop", "schema": "public", "table": "customers", "snapshot": "false",
        "ts_us": 1_795_000_000_000_000 + lsn, "sequence": f'["{lsn - 1}","{lsn}"]', "lsn": lsn, "txId": lsn,
    }  # fmt: skip
    return record({"before": None, "after": row, "source": source, "op": op}, key={"id": key}, offset=lsn)


def record(value: Any, *, key: Any = None, offset: int = 0, topic: str = TOPIC) -> dict[str, Any]:
    """Return a line of a capture; the value is JSON, bytes, or none."""
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    texts = [
        None if some is None else base64.b64encode(some).decode() for some in (key and json.dumps(key).encode(), raw)
    ]
    return {"topic": topic, "partition": 0, "offset": offset, "timestamp": 1, "headers": [], "key": texts[0],
            "value": texts[1]}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the verb on records; returns its exit code, the documents that it printed, and what it said beside them."""
    spec = tmp_path / "customers.yaml"
    spec.write_text(SPEC)

    def decode(records: list[dict[str, Any]] | str, *more: str) -> tuple[int, list[Any], str]:
        file = tmp_path / "events.jsonl"
        file.write_text(records if isinstance(records, str) else "".join(json.dumps(each) + "\n" for each in records))
        code = entry.run(["decode", str(file), "--spec", str(spec), *more])
        out, err = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return decode


ADA = {"id": 1, "name": "Ada", "note": "__debezium_unavailable_value"}
RECORDS = [
    change("c", 1, 10, {"id": 1, "name": "Eda", "note": "kept"}),
    change("u", 1, 11, ADA),
    change("c", 2, 12, {"id": 2, "name": "Bo", "note": None}),
    change("d", 2, 13, None),
    record(None, key={"id": 2}, offset=14),
]


def test_a_spec_that_says_so_takes_up_what_its_records_have(run: Run, tmp_path: Path) -> None:
    """Columns that are new, and one that is now a text: the rows have them, and older ones do not have the new one."""
    (tmp_path / "customers.yaml").write_text(f"{SPEC}unknown_columns: add\ntype_changes: new_column\n")
    records = [
        change("c", 1, 10, {"id": 1, "name": "Ada", "note": "a"}),
        change("c", 2, 11, {"id": 2, "name": "Bo", "note": "b", "age": 7}),
        change("u", 2, 12, {"id": 2, "name": {"first": "Bo"}, "note": "b", "age": "old"}),
    ]
    code, lines, said = run(records)
    _, rows, _ = run(records, "--rows")

    assert (ExitCode.OK, "3 change\n") == (code, said)
    assert [{"age": "7"}, {"age": None, "age__text": "old"}] == [
        {name: value for name, value in line["change"]["after"].items() if name.startswith("age")} for line in lines[1:]
    ]
    assert [
        {"id": 1, "name": "Ada", "note": "a"},
        {"id": 2, "name": '{"first": "Bo"}', "note": "b", "age": None, "age__text": "old"},
    ] == [row["row"] for row in rows]
    assert not any("unavailable" in row for row in rows)


def test_each_record_is_a_line_in_its_order(run: Run) -> None:
    """With its origin, its kind, and a change as subscribers get it."""
    code, lines, said = run(RECORDS)

    assert code == ExitCode.OK
    assert [[TOPIC, 0, 0, offset] for offset in range(10, 15)] == [line["origin"] for line in lines]
    assert ["change"] * 4 + ["tombstone"] == [line["kind"] for line in lines]
    assert ["insert", "update", "insert", "delete"] == [line["change"]["op"] for line in lines[:4]]
    assert [None, 10, 11, 12] == [line["change"]["source"]["previous"] for line in lines[:4]]
    assert ({"id": 1, "name": "Ada"}, ["note"]) == (lines[1]["change"]["after"], lines[1]["change"]["unavailable"])
    assert {"customers"} == {line["table"] for line in lines}
    assert said == "4 change, 1 tombstone\n"


def test_rows_are_what_it_all_comes_to(run: Run) -> None:
    """A value that was not sent stays what an older change said, in whatever order the changes come."""
    row = {"table": "customers", "key": {"id": 1}, "row": {"id": 1, "name": "Ada", "note": "kept"}}

    assert [row] == run(RECORDS, "--rows")[1]
    assert [row] == run([*reversed(RECORDS), *RECORDS], "--rows")[1]
    assert [] == run(RECORDS, "--rows", "--table", "others")[1]


def test_a_row_of_which_something_is_not_known_names_it(run: Run) -> None:
    """Nothing is made up; after a delete older values are no longer the row's."""
    records = [RECORDS[0], change("d", 1, 11, None), change("c", 1, 12, ADA)]

    (found,) = run(records, "--rows")[1]

    assert ({"id": 1, "name": "Ada"}, ["note"]) == (found["row"], found["unavailable"])


SIDE = [
    ("heartbeat", {"ts_ms": 1}),
    ("transaction", {"status": "BEGIN", "id": "5:1", "event_count": None, "data_collections": None}),
    ("schema", {"source": {}, "ts_ms": 1, "databaseName": "shop", "ddl": "create table t", "tableChanges": []}),
    ("notification", {"id": "a", "type": "COMPLETED", "aggregate_type": "Initial Snapshot", "additional_data": {}}),
    ("signal", {"id": "a", "type": "execute-snapshot", "data": "{}"}),
    ("message", {"op": "m", "source": {"connector": "postgresql"}, "message": {"prefix": "p", "content": ""}}),
    ("heartbeat", {"schema": {"type": "struct"}, "payload": {"ts_ms": 1}}),
    ("tombstone", None),
]


@pytest.mark.parametrize("topic", [TOPIC, "shop.others"])
def test_what_is_no_row_is_named(run: Run, topic: str) -> None:
    """On a table's topic and on one of its own."""
    code, lines, _ = run([record(value, topic=topic) for _, value in SIDE])

    assert code == ExitCode.OK
    assert [kind for kind, _ in SIDE] == [line["kind"] for line in lines]
    assert {None} == {line["change"] for line in lines} == {line["error"] for line in lines}


def test_what_would_go_to_quarantine_says_why_and_harms_no_neighbour(run: Run) -> None:
    """The exit code tells a script."""
    wrong = change("c", 3, 15, {"id": "three", "name": "Cy", "note": None})
    code, lines, _ = run([record(b"{", offset=1), wrong, record({"a": 1}, topic="elsewhere"), RECORDS[0]])

    assert code == ExitCode.CONFIGURATION
    assert ["quarantine"] * 3 + ["change"] == [line["kind"] for line in lines]
    assert ["broken_json", "bad_type", "unregistered"] == [line["error"]["kind"] for line in lines[:3]]
    assert all(line["error"]["hint"] and line["error"]["message"] for line in lines[:3])
    assert "three" not in json.dumps([line["error"] for line in lines])


GOOD = json.dumps({**json.loads(base64.b64decode(RECORDS[0]["value"]))}).encode()
LARGE = b"9223372036854775809"  # 2^63 + 1
POISON: dict[str, tuple[bytes, str]] = {
    "cut off": (GOOD[:-1], "broken_json"),
    "cut off in a text": (GOOD[: GOOD.index(b"Eda") + 2], "broken_json"),
    "nothing": (b"", "broken_json"),
    "a space": (b" ", "broken_json"),
    "two documents": (GOOD + GOOD, "broken_json"),
    "framed": (b"\x00\x00\x00\x00\x01" + GOOD, "broken_json"),
    "not UTF-8": (GOOD.replace(b"Eda", b"\xff"), "not_utf8"),
    "not UTF-8 where nobody reads": (GOOD.replace(b'"shop"', b'"sh\xff"'), "not_utf8"),
    "a column twice": (GOOD.replace(b'"id": 1', b'"id": 1, "id": 2'), "duplicate_keys"),
    "after twice": (GOOD.replace(b'"op":', b'"after": null, "op":'), "duplicate_keys"),
    "NaN": (GOOD.replace(b'"id": 1', b'"id": NaN'), "broken_json"),
    "NaN where nobody reads": (GOOD.replace(b'"op":', b'"ts_ms": -Infinity, "op":'), "broken_json"),
    "above 64 bits": (GOOD.replace(b'"id": 1', b'"id": ' + LARGE), "out_of_range"),
    "above 64 bits in a long": (GOOD.replace(b'"name": "Eda"', b'"name": "Eda", "big": ' + LARGE), "out_of_range"),
    "op in upper case": (GOOD.replace(b'"op": "c"', b'"op": "C"'), "unknown_op"),
    "an unknown op": (GOOD.replace(b'"op": "c"', b'"op": "x"'), "unknown_op"),
    "an op that is null": (GOOD.replace(b'"op": "c"', b'"op": null'), "unknown_op"),
    "no op": (GOOD.replace(b', "op": "c"', b""), "no_op"),
    "a text": (b'"c"', "not_a_change"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_told_by_its_reason_and_harms_no_neighbour(run: Run, tmp_path: Path, name: str) -> None:
    """What no reader should take, each as the first record, and among good ones."""
    (tmp_path / "customers.yaml").write_text(SPEC.replace("note: string", "note: string, big: long"))
    value, reason = POISON[name]
    code, lines, _ = run([record(value), *RECORDS[:2], record(value), RECORDS[2]])

    assert code == ExitCode.CONFIGURATION
    assert ["quarantine", "change", "change", "quarantine", "change"] == [line["kind"] for line in lines]
    assert [reason, reason] == [line["error"]["kind"] for line in lines if line["error"]]
    assert not {"Eda", "1795"} & set(lines[0]["error"]["message"].split())


def test_a_truncate_has_no_key(run: Run) -> None:
    """Nor rows: it is told where it stands, and stops nothing but its table."""
    truncate = change("t", 1, 20, None) | {"key": None}
    _, lines, _ = run([RECORDS[0], truncate])

    assert [None, "truncate"] == [line["error"] and line["error"]["kind"] for line in lines]


def test_a_truncate_that_is_applied_is_a_floor_below_which_rows_are_dead(run: Run, tmp_path: Path) -> None:
    """A row that was written after it lives, wherever its record stands."""
    (tmp_path / "customers.yaml").write_text(SPEC + "truncate: apply\n")
    after = change("c", 2, 30, {"id": 2, "name": "Bea", "note": "n"})
    truncate = change("t", 1, 20, None) | {"key": None}
    _, lines, _ = run([after, RECORDS[0], truncate])
    _, rows, _ = run([after, RECORDS[0], truncate], "--rows")

    assert ["insert", "insert", "floor"] == [line["change"]["op"] for line in lines]
    assert (None, None, None) == tuple(lines[2]["change"][name] for name in ("key", "before", "after"))
    assert (None, [TOPIC, 0, 0, 20]) == tuple(lines[2]["change"]["source"][name] for name in ("previous", "origin"))
    assert [2] == [row["key"]["id"] for row in rows]


def test_a_truncate_that_is_ignored_is_named_and_takes_nothing(run: Run, tmp_path: Path) -> None:
    """The rows stay as they are."""
    (tmp_path / "customers.yaml").write_text(SPEC + "truncate: ignore\n")
    truncate = change("t", 1, 20, None) | {"key": None}
    code, lines, _ = run([RECORDS[0], truncate])
    _, rows, _ = run([RECORDS[0], truncate], "--rows")

    assert (ExitCode.OK, ["change", "truncate"]) == (code, [line["kind"] for line in lines])
    assert [1] == [row["key"]["id"] for row in rows]


def test_signals_in_a_table_of_their_own_are_named_unless_a_spec_reads_them(run: Run) -> None:
    """The connector writes watermarks into its table of signals, which come as any row."""
    window = change("c", 1, 9, {"id": "5f-open", "type": "snapshot-window-open", "data": "{}"})
    other = change("c", 1, 9, {"id": "5f-open", "type": "invoice", "data": "{}"})
    _, lines, _ = run([each | {"topic": "shop.public.signals"} for each in (window, other)])

    assert ["signal", "quarantine"] == [line["kind"] for line in lines]
    assert "unregistered" == lines[1]["error"]["kind"]


def test_what_went_through_with_a_loss_is_counted(run: Run, tmp_path: Path) -> None:
    """A spec that takes null for what it cannot hold shows how often that is."""
    lenient = SPEC.replace("note: string", "note: {type: timestamptz, unrepresentable: null}")
    (tmp_path / "customers.yaml").write_text(lenient)
    row = {"id": 1, "name": "Ada", "note": "infinity"}
    code, lines, said = run([change("c", 1, 10, row), change("u", 1, 11, row)])

    assert ExitCode.OK == code
    assert [None, None] == [line["change"]["after"]["note"] for line in lines]
    assert "noted: 2 unrepresentable" in said


def test_what_stops_a_table_is_told_in_its_place(run: Run) -> None:
    """A truncate: a worker would pause there."""
    code, lines, _ = run([change("t", 1, 20, None), RECORDS[0]])

    assert code == ExitCode.OK
    assert ("change", None, "truncate") == (lines[0]["kind"], lines[0]["change"], lines[0]["error"]["kind"])
    assert lines[1]["change"]["op"] == "insert"


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"topic": "t"}', '{"topic": "t", "partition": -1, "offset": 0}',
             '{"topic": "t", "partition": 0, "offset": 0, "value": "*"}',
             '{"topic": "t", "partition": 0, "offset": 0, "headers": [["a"]]}'],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named_by_its_number(run: Run, line: str) -> None:
    """What stands before it is printed."""
    code, lines, said = run(json.dumps(RECORDS[0]) + "\n\n" + line + "\n")

    assert (code, len(lines)) == (ExitCode.CONFIGURATION, 1)
    assert "events.jsonl:3: not a record" in said
    assert "hint: a line is" in said


def test_it_reads_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the file is a dash; a header that is no text is kept as bytes."""
    old_key = ["__debezium.oldkey", {"base64": base64.b64encode(b'{"id":7}').decode()}]
    moved = {**RECORDS[0], "headers": [old_key, ["empty", None]]}

    class Input:
        buffer = io.BytesIO(json.dumps(moved).encode())

    run([])
    monkeypatch.setattr("sys.stdin", Input)
    code = entry.run(["decode", "-", "--spec", str(tmp_path / "customers.yaml")])

    assert code == ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], ExitCode.USAGE, "name a FILE or a --topic"),
        (["a", "--topic", "b"], ExitCode.USAGE, "name a FILE or a --topic"),
        (["nowhere.jsonl", "--spec", "SPEC"], ExitCode.CONFIGURATION, "nowhere.jsonl: No such file"),
        (["nowhere.jsonl"], ExitCode.CONFIGURATION, "nowhere.jsonl: No such file"),
        (["nowhere.jsonl", "--format", "debezium-jsn"], ExitCode.CONFIGURATION, "did you mean 'debezium-json'?"),
        (["a", "--spec", "SPEC", "--print-spec"], ExitCode.USAGE, "records without --spec"),
        (["nowhere.jsonl", "--spec", "SPEC", "--spec", "SPEC"], ExitCode.CONFIGURATION, "stands there twice"),
        (["nowhere.jsonl", "--spec", "gone.yaml"], ExitCode.CONFIGURATION, "gone.yaml"),
    ],
)
def test_what_was_asked_for_wrongly(
    arguments: list[str], code: ExitCode, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With what to do instead."""
    spec = tmp_path / "customers.yaml"
    spec.write_text(SPEC)

    assert code == entry.run(["decode", *(str(spec) if each == "SPEC" else each for each in arguments)])
    shown = capfd.readouterr().err
    assert told in shown
    assert "hint: " in shown


def test_records_of_avro_are_looked_up_at_the_configured_registry(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The configuration is read for a table that needs it, and for no other; a registry that is away is said."""
    spec, config, file = (tmp_path / name for name in ("customers.yaml", "headgate.yaml", "events.jsonl"))
    spec.write_text(SPEC + "format: debezium-avro\n")
    text = base64.b64decode(RECORDS[0]["value"] or "")
    file.write_text(json.dumps(RECORDS[0] | {"value": base64.b64encode(b"\0\0\0\0\x07" + text).decode()}) + "\n")
    verb = ["decode", str(file), "--spec", str(spec), "--config", str(config)]
    with SchemaRegistry() as registry:
        registry.register("customers-value", "{}", kind="JSON", number=7)
        config.write_text(f"registry: {{urls: ['{registry.url}'], timeout_seconds: 15}}\n")
        code = entry.run(verb)
        line = json.loads(capfd.readouterr().out)
        registry.manner = "busy"
        away = entry.run(verb)
    config.write_text("{}\n")

    assert (ExitCode.OK, "change", "Eda") == (code, line["kind"], line["change"]["after"]["name"])
    out, err = capfd.readouterr()
    assert (ExitCode.UNAVAILABLE, "") == (away, out)
    assert "the schema registry at" in err
    assert ExitCode.CONFIGURATION == entry.run(verb)
    assert "registry: {urls" in capfd.readouterr().err


def test_a_format_is_that_of_specs_that_do_not_say_theirs(run: Run, tmp_path: Path) -> None:
    """One that contradicts a spec is refused, and so is one that is none."""
    maxwell = {
        "type": "insert",
        "database": "d",
        "table": "t",
        "ts": 1,
        "position": "a.1:2",
        "data": ADA,
        "commit": True,
    }
    records = [record(maxwell, offset=1)]
    _, (line,), _ = run(records, "--format", "maxwell")
    assert ("insert", "customers") == (line["change"]["op"], line["table"])

    (tmp_path / "customers.yaml").write_text(SPEC + "format: dms\n")
    code, _, said = run(records, "--format", "maxwell")
    assert (ExitCode.CONFIGURATION, True) == (code, "customers has the format dms, not maxwell" in said)
    code, _, said = run(records, "--format", "maxwel")
    assert (ExitCode.CONFIGURATION, True) == (code, "did you mean 'maxwell'?" in said)


def test_a_file_may_hold_several_specs(run: Run, tmp_path: Path) -> None:
    """As `--print-spec` prints them; an error names the line of the file."""
    other = SPEC.replace("customers", "others")
    (tmp_path / "customers.yaml").write_text(f"---\n# first\n{SPEC}---\n{other}")
    code, lines, _ = run([RECORDS[0], RECORDS[0] | {"topic": "shop.public.others"}])
    assert (ExitCode.OK, ["customers", "others"]) == (code, [line["table"] for line in lines])

    for wrong, said in ((f"{SPEC}---\n{SPEC}", "customers stands there twice"), (f"{SPEC}---\ntable: 5\n", "yaml:6")):
        (tmp_path / "customers.yaml").write_text(wrong)
        assert said in run(RECORDS)[2]


def test_a_spec_may_leave_its_format_to_the_records(run: Run, tmp_path: Path) -> None:
    """For this verb: what is registered names it."""
    (tmp_path / "customers.yaml").write_text(SPEC + "format: auto\n")
    code, lines, said = run(RECORDS)
    assert (ExitCode.OK, "insert") == (code, lines[0]["change"]["op"])
    assert said.startswith("customers: debezium-json\n")

    code, _, said = run([record(None, key={"id": 1})])
    assert (ExitCode.CONFIGURATION, True) == (code, "no record of its topics says their format" in said)
    assert ExitCode.OK == run([record(None, key={"id": 1})], "--format", "debezium-json")[0]


def test_a_line_may_lack_what_a_record_need_not_have(run: Run) -> None:
    """Headers and a time; what it holds beside that is passed over."""
    line = {name: RECORDS[0][name] for name in ("topic", "partition", "offset", "key", "value")}
    _, bare, _ = run([line])
    _, nothing, _ = run([line | {"headers": None, "timestamp": None, "more": 1}])

    assert bare == nothing == run(RECORDS[:1])[1]
