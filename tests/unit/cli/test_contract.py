"""`headgate contract` over files: what it writes, what it compares, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from headgate.contracts.loading import contracts_of
from headgate.contracts.samples import SAMPLES
from schemas.evolution import Evolved, Found
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.types import parse_type
from streams.tables import TableDirectory

COLUMNS = {"id": "long", "name": "string", "visits": "int"}


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration, of a broker that nobody asks."""
    file = tmp_path / "headgate.yaml"
    file.write_text("kafka: {bootstrap: 'kafka:9092', topic_prefix: clinic}\n")
    return str(file)


def spec(folder: Path, name: str, **changed: object) -> str:
    """Write a spec into a file of this name, and return its path."""
    fields = {"table": "patients", "topics": ["a"], "key": ["id"], "columns": COLUMNS}
    file = folder / name
    file.write_text(json.dumps({**fields, **changed}))
    return str(file)


def test_all_documents_are_written_into_a_folder(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the table, for the installation's topics and broker; a second time the same."""
    out = tmp_path / "deep" / "contracts"
    arguments = ["contract", spec(tmp_path, "p.yaml"), "--out", str(out), "--config", config]

    assert entry.run(arguments) == ExitCode.OK
    first = {file.name: file.read_text() for file in out.iterdir()}
    assert entry.run(arguments) == ExitCode.OK

    assert first == {file.name: file.read_text() for file in out.iterdir()}
    assert 10 == len(first)
    assert (
        "clinic.changes.patients" == yaml.safe_load(first["patients.asyncapi.yaml"])["channels"]["changes"]["address"]
    )
    assert '"kafka:9092"' in first["patients.Subscriber.java"]
    assert "10 files of patients, version 1, are in" in capsys.readouterr().err


def test_the_registry_of_the_configuration_is_named_for_a_table_in_avro(tmp_path: Path, config: str) -> None:
    """In its AsyncAPI document and in its samples; who asks is written nowhere."""
    with Path(config).open("a") as file:
        file.write("registry: {urls: ['https://registry:8081'], username: headgate, password: CANARY}\n")
    for name, output in (("json", {}), ("avro", {"format": "avro"})):
        table = spec(tmp_path, f"{name}.yaml", output=output)
        assert entry.run(["contract", table, "--out", str(tmp_path / name), "--config", config]) == ExitCode.OK

    texts = {name: {file.name: file.read_text() for file in (tmp_path / name).iterdir()} for name in ("json", "avro")}
    assert texts["json"].keys() == texts["avro"].keys()
    assert set() == {name for name, text in texts["json"].items() if "registry:8081" in text}
    named = {name for name, text in texts["avro"].items() if "https://registry:8081" in text}
    assert {f"patients.{name}" for name in ("asyncapi.yaml", *SAMPLES)} == named
    assert not any("CANARY" in text for text in texts["avro"].values())


def test_documents_go_to_stdout_as_json_or_the_one_that_people_read(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options may stand before the table, and the verb may be named."""
    assert entry.run(["contract", "--json", "--config", config, spec(tmp_path, "p.yaml")]) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    assert entry.run(["contract", "generate", spec(tmp_path, "p.yaml"), "--config", config]) == ExitCode.OK
    shown = yaml.safe_load(capsys.readouterr().out)

    assert shown == made["asyncapi"]
    assert {
        "asyncapi",
        "odcs",
        "valueSchema",
        "keySchema",
        "avroValueSchema",
        "avroKeySchema",
        "jdbcSink",
        "samples",
    } == made.keys()


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands there."""
    file = spec(tmp_path, "p.yaml")

    assert entry.run(["contract", file, "--out", file, "--config", config]) == ExitCode.CONFIGURATION
    assert "cannot be written to: FileExistsError" in capsys.readouterr().err


def test_two_files_are_compared_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing, something compatible, something that is not: exit codes 0, 0, 1."""
    old = spec(tmp_path, "old.yaml")
    wider = spec(tmp_path, "wider.yml", columns={**COLUMNS, "visits": "long", "born": "date"})

    assert entry.run(["contract", "diff", old, old]) == ExitCode.OK
    assert "nothing differs" in capsys.readouterr().err
    assert entry.run(["contract", "diff", old, wider]) == ExitCode.OK
    assert "type_widened" in capsys.readouterr().out
    assert entry.run(["contract", "diff", wider, old]) == ExitCode.FOUND
    shown = capsys.readouterr()
    assert "type_narrowed" in shown.out
    assert "error: not compatible: column_removed, type_narrowed\nhint: " in shown.err


def test_a_table_that_becomes_avro_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two specs, and of a contract that was generated before it and one that is to come."""
    old, new = spec(tmp_path, "old.yaml"), spec(tmp_path, "new.yaml", output={"format": "avro"})

    assert entry.run(["contract", "diff", old, new]) == ExitCode.FOUND
    shown = capsys.readouterr()
    assert "format_changed" in shown.out
    assert "error: not compatible: format_changed\n" in shown.err
    assert entry.run(["contract", "diff", new, new]) == ExitCode.OK


def test_a_comparison_as_json_names_every_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For CI: rule, column, what it was and is, and whether it may be."""
    old, new = spec(tmp_path, "old.yaml"), spec(tmp_path, "new.yaml", key=[], columns={"id": "long", "name": "string"})

    assert entry.run(["contract", "diff", old, new, "--json"]) == ExitCode.FOUND

    read = json.loads(capsys.readouterr().out)
    assert not read["compatible"]
    assert [
        ("key_changed", None, "id", "none", False),
        ("column_removed", "visits", "int", None, False),
    ] == [tuple(each[name] for name in ("rule", "column", "old", "new", "compatible")) for each in read["differences"]]


def test_a_generated_contract_is_compared_with_a_spec(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a subscriber took once, and what is there now."""
    entry.run(["contract", spec(tmp_path, "p.yaml"), "--out", str(tmp_path), "--config", config])
    taken = str(tmp_path / "patients.value.schema.json")

    assert entry.run(["contract", "diff", taken, spec(tmp_path, "p.yaml")]) == ExitCode.OK
    assert entry.run(["contract", "diff", taken, spec(tmp_path, "q.yaml", columns={"id": "long"})]) == ExitCode.FOUND
    assert "column_removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.yaml", None, "none.yaml cannot be read: FileNotFoundError"),
        ("latin.yaml", b"table: \xff", "latin.yaml cannot be read: UnicodeDecodeError"),
        ("wrong.yaml", b"table: p\ntopics: [a]\ncolums: {id: int}\n", "did you mean 'columns'?"),
        ("none.json", None, "none.json cannot be read: FileNotFoundError"),
        ("other.json", b"{}", "it is no contract of ours"),
        ("broken.json", b"{", "cannot be read as a contract"),
    ],
)
def test_a_file_that_is_none_is_told(
    tmp_path: Path, name: str, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, with the file's name."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)

    assert entry.run(["contract", "diff", str(file), spec(tmp_path, "p.yaml")]) == ExitCode.CONFIGURATION
    assert said in capsys.readouterr().err


def test_a_spec_is_compared_as_it_would_run_beside_a_table() -> None:
    """What workers found of its columns stays, so it is not missed in the file; the file's own columns are."""
    fields = {"table": "patients", "topics": ["a"], "key": ["id"], "columns": COLUMNS}
    running = TableEntry(spec=TableSpec.model_validate({**fields, "unknown_columns": "add"}))
    found = {"note": [Found(type=parse_type("string"), encoding="any")]}
    evolved = Evolved(table="patients", slot="w", revision=2, columns=found)
    tables = TableDirectory()
    tables.update({b"patients": running.model_dump_json().encode(), evolved.key: evolved.encoded()})

    (table,) = contracts_of(["patients"], lambda _: tables, TopicNames("clinic"))

    assert (3, "clinic.changes.patients") == (table.contract.schema_version, table.contract.topic)
    assert ["id", "name", "visits", "note"] == list(table.contract.columns)


def test_a_file_beside_a_running_table_has_what_was_found(tmp_path: Path) -> None:
    """And alone it has only what stands in it."""
    found = {"note": [Found(type=parse_type("string"), encoding="any")]}
    evolved = Evolved(table="patients", slot="w", revision=1, columns=found)
    entry_ = TableEntry(
        spec=TableSpec.model_validate({"table": "patients", "topics": ["a"], "columns": {"id": "long"}})
    )
    tables = TableDirectory()
    tables.update({b"patients": entry_.model_dump_json().encode(), evolved.key: evolved.encoded()})
    file = spec(tmp_path, "p.yaml")

    _, beside = contracts_of(["patients", file], lambda _: tables, TopicNames())
    (alone,) = contracts_of([file], lambda _: tables, TopicNames())

    assert ["id", "name", "visits", "note"] == list(beside.contract.columns)
    assert ["id", "name", "visits"] == list(alone.contract.columns)
