"""Every mistake in a spec is named with file, line, what is wrong and the nearest that is right; nothing goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.errors import ConfigurationError
from streams.specs import read_specs
from tests.unit.streams.spec_mistakes import MISTAKES, SPEC, Mistake

Lines = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for specs, and no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADGATE_CONFIG", raising=False)
    made = tmp_path / "tables"
    made.mkdir()
    return made


def test_the_spec_without_a_mistake_is_right(folder: Path, capsys: Lines) -> None:
    """What is found below is the mistake alone; a risk is none."""
    (folder / "visits.yaml").write_text(SPEC)

    assert entry.run(["tables", "lint", str(folder)]) == ExitCode.OK
    assert "error" not in capsys.readouterr().err


def test_there_are_at_least_thirty_mistakes() -> None:
    """Each another one."""
    assert len(MISTAKES) >= 30
    assert len(MISTAKES) == len({mistake.text for mistake in MISTAKES}) == len({each.name for each in MISTAKES})


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_named_with_its_line_and_what_would_be_right(
    mistake: Mistake, folder: Path, capsys: Lines
) -> None:
    """In the file where it stands, and beside another that is right."""
    (folder / "a.yaml").write_text("table: a\ntopics: [clinic.public.a]\ncolumns: {id: long}\n")
    file = folder / "visits.yaml"
    file.write_text(mistake.text)

    assert entry.run(["tables", "lint", str(folder)]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().err
    assert f"error: {file}:{mistake.line}: " in said
    assert [] == [words for words in mistake.said if words not in said]


def test_mistakes_of_several_tables_are_named_together(folder: Path, capsys: Lines) -> None:
    """Also those that only a look at all tables shows."""
    for name in "ab":
        text = SPEC.replace("visits", name).replace("latest_visit", f"latest_{name}")
        (folder / f"{name}.yaml").write_text(text.replace("after.fee >", "after.fe >"))

    assert entry.run(["tables", "lint", str(folder)]) == ExitCode.CONFIGURATION
    said = capsys.readouterr().err
    assert all(f"error: {folder / f'{name}.yaml'}:18: {name}: rule expensive" in said for name in "ab")


def test_a_file_that_is_no_text_names_the_line(folder: Path) -> None:
    """Where the first byte stands that is none."""
    (folder / "a.yaml").write_bytes(b"table: a\ntopics: [\xff]\n")

    with pytest.raises(ConfigurationError, match=r"a\.yaml:2: not UTF-8"):
        read_specs(folder)


def test_a_file_holds_several_tables(folder: Path) -> None:
    """With lines between them, as they are printed; lines of errors are those of the file."""
    text = "# two\ntable: a\ntopics: [t]\ncolumns: {id: long}\n---\ntable: b\ntopics: [u]\ncolumns: {id: long}\n"
    (folder / "both.yaml").write_text(text)

    specs = read_specs(folder)

    assert ["a", "b"] == list(specs)
    assert f"{folder / 'both.yaml'}:7" == specs.place("b", "topics", 0)
    (folder / "both.yaml").write_text(text.replace("topics: [u]", "topic: [u]"))
    with pytest.raises(ConfigurationError, match=r"both\.yaml:7: topic: unknown key"):
        read_specs(folder)
