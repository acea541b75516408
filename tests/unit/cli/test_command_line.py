"""Help, exit codes and messages of every verb; nothing here needs a service."""

import json
import re
from pathlib import Path

import pytest

from headgate.cli import main as entry
from headgate.cli import verbs
from headgate.cli.codes import ExitCode
from headgate.cli.failures import report
from headgate.cli.printing import print_table
from headgate.cli.reference import reference
from schemas.errors import BugError, ConfigurationError, SinkUnavailable, TableStopped

VERBS = (
    "demo", "run", "check", "status", "tables list", "tables pause", "tables resume", "features get",
    "features rebuild", "features forget",
    "alerts dead list", "alerts dead redrive", "alerts forget",
    "lake sql", "lake verify", "contract diff", "version",
    "quarantine list", "quarantine show", "quarantine export", "quarantine drop", "quarantine redrive",
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An installation of this test's own, in which nothing runs."""
    file = tmp_path / "headgate.yaml"
    file.write_text(f"web: {{state_folder: {tmp_path / 'state'}}}\nlake: {{warehouse: {tmp_path / 'lake'}}}\n")
    return file


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_and_its_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is the manual."""
    code = entry.run([*verb.split(), "--help"])

    shown = capsys.readouterr().out
    assert code == 0
    assert re.search(rf"Examples:\n +headgate {verb}", shown)
    assert re.search(r"Exit codes:\n +0 ", shown)


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, a hint, no traceback."""
    code = entry.run(["frobnicate"])

    shown = capsys.readouterr().err
    assert code == ExitCode.USAGE
    assert shown == "error: No such command 'frobnicate'.\nhint: `headgate --help` shows what it takes\n"


@pytest.mark.parametrize("verb", ["list", "redrive"])
def test_a_time_that_is_none_is_a_usage_error(verb: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is asked of Kafka."""
    code = entry.run(["alerts", "dead", verb, "--since", "yesterday", "--config", str(config)])

    assert code == ExitCode.USAGE
    assert "--since yesterday is no time; write 2026-11-20T19:45Z" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["drop", "redrive"])
def test_all_of_the_quarantine_at_once_is_a_slip(verb: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is asked of Kafka."""
    codes = [entry.run(["quarantine", verb, *given, "--config", str(config)]) for given in ([], ["--until", "soon"])]

    shown = capsys.readouterr().err
    assert [ExitCode.USAGE] * 2 == codes
    assert "name a --table, a --kind, --since or --until" in shown
    assert "--until soon is no time" in shown


@pytest.mark.parametrize("group", ["", "tables", "contract", "alerts", "alerts dead", "lake", "features", "quarantine"])
def test_a_group_without_a_verb_shows_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what there is."""
    code = entry.run(group.split())

    assert code == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_a_wrong_key_names_the_line_and_the_right_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3."""
    file = tmp_path / "headgate.yaml"
    file.write_text("kafka:\n  bootstrp: x\n")

    code = entry.run(["status", "--config", str(file)])

    assert code == ExitCode.CONFIGURATION
    assert (
        f"error: {file}:2: kafka.bootstrp: unknown key 'bootstrp'; did you mean 'bootstrap'?" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 3),
        (SinkUnavailable("x"), 4),
        (TableStopped("r", "x"), 1),
        (BugError("x"), 5),
        (ValueError("patient 42 is ill"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the text of a foreign error, which may repeat a value, is not shown."""
    seen = report(error)

    assert code == seen
    assert "patient 42" not in capsys.readouterr().err


def test_a_message_and_its_hint_stand_on_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """`error:` and `hint:`, on stderr."""
    report(SinkUnavailable("Redis does not answer", hint="does it run?"))

    assert capsys.readouterr() == ("", "error: Redis does not answer\nhint: does it run?\n")


def test_a_value_does_not_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows come from anywhere, and a terminal obeys what it is shown: titles, colours, the clipboard."""
    print_table(["name"], [["\x1b]0;title\x07Ada \x9b2J\x7f\rBo"], ["größe Ω"]])

    said = capsys.readouterr().out
    assert "\\x1b]0;title\\x07Ada \\x9b2J\\x7f\\x0dBo" in said
    assert "größe Ω" in said


def test_status_where_nothing_runs_is_unavailable(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4, an empty list as JSON, and that Kafka could not be asked."""
    monkeypatch.setattr("headgate.installation.KAFKA_SECONDS_MAX", 0.1)

    code = entry.run(["status", "--json", "--config", str(config)])

    assert code == ExitCode.UNAVAILABLE
    shown = capsys.readouterr()
    assert json.loads(shown.out) == []
    assert shown.err.startswith("error: Kafka did not answer within")


def test_version_as_json_names_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    """For bug reports."""
    assert entry.run(["version", "--json"]) == 0

    assert {"headgate", "python", "confluent-kafka", "duckdb"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--slot", "1"],
        ["run", "--stage", "nonsense"],
        ["run", "--workers", "lake=0"],
        ["run", "--workers", "nonsense=1"],
        ["run", "--stage", "lake", "--workers", "lake=2"],
        ["status", "--watch", "--json"],
        ["status", "--sums"],
        ["lake", "sql", "SELECT 1", "--json", "--csv"],
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(arguments: list[str], config: Path) -> None:
    """Exit code 2 before anything is started."""
    assert entry.run([*arguments, "--config", str(config)]) == ExitCode.USAGE


@pytest.mark.parametrize("instance", ["a/b", "../b", "a b", "x" * 61])
def test_an_instance_is_a_name(instance: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is part of file names: a path would hide the stages from `status`."""
    assert entry.run(["run", "--stage", "lake", "--instance", instance, "--config", str(config)]) == ExitCode.USAGE

    assert "--instance takes letters" in capsys.readouterr().err


def test_a_demo_where_nothing_can_be_written_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no fault of ours."""
    (tmp_path / "file").write_text("")

    assert entry.run(["demo", "--folder", str(tmp_path / "file" / "demo")]) == ExitCode.CONFIGURATION
    assert "hint: name another folder with --folder" in capsys.readouterr().err


def test_a_broken_pipe_is_no_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`headgate … | head` ends quietly."""

    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(verbs, "app", broken)
    monkeypatch.setattr("os.dup2", lambda *_: None)

    assert entry.run(["version"]) == 0


def test_the_reference_is_what_the_code_says() -> None:
    """docs/cli.md is made from the verbs' help."""
    page = Path(__file__).parents[3] / "docs" / "cli.md"

    assert reference() == page.read_text()
