"""`headgate tables lint` without a broker: what people read, what scripts read, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode

Lines = pytest.CaptureFixture[str]
SPEC = """table: patients
topics: [clinic.public.patients]
columns:
  id: long
  name: string
  born: int
"""
ACCEPTED = """accepted_risks:
  no_key: a log
  looks_personal:
    name: shown at the door
    born: by law
  integer_may_be_time: days, as the source has them
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spec in a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADGATE_CONFIG", raising=False)
    (tmp_path / "tables").mkdir()
    made = Path("tables") / "patients.yaml"
    made.write_text(SPEC)
    return made


def test_each_risk_has_its_place_and_how_it_is_settled(file: Path, capsys: Lines) -> None:
    """A line for what it is, one for what to do; notes are counted in none of it."""
    assert entry.run(["tables", "lint", "tables"]) == ExitCode.FOUND

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [f"{file}:1: no_key", f"{file}:6: integer_may_be_time (born)", f"{file}:5: looks_personal (name, born)"] == [
        line[: line.index(": ", line.index(".yaml:") + 9)] for line in lines[::2]
    ]
    assert all(line.startswith("    settle: ") for line in lines[1::2])
    assert "1 tables, 3 open risks of 1 of them" in printed.err


def test_what_is_accepted_is_no_failure(file: Path, capsys: Lines) -> None:
    """And is shown with its reason when somebody asks."""
    file.write_text(SPEC + ACCEPTED)

    assert entry.run(["tables", "lint", str(file)]) == ExitCode.OK
    assert "" == capsys.readouterr().out
    assert entry.run(["tables", "lint", str(file), "--all"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "accepted: no_key" in said
    assert "reason: a log" in said
    assert "note: no_before_image" in said


def test_scripts_get_all_of_it(file: Path, capsys: Lines) -> None:
    """Accepted or not, with file and line, and what is accepted for nothing."""
    file.write_text(SPEC + ACCEPTED.replace("no_key: a log", "no_key: a log\n  truncates_ignored: never happens"))

    assert entry.run(["tables", "lint", "tables", "--json"]) == ExitCode.OK
    printed = capsys.readouterr()
    document = json.loads(printed.out)

    personal = [each for each in document["risks"] if each["risk"] == "looks_personal"]
    assert [("shown at the door", ["name"], 5), ("by law", ["born"], 6)] == [
        (each["accepted"], each["columns"], each["line"]) for each in personal
    ]
    assert {str(file)} == {each["file"] for each in document["risks"]}
    (unused,) = document["unused"]
    assert ("truncates_ignored", "*", f"{file}:9") == (unused["risk"], unused["column"], unused["place"])
    assert f"{file}:9: accepted_risks: truncates_ignored is not there" in printed.err


def test_an_environment_has_risks_of_its_own(file: Path, capsys: Lines) -> None:
    """With the place in its overlay."""
    file.write_text(SPEC + ACCEPTED)
    overlay = Path("tables") / "env" / "prod.yaml"
    overlay.parent.mkdir()
    overlay.write_text("topic_prefix: prod.\nall_tables: {truncate: ignore}\n")

    assert entry.run(["tables", "lint", "tables"]) == ExitCode.OK
    assert entry.run(["tables", "lint", "tables", "--env", "prod"]) == ExitCode.FOUND
    assert f"{overlay}:2: truncates_ignored" in capsys.readouterr().out


def test_rules_that_name_destinations_pass_without_a_configuration(file: Path, capsys: Lines) -> None:
    """With one they must be there; so must the registry of a format that needs one."""
    rule = "rules: [{rule: new, when: op = 'insert', destinations: [wrad]}]\n"
    file.write_text(SPEC + ACCEPTED + rule)
    avro = file.with_name("avro.yaml")
    avro.write_text("table: a\ntopics: [a]\nformat: debezium-avro\nkey: [id]\ncolumns: {id: long}\n")
    assert entry.run(["tables", "lint", "tables"]) == ExitCode.OK

    Path("headgate.yaml").write_text(
        "notify: {ward: {url: 'https://example.org/hook', secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}\n"
    )

    assert entry.run(["tables", "lint", "tables"]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().err
    assert f"{file}:13: patients: a rule names the destination wrad" in said
    assert "did you mean 'ward'?" in said
    assert f"{avro}:3: a: format debezium-avro needs a schema registry" in said


def test_samples_need_a_configuration(file: Path, capsys: Lines) -> None:
    """Nobody guesses where Kafka is."""
    assert entry.run(["tables", "lint", str(file), "--topic-samples"]) == ExitCode.CONFIGURATION
    assert "no configuration at headgate.yaml" in capsys.readouterr().err


def test_nothing_to_look_at_is_said(file: Path, capsys: Lines) -> None:
    """A folder without specs, and a file that is not there."""
    (file.parent / "patients.yaml").unlink()
    assert entry.run(["tables", "lint", "tables"]) == ExitCode.CONFIGURATION
    assert "holds no .yaml file" in capsys.readouterr().err
    assert entry.run(["tables", "lint", "nowhere.yaml"]) == ExitCode.CONFIGURATION
    assert "nowhere.yaml: No such file or directory" in capsys.readouterr().err
